//! What becomes of what stands in the target already.

use super::*;

/// Makes an entry of each kind that differs by `flavour` in content.
fn make(path: &Path, kind: Kind, flavour: &str) {
    match kind {
        Kind::File => fs::write(path, format!("content {flavour}")).unwrap(),
        Kind::Folder => {
            fs::create_dir(path).unwrap();
            fs::write(path.join(format!("in-{flavour}")), flavour).unwrap();
            fs::create_dir(path.join("sub")).unwrap();
            fs::write(path.join("sub").join(flavour), flavour).unwrap();
        }
        Kind::Symlink => symlink(format!("to-{flavour}"), path).unwrap(),
        Kind::Fifo | Kind::Socket => make_special(path, kind.file_type(), 0),
        Kind::BlockDevice => make_special(path, kind.file_type(), makedev(7, 200)),
        Kind::CharDevice => make_special(path, kind.file_type(), makedev(1, 3)),
    }
}

fn kinds() -> Vec<Kind> {
    let mut kinds = vec![Kind::File, Kind::Folder, Kind::Symlink, Kind::Fifo];
    if is_root() {
        kinds.extend([Kind::BlockDevice, Kind::CharDevice]);
    }
    kinds
}

#[test]
fn every_kind_takes_the_place_of_every_kind_when_asked() {
    for wanted in kinds() {
        for standing in kinds().into_iter().chain([Kind::Socket]) {
            let scratch = tempfile::tempdir().unwrap();
            let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
            fs::create_dir(&source).unwrap();
            fs::create_dir(&target).unwrap();
            make(&source.join("x"), wanted, "new");
            make(&target.join("x"), standing, "old");
            copy(&source, &target, over(Overwrite::Always), true).assert_clean();
            assert_same(&source, &target);
            assert_no_leftovers(&target);
        }
    }
}

#[test]
fn another_kind_in_the_way_stays_unless_everything_may_be_replaced() {
    for wanted in kinds() {
        for standing in kinds()
            .into_iter()
            .chain([Kind::Socket])
            .filter(|kind| *kind != wanted)
        {
            let scratch = tempfile::tempdir().unwrap();
            let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
            fs::create_dir(&source).unwrap();
            fs::create_dir(&target).unwrap();
            make(&source.join("x"), wanted, "new");
            fs::write(source.join("y"), "restored all the same").unwrap();
            make(&target.join("x"), standing, "old");
            let done = copy(&source, &target, over(Overwrite::IfChanged), false);
            assert_eq!(done.errors.len(), 1, "{done:?}");
            assert_eq!(done.errors[0].kind(), ErrorKind::Exists);
            let found = Folder::open(&target).unwrap().metadata(b"x").unwrap();
            assert_eq!(found.kind, standing);
            assert!(target.join("y").exists());
            assert_no_leftovers(&target);
        }
    }
}

#[test]
fn a_target_with_entries_is_refused_unless_they_may_be_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("precious"), "x").unwrap();
    let error = Target::prepare(scratch.path(), over(Overwrite::Never)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotEmpty);
    assert!(Target::prepare(scratch.path(), over(Overwrite::IfChanged)).is_ok());
    let file = scratch.path().join("precious");
    assert!(Target::prepare(&file, over(Overwrite::Always)).is_err());
    assert_eq!(fs::read(file).unwrap(), b"x");
}

#[test]
fn an_unchanged_file_is_kept_and_gets_its_metadata() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
    fs::create_dir(&source).unwrap();
    fs::write(source.join("same"), "1234").unwrap();
    set_mode(&source.join("same"), 0o640);
    set_attribute(&source.join("same"), b"user.a", b"1");
    fs::write(source.join("other-size"), "1234").unwrap();
    fs::write(source.join("other-time"), "1234").unwrap();
    symlink("to", source.join("link")).unwrap();
    copy(&source, &target, RestoreOptions::default(), false).assert_clean();
    let inode = |name: &str| fs::symlink_metadata(target.join(name)).unwrap().ino();
    let before = (inode("same"), inode("link"));
    set_mode(&target.join("same"), 0o600);
    set_attribute(&target.join("same"), b"user.b", b"2");
    fs::write(target.join("other-size"), "12345").unwrap();
    fs::write(target.join("other-time"), "4321").unwrap();
    fs::write(target.join("extra"), "stays").unwrap();
    copy(&source, &target, over(Overwrite::IfChanged), false).assert_clean();
    assert_eq!((inode("same"), inode("link")), before);
    assert_eq!(fs::read(target.join("extra")).unwrap(), b"stays");
    copy(&source, &target, over(Overwrite::IfChanged), true).assert_clean();
    assert_same(&source, &target);
    assert_eq!(inode("same"), before.0);
}

#[test]
fn a_file_with_a_name_elsewhere_is_replaced_and_not_written_through() {
    for overwrite in [Overwrite::IfChanged, Overwrite::Always] {
        let scratch = tempfile::tempdir().unwrap();
        let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&target).unwrap();
        fs::write(source.join("x"), "new").unwrap();
        set_mode(&source.join("x"), 0o644);
        fs::write(scratch.path().join("elsewhere"), "old").unwrap();
        set_mode(&scratch.path().join("elsewhere"), 0o600);
        fs::hard_link(scratch.path().join("elsewhere"), target.join("x")).unwrap();
        // It looks unchanged; only its permissions differ.
        let time = fs::metadata(source.join("x")).unwrap();
        set_time(&target.join("x"), time.mtime(), time.mtime_nsec());
        copy(&source, &target, over(overwrite), false).assert_clean();
        assert_same(&source, &target);
        assert_eq!(fs::read(scratch.path().join("elsewhere")).unwrap(), b"old");
        let mode = fs::metadata(scratch.path().join("elsewhere"))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}

#[test]
fn restoring_twice_changes_nothing_the_second_time() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
    fs::create_dir_all(source.join("d")).unwrap();
    fs::write(source.join("d/a"), "1").unwrap();
    fs::hard_link(source.join("d/a"), source.join("b")).unwrap();
    symlink("x", source.join("l")).unwrap();
    make_special(&source.join("p"), FileType::Fifo, 0);
    for overwrite in [Overwrite::Never, Overwrite::IfChanged, Overwrite::Always] {
        copy(&source, &target, over(overwrite), true).assert_clean();
        assert_same(&source, &target);
        assert_no_leftovers(&target);
    }
}

#[test]
fn a_folder_that_is_closed_even_to_its_owner_can_be_restored_into() {
    let scratch = tempfile::tempdir().unwrap();
    let (source, target) = (scratch.path().join("s"), scratch.path().join("t"));
    for top in [&source, &target] {
        fs::create_dir_all(top.join("d")).unwrap();
        fs::write(top.join("d/f"), top.as_os_str().as_bytes()).unwrap();
        set_mode(&top.join("d"), 0o555);
    }
    copy(&source, &target, over(Overwrite::Always), true).assert_clean();
    assert_same(&source, &target);
    for top in [&source, &target] {
        set_mode(&top.join("d"), 0o755);
    }
}

#[test]
fn extras_are_deleted_with_all_that_they_hold_and_counted() {
    let scratch = tempfile::tempdir().unwrap();
    let outside = scratch.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("file"), "must stay").unwrap();
    let path = scratch.path().join("t");
    for number in 0..30 {
        fs::create_dir_all(path.join(format!("extra/{number}/x/y"))).unwrap();
        fs::write(path.join(format!("extra/{number}/x/y/f")), "x").unwrap();
        symlink(&outside, path.join(format!("extra/{number}/x/out"))).unwrap();
    }
    symlink(&outside, path.join("link")).unwrap();
    fs::write(path.join("wanted"), "x").unwrap();
    let target = Target::prepare(&path, over(Overwrite::Always)).unwrap();
    let top = target.open(FolderId::TOP).unwrap();
    assert_eq!(top.remove_extras(&mut |name| name == b"wanted").unwrap(), 2);
    assert!(target.finish().is_empty());
    assert_eq!(fs::read_dir(&path).unwrap().count(), 1);
    assert_eq!(fs::read(outside.join("file")).unwrap(), b"must stay");
}
