//! A shop with one of everything: a database, an SQLite database, media whose rows say what they are, secrets.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Command,
    sync::Arc,
};

use lifeboat_postgres::Cluster;
use serde_json::Value;

use super::{
    cluster::{self, address, client, new_name, psql},
    program::{Lifeboat, Ran},
    trees::Tree,
};

/// The SHA-256 of `first` and of `second`.
const FIRST: &str = "a7937b64b8caa58f03721bb6bacf5c78cb235febe0e70b1b84cd99541461a08e";
const SECOND: &str = "16367aacb67a4a017c8da8ab95682ccb390863780f7114dda0a0e0c55644c7c4";

/// The app `shop`, configured; what a test fails over is in a folder that only it uses.
pub(crate) struct Shop {
    pub(crate) machine: Lifeboat,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) database: String,
    pub(crate) media: Tree,
}

impl Shop {
    /// With these lines in the table of the drill.
    pub(crate) fn new(drill: &str) -> Self {
        let cluster = cluster::shared();
        let (database, clerk) = (new_name("shop"), new_name("clerk \"x\""));
        psql(&cluster, "postgres", &format!("CREATE DATABASE {database}"));
        let quoted = clerk.replace('"', "\"\"");
        psql(
            &cluster,
            &database,
            &format!(
                "CREATE ROLE \"{quoted}\";
                 CREATE TABLE asset (id int PRIMARY KEY, path text, bytes int, sha text);
                 INSERT INTO asset VALUES (1, 'a.jpg', 5, '{FIRST}'), (2, 'sub/b.jpg', 6, '{SECOND}');
                 CREATE TABLE orders (id int PRIMARY KEY, asset int REFERENCES asset);
                 INSERT INTO orders SELECT n, 1 + n % 2 FROM generate_series(1, 1000) n;
                 CREATE TABLE event (at int) PARTITION BY RANGE (at);
                 CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM (0) TO (10);
                 INSERT INTO event SELECT generate_series(0, 6);
                 ALTER TABLE orders OWNER TO \"{quoted}\";"
            ),
        );
        let machine = Lifeboat::with_repository();
        let media = Tree::create(machine.path("media"));
        media.file("a.jpg", "first").file("sub/b.jpg", "second");
        fs::write(machine.path(".env"), "SECRET=1").unwrap();
        fs::create_dir(machine.path("tmp")).unwrap();
        // The server that a drill starts as another account has to get through.
        for folder in ["", "tmp"] {
            let open = fs::Permissions::from_mode(0o755);
            fs::set_permissions(machine.path(folder), open).unwrap();
        }
        rusqlite::Connection::open(machine.path("app.db"))
            .unwrap()
            .execute_batch("CREATE TABLE session (id integer PRIMARY KEY); INSERT INTO session VALUES (1), (2), (3)")
            .unwrap();
        let app = Self {
            machine,
            cluster,
            database,
            media,
        };
        app.configure("", drill);
        app
    }

    /// Writes the configuration, with these lines about the database and the drill.
    pub(crate) fn configure(&self, postgres: &str, drill: &str) {
        let text = format!(
            "[app.shop.postgres]\nurl = \"{}\"\n{postgres}\n\
             [app.shop.sqlite.rows]\npath = \"app.db\"\n\
             [app.shop.secrets]\npaths = [\".env\"]\n\
             [app.shop.media.media]\npath = \"media\"\n\
             [app.shop.media.media.reference.assets]\ncolumn = \"db:public.asset.path\"\nsize = \"bytes\"\nsha256 = \"sha\"\n\
             [app.shop.drill]\n{drill}\n",
            address(&self.cluster, "postgres", &self.database)
        );
        fs::write(self.machine.path("lifeboat.toml"), text).unwrap();
    }

    /// The program with these arguments, whose temporary files lie in a folder of their own.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command();
        command
            .args(arguments)
            .arg("--config")
            .arg(self.machine.path("lifeboat.toml"))
            .env("TMPDIR", self.machine.path("tmp"));
        command
    }

    /// Runs it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments))
    }

    /// Backs the shop up without a complaint.
    pub(crate) fn back_up(&self) {
        self.run(&["backup", "shop"]).done();
    }

    /// Drills, and returns the report. Fails when anything stays where temporary files are.
    #[track_caller]
    pub(crate) fn drill(&self, code: i32) -> Value {
        let ran = self.run(&["drill", "shop", "--json"]).ends_with_code(code);
        self.is_clean();
        ran.summary()
    }

    /// Runs SQL in the live database.
    pub(crate) fn sql(&self, sql: &str) -> String {
        psql(&self.cluster, &self.database, sql)
    }

    /// PostgreSQL's programs, with one replaced by a script that finds the real one as `$REAL`.
    pub(crate) fn programs(&self, replaced: &str, script: &str) -> PathBuf {
        let folder = self.machine.path("programs");
        fs::create_dir(&folder).unwrap();
        for program in ["pg_dump", "pg_dumpall", "pg_restore", "psql"] {
            let (real, path) = (client(&self.cluster, program), folder.join(program));
            if program != replaced {
                symlink(real, path).unwrap();
                continue;
            }
            let script = format!("#!/bin/sh\nREAL={}\n{script}\n", real.display());
            fs::write(&path, script).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        folder
    }

    /// All rows and files that are live, and everything that lies beside them.
    pub(crate) fn live(&self) -> String {
        let rows = self.sql(
            "SELECT a::text FROM asset a ORDER BY 1; SELECT o::text FROM orders o ORDER BY 1;
             SELECT datname FROM pg_database WHERE datname LIKE current_database() || '%' ORDER BY 1",
        );
        let session = rusqlite::Connection::open(self.machine.path("app.db"))
            .and_then(|rows| {
                let sql = "SELECT group_concat(id) FROM session";
                rows.query_row(sql, [], |row| row.get::<_, String>(0))
            })
            .unwrap();
        let mut files = String::new();
        let mut folders = vec![self.media.root().to_owned()];
        while let Some(folder) = folders.pop() {
            let mut paths: Vec<PathBuf> = fs::read_dir(folder)
                .unwrap()
                .map(|entry| entry.unwrap().path())
                .collect();
            paths.sort();
            for path in paths {
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).unwrap();
                    files.push_str(&format!("{}: {text}\n", path.display()));
                }
            }
        }
        let beside = fs::read_dir(self.machine.folder()).unwrap();
        let mut beside: Vec<String> = beside
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.contains("lifeboat-"))
            .collect();
        beside.sort();
        format!("{rows}{session}\n{files}{beside:?}")
    }

    /// Fails when anything lies where temporary files are.
    #[track_caller]
    pub(crate) fn is_clean(&self) {
        let left = fs::read_dir(self.machine.path("tmp")).unwrap();
        let left: Vec<PathBuf> = left.map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// The sentences of a report.
pub(crate) fn sentences(report: &Value, field: &str) -> Vec<String> {
    let list = report[field].as_array();
    let list = list.unwrap_or_else(|| panic!("`{field}` is a list in {report}"));
    list.iter()
        .map(|one| one.as_str().unwrap().to_owned())
        .collect()
}

/// Fails unless the report has one problem, whose sentence has all of these words.
#[track_caller]
pub(crate) fn names_it(report: &Value, words: &[&str]) {
    let problems = sentences(report, "problems");
    assert_eq!(problems.len(), 1, "{problems:#?}");
    for word in words {
        assert!(problems[0].contains(word), "{word} in {problems:?}");
    }
    assert_eq!(report["verdict"], "failed");
}
