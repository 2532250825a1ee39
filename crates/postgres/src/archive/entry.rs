//! One entry of the table of contents: an object with the statements that make and drop it, or an object's data.

use super::{
    ArchiveError, WRITTEN,
    wire::{Stop, Token, put_integer, put_text},
};

/// Whether an offset is known: data somewhere, or none at all.
const OFFSET_NOT_SET: u8 = 1;
const OFFSET_NO_DATA: u8 = 3;

/// More than any entry depends on. They are read again with each portion that brings more of them.
const NEEDS_MAX: usize = 1_000_000;

/// The part of a restore that an entry belongs to, by the archive's numbers.
pub(crate) mod section {
    /// Wherever it stands: comments, labels, grants.
    pub(crate) const NONE: i64 = 1;
    /// What is made before the data.
    pub(crate) const PRE_DATA: i64 = 2;
    /// Data.
    pub(crate) const DATA: i64 = 3;
    /// What is made after the data.
    pub(crate) const POST_DATA: i64 = 4;
}

/// One entry of the table of contents. A text that is not there is something else than one that is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ArchiveEntry {
    /// Its number, which lists and dependencies name.
    pub(crate) id: i64,
    pub(crate) has_data: bool,
    /// The number of the catalog that the object stands in, in digits.
    pub(crate) class_oid: Option<String>,
    /// The object's number in that catalog, in digits.
    pub(crate) oid: Option<String>,
    pub(crate) name: String,
    /// What it is: `TABLE`, `TABLE DATA`, `INDEX`, `ACL`.
    pub(crate) kind: String,
    /// One of [`section`], or another number: before the data, or wherever it stands.
    pub(crate) section: i64,
    /// The statements that make it.
    pub(crate) definition: Option<String>,
    /// The statement that drops it.
    pub(crate) drop: Option<String>,
    /// The statement that its data follow.
    pub(crate) copy: Option<String>,
    pub(crate) schema: Option<String>,
    pub(crate) tablespace: Option<String>,
    /// How a table's rows are stored (since 1.14).
    pub(crate) access_method: Option<String>,
    /// The letter of `pg_class.relkind` as a number (since 1.16).
    pub(crate) relation_kind: i64,
    pub(crate) owner: Option<String>,
    /// Whether it is a table with oids, of old: `false`.
    pub(crate) with_oids: Option<String>,
    /// The entries that must be restored before it.
    pub(crate) needs: Vec<i64>,
}

impl ArchiveEntry {
    /// The schema, when it is in one.
    pub(crate) fn schema(&self) -> Option<&str> {
        self.schema.as_deref().filter(|schema| !schema.is_empty())
    }

    /// The owner, when it has one.
    pub(crate) fn owner(&self) -> Option<&str> {
        self.owner.as_deref().filter(|owner| !owner.is_empty())
    }

    /// A number above all that the table of contents names.
    pub(crate) fn number_above(contents: &[Self]) -> i64 {
        let ids = contents
            .iter()
            .flat_map(|entry| entry.needs.iter().chain([&entry.id]));
        ids.copied().max().unwrap_or(0).max(0).saturating_add(1)
    }

    /// The place behind all data.
    pub(crate) fn end_of_data(contents: &[Self]) -> usize {
        let mut places = contents.iter();
        places
            .position(|entry| entry.section == section::POST_DATA)
            .unwrap_or(contents.len())
    }

    pub(super) fn decode(token: &mut Token<'_>, minor: u8) -> Result<Self, Stop> {
        // The fields stand here in the archive's order, for the initialisers are evaluated as they are written.
        let mut entry = Self {
            id: token.integer()?,
            has_data: token.integer()? != 0,
            class_oid: token.text()?,
            oid: token.text()?,
            name: token.text()?.unwrap_or_default(),
            kind: token.text()?.unwrap_or_default(),
            section: token.integer()?,
            definition: token.text()?,
            drop: token.text()?,
            copy: token.text()?,
            schema: token.text()?,
            tablespace: token.text()?,
            access_method: if minor >= 14 { token.text()? } else { None },
            relation_kind: if minor >= 16 { token.integer()? } else { 0 },
            owner: token.text()?,
            with_oids: token.text()?,
            needs: Vec::new(),
        };
        while let Some(need) = token.text()? {
            if entry.needs.len() == NEEDS_MAX {
                return Err(
                    ArchiveError::Damaged("it has an entry with too many dependencies").into(),
                );
            }
            let need = need
                .parse()
                .map_err(|_| ArchiveError::Damaged("it has a dependency that is no number"))?;
            entry.needs.push(need);
        }
        // Where its data begin; unknown to a writer that cannot seek.
        token.bytes(1 + token.widths.offset)?;
        Ok(entry)
    }

    /// Writes it with integers of four bytes and offsets of eight that nobody knows.
    pub(super) fn encode(&self, minor: u8, into: &mut Vec<u8>) -> Result<(), ArchiveError> {
        put_integer(into, small(self.id)?);
        put_integer(into, self.has_data.into());
        put_text(into, self.class_oid.as_deref())?;
        put_text(into, self.oid.as_deref())?;
        put_text(into, Some(&self.name))?;
        put_text(into, Some(&self.kind))?;
        put_integer(into, small(self.section)?);
        put_text(into, self.definition.as_deref())?;
        put_text(into, self.drop.as_deref())?;
        put_text(into, self.copy.as_deref())?;
        put_text(into, self.schema.as_deref())?;
        put_text(into, self.tablespace.as_deref())?;
        if minor >= 14 {
            put_text(into, self.access_method.as_deref())?;
        }
        if minor >= 16 {
            put_integer(into, small(self.relation_kind)?);
        }
        put_text(into, self.owner.as_deref())?;
        put_text(into, self.with_oids.as_deref())?;
        for need in &self.needs {
            put_text(into, Some(&need.to_string()))?;
        }
        put_text(into, None)?;
        into.push(if self.has_data {
            OFFSET_NOT_SET
        } else {
            OFFSET_NO_DATA
        });
        into.extend_from_slice(&[0; WRITTEN.offset]);
        Ok(())
    }
}

/// An integer that four bytes can hold.
pub(super) fn small(value: i64) -> Result<i32, ArchiveError> {
    i32::try_from(value).map_err(|_| ArchiveError::Damaged("it has an impossible number"))
}
