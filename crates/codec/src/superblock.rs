//! The superblock, and the writers that the admin enrolled or revoked (`docs/format.md` §3).
//!
//! Invariant: an unknown feature bit, another format or another draft refuses before anything is written.

use crate::error::FormatError;
use crate::id::{FamilyId, ObjectHash, ReplicaId, WriterId};
use crate::key::Role;
use crate::record::{Fields, RecordWriter, Unknown};
use crate::sign::{Enrolled, SignerKey};

/// The format that this program reads and writes.
pub const FORMAT: u64 = 1;
/// The draft of that format; another draft is refused.
pub const DRAFT: u64 = 3;
const INCOMPAT_DRAFT: u64 = 1 << 63;

/// What a repository is, and what a program must know to touch it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Shared by all replicas.
    pub family: FamilyId,
    /// This replica.
    pub replica: ReplicaId,
    /// Bits without which nothing can be read.
    pub incompat: u64,
    /// Bits without which nothing may be written.
    pub ro_incompat: u64,
    /// Bits without which nothing may be deleted or moved.
    pub gc_incompat: u64,
    /// Unix milliseconds.
    pub created_ms: u64,
    /// Verifies whom to believe; pinned in every slot.
    pub admin: SignerKey,
    unknown: Unknown,
}

/// What the feature bits allow this program to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// Snapshots may be added.
    pub write: bool,
    /// Things may be deleted or moved.
    pub collect: bool,
}

impl Superblock {
    /// A new repository's superblock.
    #[must_use]
    pub fn create(family: FamilyId, replica: ReplicaId, admin: SignerKey, created_ms: u64) -> Self {
        Self {
            family,
            replica,
            incompat: INCOMPAT_DRAFT,
            ro_incompat: 0,
            gc_incompat: 0,
            created_ms,
            admin,
            unknown: Unknown::default(),
        }
    }

    /// The superblock as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        RecordWriter::new(&mut out)
            .required_number(1, FORMAT)
            .required_number(2, DRAFT)
            .required_bytes(3, &self.family.0)
            .required_bytes(4, &self.replica.0)
            .required_number(5, self.incompat)
            .required_number(6, self.ro_incompat)
            .required_number(7, self.gc_incompat)
            .number(8, self.created_ms)
            .required_bytes(9, &self.admin)
            .unknown(&self.unknown);
        out
    }

    /// Reads a superblock that this program may at least read from.
    ///
    /// # Errors
    /// When it is malformed, of another format or draft, or has an unknown `incompat` bit.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "the superblock";
        let (mut format, mut draft) = (0, 0);
        let mut superblock = Self::create(FamilyId([0; 16]), ReplicaId([0; 16]), [0; 32], 0);
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => format = field.number_value()?,
                2 => draft = field.number_value()?,
                3 => superblock.family = FamilyId(field.array()?),
                4 => superblock.replica = ReplicaId(field.array()?),
                5 => superblock.incompat = field.number_value()?,
                6 => superblock.ro_incompat = field.number_value()?,
                7 => superblock.gc_incompat = field.number_value()?,
                8 => superblock.created_ms = field.number_value()?,
                9 => superblock.admin = field.array()?,
                _ => field.unknown(&mut superblock.unknown)?,
            }
        }
        if format != FORMAT {
            return Err(FormatError::Unsupported("the repository's format"));
        }
        if superblock.incompat & INCOMPAT_DRAFT != 0 && draft != DRAFT {
            return Err(FormatError::Invalid(
                "the repository was written by another draft of the format; open it with the version that made it",
            ));
        }
        if superblock.incompat & !INCOMPAT_DRAFT != 0 {
            return Err(FormatError::Unsupported("the repository"));
        }
        Ok(superblock)
    }

    /// What the feature bits allow beyond reading.
    #[must_use]
    pub fn allowed(&self) -> Allowed {
        Allowed {
            write: self.ro_incompat == 0,
            collect: self.ro_incompat == 0 && self.gc_incompat == 0,
        }
    }
}

/// A writer's enrolment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterRecord {
    /// Who.
    pub enrolled: Enrolled,
    /// The machine's name when it was enrolled.
    pub host: String,
    /// Unix milliseconds.
    pub created_ms: u64,
}

impl WriterRecord {
    /// The enrolment as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        RecordWriter::new(&mut out)
            .required_bytes(1, &self.enrolled.public)
            .required_number(2, self.enrolled.domain.into())
            .required_number(3, self.enrolled.role as u64)
            .bytes(4, self.host.as_bytes())
            .number(5, self.created_ms);
        out
    }

    /// Reads an enrolment.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "a writer's enrolment";
        let (mut public, mut role, mut domain) = (None, None, None);
        let (mut host, mut created_ms, mut unknown) = (String::new(), 0, Unknown::default());
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => public = Some(field.array()?),
                2 => domain = Some(field.small()?),
                3 => role = Some(Role::from_number(field.number_value()?)?),
                4 => host = field.text()?,
                5 => created_ms = field.number_value()?,
                _ => field.unknown(&mut unknown)?,
            }
        }
        let (Some(public), Some(domain), Some(role)) = (public, domain, role) else {
            return Err(FormatError::Truncated(WHAT));
        };
        Ok(Self {
            enrolled: Enrolled {
                public,
                domain,
                role,
            },
            host,
            created_ms,
        })
    }
}

/// A writer is no longer believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// Who.
    pub writer: WriterId,
    /// Unix milliseconds.
    pub revoked_ms: u64,
    /// Why.
    pub reason: String,
    /// Final hashes of the writer's snapshots that still count.
    pub kept: Vec<ObjectHash>,
}

impl Revocation {
    /// The revocation as a record.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        let mut writer = RecordWriter::new(&mut out);
        writer
            .required_bytes(1, &self.writer.0)
            .number(2, self.revoked_ms)
            .bytes(3, self.reason.as_bytes());
        for hash in &self.kept {
            writer.element(4, &hash.0);
        }
        out
    }

    /// Reads a revocation.
    ///
    /// # Errors
    /// When it is malformed.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormatError> {
        const WHAT: &str = "a revocation";
        let (mut writer, mut revoked_ms, mut reason, mut unknown) =
            (None, 0, String::new(), Unknown::default());
        let mut kept = Vec::new();
        for field in Fields::new(bytes, WHAT) {
            let field = field?;
            match field.number {
                1 => writer = Some(WriterId(field.array()?)),
                2 => revoked_ms = field.number_value()?,
                3 => reason = field.text()?,
                4 => kept.push(ObjectHash(field.listed().array()?)),
                _ => field.unknown(&mut unknown)?,
            }
        }
        Ok(Self {
            writer: writer.ok_or(FormatError::Truncated(WHAT))?,
            revoked_ms,
            reason,
            kept,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superblock() -> Superblock {
        Superblock::create(FamilyId([1; 16]), ReplicaId([2; 16]), [3; 32], 4)
    }

    #[test]
    fn unknown_bits_refuse_what_they_must() {
        assert_eq!(
            Superblock::decode(&superblock().encode()).unwrap(),
            superblock()
        );
        let with = |change: fn(&mut Superblock)| {
            let mut changed = superblock();
            change(&mut changed);
            Superblock::decode(&changed.encode()).map(|superblock| superblock.allowed())
        };
        assert_eq!(
            with(|_| ()),
            Ok(Allowed {
                write: true,
                collect: true
            })
        );
        assert_eq!(
            with(|s| s.incompat |= 2),
            Err(FormatError::Unsupported("the repository"))
        );
        assert_eq!(
            with(|s| s.ro_incompat = 1),
            Ok(Allowed {
                write: false,
                collect: false
            })
        );
        assert_eq!(
            with(|s| s.gc_incompat = 1),
            Ok(Allowed {
                write: true,
                collect: false
            })
        );
    }

    #[test]
    fn another_draft_or_format_is_refused_with_a_sentence() {
        let mut bytes = superblock().encode();
        assert_eq!(bytes[..4], [6, 1, 10, 3], "format 1, draft 3");
        bytes[3] = 9;
        assert!(
            Superblock::decode(&bytes)
                .unwrap_err()
                .to_string()
                .contains("another draft")
        );
        bytes[1] = 2;
        assert_eq!(
            Superblock::decode(&bytes),
            Err(FormatError::Unsupported("the repository's format"))
        );
    }

    #[test]
    fn writers_survive_encoding() {
        let writer = WriterRecord {
            enrolled: Enrolled {
                public: [5; 32],
                domain: 9,
                role: Role::WriteOnly,
            },
            host: "db1".into(),
            created_ms: 7,
        };
        assert_eq!(WriterRecord::decode(&writer.encode()), Ok(writer));
        let revocation = Revocation {
            writer: WriterId([1; 16]),
            revoked_ms: 2,
            reason: "stolen".into(),
            kept: vec![ObjectHash([3; 32])],
        };
        assert_eq!(Revocation::decode(&revocation.encode()), Ok(revocation));
    }
}
