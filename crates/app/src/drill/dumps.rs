//! The dumps among what programs wrote: an app whose database is read by `pg_dump` as a command has no other.
//!
//! Invariant: what is known to be a dump of one PostgreSQL database is restored, or the report says that it was not.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use lifeboat_postgres::{
    DumpKind, ForeignContent, ForeignError, PlanError, RestoreError, ScriptError, SqlTextError,
    examine, server_programs,
};

use super::database::{address, examined};
use super::{Done, Drill, DrilledDatabase, DrilledTable, SERVER_BYTES, Trouble, surroundings};
use crate::foreign::{
    ForeignDumpError, ForeignRequest, ForeignSource, kind_of_dump, restore_foreign_dump,
};
use crate::text::sentence;

impl Drill<'_> {
    /// Restores all of them.
    pub(super) fn dumps(&mut self) -> Done<()> {
        let (mut found, mut worst) = (Vec::new(), Ok(()));
        for source in self.names("command").into_iter().chain(self.names("stdin")) {
            let folder = self.scratch.files().join(&source);
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                let shown = format!("{source}/{name}");
                match kind_of_dump(&entry.path()) {
                    Ok(DumpKind::Archive | DumpKind::Script) => found.push((shown, entry.path())),
                    // What a program leaves that failed in front of a pipe.
                    Ok(DumpKind::Empty) if is_named_as_dump(&name) => {
                        worst = Err(self.problem(format!("the dump {shown} is empty")));
                    }
                    Ok(DumpKind::Empty) => self.warning(format!("{shown} is empty.")),
                    Ok(DumpKind::Cluster | DumpKind::Tar) => self.warning(format!(
                        "The dump {shown} was not restored, for it is none that restore-db takes."
                    )),
                    Ok(_) => {}
                    Err(error) => self.warning(format!(
                        "{shown} was not looked into, which may be a dump: {error}."
                    )),
                }
            }
        }
        for (index, (shown, path)) in found.iter().enumerate() {
            let what = format!("Restoring the dump {shown}");
            let database = format!("drill_dump_{index}");
            let done = self.step(what, |drill| drill.dump(shown, path, &database));
            worst = super::worse(worst, done);
            if !matches!(worst, Ok(()) | Err(Trouble::Backup)) {
                break;
            }
        }
        worst
    }

    fn dump(&mut self, shown: &str, path: &Path, database: &str) -> Done<((), String)> {
        if self.server.is_none() {
            let environment = |name: &str| std::env::var_os(name);
            let free = self.scratch.free_bytes();
            if free.map_err(|error| surroundings(&error))? < SERVER_BYTES {
                let folder = self.scratch.path().display();
                let full = format!("{folder} has no room for a server");
                return Err(Trouble::Surroundings(full));
            }
            let programs =
                server_programs(None, &environment).map_err(|error| surroundings(&error))?;
            self.begin_server(&programs)?;
        }
        let settings = match &self.server {
            Some(server) => server.settings(database),
            None => return Err(Trouble::Backup),
        };
        let request = ForeignRequest {
            to: address(&settings, self),
            jobs: 1,
            // Roles and their rights are no part of a dump of one database.
            no_owner: true,
            no_acl: true,
            // Of a server that nobody else uses, and that is thrown away.
            as_superuser: true,
        };
        let source = ForeignSource::File(path);
        let restored =
            restore_foreign_dump(source, &request, self.progress, self.stop, self.runtime);
        match restored {
            Ok(report) => {
                // What the new database has from this server is no news in a scratch place.
                let result = match &report.content {
                    ForeignContent::Archive(_) => "an archive, whole",
                    ForeignContent::Script { .. } => "a script, whole",
                };
                let found = examine(&settings, self.stop, self.runtime)
                    .map_err(|error| examined(&error))?;
                let tables: Vec<DrilledTable> = found
                    .tables
                    .iter()
                    .map(|table| DrilledTable {
                        table: table.path(),
                        rows: table.rows,
                        expected: None,
                    })
                    .collect();
                let rows = tables.iter().map(|table| table.rows).sum();
                let server = self.server.as_ref().map(|server| server.version());
                let result = format!("{result}, with {rows} rows in {} tables", tables.len());
                self.report.databases.push(DrilledDatabase {
                    source: shown.to_owned(),
                    kind: "dump".to_owned(),
                    server: server
                        .map_or_else(String::new, |version| format!("PostgreSQL {version}")),
                    rows,
                    tables: Some(tables),
                    foreign_keys: found.foreign_keys,
                    hashes_equal: false,
                });
                Ok(((), result))
            }
            Err(error) => self.judge_dump(shown, &error),
        }
    }

    /// Whose fault it is that a dump did not come back.
    fn judge_dump(&mut self, shown: &str, error: &ForeignDumpError) -> Done<((), String)> {
        self.going_on()?;
        let why = sentence(error);
        let told = format!("the dump {shown} does not come back: {why}");
        let left_out = |drill: &mut Self| {
            drill.warning(format!("The dump {shown} was not restored: {why}."));
            Ok((
                (),
                "not restored, for it is none that restore-db takes".to_owned(),
            ))
        };
        let ForeignDumpError::Foreign(error) = error else {
            return Err(Trouble::Surroundings(told));
        };
        match error {
            ForeignError::Script(error) => match error {
                ScriptError::Read(error) if !is_the_contents(error) => {
                    Err(Trouble::Surroundings(told))
                }
                ScriptError::Refused { .. }
                | ScriptError::CopyOptions { .. }
                | ScriptError::Text(SqlTextError::Command { .. }) => left_out(self),
                _ => Err(self.problem(told)),
            },
            ForeignError::Kind { .. } => left_out(self),
            ForeignError::Plan(PlanError::Lacks { extensions, .. })
            | ForeignError::Restore(RestoreError::Plan(PlanError::Lacks { extensions, .. }))
                if extensions.is_empty() =>
            {
                left_out(self)
            }
            ForeignError::Restore(error) => Err(self.judge_restore(told, error)),
            _ => Err(Trouble::Surroundings(told)),
        }
    }
}

/// Whether a file's name says that it is a dump.
fn is_named_as_dump(name: &str) -> bool {
    let mut parts = name.split('.').skip(1);
    parts.any(|part| ["sql", "dump", "pgdump"].contains(&part))
}

/// Whether it is the packed content that is wrong, and not the disk.
fn is_the_contents(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof
    )
}
