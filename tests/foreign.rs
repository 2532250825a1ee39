//! Dumps that others made: restored from a snapshot and from this machine, whole or not at all, with few rights.

use std::{
    fs,
    os::unix::fs::{MetadataExt, chown},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use lifeboat_postgres::Cluster;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::{
    account::is_root,
    cluster::{self, address, client, looks, new_name, psql},
    messages::{number, text},
    program::{Lifeboat, Ran},
    trees::Tree,
};

const SHOP: &str = "
CREATE TABLE customer (id int PRIMARY KEY, name text NOT NULL);
INSERT INTO customer SELECT n, E'name\\t' || n || E'\\\\;''ü' FROM generate_series(1, 500) n;
CREATE FUNCTION greet(int) RETURNS text LANGUAGE sql AS $_$ SELECT 'hi; ' || name FROM customer WHERE id = $1; $_$;
CREATE TABLE note (customer int REFERENCES customer, line text DEFAULT E'a\\\\''b');
INSERT INTO note SELECT n, repeat('x', n) FROM generate_series(1, 50) n;
";

/// A database, and a role that may restore it and not more.
fn shop(cluster: &Cluster) -> (String, String) {
    let (name, role) = (new_name("foreign"), new_name("restorer"));
    psql(cluster, "postgres", &format!("CREATE DATABASE {name}"));
    psql(cluster, &name, SHOP);
    psql(
        cluster,
        "postgres",
        &format!("CREATE ROLE {role} LOGIN CREATEDB"),
    );
    (name, role)
}

/// What `pg_dump` writes of a database.
fn pg_dump(cluster: &Cluster, database: &str, format: &str) -> Vec<u8> {
    let output = Command::new(client(cluster, "pg_dump"))
        .arg(format!("--format={format}"))
        .arg(address(cluster, "postgres", database))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// What `gzip` makes of a file.
fn gzip(path: &Path) -> Vec<u8> {
    let output = Command::new("gzip")
        .args(["--stdout", "--no-name"])
        .arg(path)
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Restores a local file as `role`; gives the name of the database, which may not be there.
fn restore_file(
    machine: &Lifeboat,
    cluster: &Cluster,
    role: &str,
    file: &Path,
    more: &[&str],
) -> (String, Ran) {
    let name = new_name("back");
    let to = address(cluster, role, &name);
    let file = file.to_str().unwrap();
    let mut arguments = vec!["restore-db", "--file", file, "--to", &to];
    arguments.extend(more);
    (name, machine.run(arguments))
}

/// What is in a database, whoever owns it.
fn content(cluster: &Cluster, database: &str) -> String {
    psql(
        cluster,
        database,
        "SELECT md5(string_agg(c::text, '' ORDER BY id)), greet(7) FROM customer c;
         SELECT count(*), sum(length(line)), pg_get_expr(adbin, adrelid) FROM note, pg_attrdef GROUP BY 3;
         SELECT conname FROM pg_constraint WHERE conrelid IN ('note'::regclass, 'customer'::regclass) ORDER BY 1",
    )
}

/// Databases whose name begins so.
fn there(cluster: &Cluster, name: &str) -> String {
    let sql = format!("SELECT count(*) FROM pg_database WHERE starts_with(datname, '{name}')");
    psql(cluster, "postgres", &sql).trim().to_owned()
}

#[test]
fn dumps_of_every_form_come_back_from_a_snapshot_and_from_this_machine() {
    let cluster = cluster::shared();
    let (name, role) = shop(&cluster);
    let machine = Lifeboat::with_repository();
    let tree = Tree::create(machine.path("legacy"));
    tree.file("shop.sql", pg_dump(&cluster, &name, "plain"))
        .file("shop.dump", pg_dump(&cluster, &name, "custom"));
    let path = |name: &str| tree.root().join(name);
    fs::write(path("shop.sql.gz"), gzip(&path("shop.sql"))).unwrap();
    fs::write(path("upload"), gzip(&path("shop.dump"))).unwrap();
    let source = tree.root().to_str().unwrap();
    machine
        .run(["backup", "--app", "shop", "--source", source])
        .done();
    for file in ["shop.sql", "shop.sql.gz", "shop.dump", "upload"] {
        let script = file.starts_with("shop.sql");
        let back = new_name("back");
        let to = address(&cluster, &role, &back);
        let selector = format!("shop:legacy/{file}");
        let ran = machine
            .run(["restore-db", &selector, "--to", &to, "--no-owner", "--json"])
            .done();
        let summary = ran.summary();
        assert_eq!(
            text(&summary, "form"),
            if script { "script" } else { "archive" }
        );
        assert_eq!(text(&summary, "database"), back);
        if script {
            assert_eq!(number(&summary, "rows"), 550);
        }
        assert_eq!(content(&cluster, &back), content(&cluster, &name), "{file}");

        let (back, ran) = restore_file(&machine, &cluster, &role, &path(file), &["--no-owner"]);
        ran.done();
        assert_eq!(content(&cluster, &back), content(&cluster, &name), "{file}");
    }
}

#[test]
fn a_dump_that_is_not_whole_or_not_to_be_trusted_leaves_nothing() {
    let cluster = cluster::shared();
    let (name, role) = shop(&cluster);
    let machine = Lifeboat::new();
    let tree = Tree::create(machine.path("dumps"));
    let whole = pg_dump(&cluster, &name, "plain");
    tree.file("whole.sql", &whole);
    let packed = gzip(&tree.root().join("whole.sql"));
    let half = whole.len() / 2;
    let pwned = machine.path("pwned");
    let command = [
        &whole[..],
        format!("\\! touch {}\n", pwned.display()).as_bytes(),
    ]
    .concat();
    for (file, content, code, words) in [
        ("half.sql", &whole[..half], 1, "cut off"),
        (
            "half.sql.gz",
            &packed[..packed.len() - 9],
            1,
            "cannot read the dump",
        ),
        ("command.sql", &command, 1, "psql command \\!"),
        ("empty.sql", b"", 1, "empty"),
        (
            "mysql.sql",
            b"-- MySQL dump 10.13  Distrib 8.0\n",
            1,
            "MySQL",
        ),
        (
            "all.sql",
            b"--\n-- PostgreSQL database cluster dump\n--\n",
            1,
            "pg_dumpall",
        ),
        ("owner.sql", &whole, 1, "must be"),
        (
            "rights.sql",
            b"CREATE TABLE t ();\nALTER TABLE t OWNER TO nobody_here;\n",
            13,
            "nobody_here",
        ),
    ] {
        tree.file(file, content);
        let path = tree.root().join(file);
        let (back, ran) = restore_file(&machine, &cluster, &role, &path, &[]);
        let ran = ran.ends_with_code(code);
        assert!(ran.explains(code).contains(words), "{file}: {ran:?}");
        assert!(!ran.stderr.contains("Restored"), "{file}: {ran:?}");
        assert_eq!(
            ran.stderr.contains("--no-owner"),
            file.starts_with("owner") || code == 13
        );
        assert_eq!(there(&cluster, &back), "0", "{file}");
    }
    assert!(!pwned.exists(), "a dump's command was run");
    let missing = tree.root().join("no.sql");
    let (_, ran) = restore_file(&machine, &cluster, &role, &missing, &[]);
    ran.ends_with_code(1);
    let (_, ran) = restore_file(&machine, &cluster, &role, tree.root(), &[]);
    ran.ends_with_code(1);
}

/// Room that a server has for its rows: that of a small disk, which root mounts, or else of the largest file that it may
/// write, whose end a server takes for a full disk as well.
enum Room {
    Disk(PathBuf),
    Limit(Pid),
}

/// More than a piece of the server's log has, which is written in any case, and less than the rows need.
const LIMIT_BYTES: u64 = 17 << 20;

impl Room {
    /// The room for what lies in `folder`.
    fn of(cluster: &Cluster, folder: &Path) -> Self {
        fs::create_dir(folder).unwrap();
        if is_root() {
            return Self::Disk(folder.to_owned());
        }
        let pid = fs::read_to_string(cluster.folder().join("data/postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().parse().unwrap();
        Self::Limit(Pid::from_raw(pid).unwrap())
    }

    #[track_caller]
    fn mount(&self, options: &str) {
        let Self::Disk(path) = self else {
            return;
        };
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        assert!(mount.arg(path).status().unwrap().success(), "{options}");
    }

    fn set(&self, is_full: bool) {
        match self {
            Self::Disk(_) if is_full => self.mount("remount,size=8m"),
            Self::Disk(_) => self.mount("remount,size=64m"),
            Self::Limit(server) => {
                let current = is_full.then_some(LIMIT_BYTES);
                let maximum = getrlimit(Resource::Fsize).maximum;
                let limit = Rlimit { current, maximum };
                prlimit(Some(*server), Resource::Fsize, limit).unwrap();
            }
        }
    }

    /// What the server says when there is none.
    fn words(&self) -> &'static str {
        match self {
            Self::Disk(_) => "No space left on device",
            Self::Limit(_) => "File too large",
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Self::Disk(path) = self {
            let _ = Command::new("umount").arg("-l").arg(path).status();
        }
    }
}

/// Where the server has no more room, nothing is there afterwards; with room the same dump comes.
#[test]
fn a_disk_that_becomes_full_leaves_nothing_of_a_dump() {
    let cluster = cluster::own();
    let folder = cluster.folder().join("small");
    let room = Room::of(&cluster, &folder);
    room.mount("size=64m,mode=1777");
    // The server does not run as root, and takes no folder that is somebody else's.
    let place = folder.join("space");
    fs::create_dir(&place).unwrap();
    let owner = fs::metadata(cluster.folder().join("data")).unwrap().uid();
    chown(&place, Some(owner), None).unwrap();
    let (name, role) = shop(&cluster);
    psql(
        &cluster,
        "postgres",
        &format!("CREATE TABLESPACE small LOCATION '{}'", place.display()),
    );
    psql(
        &cluster,
        "postgres",
        &format!("GRANT CREATE ON TABLESPACE small TO {role}"),
    );
    psql(
        &cluster,
        &name,
        "CREATE TABLE large (n int, text text) TABLESPACE small;
         INSERT INTO large SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 90000) n",
    );
    let machine = Lifeboat::new();
    let tree = Tree::create(machine.path("dumps"));
    for format in ["plain", "custom"] {
        tree.file(format, pg_dump(&cluster, &name, format));
    }
    let rows = "SELECT count(*), sum(hashtext(text)::bigint) FROM large";
    let expected = psql(&cluster, &name, rows);
    psql(&cluster, "postgres", &format!("DROP DATABASE {name}"));
    psql(&cluster, "postgres", "CHECKPOINT");
    for is_full in [true, false] {
        room.set(is_full);
        for format in ["plain", "custom"] {
            let path = tree.root().join(format);
            let (back, ran) = restore_file(&machine, &cluster, &role, &path, &["--no-owner"]);
            if !is_full {
                ran.done();
                assert_eq!(psql(&cluster, &back, rows), expected, "{format}");
                psql(&cluster, "postgres", &format!("DROP DATABASE {back}"));
                continue;
            }
            let ran = ran.ends_with_code(1);
            assert!(ran.explains(1).contains(room.words()), "{ran:?}");
            assert!(!ran.stderr.contains("Restored"), "{ran:?}");
            assert_eq!(there(&cluster, &back), "0", "{format}");
        }
    }
}

#[test]
fn a_superuser_is_refused_until_the_dump_is_trusted_with_the_server() {
    let cluster = cluster::shared();
    let (name, _) = shop(&cluster);
    let machine = Lifeboat::new();
    let tree = Tree::create(machine.path("dumps"));
    for format in ["plain", "custom"] {
        tree.file(format, pg_dump(&cluster, &name, format));
        let path = tree.root().join(format);
        let (back, ran) = restore_file(&machine, &cluster, "postgres", &path, &[]);
        let ran = ran.ends_with_code(14);
        assert!(ran.explains(14).contains("is a superuser"), "{ran:?}");
        assert_eq!(there(&cluster, &back), "0");
        let (back, ran) = restore_file(&machine, &cluster, "postgres", &path, &["--as-superuser"]);
        ran.done();
        assert_eq!(looks(&cluster, &back), looks(&cluster, &name));
    }
}
