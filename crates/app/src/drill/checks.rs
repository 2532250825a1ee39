//! What the configuration asks of a restored app: statements that have to be true, programs that have to end well.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use lifeboat_postgres::{ExamineError, QueryError, Settings};
use rusqlite::types::Value;

use super::{At, Done, Drill, DrilledCheck, Trouble, milliseconds, surroundings};
use crate::config::{DrillCheck, DrillCommand};
use crate::redact::redact;
use crate::source::SECRET_VARIABLES;
use crate::sqlite::open_read_only;
use crate::text::shown_path;

/// No question takes longer.
const LIMIT: Duration = Duration::from_secs(3600);
/// How soon the end of a program, or the wish to stop, is noticed.
const SLICE: Duration = Duration::from_millis(50);
/// What is told of a program's complaints.
const SAID_BYTES_MAX: u64 = 2048;
/// An out-of-range sort of server trouble: it ended, or has no room or memory.
const SERVER_TROUBLE: [&str; 3] = ["53", "57P", "58"];

impl Drill<'_> {
    /// Asks everything.
    pub(super) fn checks(&mut self) -> Done<()> {
        let Some(app) = self.app else {
            return Ok(());
        };
        let mut done = Ok(());
        for check in &app.drill.checks {
            let one = self.check(
                check.sql.clone(),
                format!("Asking {}", check.source),
                |drill| drill.statement(check),
            );
            done = super::worse(done, one);
            if matches!(done, Err(Trouble::Stopped | Trouble::Surroundings(_))) {
                return done;
            }
        }
        for command in &app.drill.commands {
            let name = command.name.clone();
            let one = self.check(name, format!("Running {}", command.name), |drill| {
                drill.command(command)
            });
            done = super::worse(done, one);
            if matches!(done, Err(Trouble::Stopped | Trouble::Surroundings(_))) {
                return done;
            }
        }
        done
    }

    /// One question; what is wrong with its answer is a problem.
    fn check(
        &mut self,
        check: String,
        what: String,
        ask: impl FnOnce(&mut Self) -> Done<Option<String>>,
    ) -> Done<()> {
        let begun = Instant::now();
        self.step(what, |drill| {
            let wrong = ask(drill)?;
            drill.report.checks.push(DrilledCheck {
                check,
                holds: wrong.is_none(),
                elapsed_ms: milliseconds(begun),
            });
            match wrong {
                None => Ok(((), "as it should be".to_owned())),
                Some(wrong) => Err(drill.problem(wrong)),
            }
        })
    }

    /// Nothing when the statement is true.
    fn statement(&mut self, check: &DrillCheck) -> Done<Option<String>> {
        let DrillCheck { source, sql } = check;
        let Some(restored) = self.restored.iter().find(|one| one.source == *source) else {
            return Ok(Some(format!(
                "the check `{sql}` cannot be asked, for the database {source} did not come back"
            )));
        };
        let answer = match &restored.at {
            At::Postgres(settings) => {
                let asked = lifeboat_postgres::ask(settings, sql, LIMIT, self.stop, self.runtime);
                match asked {
                    Ok(value) if value.as_deref() == Some("t") => return Ok(None),
                    Ok(value) => Ok(value.unwrap_or_else(|| "NULL".to_owned())),
                    Err(ExamineError::Stopped) => return Err(Trouble::Stopped),
                    Err(ExamineError::Query(error)) if !is_the_servers(&error) => {
                        Err(error.message)
                    }
                    Err(error) => return Err(surroundings(&error)),
                }
            }
            At::Sqlite(path) => {
                let asked = open_read_only(path)
                    .and_then(|database| database.query_row(sql, [], |row| row.get::<_, Value>(0)));
                match asked {
                    Ok(Value::Integer(number)) if number != 0 => return Ok(None),
                    Ok(Value::Integer(number)) => Ok(number.to_string()),
                    Ok(Value::Null) => Ok("NULL".to_owned()),
                    Ok(_) => Ok("no whole number".to_owned()),
                    Err(error) => Err(error.to_string()),
                }
            }
        };
        Ok(Some(match answer {
            Ok(value) => format!(
                "the check `{sql}` is not true of the restored database {source}: it gives {value}"
            ),
            Err(why) => {
                format!(
                    "the check `{sql}` cannot be asked of the restored database {source}: {why}"
                )
            }
        }))
    }

    /// Nothing when the program ends with 0.
    fn command(&mut self, command: &DrillCommand) -> Done<Option<String>> {
        let (program, arguments) = command.run.split_first().ok_or(Trouble::Backup)?;
        let cannot = |error: &io::Error| {
            Trouble::Surroundings(format!(
                "the command {} cannot be run: {program}: {error}",
                command.name
            ))
        };
        // A file takes whatever is said without anybody reading along.
        let mut said =
            tempfile::tempfile_in(self.scratch.path()).map_err(|error| cannot(&error))?;
        let stderr = said.try_clone().map_err(|error| cannot(&error))?;
        let mut start = Command::new(program);
        for variable in SECRET_VARIABLES {
            start.env_remove(variable);
        }
        let mut child = start
            .args(arguments)
            .envs(self.variables())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr)
            .spawn()
            .map_err(|error| cannot(&error))?;
        let ended = self.wait_for(&mut child).map_err(|error| cannot(&error))?;
        self.going_on()?;
        let how = match ended {
            Some(status) if status.success() => return Ok(None),
            Some(status) => status.to_string(),
            None => format!("it did not end within {} minutes", LIMIT.as_secs() / 60),
        };
        let complaint = last_words(&mut said);
        let colon = if complaint.is_empty() { "" } else { ": " };
        Ok(Some(format!(
            "the command {} does not find the restored app well: {how}{colon}{complaint}",
            command.name
        )))
    }

    /// How the program ended; nothing when it took too long, or the drill is to stop, and it was ended.
    fn wait_for(&self, child: &mut Child) -> io::Result<Option<ExitStatus>> {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = child.try_wait()? {
                return Ok(Some(status));
            }
            if self.stop.load(Ordering::Relaxed) || Instant::now() > deadline {
                child.kill()?;
                child.wait()?;
                return Ok(None);
            }
            std::thread::sleep(SLICE);
        }
    }

    /// Where the restored app is.
    fn variables(&self) -> Vec<(String, String)> {
        let name = |name: &str| format!("LIFEBOAT_DRILL_{name}");
        let files = self.scratch.files();
        let mut variables = vec![
            (name("APP"), self.report.app.clone()),
            (name("SNAPSHOT"), self.report.snapshot.clone()),
            (name("FILES"), files.to_string_lossy().into_owned()),
        ];
        let Some(server) = &self.server else {
            return variables;
        };
        let folder = server.folder().to_string_lossy().into_owned();
        let databases: Vec<(&str, &Settings)> = self
            .restored
            .iter()
            .filter_map(|restored| match &restored.at {
                At::Postgres(settings) => Some((restored.source.as_str(), &**settings)),
                At::Sqlite(_) => None,
            })
            .collect();
        let url = |settings: &Settings| {
            format!(
                "postgres:///{}?host={folder}&port={}&user={}&sslmode=disable",
                settings.database(),
                settings.port(),
                settings.user()
            )
        };
        for (source, settings) in &databases {
            let letter = |letter: char| match letter {
                letter if letter.is_ascii_alphanumeric() => letter.to_ascii_uppercase(),
                _ => '_',
            };
            let source: String = source.chars().map(letter).collect();
            variables.push((name(&format!("DATABASE_{source}")), url(settings)));
        }
        if let [(_, only)] = &databases[..] {
            variables.push((name("DATABASE"), url(only)));
            variables.push(("PGHOST".to_owned(), folder));
            variables.push(("PGPORT".to_owned(), only.port().to_string()));
            variables.push(("PGUSER".to_owned(), only.user().to_owned()));
            variables.push(("PGDATABASE".to_owned(), only.database().to_owned()));
        }
        variables
    }
}

/// Whether the server failed, and not the statement.
fn is_the_servers(error: &QueryError) -> bool {
    // A statement that took too long has a code of the same class as a server that ends.
    error.sqlstate.as_deref().is_none_or(|code| {
        code != "57014" && SERVER_TROUBLE.iter().any(|class| code.starts_with(class))
    }) && !error.message.contains("not one row")
}

/// The end of what a program said, in one line.
fn last_words(file: &mut File) -> String {
    let mut bytes = Vec::new();
    let read = file.metadata().and_then(|found| {
        file.seek(SeekFrom::Start(found.len().saturating_sub(SAID_BYTES_MAX)))?;
        file.take(SAID_BYTES_MAX).read_to_end(&mut bytes)
    });
    if read.is_err() {
        return String::new();
    }
    let said = String::from_utf8_lossy(&bytes).trim().replace('\n', " / ");
    shown_path(redact(&said).as_bytes())
}
