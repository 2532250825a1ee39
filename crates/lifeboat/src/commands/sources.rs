//! Sources as people type them, and as they are shown.

use std::path::{Component, Path, PathBuf};

use lifeboat_app::{
    AppConfig, FolderSource, PostgresSource, SourceConfig, SqliteSource, nearest, redact,
    redact_arguments,
};
use serde::Serialize;

use super::address::refuse_secret;
use crate::{error::CommandError, exit_code::ExitCode, text::printable_path};

/// A source as it is shown, without any secret.
#[derive(Debug, Serialize)]
pub(super) struct SourceFacts {
    /// Its name inside snapshots.
    pub(super) name: String,
    /// What kind of source it is.
    pub(super) kind: &'static str,
    /// What is read.
    pub(super) from: String,
}

/// The sources of a configured app.
pub(super) fn facts(app: &AppConfig) -> Vec<SourceFacts> {
    app.sources.iter().map(fact).collect()
}

fn fact(source: &SourceConfig) -> SourceFacts {
    let (kind, from) = match source {
        SourceConfig::Folder(folder) => ("folder", folder.path.display().to_string()),
        SourceConfig::Secrets(secrets) => {
            let paths = secrets.paths.iter().map(|path| path.display().to_string());
            ("secrets", paths.collect::<Vec<_>>().join(", "))
        }
        SourceConfig::Sqlite(database) => ("sqlite", database.path.display().to_string()),
        SourceConfig::Postgres(database) => ("postgres", redact(&database.url)),
        SourceConfig::Command(command) => ("command", redact_arguments(&command.run).join(" ")),
    };
    SourceFacts {
        name: source.name().to_owned(),
        kind,
        from,
    }
}

/// A source that was typed: a folder, `postgres://…` or `sqlite:FILE`.
pub(super) fn typed(source: &str) -> Result<SourceConfig, CommandError> {
    refuse_secret(source)?;
    if source.starts_with("postgres://") || source.starts_with("postgresql://") {
        return Ok(SourceConfig::Postgres(PostgresSource {
            name: lifeboat_app::DATABASE_NAME.to_owned(),
            url: source.to_owned(),
            password: None,
            skip_data: Vec::new(),
            pg_dump: false,
            via: Vec::new(),
        }));
    }
    if let Some(path) = source.strip_prefix("sqlite:") {
        let path = absolute(Path::new(path))?;
        let name = path.file_stem().map_or_else(
            || "sqlite".to_owned(),
            |stem| stem.to_string_lossy().into_owned(),
        );
        return Ok(SourceConfig::Sqlite(SqliteSource { name, path }));
    }
    if let Some((scheme, _)) = source.split_once("://")
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric())
    {
        let known = nearest(scheme, ["postgres", "postgresql"]);
        let question = known.map_or_else(String::new, |known| format!("Did you mean {known}://? "));
        return Err(
            CommandError::usage(format!("{scheme}:// is no kind of source")).hint(format!(
                "{question}A source is a folder, postgres://…, or sqlite:FILE."
            )),
        );
    }
    let path = absolute(Path::new(source))?;
    if !path.is_dir() {
        let path = printable_path(path.as_ref());
        return Err(CommandError::usage(format!("{path} is not a folder"))
            .hint("Give the folder it is in, or sqlite:FILE for an SQLite database."));
    }
    let name = path.file_name().map_or_else(
        || "root".to_owned(),
        |name| name.to_string_lossy().into_owned(),
    );
    Ok(SourceConfig::Folder(FolderSource {
        name,
        path,
        exclude: Vec::new(),
        one_file_system: false,
        exclude_caches: false,
        references: Vec::new(),
        bundles: true,
    }))
}

/// The path from the root, of something that exists. A link stays one: what it leads to may be another tomorrow.
fn absolute(path: &Path) -> Result<PathBuf, CommandError> {
    let goes_up = path.components().any(|part| part == Component::ParentDir);
    let found = if goes_up {
        path.canonicalize()
    } else {
        std::path::absolute(path).and_then(|path| path.metadata().map(|_| path))
    };
    found.map_err(|error| {
        let path = printable_path(path.as_ref());
        CommandError::new(
            ExitCode::Failed,
            format!("the source {path} cannot be found"),
        )
        .caused_by(&error)
        .hint("Check the path, and that you may read it.")
    })
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn an_address_of_an_unknown_kind_is_no_path() {
        for (source, hint) in [
            ("postgress://db/shop", "Did you mean postgres://?"),
            ("mysql://db/shop", "A source is a folder"),
        ] {
            let error = typed(source).unwrap_err();
            assert_eq!(error.code(), ExitCode::Usage);
            assert!(error.facts().message.ends_with("is no kind of source"));
            assert!(error.facts().hint.unwrap().starts_with(hint), "{error:?}");
        }
    }

    #[test]
    fn a_source_has_the_last_name_of_its_path_and_a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let top = folder.path();
        fs::create_dir_all(top.join("releases/42")).unwrap();
        fs::write(top.join("shop.db"), "").unwrap();
        symlink("releases/42", top.join("current")).unwrap();
        let typed = |source: &str| typed(&source.replace("TOP", &top.display().to_string()));
        let named = |source: &str| typed(source).unwrap().name().to_owned();
        assert_eq!(named("TOP/current"), "current");
        assert_eq!(named("TOP/current/"), "current");
        assert_eq!(named("TOP/releases/42/.."), "releases");
        assert_eq!(named("sqlite:TOP/shop.db"), "shop");
        assert_eq!(named("/"), "root");
        assert_eq!(named("postgres://backup@db/shop"), "db");
        let SourceConfig::Folder(current) = typed("TOP/current").unwrap() else {
            panic!("it is a folder");
        };
        assert_eq!(current.path, top.join("current"));
        assert_eq!(typed("TOP/none").unwrap_err().code(), ExitCode::Failed);
        assert_eq!(typed("TOP/shop.db").unwrap_err().code(), ExitCode::Usage);
    }
}
