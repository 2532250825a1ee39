//! A parsed configuration held against the list of keys.
//!
//! TOML says what the text is; the list of keys says what it may be. Out comes a tree in which every key is known, is
//! given in the right form, and carries its place. Invariant: what is in the tree was in the list of keys, so whoever
//! reads the tree asks only for keys of that list.

use super::keys::{CHOSEN, Form, Key, elsewhere, key_in, keys_in};
use super::names::{check_app_name, check_name};
use super::problem::{ConfigProblem, Place};
use crate::spelling::nearest;
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// A value and the byte at which it begins.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<T> {
    pub(super) value: T,
    pub(super) offset: usize,
}

/// A table whose keys are all known.
#[derive(Debug)]
pub(super) struct Section {
    /// The name under which it stands.
    pub(super) name: String,
    /// Where that name begins.
    pub(super) offset: usize,
    entries: Vec<(String, Placed<Value>)>,
}

#[derive(Debug)]
enum Value {
    Text(String),
    Flag(bool),
    Number(u64),
    Texts(Vec<Placed<String>>),
    Table(Section),
}

/// Finds out what is wrong while a text is read.
pub(super) struct Problems<'a> {
    text: &'a str,
    found: Vec<ConfigProblem>,
}

impl<'a> Problems<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self {
            text,
            found: Vec::new(),
        }
    }

    /// Notes that something is wrong at the byte `offset`.
    pub(super) fn add(&mut self, offset: usize, message: impl Into<String>) {
        self.found.push(ConfigProblem {
            place: self.place(offset),
            message: message.into(),
        });
    }

    /// The place of the byte `offset`.
    pub(super) fn place(&self, offset: usize) -> Place {
        Place::at(self.text, offset)
    }

    /// All problems in the order of the text.
    pub(super) fn finish(mut self) -> Vec<ConfigProblem> {
        self.found.sort_by_key(|problem| problem.place);
        self.found
    }
}

/// Checks a whole document.
pub(super) fn check(document: &DeTable<'_>, problems: &mut Problems<'_>) -> Section {
    check_table(
        document,
        &Header {
            path: "",
            shown: String::new(),
        },
        Placed {
            value: "",
            offset: 0,
        },
        problems,
    )
}

/// Which table is being checked.
struct Header {
    /// Its path in the list of keys.
    path: &'static str,
    /// Its path as the text has it.
    shown: String,
}

impl Header {
    fn below(&self, key: &Key, name: &str) -> Self {
        let shown = match self.shown.as_str() {
            "" => name.escape_debug().to_string(),
            shown => format!("{shown}.{}", name.escape_debug()),
        };
        Self {
            path: key.path,
            shown,
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shown.as_str() {
            "" => out.write_str("at the top of the file"),
            shown => write!(out, "in [{shown}]"),
        }
    }
}

fn check_table(
    table: &DeTable<'_>,
    header: &Header,
    name: Placed<&str>,
    problems: &mut Problems<'_>,
) -> Section {
    let mut keys: Vec<_> = table.iter().collect();
    keys.sort_by_key(|(key, _)| key.span().start);
    let mut entries = Vec::new();
    // Also keys that are wrong in some way: one mistake is told once.
    let mut mentioned = Vec::new();
    for (key, value) in keys {
        let name = Placed {
            value: key.get_ref().as_ref(),
            offset: key.span().start,
        };
        let Some(known) = key_in(header.path, name.value) else {
            mentioned.extend(unknown(header, &name, problems));
            continue;
        };
        mentioned.push(known.leaf());
        let key_text = name.value.to_owned();
        if let Some(value) = check_value(known, header, name, value, problems) {
            entries.push((key_text, value));
        }
    }
    for key in keys_in(header.path).filter(|key| key.required && !mentioned.contains(&key.leaf())) {
        let Header { shown, .. } = header;
        let (leaf, example) = (key.leaf(), key.example);
        problems.add(
            name.offset,
            format!("[{shown}] needs `{leaf}`; for example {leaf} = {example}"),
        );
    }
    Section {
        name: name.value.to_owned(),
        offset: name.offset,
        entries,
    }
}

/// Tells of an unknown key; returns the known one that was probably meant.
fn unknown(
    header: &Header,
    name: &Placed<&str>,
    problems: &mut Problems<'_>,
) -> Option<&'static str> {
    let with_meaning = || keys_in(header.path).filter(|key| key.form != Form::Later);
    let meant = nearest(name.value, with_meaning().map(Key::leaf));
    let advice = if let Some(meant) = meant {
        format!("did you mean `{meant}`?")
    } else if let Some(key) = elsewhere(header.path, name.value) {
        match key.parent() {
            "" => "it belongs at the top of the file".to_owned(),
            parent => format!("it belongs in [{parent}]"),
        }
    } else {
        let known: Vec<_> = with_meaning()
            .map(|key| format!("`{}`", key.leaf()))
            .collect();
        format!("known here: {}", known.join(", "))
    };
    problems.add(
        name.offset,
        format!(
            "unknown key `{}` {header}; {advice}",
            name.value.escape_debug()
        ),
    );
    meant
}

/// Checks the value of a known key; `None` when it is not to be had.
fn check_value(
    key: &'static Key,
    header: &Header,
    name: Placed<&str>,
    value: &Spanned<DeValue<'_>>,
    problems: &mut Problems<'_>,
) -> Option<Placed<Value>> {
    let Range { start: offset, .. } = value.span();
    let checked = match (key.form, value.get_ref()) {
        (Form::Later, _) => {
            problems.add(
                name.offset,
                format!("`{}` is not supported by this version", key.leaf()),
            );
            return None;
        }
        (Form::Table, DeValue::Table(table)) => {
            check_chosen(key, header, name, problems);
            Value::Table(check_table(
                table,
                &header.below(key, name.value),
                name,
                problems,
            ))
        }
        (Form::Text | Form::Path | Form::Secret, DeValue::String(text)) => {
            Value::Text(check_text(key, offset, text, problems)?)
        }
        (Form::Flag, DeValue::Boolean(flag)) => Value::Flag(*flag),
        (Form::Number, DeValue::Integer(number)) => {
            match u64::from_str_radix(number.as_str(), number.radix()) {
                Ok(number) => Value::Number(number),
                Err(_) => {
                    problems.add(offset, format!("`{}` is no number that can be", key.leaf()));
                    return None;
                }
            }
        }
        (Form::Texts | Form::Paths, DeValue::Array(values)) => {
            Value::Texts(check_texts(key, offset, values, problems))
        }
        (_, other) => {
            let (article, found) = form_of(other);
            let (shown, wanted, example) =
                (name.value.escape_debug(), key.form.words(), example_of(key));
            problems.add(
                offset,
                format!("`{shown}` must be {wanted}, not {article}{found}{example}"),
            );
            return None;
        }
    };
    Some(Placed {
        value: checked,
        offset,
    })
}

/// Checks a name that people chose.
fn check_chosen(key: &Key, header: &Header, name: Placed<&str>, problems: &mut Problems<'_>) {
    let checked = match (key.leaf(), key.parent()) {
        (CHOSEN, "app") => check_app_name(name.value),
        (CHOSEN, _) => check_name(name.value),
        _ => Ok(()),
    };
    if let Err(error) = checked {
        let shown = name.value.escape_debug();
        problems.add(
            name.offset,
            format!("`{shown}` cannot be a name {header}: {error}"),
        );
    }
}

fn check_texts(
    key: &Key,
    offset: usize,
    values: &[Spanned<DeValue<'_>>],
    problems: &mut Problems<'_>,
) -> Vec<Placed<String>> {
    if values.is_empty() && key.required {
        problems.add(offset, format!("`{}` is an empty list", key.leaf()));
    }
    let mut texts = Vec::with_capacity(values.len());
    for value in values {
        let offset = value.span().start;
        match value.get_ref() {
            DeValue::String(text) => {
                if let Some(text) = check_text(key, offset, text, problems) {
                    texts.push(Placed {
                        value: text,
                        offset,
                    });
                }
            }
            other => {
                let (_, found) = form_of(other);
                let (leaf, wanted, example) = (key.leaf(), key.form.words(), example_of(key));
                problems.add(
                    offset,
                    format!("`{leaf}` must be {wanted}, with no {found} in it{example}"),
                );
            }
        }
    }
    texts
}

fn check_text(key: &Key, offset: usize, text: &str, problems: &mut Problems<'_>) -> Option<String> {
    let wrong = match text {
        "" => "is empty",
        _ if text.contains('\0') => "holds a zero byte",
        _ => return Some(text.to_owned()),
    };
    problems.add(offset, format!("`{}` {wrong}", key.leaf()));
    None
}

/// The form of a value, with the article it wants.
fn form_of(value: &DeValue<'_>) -> (&'static str, &'static str) {
    match value {
        DeValue::String(_) => ("a ", "text"),
        DeValue::Integer(_) | DeValue::Float(_) => ("a ", "number"),
        DeValue::Boolean(_) => ("", "true or false"),
        DeValue::Datetime(_) => ("a ", "date"),
        DeValue::Array(_) => ("a ", "list"),
        DeValue::Table(_) => ("a ", "table"),
    }
}

/// An example of a key that has a value of its own, to end a message with.
fn example_of(key: &Key) -> String {
    match key.form {
        Form::Table => String::new(),
        _ => format!("; for example {} = {}", key.leaf(), key.example),
    }
}

impl Section {
    fn value(&self, key: &str) -> Option<&Placed<Value>> {
        self.entries
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value)
    }

    /// Where the value of `key` begins.
    pub(super) fn offset_of(&self, key: &str) -> Option<usize> {
        self.value(key).map(|value| value.offset)
    }

    /// The text of `key`.
    pub(super) fn text(&self, key: &str) -> Option<Placed<&str>> {
        match self.value(key)? {
            Placed {
                value: Value::Text(text),
                offset,
            } => Some(Placed {
                value: text,
                offset: *offset,
            }),
            _ => None,
        }
    }

    /// The flag of `key`; false when it is not given.
    pub(super) fn flag(&self, key: &str) -> bool {
        matches!(
            self.value(key),
            Some(Placed {
                value: Value::Flag(true),
                ..
            })
        )
    }

    /// Whether `key` says that something is not to be done which is done without it.
    pub(super) fn is_off(&self, key: &str) -> bool {
        matches!(
            self.value(key),
            Some(Placed {
                value: Value::Flag(false),
                ..
            })
        )
    }

    /// The number of `key`.
    pub(super) fn number(&self, key: &str) -> Option<Placed<u64>> {
        match self.value(key)? {
            Placed {
                value: Value::Number(value),
                offset,
            } => Some(Placed {
                value: *value,
                offset: *offset,
            }),
            _ => None,
        }
    }

    /// The texts of `key`; none when it is not given.
    pub(super) fn texts(&self, key: &str) -> &[Placed<String>] {
        match self.value(key) {
            Some(Placed {
                value: Value::Texts(texts),
                ..
            }) => texts,
            _ => &[],
        }
    }

    /// The table of `key`.
    pub(super) fn table(&self, key: &str) -> Option<&Self> {
        match self.value(key)? {
            Placed {
                value: Value::Table(section),
                ..
            } => Some(section),
            _ => None,
        }
    }

    /// The tables in the table of `key`, in the order of the text.
    pub(super) fn tables_in(&self, key: &str) -> impl Iterator<Item = &Self> {
        let entries = self.table(key).map_or(&[][..], |section| &section.entries);
        entries.iter().filter_map(|(_, value)| match &value.value {
            Value::Table(section) => Some(section),
            _ => None,
        })
    }
}
