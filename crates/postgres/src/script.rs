//! A plain SQL script of a whole database, from the schema's archive and the database's parts.
//!
//! It is what `pg_restore --file=-` makes of the archive that `pg_dump` would have written: objects and data in the
//! archive's order, then grants, then event triggers and materialised views, which may run code that needs the grants.
//!
//! A script is a program: `psql` would also run commands of its own, on the machine where it runs, from a line that a
//! hostile server slipped into a definition (CVE-2025-8714). With a key, `\restrict` forbids them to it. `psql` older than
//! August 2025 does not know the word and refuses the script with `ON_ERROR_STOP`, as it should; a script without the key
//! is for a source that is trusted, or for something else than `psql`.

use std::io::{BufWriter, Read, Write};

use crate::{
    archive::ArchiveEntry,
    assembly::{Assembly, AssemblyError, Data, GROUP, Item, put_large_object, put_rows},
    partitions::PARTITIONED,
    parts::{LargeObjectPart, Parts},
    source::PartSource,
    wording::{identifier, one_line, qualified},
};

const BUFFER_LEN_BYTES: usize = 64 << 10;
/// How many bytes of a large object one statement has.
const LARGE_OBJECT_LEN_BYTES: usize = 16 << 10;
/// `INV_WRITE`.
const OPEN_TO_WRITE: u32 = 0x2_0000;

/// The kinds of object whose owner is set by their name.
const OWNED_BY_NAME: [&str; 17] = [
    "COLLATION",
    "CONVERSION",
    "DATABASE",
    "DOMAIN",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "FOREIGN TABLE",
    "PROCEDURAL LANGUAGE",
    "PUBLICATION",
    "SCHEMA",
    "SERVER",
    "STATISTICS",
    "SUBSCRIPTION",
    "TABLE",
    "TEXT SEARCH CONFIGURATION",
    "TEXT SEARCH DICTIONARY",
    "TYPE",
];
/// The kinds whose name alone does not say which is meant; the statement that drops them does.
const OWNED_BY_SIGNATURE: [&str; 6] = [
    "AGGREGATE",
    "FUNCTION",
    "OPERATOR",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "PROCEDURE",
];
/// The kinds that belong to something else, with which they change their owner.
const NOT_OWNED: [&str; 12] = [
    "CAST",
    "CHECK CONSTRAINT",
    "CONSTRAINT",
    "DATABASE PROPERTIES",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "TRIGGER",
    "USER MAPPING",
];

/// How a script is written.
#[derive(Clone, Debug, Default)]
pub struct ScriptOptions {
    /// Objects belong to whoever runs it, whoever owned them.
    pub no_owner: bool,
    /// Grants are left out.
    pub no_acl: bool,
    /// A random word of letters and digits for `\restrict`; see the module on when to leave it out.
    pub restrict_key: Option<String>,
}

/// Writes the script; its last comment says that it is complete.
///
/// `schema` is the database's archive of `--section=pre-data --section=post-data`, in UTF-8.
///
/// # Errors
/// When the two do not fit together, before the first byte; when content lacks or `out` takes no more, after some, and
/// then the last comment lacks.
pub fn write_script(
    schema: &mut dyn Read,
    parts: &Parts,
    source: &PartSource<'_>,
    options: &ScriptOptions,
    out: &mut dyn Write,
) -> Result<(), AssemblyError> {
    if let Some(key) = &options.restrict_key
        && (key.is_empty() || !key.bytes().all(|letter| letter.is_ascii_alphanumeric()))
    {
        return Err(AssemblyError::RestrictKey);
    }
    let assembly = Assembly::new(schema, parts)?;
    let out = BufWriter::with_capacity(BUFFER_LEN_BYTES, out);
    let mut script = Script::new(&assembly, options, out);
    script.head()?;
    for item in script.in_order() {
        script.item(item, source)?;
    }
    script.tail()
}

/// The kinds of entries whose making runs what the database's owners wrote, or has it run from then on.
pub(crate) const RUN_CODE: [&str; 2] = ["EVENT TRIGGER", "MATERIALIZED VIEW DATA"];

/// When an entry's turn comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pass {
    Main,
    Grants,
    AfterGrants,
}

impl Pass {
    fn of(entry: &ArchiveEntry) -> Self {
        let of_event_trigger = entry.name.starts_with("EVENT TRIGGER ");
        match entry.kind.as_str() {
            "ACL" | "DEFAULT ACL" => Self::Grants,
            kind if RUN_CODE.contains(&kind) => Self::AfterGrants,
            // With what they are about, which has no grants itself.
            "COMMENT" | "SECURITY LABEL" if of_event_trigger => Self::AfterGrants,
            "STATISTICS DATA" if entry.section == crate::archive::section::POST_DATA => {
                Self::AfterGrants
            }
            _ => Self::Main,
        }
    }
}

/// A script being written to `out`.
pub(crate) struct Script<'s, W> {
    assembly: &'s Assembly<'s>,
    options: &'s ScriptOptions,
    out: W,
    /// The default tablespace and table access method that the script has set last.
    tablespace: Option<&'s str>,
    access_method: Option<&'s str>,
}

impl<'s> Script<'s, Vec<u8>> {
    /// The statements that come first, for a session of ours.
    pub(crate) fn head_text(&mut self) -> Result<String, AssemblyError> {
        self.head()?;
        self.text()
    }

    /// The statements that make an entry, without its data.
    pub(crate) fn text_of(&mut self, entry: &'s ArchiveEntry) -> Result<String, AssemblyError> {
        self.announce(entry)?;
        self.define(entry)?;
        self.text()
    }

    fn text(&mut self) -> Result<String, AssemblyError> {
        let text = String::from_utf8(std::mem::take(&mut self.out));
        text.map_err(|_| AssemblyError::Encoding)
    }
}

impl<'s, W: Write> Script<'s, W> {
    pub(crate) fn new(assembly: &'s Assembly<'s>, options: &'s ScriptOptions, out: W) -> Self {
        Self {
            assembly,
            options,
            out,
            tablespace: None,
            access_method: None,
        }
    }

    /// What has something to say, in the order in which it is said.
    pub(crate) fn in_order(&self) -> Vec<&'s Item<'s>> {
        let assembly = self.assembly;
        let passes = [Pass::Main, Pass::Grants, Pass::AfterGrants];
        let of_pass = |pass: Pass| {
            let items = assembly.items.iter();
            items.filter(move |item| Pass::of(&item.entry) == pass)
        };
        let all = passes.into_iter().flat_map(of_pass);
        all.filter(|item| self.wants(&item.entry)).collect()
    }

    fn put(&mut self, text: &str) -> Result<(), AssemblyError> {
        let written = self.out.write_all(text.as_bytes());
        written.map_err(AssemblyError::Write)
    }

    /// Nothing here depends on who runs it or where. `transaction_timeout`, which `pg_dump` 17 sets too, would keep the
    /// script from older servers, and a script is no transaction.
    fn head(&mut self) -> Result<(), AssemblyError> {
        self.put("--\n-- PostgreSQL database dump\n--\n\n")?;
        if let Some(key) = &self.options.restrict_key {
            self.put(&format!("\\restrict {key}\n\n"))?;
        }
        let head = &self.assembly.head;
        self.put(&format!(
            "-- Dumped from database version {}\n-- Dumped by pg_dump version {}\n\n",
            one_line(&head.server_version),
            one_line(&head.program_version)
        ))?;
        let (strings, warning) = if self.assembly.standard_strings {
            ("on", "")
        } else {
            ("off", "SET escape_string_warning = off;\n")
        };
        self.put(&format!(
            "SET statement_timeout = 0;\nSET lock_timeout = 0;\nSET idle_in_transaction_session_timeout = 0;\n\
             SET client_encoding = 'UTF8';\nSET standard_conforming_strings = {strings};\n{}\
             SET check_function_bodies = false;\nSET xmloption = content;\nSET client_min_messages = warning;\n{warning}\
             SET row_security = off;\n\n",
            self.assembly.search_path
        ))
    }

    fn tail(&mut self) -> Result<(), AssemblyError> {
        self.put("--\n-- PostgreSQL database dump complete\n--\n\n")?;
        if let Some(key) = &self.options.restrict_key {
            self.put(&format!("\\unrestrict {key}\n\n"))?;
        }
        self.out.flush().map_err(AssemblyError::Write)
    }

    /// Whether it has something to write. The database itself is made by whoever loads the script.
    fn wants(&self, entry: &ArchiveEntry) -> bool {
        let kind = entry.kind.as_str();
        let about_database = entry.name.starts_with("DATABASE ")
            && ["ACL", "COMMENT", "SECURITY LABEL"].contains(&kind);
        let is_setting = ["ENCODING", "STDSTRINGS", "SEARCHPATH"].contains(&kind);
        let is_database = ["DATABASE", "DATABASE PROPERTIES"].contains(&kind);
        let is_unwanted = self.options.no_acl && Pass::of(entry) == Pass::Grants;
        let says_nothing = !entry.has_data && entry.definition.as_deref().unwrap_or("").is_empty();
        !(is_setting || is_database || about_database || is_unwanted || says_nothing)
    }

    fn item(&mut self, item: &'s Item<'s>, source: &PartSource<'_>) -> Result<(), AssemblyError> {
        self.announce(&item.entry)?;
        self.define(&item.entry)?;
        match &item.data {
            Data::Nothing => Ok(()),
            Data::Rows(part, digest) => {
                self.put(item.entry.copy.as_deref().unwrap_or_default())?;
                put_rows(source, part, digest, &mut self.out)?;
                self.put("\\.\n\n\n")?;
                if self.assembly.has_amounts {
                    self.put("RESET lc_monetary;\n\n")?;
                }
                Ok(())
            }
            Data::LargeObjects(group) => {
                self.put("BEGIN;\n\n")?;
                for part in group {
                    self.large_object(part, source)?;
                }
                self.put("COMMIT;\n\n")
            }
        }
    }

    /// Sets what the entry's statements take for granted, and says in a comment what comes.
    fn announce(&mut self, entry: &'s ArchiveEntry) -> Result<(), AssemblyError> {
        if let Some(wanted) = entry.tablespace.as_deref()
            && self.tablespace != Some(wanted)
        {
            let name = match wanted {
                "" => "''".to_owned(),
                name => identifier(name),
            };
            self.put(&format!("SET default_tablespace = {name};\n\n"))?;
            self.tablespace = Some(wanted);
        }
        if let Some(wanted) = entry.access_method.as_deref()
            && entry.relation_kind != PARTITIONED
            && self.access_method != Some(wanted)
        {
            let name = identifier(wanted);
            self.put(&format!("SET default_table_access_method = {name};\n\n"))?;
            self.access_method = Some(wanted);
        }
        let prefix = match entry.kind.as_str() {
            _ if entry.has_data => "Data for ",
            "STATISTICS DATA" => "Statistics for ",
            _ => "",
        };
        let owner = entry.owner.as_deref().filter(|_| !self.options.no_owner);
        let tablespace = entry.tablespace.as_deref().unwrap_or_default();
        let tablespace = match one_line(tablespace).as_str() {
            "" => String::new(),
            name => format!("; Tablespace: {name}"),
        };
        self.put(&format!(
            "--\n-- {prefix}Name: {}; Type: {}; Schema: {}; Owner: {}{tablespace}\n--\n\n",
            one_line(&entry.name),
            one_line(&entry.kind),
            one_line(entry.schema.as_deref().unwrap_or("-")),
            one_line(owner.unwrap_or("-")),
        ))
    }

    fn define(&mut self, entry: &ArchiveEntry) -> Result<(), AssemblyError> {
        let definition = entry.definition.as_deref().unwrap_or_default();
        let is_schema = entry.kind == "SCHEMA";
        // The schema `public` is there already, and then only a remark stands in the place of its statement.
        if self.options.no_owner && is_schema && !definition.starts_with("--") {
            self.put(&format!("CREATE SCHEMA {};\n\n\n", identifier(&entry.name)))?;
        } else if entry.kind == GROUP {
            self.for_each_object(entry, "SELECT pg_catalog.lo_create('", "')")?;
        } else if entry.kind == "ACL" && entry.name.starts_with("LARGE OBJECTS") {
            self.grants_on_group(entry)?;
        } else if !definition.is_empty() {
            self.put(definition)?;
            self.put("\n\n")?;
        }
        self.set_owner(entry)?;
        if entry.relation_kind == PARTITIONED
            && let Some(method) = &entry.access_method
        {
            let (table, method) = (qualified(entry.schema(), &entry.name), identifier(method));
            self.put(&format!(
                "ALTER TABLE {table} SET ACCESS METHOD {method};\n\n"
            ))?;
        }
        Ok(())
    }

    /// What nothing drops has no owner of its own.
    fn set_owner(&mut self, entry: &ArchiveEntry) -> Result<(), AssemblyError> {
        let drop = entry.drop.as_deref().unwrap_or_default();
        let Some(owner) = entry.owner() else {
            return Ok(());
        };
        if self.options.no_owner || drop.is_empty() {
            return Ok(());
        }
        let kind = entry.kind.as_str();
        let owner = identifier(owner);
        let object = match kind {
            GROUP => {
                let end = format!(" OWNER TO {owner}");
                return self.for_each_object(entry, "ALTER LARGE OBJECT ", &end);
            }
            "BLOB" => format!("LARGE OBJECT {}", entry.name),
            // As `pg_dump` 15 words it, which every version understands.
            "MATERIALIZED VIEW" | "SEQUENCE" | "VIEW" => {
                format!("TABLE {}", qualified(entry.schema(), &entry.name))
            }
            _ if OWNED_BY_NAME.contains(&kind) => {
                format!("{kind} {}", qualified(entry.schema(), &entry.name))
            }
            _ if OWNED_BY_SIGNATURE.contains(&kind) => drop
                .trim_end_matches(['\n', ';'])
                .strip_prefix("DROP ")
                .ok_or_else(|| {
                    AssemblyError::NotUnderstood(format!("how {kind} {} is dropped", entry.name))
                })?
                .to_owned(),
            _ if NOT_OWNED.contains(&kind) => return Ok(()),
            _ => {
                return Err(AssemblyError::NotUnderstood(format!(
                    "how {kind} {} gets its owner",
                    entry.name
                )));
            }
        };
        self.put(&format!("ALTER {object} OWNER TO {owner};\n\n"))
    }

    /// The statement for each large object of a group.
    fn for_each_object(
        &mut self,
        group: &ArchiveEntry,
        begin: &str,
        end: &str,
    ) -> Result<(), AssemblyError> {
        for oid in group.definition.as_deref().unwrap_or_default().lines() {
            self.put(&format!("{begin}{oid}{end};\n"))?;
        }
        self.put("\n")
    }

    /// Grants on a group of large objects are written for one of them.
    fn grants_on_group(&mut self, entry: &ArchiveEntry) -> Result<(), AssemblyError> {
        const OBJECT: &str = " ON LARGE OBJECT ";
        let not_understood =
            || AssemblyError::NotUnderstood(format!("the grants {}", one_line(&entry.name)));
        let group = entry.needs.first().and_then(|id| {
            let mut items = self.assembly.items.iter();
            let entry = &items.find(|item| item.entry.id == *id)?.entry;
            (entry.kind == GROUP).then_some(entry)
        });
        let group = group.ok_or_else(not_understood)?;
        for statement in statements(entry.definition.as_deref().unwrap_or_default()) {
            if !["GRANT ", "REVOKE "]
                .iter()
                .any(|verb| statement.starts_with(verb))
            {
                // Who grants what follows.
                self.put(&format!("{statement};\n\n"))?;
                continue;
            }
            let (begin, rest) = statement.split_once(OBJECT).ok_or_else(not_understood)?;
            let end = rest.trim_start_matches(|letter: char| letter.is_ascii_digit());
            self.for_each_object(group, &format!("{begin}{OBJECT}"), end)?;
        }
        Ok(())
    }

    fn large_object(
        &mut self,
        part: &LargeObjectPart,
        source: &PartSource<'_>,
    ) -> Result<(), AssemblyError> {
        self.put(&format!(
            "SELECT pg_catalog.lo_open('{}', {OPEN_TO_WRITE});\n",
            part.oid
        ))?;
        let mut hex = Hex {
            out: &mut self.out,
            standard_strings: self.assembly.standard_strings,
            bytes: Vec::with_capacity(LARGE_OBJECT_LEN_BYTES),
        };
        put_large_object(source, part, &mut hex)?;
        hex.put().map_err(AssemblyError::Write)?;
        self.put("SELECT pg_catalog.lo_close(0);\n\n")
    }
}

/// Statements that have nothing harder to understand than quoted names, without the semicolons at their ends.
fn statements(text: &str) -> Vec<&str> {
    let mut quoted = false;
    let ends = move |letter: char| {
        quoted ^= letter == '"';
        letter == ';' && !quoted
    };
    text.split(ends)
        .map(str::trim_start)
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// Writes a large object's bytes as statements.
struct Hex<'w, W> {
    out: &'w mut W,
    standard_strings: bool,
    bytes: Vec<u8>,
}

impl<W: Write> Hex<'_, W> {
    fn put(&mut self) -> std::io::Result<()> {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if self.bytes.is_empty() {
            return Ok(());
        }
        let backslash = if self.standard_strings { "\\" } else { "\\\\" };
        write!(self.out, "SELECT pg_catalog.lowrite(0, '{backslash}x")?;
        let digits: Vec<u8> = self
            .bytes
            .iter()
            .flat_map(|byte| {
                [
                    DIGITS[usize::from(byte >> 4)],
                    DIGITS[usize::from(byte & 15)],
                ]
            })
            .collect();
        self.out.write_all(&digits)?;
        self.out.write_all(b"');\n")?;
        self.bytes.clear();
        Ok(())
    }
}

impl<W: Write> Write for Hex<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        // A statement is written when the next one begins, as `pg_restore` does.
        if self.bytes.len() == LARGE_OBJECT_LEN_BYTES {
            self.put()?;
        }
        let taken = bytes.len().min(LARGE_OBJECT_LEN_BYTES - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
