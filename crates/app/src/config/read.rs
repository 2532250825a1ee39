//! From text to configuration.
//!
//! Reading goes on after a problem, so that one run tells all of them. Invariant: a configuration comes out only when
//! no problem was found.

mod drill;

use super::drill::DrillConfig;
use super::model::{
    AppConfig, CommandSource, Config, CopyConfig, DATABASE_NAME, FolderSource, OpenedBy,
    PostgresSource, ReferenceColumn, RepositoryConfig, SecretsSource, SourceConfig, SqliteSource,
};
use super::names::check_name;
use super::problem::{ConfigError, ConfigProblem, Place};
use super::secret::Secret;
use super::section::{Placed, Problems, Section, check};
use crate::redact::redact;
use crate::spelling::nearest;
use jiff::tz::TimeZone;
use lifeboat_files::Excludes;
use lifeboat_store::Location;
use std::error::Error;
use std::path::{Path, PathBuf};
use toml::de::DeTable;

/// A configuration and what its types do not tell.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) config: Config,
    /// Where secrets themselves stand in the text.
    pub(super) secrets: Vec<Place>,
}

/// Reads `text`, which is the content of `file`; relative paths are taken from its folder.
pub(super) fn read(text: &str, file: &Path) -> Result<Reading, ConfigError> {
    let invalid = |problems| ConfigError::Invalid {
        file: file.to_owned(),
        problems,
    };
    let document = DeTable::parse(text).map_err(|error| {
        // Only the message: what the error shows besides is the line, and that may hold a password.
        invalid(vec![ConfigProblem {
            place: Place::at(text, error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        }])
    })?;
    let mut problems = Problems::new(text);
    let section = check(document.get_ref(), &mut problems);
    let mut reader = Reader {
        folder: file.parent().unwrap_or(Path::new("")),
        problems,
        secrets: Vec::new(),
    };
    let config = reader.config(&section);
    let problems = reader.problems.finish();
    if !problems.is_empty() {
        return Err(invalid(problems));
    }
    Ok(Reading {
        config,
        secrets: reader.secrets,
    })
}

/// Makes types of sections. What cannot be made is noted as a problem and left out.
struct Reader<'a> {
    folder: &'a Path,
    problems: Problems<'a>,
    secrets: Vec<Place>,
}

impl Reader<'_> {
    fn config(&mut self, section: &Section) -> Config {
        let time_zone = self.time_zone(section);
        Config {
            repository: section
                .table("repository")
                .and_then(|section| self.repository(section)),
            copies: section
                .tables_in("copy")
                .filter_map(|section| self.copy(section))
                .collect(),
            apps: section
                .tables_in("app")
                .map(|section| self.app(section, time_zone.as_ref()))
                .collect(),
            time_zone,
            warnings: Vec::new(),
        }
    }

    fn time_zone(&mut self, section: &Section) -> Option<TimeZone> {
        let Placed {
            value: name,
            offset,
        } = section.text("timezone")?;
        match TimeZone::get(name) {
            Ok(zone) => Some(zone),
            Err(_) => {
                let known: Vec<String> = jiff::tz::db()
                    .available()
                    .map(|name| name.to_string())
                    .collect();
                let advice = match nearest(name, known.iter().map(String::as_str)) {
                    Some(meant) => format!("; did you mean `{meant}`?"),
                    None => String::new(),
                };
                let name = name.escape_debug();
                self.problems.add(
                    offset,
                    format!("this machine knows no time zone `{name}`{advice}"),
                );
                None
            }
        }
    }

    fn repository(&mut self, section: &Section) -> Option<RepositoryConfig> {
        let opened_by = self.opened_by(section);
        let location = self.location(section)?;
        Some(RepositoryConfig {
            location,
            opened_by,
        })
    }

    fn opened_by(&mut self, section: &Section) -> Option<OpenedBy> {
        const WAYS: [&str; 3] = ["password-file", "password-command", "key-file"];
        let mut given: Vec<_> = WAYS
            .iter()
            .filter_map(|way| Some((section.offset_of(way)?, *way)))
            .collect();
        given.sort_unstable();
        let [(_, first), others @ ..] = given.as_slice() else {
            return None;
        };
        for (offset, other) in others {
            self.problems.add(
                *offset,
                format!("`{other}` is one way too many: the repository is opened by `{first}`"),
            );
        }
        match *first {
            "password-file" => self.path(section, first).map(OpenedBy::PassphraseFile),
            "key-file" => self.path(section, first).map(OpenedBy::KeyFile),
            _ => {
                let command = section.texts(first);
                if command.is_empty() {
                    self.problems.add(
                        section.offset_of(first)?,
                        format!("`{first}` names no program"),
                    );
                }
                Some(OpenedBy::PassphraseCommand(values(command)))
            }
        }
    }

    fn copy(&mut self, section: &Section) -> Option<CopyConfig> {
        let location = self.location(section)?;
        Some(CopyConfig {
            name: section.name.clone(),
            location,
        })
    }

    fn location(&mut self, section: &Section) -> Option<Location> {
        let Placed { value, offset } = section.text("location")?;
        match value.parse() {
            Ok(Location::Folder(path)) => Some(Location::Folder(self.folder.join(path))),
            Ok(other) => Some(other),
            Err(error) => {
                self.problems.add(offset, error.to_string());
                None
            }
        }
    }

    fn app(&mut self, section: &Section, time_zone: Option<&TimeZone>) -> AppConfig {
        let mut sources = Vec::new();
        if let Some(section) = section.table("postgres") {
            sources.push((section.offset, self.postgres(section)));
        }
        if let Some(section) = section.table("secrets") {
            sources.push((section.offset, self.secret_files(section)));
        }
        for media in section.tables_in("media") {
            sources.push((media.offset, self.media(media)));
        }
        for sqlite in section.tables_in("sqlite") {
            sources.push((sqlite.offset, self.sqlite(sqlite)));
        }
        for command in section.tables_in("command") {
            sources.push((command.offset, self.command(command)));
        }
        if sources.is_empty() {
            let name = section.name.escape_debug();
            self.problems.add(
                section.offset,
                format!("the app `{name}` has no source: nothing would be backed up"),
            );
        }
        sources.sort_by_key(|(offset, _)| *offset);
        let mut sources: Vec<_> = sources
            .into_iter()
            .filter_map(|(offset, source)| Some((offset, source?)))
            .collect();
        self.refuse_equal_names(&sources);
        let databases: Vec<String> = sources
            .iter()
            .filter(|(_, source)| source.is_database())
            .map(|(_, source)| source.name().to_owned())
            .collect();
        for (offset, source) in &mut sources {
            if let SourceConfig::Folder(folder) = source {
                self.find_databases(*offset, folder, &databases);
            }
        }
        let drill = section.table("drill");
        let names: Vec<&str> = sources.iter().map(|(_, source)| source.name()).collect();
        let drill = drill.map_or_else(DrillConfig::default, |drill| {
            self.drill(drill, &databases, &names)
        });
        AppConfig {
            drill,
            name: section.name.clone(),
            time_zone: self.time_zone(section).or_else(|| time_zone.cloned()),
            sources: sources.into_iter().map(|(_, source)| source).collect(),
        }
    }

    /// Says of each column which database has it: the one that is named, or the only one.
    fn find_databases(&mut self, offset: usize, folder: &mut FolderSource, databases: &[String]) {
        for column in &mut folder.references {
            let shown = column.in_short();
            let known = databases.join("`, `");
            let message = match databases {
                [] => format!("`{shown}` names files, and the app has no database"),
                [only] if column.source.is_empty() => {
                    column.source.clone_from(only);
                    continue;
                }
                _ if column.source.is_empty() => format!(
                    "`{shown}` may be in any of the databases `{known}`: write `{}:{shown}`",
                    databases[0]
                ),
                _ if databases.contains(&column.source) => continue,
                _ => format!(
                    "the app has no database named `{}`, only `{known}`",
                    column.source
                ),
            };
            self.problems.add(offset, message);
        }
    }

    fn refuse_equal_names(&mut self, sources: &[(usize, SourceConfig)]) {
        for (index, (offset, source)) in sources.iter().enumerate() {
            let name = source.name();
            let earlier = sources[..index]
                .iter()
                .find(|(_, earlier)| earlier.name() == name);
            if let Some((earlier, _)) = earlier {
                let line = self.problems.place(*earlier).line;
                let message =
                    format!("the app has a source named `{name}` already, in line {line}");
                self.problems.add(*offset, message);
            }
        }
    }

    fn postgres(&mut self, section: &Section) -> Option<SourceConfig> {
        let name = match section.text("name") {
            None => DATABASE_NAME,
            Some(Placed {
                value: name,
                offset,
            }) => {
                if let Err(error) = check_name(name) {
                    self.problems.add(offset, error.to_string());
                }
                name
            }
        };
        let password = section.text("password").and_then(|text| self.secret(&text));
        let skip_data = section.texts("skip-data");
        for Placed { offset, .. } in skip_data.iter().filter(|table| !table.value.contains('.')) {
            self.problems.add(
                *offset,
                "`skip-data` names tables with their schema: \"public.sessions\"",
            );
        }
        let pg_dump = match section.text("engine") {
            Some(Placed { value, offset }) if !matches!(value, "native" | "pg_dump") => {
                let message = "`engine` is \"native\" or \"pg_dump\"";
                self.problems.add(offset, message);
                false
            }
            engine => engine.is_some_and(|engine| engine.value == "pg_dump"),
        };
        let via = section.texts("via");
        if let Some(offset) = section.offset_of("via") {
            self.check_via(section, offset, via.is_empty());
        }
        let Placed { value: url, offset } = section.text("url")?;
        let is_url = ["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme));
        if !is_url && !url.contains('=') {
            self.problems.add(offset, "`url` is neither postgres://… nor a connection string such as \"host=db dbname=shop\"");
        }
        if redact(url) != url {
            self.secrets.push(self.problems.place(offset));
        }
        Some(SourceConfig::Postgres(PostgresSource {
            name: name.to_owned(),
            url: url.to_owned(),
            password,
            skip_data: values(skip_data),
            pg_dump,
            via: values(via),
        }))
    }

    /// What cannot be had by way of another program.
    fn check_via(&mut self, section: &Section, offset: usize, is_empty: bool) {
        if is_empty {
            self.problems.add(offset, "`via` is an empty list");
        }
        if let Some(offset) = section.offset_of("password") {
            let message = "`password` cannot be handed on by `via`; let the server trust programs that run there, or keep a \
                           password file there";
            self.problems.add(offset, message);
        }
        if let Some(Placed { offset, .. }) = section
            .text("engine")
            .filter(|engine| engine.value == "native")
        {
            let message = "`engine` is \"pg_dump\" where `via` is given";
            self.problems.add(offset, message);
        }
    }

    fn secret(&mut self, text: &Placed<&str>) -> Option<Secret> {
        match Secret::parse(text.value, self.folder) {
            Ok(secret) => {
                if matches!(secret, Secret::Literal(_)) {
                    self.secrets.push(self.problems.place(text.offset));
                }
                Some(secret)
            }
            Err(message) => {
                self.problems.add(text.offset, message);
                None
            }
        }
    }

    fn media(&mut self, section: &Section) -> Option<SourceConfig> {
        let exclude = section.texts("exclude");
        for Placed {
            value: pattern,
            offset,
        } in exclude
        {
            if let Err(error) = Excludes::new(&[pattern]) {
                let cause = error
                    .source()
                    .map(|cause| format!(": {cause}"))
                    .unwrap_or_default();
                self.problems.add(*offset, format!("{error}{cause}"));
            }
        }
        let path = self.path(section, "path")?;
        Some(SourceConfig::Folder(FolderSource {
            name: section.name.clone(),
            path,
            exclude: values(exclude),
            one_file_system: section.flag("one-file-system"),
            exclude_caches: section.flag("exclude-caches"),
            references: self.references(section),
            bundles: !section.is_off("bundles"),
        }))
    }

    fn references(&mut self, section: &Section) -> Vec<ReferenceColumn> {
        let mut references: Vec<_> = section
            .texts("referenced-by")
            .iter()
            .filter_map(|text| self.reference(&text.value, text.offset))
            .collect();
        for table in section.tables_in("reference") {
            let owned = |key: &str| table.text(key).map(|text| text.value.to_owned());
            let Some(Placed { value, offset }) = table.text("column") else {
                continue;
            };
            references.extend(self.reference(value, offset).map(|column| ReferenceColumn {
                below: owned("below"),
                size: owned("size"),
                sha256: owned("sha256"),
                ..column
            }));
        }
        references
    }

    fn reference(&mut self, text: &str, offset: usize) -> Option<ReferenceColumn> {
        let (source, rest) = text.split_once(':').unwrap_or(("", text));
        match rest.rsplit_once('.') {
            Some((table, column)) if !table.is_empty() && !column.is_empty() => {
                Some(ReferenceColumn {
                    source: source.to_owned(),
                    table: table.to_owned(),
                    column: column.to_owned(),
                    ..ReferenceColumn::default()
                })
            }
            _ => {
                let message = "a column is named with its table: \"public.asset.file_path\"";
                self.problems.add(offset, message);
                None
            }
        }
    }

    fn secret_files(&mut self, section: &Section) -> Option<SourceConfig> {
        let texts = section.texts("paths");
        let paths = texts
            .iter()
            .filter_map(|text| self.complete(&text.value, text.offset))
            .collect();
        section.offset_of("paths")?;
        Some(SourceConfig::Secrets(SecretsSource { paths }))
    }

    fn sqlite(&mut self, section: &Section) -> Option<SourceConfig> {
        let path = self.path(section, "path")?;
        Some(SourceConfig::Sqlite(SqliteSource {
            name: section.name.clone(),
            path,
        }))
    }

    fn command(&mut self, section: &Section) -> Option<SourceConfig> {
        let Placed {
            value: filename,
            offset,
        } = section.text("filename")?;
        if matches!(filename, "." | "..")
            || filename.contains(|letter: char| letter == '/' || letter.is_control())
        {
            self.problems.add(
                offset,
                "`filename` is the name of one file, without folders",
            );
        }
        section.offset_of("run")?;
        Some(SourceConfig::Command(CommandSource {
            name: section.name.clone(),
            run: values(section.texts("run")),
            filename: filename.to_owned(),
            bundles: !section.is_off("bundles"),
        }))
    }

    fn path(&mut self, section: &Section, key: &str) -> Option<PathBuf> {
        let Placed { value, offset } = section.text(key)?;
        self.complete(value, offset)
    }

    /// The path, taken from the folder of the file when it is relative.
    fn complete(&mut self, path: &str, offset: usize) -> Option<PathBuf> {
        if path == "~" || path.starts_with("~/") {
            self.problems.add(
                offset,
                "`~` is not replaced by a home folder here; write the whole path",
            );
            return None;
        }
        Some(self.folder.join(path))
    }
}

fn values(texts: &[Placed<String>]) -> Vec<String> {
    texts.iter().map(|text| text.value.clone()).collect()
}
