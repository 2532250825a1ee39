//! Changes to the text of a configuration that leave all the rest of it as people wrote it.
//!
//! An app is added as text at the end, and taken away table by table; comments, order and spacing of everything else
//! stay. Invariant: a changed text comes out only when it reads as the old configuration with just that change.

use super::model::{
    CommandSource, Config, DATABASE_NAME, FolderSource, PostgresSource, ReferenceColumn,
    SecretsSource, SourceConfig, SqliteSource, UnknownApp,
};
use super::names::{InvalidName, check_app_name};
use super::problem::ConfigError;
use super::secret::Secret;
use std::path::{Path, PathBuf};
use toml_edit::{Array, DocumentMut, Item, Key, Table, TableLike, TomlError, Value};

/// Why a configuration cannot be changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The configuration is wrong before anything is changed.
    #[error("the configuration is not valid as it is")]
    Before(#[source] ConfigError),
    /// The app is there already.
    #[error("the configuration has an app `{name}` already")]
    Exists {
        /// The app.
        name: String,
    },
    /// The name cannot be an app's.
    #[error("`{name}` cannot be the name of an app")]
    Name {
        /// The name.
        name: String,
        /// Why not.
        source: InvalidName,
    },
    /// A path that would mean something else in the file, or cannot be written into it.
    #[error("a path in the configuration is absolute and valid text, not {}", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// The text with the change would not be valid.
    #[error("with that change the configuration would not be valid")]
    After(#[source] ConfigError),
    /// The configuration cannot express the app, or its text is written in a way that cannot be changed.
    #[error("the configuration cannot be changed to say that; edit it by hand")]
    Inexpressible,
    /// There is no such app.
    #[error(transparent)]
    Unknown(#[from] UnknownApp),
}

/// `text`, the content of `file`, with the app `name` and its sources added at the end.
///
/// Paths in `sources` are absolute.
pub fn add_app(
    text: &str,
    file: &Path,
    name: &str,
    sources: &[SourceConfig],
) -> Result<String, EditError> {
    check_app_name(name).map_err(|source| EditError::Name {
        name: name.to_owned(),
        source,
    })?;
    let before = Config::parse(text, file).map_err(EditError::Before)?;
    if before.app(name).is_ok() {
        return Err(EditError::Exists {
            name: name.to_owned(),
        });
    }
    let mut changed = text.to_owned();
    if !changed.is_empty() && !changed.ends_with('\n') {
        changed.push('\n');
    }
    for source in sources {
        if !changed.is_empty() {
            changed.push('\n');
        }
        let (key, values) = written(source)?;
        let path = key
            .iter()
            .map(|part| Key::new(*part).display_repr().into_owned());
        let app = Key::new(name).display_repr().into_owned();
        let path: Vec<_> = ["app".to_owned(), app].into_iter().chain(path).collect();
        changed.push_str(&format!("[{}]\n", path.join(".")));
        for (key, value) in values {
            changed.push_str(&format!("{key} = {value}\n"));
        }
    }
    let mut after = Config::parse(&changed, file).map_err(EditError::After)?;
    let added = after
        .apps
        .pop()
        .filter(|app| app.name == name && app.sources == sources);
    if added.is_none() || after != before {
        return Err(EditError::Inexpressible);
    }
    Ok(changed)
}

/// `text`, the content of `file`, without the app `name` and the comments that stand directly above its tables.
pub fn remove_app(text: &str, file: &Path, name: &str) -> Result<String, EditError> {
    let mut expected = Config::parse(text, file).map_err(EditError::Before)?;
    expected.app(name)?;
    expected.apps.retain(|app| app.name != name);

    let mut document: DocumentMut = text
        .parse()
        .map_err(|_: TomlError| EditError::Inexpressible)?;
    let apps = document
        .get_mut("app")
        .and_then(Item::as_table_like_mut)
        .ok_or(EditError::Inexpressible)?;
    let removed = apps.remove(name).ok_or(EditError::Inexpressible)?;
    if let Some((position, above)) = first_table(&removed) {
        keep_comments(&mut document, position, &above);
    }
    let mut changed = document.to_string();
    if !text.starts_with('\n') {
        changed = changed.trim_start_matches('\n').to_owned();
    }
    let after = Config::parse(&changed, file).map_err(EditError::After)?;
    if after != expected {
        return Err(EditError::Inexpressible);
    }
    Ok(changed)
}

/// The table of a source below its app, and its keys with values in TOML.
type Written<'a> = (Vec<&'a str>, Vec<(&'static str, Value)>);

fn written(source: &SourceConfig) -> Result<Written<'_>, EditError> {
    Ok(match source {
        SourceConfig::Folder(FolderSource {
            name,
            path,
            exclude,
            one_file_system,
            exclude_caches,
            references,
            bundles,
        }) => {
            let mut values = vec![("path", path_value(path)?)];
            if !exclude.is_empty() {
                values.push(("exclude", texts_value(exclude)));
            }
            if *one_file_system {
                values.push(("one-file-system", true.into()));
            }
            if *exclude_caches {
                values.push(("exclude-caches", true.into()));
            }
            if !bundles {
                values.push(("bundles", false.into()));
            }
            if !references.is_empty() {
                if references.iter().any(ReferenceColumn::knows_more) {
                    return Err(EditError::Inexpressible);
                }
                let names: Vec<_> = references.iter().map(ReferenceColumn::in_short).collect();
                values.push(("referenced-by", texts_value(&names)));
            }
            (vec!["media", name], values)
        }
        SourceConfig::Secrets(SecretsSource { paths }) => {
            let paths = paths
                .iter()
                .map(|path| path_value(path))
                .collect::<Result<Array, _>>()?;
            (vec!["secrets"], vec![("paths", paths.into())])
        }
        SourceConfig::Sqlite(SqliteSource { name, path }) => {
            (vec!["sqlite", name], vec![("path", path_value(path)?)])
        }
        SourceConfig::Postgres(source) => (vec!["postgres"], written_postgres(source)?),
        SourceConfig::Command(CommandSource {
            name,
            run,
            filename,
            bundles,
        }) => {
            let mut values = vec![("run", texts_value(run)), ("filename", filename.into())];
            if !bundles {
                values.push(("bundles", false.into()));
            }
            (vec!["command", name], values)
        }
    })
}

fn written_postgres(source: &PostgresSource) -> Result<Vec<(&'static str, Value)>, EditError> {
    let PostgresSource {
        name,
        url,
        password,
        skip_data,
        pg_dump,
        via,
    } = source;
    let mut values = vec![("url", url.into())];
    match password {
        None => {}
        Some(Secret::File(path)) => {
            values.push(("password", format!("file:{}", path_text(path)?).into()));
        }
        Some(Secret::Variable(name)) => values.push(("password", format!("env:{name}").into())),
        Some(Secret::Literal(secret)) => values.push(("password", secret.as_str().into())),
    }
    if !skip_data.is_empty() {
        values.push(("skip-data", texts_value(skip_data)));
    }
    if *pg_dump {
        values.push(("engine", "pg_dump".into()));
    }
    if !via.is_empty() {
        values.push(("via", texts_value(via)));
    }
    if name != DATABASE_NAME {
        values.push(("name", name.into()));
    }
    Ok(values)
}

fn path_value(path: &Path) -> Result<Value, EditError> {
    path_text(path).map(Value::from)
}

fn path_text(path: &Path) -> Result<&str, EditError> {
    path.to_str()
        .filter(|_| path.is_absolute())
        .ok_or_else(|| EditError::Path {
            path: path.to_owned(),
        })
}

fn texts_value(texts: &[String]) -> Value {
    texts.iter().map(String::as_str).collect::<Array>().into()
}

/// The position of the first table with a header in `item`, and what stands above that header.
fn first_table(item: &Item) -> Option<(isize, String)> {
    let table = item.as_table_like()?;
    let own = item.as_table().and_then(headed);
    let below = table.iter().filter_map(|(_, item)| first_table(item));
    own.into_iter()
        .chain(below)
        .min_by_key(|(position, _)| *position)
}

fn headed(table: &Table) -> Option<(isize, String)> {
    if table.is_implicit() || table.is_dotted() {
        return None;
    }
    let above = table
        .decor()
        .prefix()
        .and_then(|above| above.as_str())
        .unwrap_or_default();
    Some((table.position()?, above.to_owned()))
}

/// Puts the comments in `above` that are not of the removed table at `position` itself (a blank line parts them from
/// it) above the table that follows, or at the end of the text.
fn keep_comments(document: &mut DocumentMut, position: isize, above: &str) {
    let Some(blank) = above.rfind("\n\n") else {
        return;
    };
    let kept = &above[..=blank];
    if kept.trim().is_empty() {
        return;
    }
    let next = next_position(document.as_table(), position);
    match next.and_then(|next| table_at(document.as_table_mut(), next)) {
        Some(table) => {
            let own = table
                .decor()
                .prefix()
                .and_then(|above| above.as_str())
                .unwrap_or_default();
            let parted = if own.starts_with('\n') { "" } else { "\n" };
            let joined = format!("{kept}{parted}{own}");
            table.decor_mut().set_prefix(joined);
        }
        None => {
            let own = document.trailing().as_str().unwrap_or_default();
            let joined = format!("{kept}{own}");
            document.set_trailing(joined);
        }
    }
}

/// The position of the first table with a header that stands after `position`.
fn next_position(table: &dyn TableLike, position: isize) -> Option<isize> {
    let below = table.iter().filter_map(|(_, item)| {
        let own = item
            .as_table()
            .and_then(headed)
            .map(|(own, _)| own)
            .filter(|own| *own > position);
        let below = item
            .as_table_like()
            .and_then(|table| next_position(table, position));
        own.into_iter().chain(below).min()
    });
    below.min()
}

fn table_at(table: &mut Table, position: isize) -> Option<&mut Table> {
    for (_, item) in table.iter_mut() {
        let Item::Table(below) = item else { continue };
        if headed(below).is_some_and(|(own, _)| own == position) {
            return Some(below);
        }
        if let Some(found) = table_at(below, position) {
            return Some(found);
        }
    }
    None
}

#[cfg(test)]
mod tests;
