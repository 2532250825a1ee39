//! A throw-away server: made in a temporary folder, reached through a socket in that folder, gone when dropped.
//!
//! For drills, demonstrations and tests. The folder (mode 0700) belongs to the account that runs the server, so that
//! nobody else but root reaches the socket; `trust` is therefore enough there. Nothing is written durably: `fsync` is
//! off, and the cluster must never hold the only copy of anything.
//!
//! PostgreSQL refuses to run as root. When we are root the server runs as `postgres`.

use std::{
    fs,
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::{
    account::Account,
    child::{self, Ended, ProgramError},
    programs::{ProgramVersion, ServerPrograms},
    settings::Settings,
};

/// The account that runs the server when we are root.
const ACCOUNT: &str = "postgres";
/// The superuser's name.
const SUPERUSER: &str = "postgres";
/// The longest path of a socket on Linux, with its closing zero.
const SOCKET_PATH_LEN_BYTES_MAX: usize = 108;
const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// How a cluster is made.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// The folder in which the cluster's own temporary folder is made; it should be short, for the socket's sake.
    pub parent: PathBuf,
    /// The locale of the template databases; `C.UTF-8` by default.
    pub locale: String,
    /// Whether to listen on 127.0.0.1 too, where `pg_hba` decides who may come in.
    pub tcp: Option<ClusterTcp>,
    /// Lines for `postgresql.conf`, as name and value.
    pub parameters: Vec<(String, String)>,
}

/// How a cluster is reached over TCP.
#[derive(Clone, Debug, Default)]
pub struct ClusterTcp {
    /// Certificate and key as PEM; with them the server speaks TLS.
    pub certificate: Option<(String, String)>,
    /// The lines of `pg_hba.conf` for addresses: `hostssl all all 127.0.0.1/32 scram-sha-256`.
    pub access: Vec<String>,
}

impl Default for ClusterOptions {
    fn default() -> Self {
        Self {
            parent: std::env::temp_dir(),
            locale: "C.UTF-8".to_owned(),
            tcp: None,
            parameters: Vec::new(),
        }
    }
}

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// We are root and the account that would run the server does not exist.
    #[error("PostgreSQL does not run as root, and there is no account \"{ACCOUNT}\" to run it as")]
    NoAccount,
    /// The path of the socket is too long for the system.
    #[error("the folder {} is too long a path for a socket; choose a shorter temporary folder", folder.display())]
    PathTooLong {
        /// The folder.
        folder: PathBuf,
    },
    /// A file of the cluster cannot be made.
    #[error("cannot prepare {}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// `initdb` failed.
    #[error("cannot make a throw-away cluster")]
    Init(#[source] ProgramError),
    /// The server could not be started.
    #[error("the throw-away server did not start")]
    Start(#[source] ProgramError),
    /// The server was not ready in time.
    #[error("the throw-away server was not ready after {} s: {log}", START_TIMEOUT.as_secs())]
    NotReady {
        /// The end of its log.
        log: String,
    },
}

/// A running throw-away cluster; dropping it stops the server and removes its folder.
#[derive(Debug)]
pub struct Cluster {
    postmaster: Child,
    version: ProgramVersion,
    port: u16,
    // After the server: fields are dropped in order, and `drop` has stopped it by then.
    folder: TempDir,
}

impl Cluster {
    /// Makes a cluster and starts its server; returns when it takes connections.
    pub fn start(
        programs: &ServerPrograms,
        options: &ClusterOptions,
    ) -> Result<Self, ClusterError> {
        let account = account()?;
        let folder = tempfile::Builder::new()
            .prefix("lifeboat-pg-")
            .permissions(fs::Permissions::from_mode(0o700))
            .tempdir_in(&options.parent)
            .map_err(|source| ClusterError::File {
                path: options.parent.clone(),
                source,
            })?;
        let port = free_port().map_err(|source| ClusterError::File {
            path: folder.path().to_owned(),
            source,
        })?;
        let socket = folder.path().join(format!(".s.PGSQL.{port}"));
        if socket.as_os_str().len() >= SOCKET_PATH_LEN_BYTES_MAX {
            return Err(ClusterError::PathTooLong {
                folder: folder.path().to_owned(),
            });
        }
        give_to(folder.path(), account.as_ref())?;
        initialise(programs, options, folder.path(), account.as_ref())?;
        configure(options, folder.path(), port, account.as_ref())?;
        let postmaster = launch(programs, folder.path(), account.as_ref())?;
        let mut cluster = Self {
            postmaster,
            version: programs.version(),
            port,
            folder,
        };
        cluster.wait_until_ready()?;
        Ok(cluster)
    }

    /// The way to `database` as the superuser, through the socket.
    pub fn settings(&self, database: &str) -> Settings {
        Settings::over_socket(self.folder.path(), self.port, SUPERUSER, database)
    }

    /// The folder with the socket, the data and the log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port, on 127.0.0.1 if asked for and in the socket's name.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's version.
    pub fn version(&self) -> ProgramVersion {
        self.version
    }

    /// Ends the server at once, as a crash would; the folder stays until the value is dropped.
    pub fn stop(&mut self) {
        if matches!(self.postmaster.try_wait(), Ok(Some(_))) {
            return;
        }
        // SIGQUIT is the immediate shutdown; the postmaster takes its children along. The child is not waited for
        // yet, so its number cannot have gone to another process.
        let _ = kill_process(Pid::from_child(&self.postmaster), Signal::QUIT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while Instant::now() < deadline {
            if matches!(self.postmaster.try_wait(), Ok(Some(_)) | Err(_)) {
                return;
            }
            std::thread::sleep(POLL);
        }
        let _ = self.postmaster.kill();
        let _ = self.postmaster.wait();
    }

    fn wait_until_ready(&mut self) -> Result<(), ClusterError> {
        let status_file = data_folder(self.folder.path()).join("postmaster.pid");
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if let Ok(Some(status)) = self.postmaster.try_wait() {
                return Err(ClusterError::Start(ProgramError::Failed {
                    program: "postgres".to_owned(),
                    ended: Ended::from(status),
                    stderr: self.log(),
                }));
            }
            // The eighth line says what `pg_ctl` waits for.
            let ready = fs::read_to_string(&status_file).is_ok_and(|text| {
                text.lines()
                    .nth(7)
                    .is_some_and(|line| line.trim() == "ready")
            });
            if ready {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(ClusterError::NotReady { log: self.log() });
            }
            std::thread::sleep(POLL);
        }
    }

    /// The end of the server's log.
    fn log(&self) -> String {
        let mut text = Vec::new();
        let read = fs::File::open(log_file(self.folder.path())).and_then(|mut file| {
            let start = file.metadata()?.len().saturating_sub(4 << 10);
            file.seek(io::SeekFrom::Start(start))?;
            file.read_to_end(&mut text)
        });
        match read {
            Ok(_) => String::from_utf8_lossy(&text).into_owned(),
            Err(error) => format!("its log cannot be read: {error}"),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Ends the server of a cluster whose program was killed before it could do that, and removes the cluster's folder.
///
/// A process counts as the server only when it works in the cluster's own folder: the number that the folder gives may
/// be another's by now. Where that cannot be seen the folder is removed all the same; a server whose folder is gone ends
/// within a minute.
///
/// # Errors
/// When the folder cannot be removed.
pub fn remove_abandoned(folder: &Path) -> io::Result<()> {
    let data = data_folder(folder);
    let server = fs::read_to_string(data.join("postmaster.pid"))
        .ok()
        .and_then(|text| text.lines().next()?.trim().parse().ok())
        .and_then(Pid::from_raw);
    let works_here = |server: Pid| {
        let at = fs::read_link(format!("/proc/{}/cwd", server.as_raw_pid()));
        matches!((at, data.canonicalize()), (Ok(at), Ok(data)) if at == data)
    };
    if let Some(server) = server.filter(|server| works_here(*server)) {
        let _ = kill_process(server, Signal::QUIT);
        let deadline = Instant::now() + STOP_TIMEOUT;
        while works_here(server) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
    }
    fs::remove_dir_all(folder)
}

fn data_folder(folder: &Path) -> PathBuf {
    folder.join("data")
}

fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// The account to become, if we are root.
fn account() -> Result<Option<Account>, ClusterError> {
    if !rustix::process::geteuid().is_root() {
        return Ok(None);
    }
    Account::named(ACCOUNT)
        .map(Some)
        .ok_or(ClusterError::NoAccount)
}

/// A port that nobody listens on now. The socket lies in a folder of its own, so only a cluster that asks for TCP can
/// lose the race for it, and then its server says so and ends.
fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

fn give_to(path: &Path, account: Option<&Account>) -> Result<(), ClusterError> {
    let Some(account) = account else {
        return Ok(());
    };
    std::os::unix::fs::lchown(path, Some(account.user_id), Some(account.group_id)).map_err(
        |source| ClusterError::File {
            path: path.to_owned(),
            source,
        },
    )
}

fn command(program: &Path, account: Option<&Account>) -> Command {
    let mut command = child::command(program, None);
    if let Some(account) = account {
        command.uid(account.user_id).gid(account.group_id);
    }
    command
}

fn initialise(
    programs: &ServerPrograms,
    options: &ClusterOptions,
    folder: &Path,
    account: Option<&Account>,
) -> Result<(), ClusterError> {
    let mut initdb = command(&programs.program("initdb"), account);
    initdb
        .arg("--pgdata")
        .arg(data_folder(folder))
        .arg(format!("--username={SUPERUSER}"))
        .arg(format!("--locale={}", options.locale))
        .args([
            "--encoding=UTF8",
            "--auth=trust",
            "--no-sync",
            "--no-instructions",
        ]);
    child::output(initdb).map_err(ClusterError::Init)?;
    Ok(())
}

fn configure(
    options: &ClusterOptions,
    folder: &Path,
    port: u16,
    account: Option<&Account>,
) -> Result<(), ClusterError> {
    let data = data_folder(folder);
    let addresses = if options.tcp.is_some() {
        "127.0.0.1"
    } else {
        ""
    };
    let mut lines = format!(
        "listen_addresses = '{addresses}'\nport = {port}\nunix_socket_directories = {}\n\
         fsync = off\nsynchronous_commit = off\nfull_page_writes = off\nmax_wal_size = '256MB'\n\
         logging_collector = off\nlog_min_messages = warning\n",
        value(&folder.to_string_lossy())
    );
    let mut access = "local all all trust\n".to_owned();
    if let Some(tcp) = &options.tcp {
        if let Some((certificate, key)) = &tcp.certificate {
            write_private(&data.join("server.crt"), certificate, account)?;
            write_private(&data.join("server.key"), key, account)?;
            lines.push_str("ssl = on\n");
        }
        for line in &tcp.access {
            access.push_str(line);
            access.push('\n');
        }
    }
    for (name, setting) in &options.parameters {
        lines.push_str(&format!("{name} = {}\n", value(setting)));
    }
    let path = data.join("postgresql.conf");
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .and_then(|mut file| file.write_all(lines.as_bytes()))
        .map_err(|source| ClusterError::File { path, source })?;
    write_private(&data.join("pg_hba.conf"), &access, account)
}

/// A value of `postgresql.conf`: in quotes, with quotes and backslashes doubled.
fn value(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

fn write_private(path: &Path, text: &str, account: Option<&Account>) -> Result<(), ClusterError> {
    let write = || {
        fs::write(path, text)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
    };
    write().map_err(|source| ClusterError::File {
        path: path.to_owned(),
        source,
    })?;
    give_to(path, account)
}

fn launch(
    programs: &ServerPrograms,
    folder: &Path,
    account: Option<&Account>,
) -> Result<Child, ClusterError> {
    let program = programs.program("postgres");
    let path = log_file(folder);
    let log = fs::File::create(&path).map_err(|source| ClusterError::File { path, source })?;
    command(&program, account)
        .arg("-D")
        .arg(data_folder(folder))
        .stdout(Stdio::null())
        .stderr(log)
        // Its own group, so that Ctrl-C at the terminal reaches us first and the server is stopped in order.
        .process_group(0)
        .spawn()
        .map_err(|source| ClusterError::Start(ProgramError::Start { program, source }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Connection, programs::server_programs, testing};

    #[test]
    fn a_cluster_starts_answers_and_leaves_nothing_behind() {
        let programs = server_programs(None, &|_| None).unwrap();
        let cluster = Cluster::start(&programs, &ClusterOptions::default()).unwrap();
        let folder = cluster.folder().to_owned();
        assert_eq!(
            fs::metadata(&folder).unwrap().permissions().mode() & 0o777,
            0o700
        );
        let pid = cluster.postmaster.id();
        let connection =
            Connection::open(&cluster.settings("postgres"), testing::runtime()).unwrap();
        let row = connection.row("ask", "SHOW listen_addresses").unwrap();
        assert_eq!(row, [Some(String::new())]);
        drop(connection);
        drop(cluster);
        assert!(!folder.exists());
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }

    #[test]
    fn the_server_of_a_killed_program_is_ended_and_its_folder_removed() {
        let programs = server_programs(None, &|_| None).unwrap();
        let cluster = Cluster::start(&programs, &ClusterOptions::default()).unwrap();
        let (folder, server) = (cluster.folder().to_owned(), cluster.postmaster.id());
        remove_abandoned(&folder).unwrap();
        assert!(!folder.exists());
        // Our own child is there as long as nobody has asked how it ended, and works nowhere any more.
        assert!(fs::read_link(format!("/proc/{server}/cwd")).is_err());
        drop(cluster);
    }

    #[test]
    fn a_server_that_cannot_start_quotes_its_log() {
        let programs = server_programs(None, &|_| None).unwrap();
        let options = ClusterOptions {
            parameters: vec![("shared_buffers".to_owned(), "nonsense".to_owned())],
            ..ClusterOptions::default()
        };
        let error = Cluster::start(&programs, &options).unwrap_err();
        let ClusterError::Start(cause) = error else {
            panic!("{error}");
        };
        assert!(cause.to_string().contains("shared_buffers"), "{cause}");
    }

    #[test]
    fn a_path_too_long_for_a_socket_is_refused_before_anything_is_made() {
        let parent = tempfile::tempdir().unwrap();
        let long = parent.path().join("x".repeat(100));
        fs::create_dir(&long).unwrap();
        let programs = server_programs(None, &|_| None).unwrap();
        let options = ClusterOptions {
            parent: long,
            ..ClusterOptions::default()
        };
        let error = Cluster::start(&programs, &options).unwrap_err();
        assert!(matches!(error, ClusterError::PathTooLong { .. }), "{error}");
    }
}
