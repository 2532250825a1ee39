//! A PostgreSQL database of 2 GB beside `pg_dump` and `pg_restore`: the first backup, the next night, a restore, one
//! table.
//!
//! Source and scratch databases are in one throw-away server in memory, which does not write durably; so are dumps and
//! repositories. The limits are this project's own: a first backup may take what `pg_dump` takes plus 1.3 times what
//! the steps of a backup cost these bytes, shared by all cores.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use lifeboat_postgres::{Cluster, ClusterOptions, server_programs};

use crate::Failure;
use crate::data::{Data, Made};
use crate::measure::{Usage, bytes_read, cores, median, medians, timed};
use crate::primitives;
use crate::programs::{Bench, Program};

/// Makes the database.
const SHOP: &str = include_str!("postgres/shop.sql");

/// A table of 10 MB.
const SMALL_TABLE: &str = "public.product";

/// Changes one row of two hundred of most tables, all over them.
fn night(number: usize) -> String {
    let chosen = |key: &str| format!("({key}) * 2654435761 % 200 = {number}");
    format!(
        "UPDATE customer SET balance = balance + 1 WHERE {};
         UPDATE orders SET state = 'gone' WHERE {};
         UPDATE line SET quantity = quantity + 1 WHERE {};
         UPDATE event SET data = data || '{{\"seen\": {number}}}' WHERE hashtext(id::text) % 200 = {number};
         UPDATE document SET title = title || '!' WHERE {};",
        chosen("id"),
        chosen("id"),
        chosen("order_id * 3 + position"),
        chosen("id"),
    )
}

/// What is measured, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    First,
    Next,
    Restore,
    /// As `pg_restore` does it: what came in is not read again.
    Unread,
    Table,
}

const STEPS: [(Step, &str); 5] = [
    (Step::First, "first backup"),
    (Step::Next, "next night, 0.5 % of the rows changed"),
    (Step::Restore, "restore, all rows read again and compared"),
    (Step::Unread, "restore, `--no-verify`"),
    (Step::Table, "one table of 10 MB"),
];

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Lifeboat,
    /// `pg_dump --format=directory --jobs=2 --compress=0`, and `pg_restore --jobs=2` of it.
    Directory,
    /// `pg_dump --format=custom`, and `pg_restore --jobs=2` of it.
    Custom,
}

impl Way {
    const ALL: [Self; 3] = [Self::Lifeboat, Self::Directory, Self::Custom];

    fn name(self) -> &'static str {
        match self {
            Self::Lifeboat => "lifeboat",
            Self::Directory => "pg_dump -Fd -j2 -Z0, pg_restore -j2",
            Self::Custom => "pg_dump -Fc, pg_restore -j2",
        }
    }
}

/// The server with its database, and where dumps lie.
struct Server {
    cluster: Cluster,
    programs: PathBuf,
    work: PathBuf,
}

impl Server {
    fn start(folder: &Path, work: &Path) -> Result<Self, Failure> {
        let programs = server_programs(None, &|name| std::env::var_os(name))?;
        let options = ClusterOptions {
            parent: folder.to_path_buf(),
            parameters: vec![("max_wal_size".to_owned(), "4GB".to_owned())],
            ..ClusterOptions::default()
        };
        let server = Self {
            cluster: Cluster::start(&programs, &options)?,
            programs: programs.folder().to_path_buf(),
            work: work.to_path_buf(),
        };
        server.sql("postgres", "CREATE DATABASE shop")?;
        server.sql("shop", SHOP)?;
        Ok(server)
    }

    /// One of PostgreSQL's programs, on its way to the server.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command
            .env("PGHOST", self.cluster.folder())
            .env("PGPORT", self.cluster.port().to_string())
            .env("PGUSER", "postgres");
        command
    }

    fn sql(&self, database: &str, sql: &str) -> Result<(), Failure> {
        self.answer(database, sql).map(drop)
    }

    fn answer(&self, database: &str, sql: &str) -> Result<String, Failure> {
        let script = self.work.join("script.sql");
        fs::write(&script, sql)?;
        let mut psql = self.program("psql");
        psql.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-f"]);
        let log = self.work.join("psql.log");
        timed(psql.arg(&script).arg(database), &log)?;
        Ok(fs::read_to_string(log)?)
    }

    fn url(&self, database: &str) -> String {
        format!(
            "postgres://postgres@/{database}?host={}&port={}",
            self.cluster.folder().display(),
            self.cluster.port()
        )
    }

    fn dump_path(&self, way: Way) -> PathBuf {
        self.work.join(format!("{way:?}"))
    }

    fn dump(&self, way: Way) -> Result<Usage, Failure> {
        let out = self.dump_path(way);
        if out.is_dir() {
            fs::remove_dir_all(&out)?;
        }
        let mut command = self.program("pg_dump");
        match way {
            Way::Directory => command.args(["-Fd", "-j2", "-Z0", "-f"]),
            _ => command.args(["-Fc", "-f"]),
        };
        timed(command.arg(&out).arg("shop"), &self.work.join("log"))
    }

    /// A new empty database.
    fn empty(&self, name: &str) -> Result<(), Failure> {
        self.gone(name)?;
        self.sql("postgres", &format!("CREATE DATABASE {name}"))
    }

    fn gone(&self, name: &str) -> Result<(), Failure> {
        self.sql("postgres", &format!("DROP DATABASE IF EXISTS {name}"))
    }

    /// What the rows of all tables come to, whatever their order.
    fn rows(&self, database: &str) -> Result<String, Failure> {
        let tables = "SELECT relname FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace
                      ORDER BY relname";
        let mut all = String::new();
        for table in self.answer(database, tables)?.lines() {
            let sum = format!("SELECT count(*), sum(hashtext(t::text)) FROM {table} t");
            all += &format!("{table} {}", self.answer(database, &sum)?);
        }
        Ok(all)
    }
}

/// Runs everything and prints the tables.
pub(crate) fn print(folder: &Path, work: &Path, rounds: usize) -> Result<(), Failure> {
    fs::create_dir_all(work)?;
    let server = Server::start(folder, work)?;
    let size = server.answer("shop", "SELECT pg_size_pretty(pg_database_size('shop'))")?;
    println!(
        "PostgreSQL {}, a database of {}.\n",
        server.cluster.version(),
        size.trim()
    );
    let url = server.url("shop");
    let mut usages: BTreeMap<(Step, Way), Vec<Usage>> = BTreeMap::new();
    let mut table_bytes = 0;
    for round in 0..rounds {
        let bench = Bench::begin(Program::Lifeboat, Path::new(&url), work)?;
        let backup = || bench.lifeboat(&["backup", "--app", "bench", "--source", &url]);
        let mut order = Way::ALL.to_vec();
        order.rotate_left(round % Way::ALL.len());
        let mut add = |step, way, usage| usages.entry((step, way)).or_default().push(usage);
        for step in [Step::First, Step::Next] {
            if step == Step::Next {
                server.sql("shop", &night(round + 1))?;
                server.sql("shop", "VACUUM ANALYZE")?;
                server.sql("shop", "CHECKPOINT")?;
            }
            for way in &order {
                let usage = match way {
                    Way::Lifeboat => timed(&mut backup()?, &work.join("log"))?,
                    way => server.dump(*way)?,
                };
                add(step, *way, usage);
            }
        }
        let source = server.rows("shop")?;
        for way in &order {
            let usage = match way {
                Way::Lifeboat => {
                    let to = server.url("back");
                    let all = [
                        "restore-db",
                        "bench",
                        "--to",
                        &to,
                        "--jobs",
                        "2",
                        "--no-verify",
                    ];
                    server.gone("back")?;
                    let usage = timed(&mut bench.lifeboat(&all)?, &work.join("log"))?;
                    add(Step::Unread, *way, usage);
                    server.gone("back")?;
                    timed(&mut bench.lifeboat(&all[..6])?, &work.join("log"))?
                }
                way => {
                    server.empty("back")?;
                    let mut restore = server.program("pg_restore");
                    restore
                        .args(["-j2", "-d", "back"])
                        .arg(server.dump_path(*way));
                    timed(&mut restore, &work.join("log"))?
                }
            };
            add(Step::Restore, *way, usage);
            if server.rows("back")? != source {
                return Err(format!("{} restored other rows", way.name()).into());
            }
        }
        server.gone("back")?;
        let to = server.url("back");
        let mut table =
            bench.lifeboat(&["restore-db", "bench", "--to", &to, "--table", SMALL_TABLE])?;
        let (usage, read) = bytes_read(&mut table, &work.join("log"))?;
        add(Step::Table, Way::Lifeboat, usage);
        table_bytes = table_bytes.max(read);
        server.gone("back")?;
        bench.end()?;
    }
    // Last: Linux counts what its parent held among a process's peak, and the steps hold more than some need.
    let dumped = Made::lying(Data::Dump, server.dump_path(Way::Directory), None)?;
    let costs = (0..rounds)
        .map(|_| primitives::backup_cost(&dumped, &work.join("pack")))
        .collect::<Result<Vec<_>, _>>()?;
    let cost = median(&costs).ok_or("no rounds")?;
    print_tables(&usages, cost, table_bytes);
    fs::remove_dir_all(work)?;
    Ok(())
}

fn print_tables(usages: &BTreeMap<(Step, Way), Vec<Usage>>, cost: Duration, table_bytes: u64) {
    let of = |step, way| usages.get(&(step, way)).and_then(|usages| medians(usages));
    for (step, title) in STEPS {
        println!("| {title} | wall s | processor s | peak MB | limit s |\n|---|--:|--:|--:|--:|");
        for way in Way::ALL {
            let Some(usage) = of(step, way) else {
                continue;
            };
            // What pg_dump and pg_restore take, and what that allows.
            let same = if step == Step::Unread {
                Step::Restore
            } else {
                step
            };
            let other = of(same, Way::Directory).map(|usage| usage.wall);
            let limit = match (step, other) {
                (Step::First, Some(other)) => {
                    Some(other + cost.mul_f64(1.3) / u32::try_from(cores()).unwrap_or(1))
                }
                (Step::Next, Some(other)) => Some(other.mul_f64(1.4)),
                (Step::Restore | Step::Unread, Some(other)) => Some(other.mul_f64(1.1)),
                _ => None,
            };
            let limit = limit.filter(|_| way == Way::Lifeboat);
            println!(
                "| {} | {:.2} | {:.2} | {:.0} | {} |",
                way.name(),
                usage.wall.as_secs_f64(),
                usage.cpu.as_secs_f64(),
                usage.peak_bytes as f64 / 1e6,
                limit.map_or(String::from("–"), |limit| format!(
                    "{:.2}",
                    limit.as_secs_f64()
                )),
            );
        }
        println!();
    }
    println!(
        "Compress, decode, compare, hash and seal on one core: {:.2} s. One table read {:.1} MB, from whatever file.",
        cost.as_secs_f64(),
        table_bytes as f64 / 1e6
    );
}
