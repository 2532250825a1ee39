//! PostgreSQL for tests: throw-away clusters, and the programs that ask them.
//!
//! **Invariant**: what is asked goes through PostgreSQL's own programs, not through ours.

use std::{
    collections::hash_map::DefaultHasher,
    hash::{Hash, Hasher},
    io::{BufRead, BufReader, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
    thread,
};

use lifeboat_postgres::{Cluster, ClusterOptions, Programs, server_programs};

/// The cluster that most tests share. The last test to end drops it, because a value in a static is never dropped.
pub(crate) fn shared() -> Arc<Cluster> {
    static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let cluster = Arc::new(own());
        *shared = Arc::downgrade(&cluster);
        cluster
    })
}

/// A cluster for one test.
pub(crate) fn own() -> Cluster {
    let programs = server_programs(None, &|name| std::env::var_os(name));
    let programs = programs.expect("tests/run installs PostgreSQL");
    Cluster::start(&programs, &ClusterOptions::default()).expect("a cluster can be started")
}

/// A name for a database or role that no other test uses.
pub(crate) fn new_name(kind: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{kind}_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The address of a database, as it is given to the program.
pub(crate) fn address(cluster: &Cluster, user: &str, database: &str) -> String {
    let folder = cluster.folder().display();
    format!(
        "postgres://{user}@/{database}?host={folder}&port={}",
        cluster.port()
    )
}

/// A client program of the cluster's own version.
pub(crate) fn client(cluster: &Cluster, name: &str) -> PathBuf {
    let programs = Programs::find(cluster.version().major, &|name| std::env::var_os(name));
    let programs = programs.expect("tests/run installs PostgreSQL's clients");
    programs.folder().join(name)
}

/// Runs statements as the superuser, and returns the rows that they give.
#[track_caller]
pub(crate) fn psql(cluster: &Cluster, database: &str, sql: &str) -> String {
    let mut command = Command::new(client(cluster, "psql"));
    command
        .args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-d"])
        .arg(address(cluster, "postgres", database))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("psql can be started");
    let mut input = child.stdin.take().expect("standard input is a pipe");
    let output = thread::scope(|scope| {
        // psql ends at the first error, and then reads no more; its exit code judges it.
        scope.spawn(move || {
            let _ = input.write_all(sql.as_bytes());
        });
        child.wait_with_output()
    });
    let output = output.expect("psql can be waited for");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    String::from_utf8(output.stdout).expect("the databases of tests hold UTF-8")
}

/// How a database looks to `pg_dump`: how many lines it prints, and their hash. In which order a table's rows come does
/// not count: SQL has none, and they may have been read by their key.
///
/// A hash, because dumps of the long forms are large; `pg_dump` of both databases shows what differs.
#[track_caller]
pub(crate) fn looks(cluster: &Cluster, database: &str) -> (u64, u64) {
    let mut command = Command::new(client(cluster, "pg_dump"));
    command
        .arg("-d")
        .arg(address(cluster, "postgres", database));
    let child = command.stdout(Stdio::piped()).spawn();
    let mut child = child.expect("pg_dump can be started");
    let mut output = BufReader::new(child.stdout.take().expect("standard output is a pipe"));
    let (mut lines, mut hasher, mut line) = (0, DefaultHasher::new(), Vec::new());
    let mut rows: Option<u64> = None;
    while output.read_until(b'\n', &mut line).expect("it can be read") > 0 {
        // The only words that pg_dump draws at random.
        let is_random = line.starts_with(b"\\restrict ") || line.starts_with(b"\\unrestrict ");
        let begins = line.starts_with(b"COPY ") && line.ends_with(b" FROM stdin;\n");
        if !is_random {
            lines += 1;
            match &mut rows {
                Some(sum) if line == b"\\.\n" => {
                    sum.hash(&mut hasher);
                    rows = None;
                }
                Some(sum) => {
                    let mut row = DefaultHasher::new();
                    line.hash(&mut row);
                    *sum = sum.wrapping_add(row.finish());
                }
                None => {
                    line.hash(&mut hasher);
                    rows = begins.then_some(0);
                }
            }
        }
        line.clear();
    }
    let ended = child.wait().expect("pg_dump can be waited for");
    assert!(ended.success(), "pg_dump of {database}: {ended}");
    (lines, hasher.finish())
}
