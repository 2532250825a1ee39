//! The PostgreSQL databases of a drill: a server of its own, each database restored into it, and its rows counted.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::Ordering;

use lifeboat_codec::EntryKind;
use lifeboat_codec::StreamRef;
use lifeboat_postgres::{
    ArchiveRows, Cluster, ClusterOptions, Connection, ExamineError, Examined, PlanError,
    RestoreError, RestoreFailure, ServerPrograms, Settings, VerifyError, examine,
    lacking_extensions, make_globals, server_programs,
};
use lifeboat_repository::StreamError;
use zeroize::Zeroizing;

use super::{
    At, Done, Drill, DrilledDatabase, DrilledTable, Restored, Trouble, surroundings, worse,
};
use crate::browse::{Found, PathError, find_item};
use crate::database::{DatabaseError, DatabaseRequest, restore_database};
use crate::entry::FileContent;
use crate::facts::database_parts;
use crate::stored::StoredError;
use crate::text::sentence;

/// A server whose disk has less than this is full.
const ROOM_BYTES: u64 = 48 << 20;

/// What a snapshot says of a database beside its rows.
struct Facts {
    source: String,
    major: u32,
    extensions: Vec<String>,
    globals: Zeroizing<String>,
    /// How many rows the source's statistics had for each table.
    estimates: HashMap<String, u64>,
    /// How many rows each table's stream has, where each has one.
    expected: Option<Counts>,
}

/// A database that is there again, and whose rows nobody has counted.
pub(super) struct Uncounted {
    facts: Facts,
    settings: Settings,
    /// Whether the restore held the rows' hashes against the snapshot's.
    verified: bool,
}

/// Rows by schema and table.
type Counts = HashMap<(String, String), u64>;

impl Drill<'_> {
    /// Restores all of them.
    pub(super) fn databases(&mut self) -> Done<()> {
        let names = self.names("postgres");
        if names.is_empty() {
            return Ok(());
        }
        let mut all = Vec::new();
        let mut worst = Ok(());
        for name in names {
            match self.facts(&name) {
                Ok(facts) => all.push(facts),
                Err(Trouble::Backup) => worst = Err(Trouble::Backup),
                trouble => return trouble.map(drop),
            }
        }
        if all.is_empty() {
            return worst;
        }
        let major = all.iter().map(|facts| facts.major).max().unwrap_or(0);
        self.step("Starting a server".to_owned(), |drill| {
            drill.start(major, &all)
        })?;
        for facts in all {
            let done = self.step(
                format!("Restoring the database {}", facts.source),
                |drill| drill.restore_one(&facts.source),
            );
            let done = done.map(|(settings, verified)| {
                self.uncounted.push(Uncounted {
                    facts,
                    settings,
                    verified,
                });
            });
            worst = worse(worst, done);
            if !matches!(worst, Ok(()) | Err(Trouble::Backup)) {
                break;
            }
        }
        worst
    }

    /// Counts the rows of those that were restored.
    pub(super) fn rows(&mut self) -> Done<()> {
        let mut done = Ok(());
        for database in std::mem::take(&mut self.uncounted) {
            let what = format!("Counting the rows of {}", database.facts.source);
            let one = self.step(what, |drill| drill.count(&database));
            done = worse(done, one);
        }
        done
    }

    /// A file of a database's folder in the snapshot; nothing when it has none of that name.
    fn stream(&mut self, source: &str, name: &str) -> Done<Option<StreamRef>> {
        let path = format!("{source}/{name}");
        match find_item(&self.reader, self.snapshot, path.as_bytes()) {
            Ok(Found::Other(item)) if item.kind == EntryKind::File => {
                Ok(item.content.and_then(FileContent::stream))
            }
            Ok(_) | Err(PathError::NotFound { .. }) => Ok(None),
            Err(PathError::Read(error)) => {
                Err(self.judge(&format!("{path} cannot be read"), &error))
            }
        }
    }

    fn content(&mut self, source: &str, name: &str) -> Done<Zeroizing<String>> {
        let Some(stream) = self.stream(source, name)? else {
            return Err(self.problem(format!("the snapshot has no {source}/{name}")));
        };
        let bytes = self
            .reader
            .whole(&stream)
            .map(Zeroizing::new)
            .map_err(|error| self.judge(&format!("{source}/{name} cannot be read"), &error))?;
        Ok(Zeroizing::new(String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn facts(&mut self, source: &str) -> Done<Facts> {
        let text = self.content(source, "database.json")?;
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        let number = value["server_version_number"].as_u64();
        let Some(major) = number.and_then(|number| u32::try_from(number / 10_000).ok()) else {
            return Err(self.problem(format!(
                "{source}/database.json does not say of which version the server was"
            )));
        };
        let list = |key: &str| value[key].as_array().cloned().unwrap_or_default();
        let name = |value: &serde_json::Value| value["name"].as_str().map(str::to_owned);
        let estimates = list("tables").into_iter().filter_map(|table| {
            let rows = table["estimated_rows"].as_u64().filter(|rows| *rows > 0)?;
            Some((name(&table)?, rows))
        });
        let expected = database_parts(&text).map(|parts| {
            let parts = parts.tables.into_iter();
            parts
                .filter_map(|part| Some(((part.schema, part.name), part.digest?.rows)))
                .collect()
        });
        let globals = self.content(source, "globals.sql")?;
        Ok(Facts {
            source: source.to_owned(),
            major,
            extensions: list("extensions").iter().filter_map(name).collect(),
            globals,
            expected,
            estimates: estimates.collect(),
        })
    }

    /// Starts the server of this drill.
    pub(super) fn begin_server(&mut self, programs: &ServerPrograms) -> Done<&Cluster> {
        let options = ClusterOptions {
            parent: self.scratch.path().to_owned(),
            ..ClusterOptions::default()
        };
        let cluster = Cluster::start(programs, &options).map_err(|error| surroundings(&error))?;
        Ok(self.server.insert(cluster))
    }

    /// Starts the server that has all that the databases need from outside.
    fn start(&mut self, major: u32, all: &[Facts]) -> Done<((), String)> {
        let environment = |name: &str| std::env::var_os(name);
        let programs =
            server_programs(Some(major), &environment).map_err(|error| surroundings(&error))?;
        let cluster = self.begin_server(&programs)?;
        let version = cluster.version();
        let admin = cluster.settings("postgres");
        let wanted: BTreeSet<String> = all
            .iter()
            .flat_map(|facts| facts.extensions.iter().cloned())
            .collect();
        let wanted: Vec<String> = wanted.into_iter().collect();
        let lacks = lacking_extensions(&admin, &wanted, self.stop, self.runtime)
            .map_err(|error| examined(&error))?;
        if !lacks.is_empty() {
            return Err(Trouble::Surroundings(format!(
                "this machine's PostgreSQL {version} lacks the extension {}; install its package",
                lacks.join(", ")
            )));
        }
        for facts in all {
            make_globals(&admin, &facts.globals, self.stop, self.runtime)
                .map_err(|error| self.judge_globals(&facts.source, &error))?;
        }
        Ok(((), format!("PostgreSQL {version}")))
    }

    fn settings(&self, source: &str) -> Done<Settings> {
        let server = self.server.as_ref().ok_or(Trouble::Backup)?;
        Ok(server.settings(&format!("drill_{source}")))
    }

    fn restore_one(&mut self, source: &str) -> Done<((Settings, bool), String)> {
        let settings = self.settings(source)?;
        let request = DatabaseRequest {
            source: Some(source.to_owned()),
            to: address(&settings, self),
            ..DatabaseRequest::default()
        };
        let restored = restore_database(
            self.repository,
            self.snapshot,
            &request,
            self.progress,
            self.stop,
            self.runtime,
        );
        let report = match restored {
            Ok(report) => report,
            Err(error) => return Err(self.judge_database(source, &error)),
        };
        for warning in report.warnings {
            self.warning(format!("{source}: {warning}"));
        }
        self.restored.push(Restored {
            source: source.to_owned(),
            at: At::Postgres(Box::new(settings.clone())),
        });
        let hashes = if report.verified {
            "; the hash of each table's rows is the snapshot's"
        } else {
            ""
        };
        let result = format!("restored, with all keys and constraints{hashes}");
        Ok(((settings, report.verified), result))
    }

    /// Whose fault it is that a database did not come back.
    fn judge_database(&mut self, source: &str, error: &DatabaseError) -> Trouble {
        if self.stop.load(Ordering::Relaxed) {
            return Trouble::Stopped;
        }
        let told = format!(
            "the database {source} does not come back: {}",
            sentence(error)
        );
        match error {
            DatabaseError::Stored(
                StoredError::Read(error) | StoredError::Path(PathError::Read(error)),
            ) => {
                let what = format!("the database {source} does not come back");
                return self.judge(&what, error);
            }
            DatabaseError::Stored(StoredError::Path(_) | StoredError::Which(_)) => {
                return self.problem(told);
            }
            _ => {}
        }
        match error {
            DatabaseError::Restore(RestoreError::Plan(PlanError::Lacks { roles, extensions }))
                if extensions.is_empty() =>
            {
                self.problem(format!(
                    "the objects of {source} belong to the role \"{}\", which the snapshot's globals.sql does not make",
                    roles.join("\", \"")
                ))
            }
            // What mends a finding tells what it is of.
            DatabaseError::Restore(RestoreError::Plan(PlanError::Refused(findings)))
                if findings.iter().all(|finding| {
                    let mend = finding.mend.as_deref();
                    mend.is_some_and(|mend| mend.starts_with("CREATE ROLE "))
                }) =>
            {
                self.problem(format!(
                    "the snapshot's globals.sql does not make all roles that the objects of {source} need: {}",
                    sentence(error)
                ))
            }
            DatabaseError::Restore(error) => self.judge_restore(told, error),
            _ => Trouble::Surroundings(told),
        }
    }

    /// Whose fault it is that the roles and tablespaces are not made: a server that is well and does not understand what
    /// it is asked for, or refuses the name, was given the wrong text.
    fn judge_globals(&mut self, source: &str, error: &ExamineError) -> Trouble {
        let ExamineError::Query(refused) = error else {
            return examined(error);
        };
        let is_the_texts = refused
            .sqlstate
            .as_deref()
            .is_some_and(|state| state.starts_with("42") || state.starts_with("22"));
        if !is_the_texts || !self.is_well() {
            return examined(error);
        }
        self.problem(format!(
            "the roles and tablespaces that {source}/globals.sql makes are not to be made: {}",
            sentence(error)
        ))
    }

    /// Whether the drill's server answers and has room.
    fn is_well(&self) -> bool {
        let answers = self.server.as_ref().is_some_and(|server| {
            Connection::open(&server.settings("postgres"), self.runtime).is_ok()
        });
        let free = self.scratch.free_bytes();
        answers && free.is_ok_and(|free| free > ROOM_BYTES)
    }

    /// Whose fault it is that something did not come into the drill's server.
    pub(super) fn judge_restore(&mut self, told: String, error: &RestoreError) -> Trouble {
        // The system's words for a full disk, in the server's or the program's message.
        if !self.is_well() || told.contains("No space left on device") {
            return Trouble::Surroundings(told);
        }
        match error {
            RestoreError::Plan(PlanError::Archive(_)) | RestoreError::Intake(_) => {
                self.problem(told)
            }
            RestoreError::Failed {
                source: failure, ..
            } => match &**failure {
                RestoreFailure::Query(_)
                | RestoreFailure::Program(_)
                | RestoreFailure::Intake(_)
                | RestoreFailure::Load(_)
                | RestoreFailure::Script(_)
                | RestoreFailure::Verify(VerifyError::Differs(_)) => self.problem(told),
                _ => Trouble::Surroundings(told),
            },
            _ => Trouble::Surroundings(told),
        }
    }

    fn count(&mut self, database: &Uncounted) -> Done<((), String)> {
        let Uncounted {
            facts,
            settings,
            verified,
        } = database;
        let source = &facts.source;
        let found = examine(settings, self.stop, self.runtime).map_err(|error| examined(&error))?;
        let expected = match &facts.expected {
            Some(expected) => expected.clone(),
            None => self.expected(source, &found)?,
        };
        let mut tables = Vec::new();
        let mut wrong = false;
        for table in &found.tables {
            let counts = table.parts.iter().map(|part| expected.get(part).copied());
            let expected: Option<u64> = counts.sum();
            let path = table.path();
            if let Some(expected) = expected.filter(|expected| *expected != table.rows) {
                self.problem(format!(
                    "{source}: the table {path} has {} rows after the restore, and {expected} in the snapshot",
                    table.rows
                ));
                wrong = true;
            }
            let estimate = facts.estimates.get(&path);
            if let Some(estimate) = estimate.filter(|_| table.rows == 0 && expected == Some(0)) {
                self.warning(format!(
                    "{source}: the table {path} is empty, and had about {estimate} rows by the source's statistics."
                ));
            }
            tables.push(DrilledTable {
                table: path,
                rows: table.rows,
                expected,
            });
        }
        for key in &found.unvalidated {
            self.warning(format!(
                "{source}: the foreign key {key} is not validated, in the source neither."
            ));
        }
        let server = self
            .server
            .as_ref()
            .map(|server| server.version().to_string());
        let rows = tables.iter().map(|table| table.rows).sum();
        let result = format!("{rows} rows in {} tables", tables.len());
        self.report.databases.push(DrilledDatabase {
            source: source.clone(),
            kind: "postgres".to_owned(),
            server: format!("PostgreSQL {}", server.unwrap_or_default()),
            rows,
            tables: Some(tables),
            foreign_keys: found.foreign_keys,
            hashes_equal: *verified,
        });
        if wrong {
            return Err(Trouble::Backup);
        }
        Ok(((), result))
    }

    /// How many rows the snapshot has for each table.
    fn expected(&mut self, source: &str, found: &Examined) -> Done<Counts> {
        let Some(archive) = self.stream(source, "database.dump")? else {
            return Ok(HashMap::new());
        };
        let parts: Vec<_> = found
            .tables
            .iter()
            .flat_map(|table| table.parts.iter().cloned())
            .collect();
        let mut counter = ArchiveRows::new(parts.clone());
        let what = format!("{source}/database.dump");
        match self.reader.copy_to(&archive, &mut counter) {
            Err(StreamError::Read(error)) => return Err(self.judge(&what, &error)),
            // The counter says below what it has met.
            Ok(()) | Err(StreamError::Write(_)) => {}
        }
        let counts = counter
            .finish()
            .map_err(|error| self.problem(format!("{what}: {error}")))?;
        let known = parts.into_iter().zip(counts);
        Ok(known
            .filter_map(|(part, count)| Some((part, count?)))
            .collect())
    }
}

pub(super) fn examined(error: &ExamineError) -> Trouble {
    match error {
        ExamineError::Stopped => Trouble::Stopped,
        error => surroundings(error),
    }
}

/// A database as a connection string that nothing in the environment changes.
pub(super) fn address(settings: &Settings, drill: &Drill<'_>) -> String {
    let folder = drill
        .server
        .as_ref()
        .map(|server| server.folder().to_string_lossy().into_owned());
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
    format!(
        "host='{}' port={} user='{}' dbname='{}' service='' hostaddr='' options='' sslmode=disable",
        quoted(&folder.unwrap_or_default()),
        settings.port(),
        quoted(settings.user()),
        quoted(settings.database()),
    )
}
