//! What a server and a database are, as plain data with public fields, for a manifest to keep.
//!
//! They say what `pg_dump` without `--create` leaves out: encoding and locale, settings, grants on the database, the
//! roles and extensions that must be there before a restore can succeed.

/// The server and the role we are on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// 150018 for 15.18.
    pub version_number: u32,
    /// The cluster's own number, where the role may read it.
    pub system_identifier: Option<String>,
    /// Whether it is a standby.
    pub in_recovery: bool,
    /// The role we are.
    pub role: RoleFacts,
}

impl ServerFacts {
    /// 15 for 15.18.
    pub fn major(&self) -> u32 {
        self.version_number / 10_000
    }
}

/// What the role may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleFacts {
    /// Its name.
    pub name: String,
    /// Whether it may do everything.
    pub superuser: bool,
    /// Whether row-level security does not apply to it.
    pub bypasses_row_security: bool,
}

/// Whose rules compare text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocaleProvider {
    /// The C library.
    Libc,
    /// ICU (since 15 for a database).
    Icu,
    /// PostgreSQL itself (since 17).
    Builtin,
}

impl LocaleProvider {
    pub(crate) fn from_letter(letter: &str) -> Option<Self> {
        match letter {
            "c" => Some(Self::Libc),
            "i" => Some(Self::Icu),
            "b" => Some(Self::Builtin),
            _ => None,
        }
    }

    /// PostgreSQL's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Libc => "libc",
            Self::Icu => "icu",
            Self::Builtin => "builtin",
        }
    }

    /// The provider that PostgreSQL calls `word`.
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Libc, Self::Icu, Self::Builtin]
            .into_iter()
            .find(|provider| provider.word() == word)
    }
}

/// A database as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseFacts {
    /// Its name.
    pub name: String,
    /// Its number in the cluster.
    pub oid: u32,
    /// The role that owns it.
    pub owner: String,
    /// `UTF8`.
    pub encoding: String,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// Whose rules compare text.
    pub provider: LocaleProvider,
    /// The locale in the provider's own words (ICU and builtin).
    pub locale: Option<String>,
    /// ICU rules on top of the locale.
    pub icu_rules: Option<String>,
    /// The version of the collations that the database was made with; sorting may have changed when it differs.
    pub collation_version: Option<String>,
    /// Bytes on disk with indexes, where the role may know.
    pub size_bytes: Option<u64>,
    /// How many may connect; -1 for any number.
    pub connection_limit: i32,
    /// Its comment.
    pub comment: Option<String>,
    /// Values set for it by `ALTER DATABASE … SET` and `ALTER ROLE … IN DATABASE … SET`.
    pub settings: Vec<DatabaseSetting>,
    /// Who may do what with it; nothing when never changed.
    pub grants: Option<Vec<DatabaseGrant>>,
    /// The roles that anything in it is granted to.
    pub granted_roles: Vec<String>,
    /// The roles that its row-level policies name.
    pub policy_roles: Vec<String>,
}

/// One value set for a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseSetting {
    /// The role it is set for in this database; nothing for all.
    pub role: Option<String>,
    /// The parameter.
    pub name: String,
    /// Its value, as the catalog holds it.
    pub value: String,
}

/// One right on a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseGrant {
    /// The role; nothing for everybody.
    pub grantee: Option<String>,
    /// `CONNECT`, `CREATE` or `TEMPORARY`.
    pub privilege: String,
    /// Whether it may be passed on.
    pub grantable: bool,
}

/// An extension that the database uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// The schema it lives in.
    pub schema: String,
}

/// A table that a dump reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Its number in the database.
    pub oid: u32,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub name: String,
    /// Whether it holds no rows of its own but partitions.
    pub partitioned: bool,
    /// The partitioned table that it is a part of.
    pub partition_of: Option<u32>,
    /// Whether its rows do not survive a crash (and are empty on a standby).
    pub unlogged: bool,
    /// Rows as the planner guesses them; nothing when it was never analysed.
    pub estimated_rows: Option<u64>,
    /// Bytes of rows on disk, without indexes.
    pub size_bytes: u64,
}

impl Table {
    /// `public.orders`, as configuration names tables.
    pub fn path(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }
}

/// What the source is at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceFacts {
    /// The server.
    pub server: ServerFacts,
    /// The database.
    pub database: DatabaseFacts,
    /// Its extensions.
    pub extensions: Vec<Extension>,
    /// Its tables, by schema and name.
    pub tables: Vec<Table>,
    /// How many large objects it holds.
    pub large_objects: u64,
}
