//! What the tests share: one runtime, one cluster, databases with every kind of object.

use std::{
    path::Path,
    sync::{
        Arc, LazyLock, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio::runtime::{Handle, Runtime};

use crate::{
    cluster::{Cluster, ClusterOptions},
    connect::Connection,
    programs::{Programs, server_programs},
    quote,
    settings::Settings,
};

/// The handle of a runtime that lives as long as the test program.
pub(crate) fn runtime() -> &'static Handle {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    RUNTIME.handle()
}

/// A value that tests share while they run. It is held weakly: the last test to end drops it, because a value in a
/// static is never dropped.
pub(crate) type Shared<T> = Mutex<Weak<T>>;

/// The shared value, made if nobody holds it.
pub(crate) fn shared<T>(place: &Shared<T>, make: impl FnOnce() -> T) -> Arc<T> {
    let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
    place.upgrade().unwrap_or_else(|| {
        let value = Arc::new(make());
        *place = Arc::downgrade(&value);
        value
    })
}

/// The cluster that most tests share.
pub(crate) fn cluster() -> Arc<Cluster> {
    static SHARED: Shared<Cluster> = Mutex::new(Weak::new());
    shared(&SHARED, || own_cluster(&ClusterOptions::default()))
}

/// A second shared cluster, which has not the roles of the first.
pub(crate) fn other_cluster() -> Arc<Cluster> {
    static SHARED: Shared<Cluster> = Mutex::new(Weak::new());
    shared(&SHARED, || own_cluster(&ClusterOptions::default()))
}

/// A cluster for one test.
pub(crate) fn own_cluster(options: &ClusterOptions) -> Cluster {
    let programs = server_programs(None, &|_| None).unwrap();
    Cluster::start(&programs, options).unwrap()
}

/// The clients that fit the cluster.
pub(crate) fn programs(cluster: &Cluster) -> Programs {
    Programs::find(cluster.version().major, &|_| None).unwrap()
}

/// Runs statements as the superuser of `settings`, with the usual search path.
pub(crate) fn run(settings: &Settings, sql: &str) {
    let connection = Connection::open(settings, runtime()).unwrap();
    connection.execute("reset", "RESET search_path").unwrap();
    connection.execute("prepare the test", sql).unwrap();
}

/// The first column of a query's first row.
pub(crate) fn ask(settings: &Settings, sql: &str) -> String {
    let connection = Connection::open(settings, runtime()).unwrap();
    connection.execute("reset", "RESET search_path").unwrap();
    connection.rows("ask", sql).unwrap()[0][0]
        .clone()
        .unwrap_or_default()
}

/// A name that no other test uses.
pub(crate) fn unique(prefix: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{prefix}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A new database with what `sql` makes.
pub(crate) fn database(cluster: &Cluster, sql: &str) -> Settings {
    let name = unique("db");
    run(
        &cluster.settings("postgres"),
        &format!(
            "CREATE DATABASE {} TEMPLATE template0",
            quote::identifier(&name)
        ),
    );
    let settings = cluster.settings(&name);
    run(&settings, sql);
    settings
}

/// A new database with an accent in its name whose encoding is not UTF-8.
pub(crate) fn latin_database(cluster: &Cluster) -> Settings {
    let name = unique("bücher");
    run(
        &cluster.settings("postgres"),
        &format!(
            "CREATE DATABASE {} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'",
            quote::identifier(&name)
        ),
    );
    cluster.settings(&name)
}

/// A plain dump of a database, for comparison.
pub(crate) fn plain_dump(programs: &Programs, settings: &Settings) -> String {
    let mut command = crate::child::command(&programs.program("pg_dump"), Some(settings));
    command.args(["--no-password", "--format=plain"]);
    let (stdout, _) = crate::child::output(command).unwrap();
    String::from_utf8(stdout)
        .unwrap()
        .lines()
        .filter(|line| !line.starts_with("\\restrict") && !line.starts_with("\\unrestrict"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// An error with all its sources, as a person sees it.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(error.source(), |error| error.source());
    std::iter::once(error.to_string())
        .chain(sources.map(ToString::to_string))
        .collect::<Vec<_>>()
        .join(": ")
}

/// Makes a shell script that can be run.
///
/// It is written by `cp`: a file that this process has open for writing may be held open by a child that another
/// test's thread forks in that moment, and could then not be run.
pub(crate) fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let draft = path.with_extension("draft");
    std::fs::write(&draft, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o755)).unwrap();
    let status = std::process::Command::new("cp")
        .arg("-p")
        .arg(&draft)
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

/// A message as a server sends it.
#[expect(
    clippy::big_endian_bytes,
    reason = "the network's order of bytes is the protocol's"
)]
pub(crate) fn message(letter: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len() + 4).unwrap();
    [&[letter], &length.to_be_bytes()[..], content].concat()
}

/// A database with every kind of object, two roles, and a table in a tablespace of its own.
pub(crate) fn everything(cluster: &Cluster) -> Settings {
    let [owner, reader, space] = ["Own er", "reader", "other space"].map(unique);
    run(
        &cluster.settings("postgres"),
        &format!(
            "CREATE ROLE {}; CREATE ROLE {reader}",
            quote::identifier(&owner)
        ),
    );
    let connection = Connection::open(&cluster.settings("postgres"), runtime()).unwrap();
    // Below the cluster's own folder. It cannot be made among other statements.
    for statement in [
        "SET allow_in_place_tablespaces = on".to_owned(),
        format!(
            "CREATE TABLESPACE {} LOCATION ''",
            quote::identifier(&space)
        ),
    ] {
        connection.execute("make a tablespace", &statement).unwrap();
    }
    let sql = include_str!("assembly/everything.sql")
        .replace("THE_OWNER", &quote::identifier(&owner))
        .replace("THE_READER", &reader)
        .replace("THE SPACE", &space);
    database(cluster, &sql)
}
