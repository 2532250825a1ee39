//! Nights: what changes a little is stored as a change, and every night comes back.
//!
//! **Invariant**: how a night is stored shows in nothing but its size. It is restored, checked, copied and read by the
//! independent reader like any other.

use std::{ffi::OsString, fs, path::Path};

use crate::support::{
    program::{Lifeboat, Ran},
    reader::reader,
    same::same,
    trees::{Tree, dump, noise},
};

fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    let sizes = entries.map(|entry| {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        if metadata.is_dir() {
            size(&entry.path())
        } else {
            metadata.len()
        }
    });
    sizes.sum()
}

fn restored(machine: &Lifeboat, selector: &str, name: &str) -> std::path::PathBuf {
    let target = machine.path(name);
    let arguments = ["restore", selector, "--target"].map(OsString::from);
    machine
        .run(arguments.into_iter().chain([target.clone().into()]))
        .done();
    target
}

#[test]
fn a_night_of_files_that_change_a_little_costs_what_changed() {
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("media"));
    let image = noise(2, 6_000_000);
    let mut snapshots = Vec::new();
    let mut sizes = vec![size(&machine.repository())];
    for night in 0..10_u64 {
        let mut image = image.clone();
        image[night as usize * 500_000..][..3000].fill(night as u8);
        let mut small = noise(3, 90_000);
        small[40_000] ^= night as u8 + 1;
        tree.file("dump.sql", dump(night))
            .file("image.bin", image)
            .file("small.bin", small)
            .file("new.bin", noise(100 + night, 5000));
        let arguments = ["backup", "--json", "--app", "shop", "--source"].map(OsString::from);
        let ran = machine.run(arguments.into_iter().chain([tree.root().into()]));
        snapshots.push(
            ran.done().summary()["snapshot"]
                .as_str()
                .unwrap()
                .to_owned(),
        );
        sizes.push(size(&machine.repository()));
        let kept = machine.path(format!("kept-{night}"));
        fs::create_dir(&kept).unwrap();
        for file in ["dump.sql", "image.bin", "small.bin", "new.bin"] {
            fs::copy(tree.root().join(file), kept.join(file)).unwrap();
        }
    }
    let growth: Vec<u64> = sizes.windows(2).map(|two| two[1] - two[0]).collect();
    for (night, growth) in growth.iter().enumerate().skip(1) {
        assert!(*growth < 150_000, "night {night} took {growth} bytes");
    }
    machine
        .run(["check", "--read-data"].map(OsString::from))
        .done();
    let key = machine.key_file();
    for night in [0, 1, 7, 8, 9] {
        let own = restored(&machine, &snapshots[night], &format!("own-{night}"));
        for file in ["dump.sql", "image.bin", "small.bin", "new.bin"] {
            let kept = machine.path(format!("kept-{night}")).join(file);
            let own = own.join("media").join(file);
            assert!(
                fs::read(own).unwrap() == fs::read(kept).unwrap(),
                "{file} of night {night}"
            );
        }
        let read = machine.path(format!("read-{night}"));
        let mut reading = reader();
        reading
            .arg("--key-file")
            .arg(&key)
            .arg(machine.repository())
            .args(["restore", &snapshots[night]])
            .arg(&read);
        Ran::of(reading).done();
        same(&own.join("media"), &read.join("media"));
    }
}
