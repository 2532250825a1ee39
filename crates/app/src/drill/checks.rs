//! What the configuration asks of a restored app: statements that have to be true, answers that
//! have to be right, programs that have to end well.

use std::io;
use std::time::{Duration, Instant};

use lifeboat_postgres::{ExamineError, QueryError, Settings};
use rusqlite::types::Value;

use super::running::{Running, SLICE};
use super::service::PORT_VARIABLE;
use super::sqlite::only_value;
use super::urls::Site;
use super::{At, Done, Drill, DrilledCheck, Trouble, milliseconds, surroundings};
use crate::config::{DrillCheck, DrillCommand, DrillConfig};
use crate::sqlite::open_read_only;

/// No statement takes longer.
const LIMIT: Duration = Duration::from_secs(3600);
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
        done = super::worse(done, self.ask_app(&app.drill));
        for command in &app.drill.commands {
            if matches!(done, Err(Trouble::Stopped | Trouble::Surroundings(_))) {
                break;
            }
            let name = command.name.clone();
            let one = self.check(name, format!("Running {}", command.name), |drill| {
                drill.command(command)
            });
            done = super::worse(done, one);
        }
        self.end_service();
        done
    }

    /// Starts the app and asks its URLs, one after the other, until an answer is wrong: the next ones build on it.
    fn ask_app(&mut self, config: &DrillConfig) -> Done<()> {
        if let Some(service) = &config.service {
            let what = "Starting the restored app".to_owned();
            self.check("service".to_owned(), what, |drill| {
                drill.begin_service(service)
            })?;
        }
        if config.urls.is_empty() {
            return Ok(());
        }
        let port = self.service.as_ref().map(|service| service.port);
        let host = config.service.as_ref().and_then(|one| one.host.clone());
        let mut site = Site::new(port, host, self.values(config)?);
        for (index, url) in config.urls.iter().enumerate() {
            let what = format!("Asking the app: {}", url.name);
            let one = self.check(url.name.clone(), what, |drill| drill.url(url, &mut site));
            if one.is_err() {
                let left = config.urls.len() - index - 1;
                if left > 0 && matches!(one, Err(Trouble::Backup)) {
                    self.warning(format!(
                        "{left} further URLs were not asked, for each builds on those before it."
                    ));
                }
                return one;
            }
        }
        Ok(())
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
                let asked = open_read_only(path).map_err(|error| error.to_string());
                match asked.and_then(|database| only_value(&database, sql)) {
                    Ok(Value::Integer(number)) if number != 0 => return Ok(None),
                    Ok(Value::Integer(number)) => Ok(number.to_string()),
                    Ok(Value::Null) => Ok("NULL".to_owned()),
                    Ok(_) => Ok("no whole number".to_owned()),
                    Err(why) => Err(why),
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
        let cannot = |error: &io::Error| {
            Trouble::Surroundings(format!(
                "the command {} cannot be run: {}: {error}",
                command.name,
                command.run.first().map_or("", String::as_str)
            ))
        };
        let mut variables = self.variables();
        if let Some(service) = &self.service {
            variables.push((PORT_VARIABLE.to_owned(), service.port.to_string()));
        }
        let mut running = Running::start(&command.run, variables, self.scratch.path(), false)
            .map_err(|error| cannot(&error))?;
        let deadline = Instant::now() + command.timeout;
        let how = loop {
            self.going_on()?;
            match running.ended().map_err(|error| cannot(&error))? {
                Some(status) if status.success() => return Ok(None),
                Some(status) => break status.to_string(),
                None if Instant::now() > deadline => {
                    break format!("it did not end within {} s", command.timeout.as_secs());
                }
                None => std::thread::sleep(SLICE),
            }
        };
        Ok(Some(format!(
            "the command {} does not find the restored app well: {how}{}",
            command.name,
            running.last_words()
        )))
    }

    /// Where the restored app is.
    pub(super) fn variables(&self) -> Vec<(String, String)> {
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
