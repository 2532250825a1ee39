//! An app that says in which of two states it is, in its database and in its folder.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    sync::Arc,
    thread,
    time::Duration,
};

use lifeboat_postgres::Cluster;

use super::{
    cluster::{self, address, new_name, psql},
    program::{Lifeboat, Ran},
    trees::{Tree, noise},
};

/// See the module. It is called shop.
pub(crate) struct TwoStates {
    pub(crate) machine: Lifeboat,
    pub(crate) cluster: Arc<Cluster>,
    /// Who owns the database, and is the app.
    pub(crate) owner: String,
    pub(crate) database: String,
    pub(crate) media: Tree,
}

impl TwoStates {
    /// In state 1, with a new database of `owner`; nothing is backed up yet.
    pub(crate) fn new(machine: Lifeboat, folder: &Path, owner: &str) -> Self {
        let cluster = cluster::shared();
        let database = new_name("states");
        psql(
            &cluster,
            "postgres",
            &format!("CREATE DATABASE {database} OWNER {owner}"),
        );
        let app = Self {
            media: Tree::create(folder),
            machine,
            cluster,
            owner: owner.to_owned(),
            database,
        };
        app.own(
            "CREATE TABLE state (number int, file text); INSERT INTO state VALUES (0);
             CREATE SCHEMA shop; CREATE TABLE shop.asset (path text PRIMARY KEY);
             INSERT INTO shop.asset SELECT 'file-' || n FROM generate_series(1, 3000) n",
        );
        let text = format!(
            "[app.shop.postgres]\nurl = \"{}\"\n[app.shop.media.media]\npath = \"{}\"\n\
             referenced-by = [\"public.state.file\"]\n",
            address(&app.cluster, owner, &app.database),
            app.media.root().display()
        );
        fs::write(app.machine.path("lifeboat.toml"), text).unwrap();
        app.goes_to(1);
        app
    }

    /// As a superuser.
    pub(crate) fn sql(&self, sql: &str) -> String {
        psql(&self.cluster, &self.database, sql)
    }

    /// As the app.
    pub(crate) fn own(&self, sql: &str) -> String {
        self.sql(&format!("SET ROLE {}; {sql}", self.owner))
    }

    pub(crate) fn goes_to(&self, number: u64) {
        self.own(&format!(
            "UPDATE public.state SET number = {number}, file = 'only-{number}'"
        ));
        self.media
            .file("state", number.to_string())
            .file(&format!("only-{number}"), noise(number, 40_000))
            .file("sub/both", noise(number, 3_000));
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.machine.command();
        command
            .args(arguments)
            .arg("--config")
            .arg(self.machine.path("lifeboat.toml"));
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments))
    }

    pub(crate) fn restore_app(&self, more: &[&str]) -> Ran {
        self.run(&[&["restore-app", "shop"], more].concat())
    }

    /// The state of the database.
    pub(crate) fn rows(&self) -> u64 {
        self.sql("SELECT number FROM public.state")
            .trim()
            .parse()
            .unwrap()
    }

    /// Whether the rows that belong to both states are there.
    pub(crate) fn has_assets(&self) -> bool {
        self.sql("SELECT count(*) FROM shop.asset").trim() == "3000"
    }

    /// The state of the folder, whose files all belong to it.
    pub(crate) fn files(&self) -> u64 {
        let text = fs::read_to_string(self.media.root().join("state")).unwrap();
        let number = text.parse().unwrap();
        assert!(self.media.root().join(format!("only-{number}")).exists());
        assert_eq!(
            fs::read(self.media.root().join("sub/both")).unwrap(),
            noise(number, 3_000)
        );
        number
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.machine.path("state/lifeboat/restore-app/shop.json")
    }

    /// Waits until the journal says that, or the program has ended.
    pub(crate) fn wait_for(&self, child: &mut Child, phase: &str) {
        let wanted = format!("\"phase\": \"{phase}\"");
        while child.try_wait().unwrap().is_none() {
            if fs::read_to_string(self.journal()).is_ok_and(|text| text.contains(&wanted)) {
                return;
            }
            thread::sleep(Duration::from_micros(200));
        }
    }
}
