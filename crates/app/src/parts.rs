//! What `database.json` says of a database whose rows are streams of their own: the parts, as text and back.

use lifeboat_postgres::{Digest, LargeObjectPart, Parts, SequencePart, TablePart, table_file};
use serde::{Deserialize, Serialize};

/// The parts of a database, as JSON has them.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PartsText {
    tables: Vec<TableText>,
    sequences: Vec<SequenceText>,
    large_objects: Vec<LargeObjectText>,
}

#[derive(Debug, Serialize, Deserialize)]
struct TableText {
    schema: String,
    name: String,
    /// Where its rows are; nothing where they were left out.
    file: Option<String>,
    columns: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    condition: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    order: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rows: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hash: Option<String>,
    #[serde(default, skip_serializing_if = "is_false")]
    skipped: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct SequenceText {
    schema: String,
    name: String,
    last_value: i64,
    is_called: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct LargeObjectText {
    oid: u32,
    bytes: u64,
    hash: String,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde asks with a reference"
)]
fn is_false(value: &bool) -> bool {
    !value
}

impl PartsText {
    pub(crate) fn of(parts: &Parts) -> Self {
        let table = |part: &TablePart| TableText {
            schema: part.schema.clone(),
            name: part.name.clone(),
            file: part
                .digest
                .is_some()
                .then(|| table_file(&part.schema, &part.name)),
            columns: part.columns.clone(),
            condition: part.condition.clone(),
            order: part.order.clone(),
            rows: part.digest.map(|digest| digest.rows),
            bytes: part.digest.map(|digest| digest.len_bytes),
            hash: part.digest.map(|digest| format!("{:032x}", digest.sum)),
            skipped: part.digest.is_none(),
        };
        let sequence = |part: &SequencePart| SequenceText {
            schema: part.schema.clone(),
            name: part.name.clone(),
            last_value: part.last_value,
            is_called: part.is_called,
        };
        let large_object = |part: &LargeObjectPart| LargeObjectText {
            oid: part.oid,
            bytes: part.len_bytes,
            hash: hex(&part.hash),
        };
        Self {
            tables: parts.tables.iter().map(table).collect(),
            sequences: parts.sequences.iter().map(sequence).collect(),
            large_objects: parts.large_objects.iter().map(large_object).collect(),
        }
    }

    /// The parts; nothing when a table's digest is not whole, as only a forged or a newer text has it.
    pub(crate) fn parts(self) -> Option<Parts> {
        let table = |text: TableText| -> Option<TablePart> {
            let digest = if text.skipped {
                None
            } else {
                Some(Digest {
                    rows: text.rows?,
                    len_bytes: text.bytes?,
                    sum: sum_of(&text.hash?)?,
                })
            };
            Some(TablePart {
                schema: text.schema,
                name: text.name,
                columns: text.columns,
                condition: text.condition,
                order: text.order,
                digest,
            })
        };
        let sequence = |text: SequenceText| SequencePart {
            schema: text.schema,
            name: text.name,
            last_value: text.last_value,
            is_called: text.is_called,
        };
        let large_object = |text: LargeObjectText| -> Option<LargeObjectPart> {
            Some(LargeObjectPart {
                oid: text.oid,
                len_bytes: text.bytes,
                hash: from_hex(&text.hash)?,
            })
        };
        Some(Parts {
            tables: self.tables.into_iter().map(table).collect::<Option<_>>()?,
            sequences: self.sequences.into_iter().map(sequence).collect(),
            large_objects: self
                .large_objects
                .into_iter()
                .map(large_object)
                .collect::<Option<_>>()?,
        })
    }
}

fn hex(bytes: &[u8; 32]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sum_of(text: &str) -> Option<u128> {
    let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_hex)
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(text.get(at * 2..at * 2 + 2)?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        let digest = Digest {
            rows: 3,
            len_bytes: u64::MAX,
            sum: u128::from_le_bytes([0xab; 16]),
        };
        let table = TablePart {
            schema: "public".to_owned(),
            name: "Odd \"name\" – ünï".to_owned(),
            columns: vec!["id".to_owned(), "a\tb".to_owned()],
            condition: Some("WHERE mine".to_owned()),
            order: vec!["id".to_owned()],
            digest: Some(digest),
        };
        Parts {
            tables: vec![
                TablePart {
                    digest: None,
                    condition: None,
                    order: Vec::new(),
                    ..table.clone()
                },
                table,
            ],
            sequences: vec![SequencePart {
                schema: "public".to_owned(),
                name: "s".to_owned(),
                last_value: i64::MIN,
                is_called: true,
            }],
            large_objects: vec![LargeObjectPart {
                oid: u32::MAX,
                len_bytes: 0,
                hash: [7; 32],
            }],
        }
    }

    #[test]
    fn parts_come_back_out_of_their_text() {
        let text = serde_json::to_string(&PartsText::of(&parts())).unwrap();
        let read: PartsText = serde_json::from_str(&text).unwrap();
        assert_eq!(read.parts().unwrap(), parts());
    }

    #[test]
    fn a_digest_that_is_not_whole_is_none() {
        let text = serde_json::to_string(&PartsText::of(&parts())).unwrap();
        for (from, to) in [
            ("abab", "abax"),
            ("\"rows\":3,", ""),
            ("abab\"", "ab\""),
            ("0707\"", "07é\""),
        ] {
            assert!(text.contains(from), "{from}");
            let read: PartsText = serde_json::from_str(&text.replace(from, to)).unwrap();
            assert_eq!(read.parts(), None, "{to}");
        }
    }
}
