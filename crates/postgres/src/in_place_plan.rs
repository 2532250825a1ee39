//! What it means to replace a database's content by a backup's, as data: what goes, what stays, what is in the way.
//!
//! The plan touches nothing. It is made again in the transaction that acts, once nobody else can change a table any more;
//! what was not shown then is a reason to stop.

use std::{
    collections::{BTreeSet, HashSet},
    io::Read,
};

use tokio::runtime::Handle;

use crate::{
    archive::ArchiveEntry,
    assembly::{Assembly, AssemblyError},
    catalog,
    connect::{ConnectError, Connection, QueryError},
    facts::{DatabaseFacts, Extension, LocaleProvider, ServerFacts},
    fit::free_room,
    inventory::{Fate, Inventory, Known},
    parts::Parts,
    plan::{RestoreOptions, column, missing, missing_extensions, missing_roles},
    preflight::Finding,
    quote,
    settings::Settings,
};

/// What only a superuser makes, by the archive's kinds.
const OF_SUPERUSERS: [&str; 7] = [
    "ACCESS METHOD",
    "EVENT TRIGGER",
    "FOREIGN DATA WRAPPER",
    "OPERATOR CLASS",
    "OPERATOR FAMILY",
    "TEXT SEARCH PARSER",
    "TEXT SEARCH TEMPLATE",
];
/// What is said about an object, and not made.
const ABOUT: [&str; 3] = ["ACL", "COMMENT", "SECURITY LABEL"];
/// How many objects a sentence names.
const TOLD_MAX: usize = 12;
/// Locks that an object takes when it is dropped or made: its own, and often an index's, a type's and a toast table's.
const LOCKS_PER_OBJECT: u64 = 2;

/// Why no plan could be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InPlacePlanError {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A question was not answered.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// The schema and the rows do not make a database.
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
}

/// A backup that replaces a database's content.
#[derive(Clone, Copy)]
pub struct InPlaceRestore<'a> {
    /// What it consists of beside its schema.
    pub parts: &'a Parts,
    /// What the database was that was backed up.
    pub facts: Option<&'a DatabaseFacts>,
    /// Its extensions.
    pub extensions: &'a [Extension],
    /// The key that the digests of the parts were made with.
    pub hash_key: &'a [u8; 32],
    /// Whether objects that the backup does not have are dropped too.
    pub reset: bool,
}

/// What replacing a database's content will do.
#[derive(Clone, Debug, Default)]
pub struct InPlacePlan {
    /// The database's number.
    pub oid: u32,
    /// Its size, where the role may ask for it.
    pub len_bytes: Option<u64>,
    /// Sessions in it, but for our own.
    pub sessions: u64,
    /// How many objects go: tables, functions, schemas.
    pub objects: u64,
    /// Those among them that the backup does not have.
    pub unknown: Vec<String>,
    /// Sentences to know before.
    pub notes: Vec<String>,
    /// What has to be mended first.
    pub refusals: Vec<Finding>,
    /// Everything that was seen, to know what was not.
    pub(crate) seen: BTreeSet<String>,
}

/// The plan in terms of the archive and the database.
pub(crate) struct Decision {
    pub(crate) plan: InPlacePlan,
    pub(crate) inventory: Inventory,
    /// What is not dropped, in the words of [`Object::words`](crate::inventory::Object::words).
    pub(crate) stays: HashSet<String>,
    /// Entries of the archive that are not made, because what they make or are about stays.
    pub(crate) left_out: HashSet<i64>,
}

/// Says what replacing the content of `database` would do, without touching anything.
///
/// # Errors
/// When the server does not answer or the backup's schema cannot be put together with its rows.
pub fn plan_in_place(
    database: &Settings,
    restore: &InPlaceRestore<'_>,
    archive: &mut dyn Read,
    handle: &Handle,
) -> Result<InPlacePlan, InPlacePlanError> {
    let connection = Connection::open(database, handle)?;
    let assembly = Assembly::new(archive, restore.parts)?;
    Ok(Decision::make(&connection, restore, &assembly)?.plan)
}

impl Decision {
    /// Decides for the database that we are connected to.
    pub(crate) fn make(
        connection: &Connection,
        restore: &InPlaceRestore<'_>,
        assembly: &Assembly<'_>,
    ) -> Result<Self, QueryError> {
        let entries: Vec<&ArchiveEntry> = assembly.items.iter().map(|item| &item.entry).collect();
        let mut decision = Self {
            plan: InPlacePlan::default(),
            inventory: Inventory::take(connection)?,
            stays: HashSet::new(),
            left_out: HashSet::new(),
        };
        let server = catalog::server(connection)?;
        decision.objects(&server, restore, &Known::of(entries.iter().copied()));
        decision.leave_out(&entries);
        decision.publications(connection, &server, &entries)?;
        decision.surroundings(connection, &server)?;
        decision.rights(connection, &server, &entries, restore)?;
        decision.form(connection, &server, &entries, restore)?;
        decision.room(connection, &entries, restore)?;
        Ok(decision)
    }

    fn refuse(&mut self, sentence: String, mend: Option<String>) {
        self.plan.refusals.push(Finding { sentence, mend });
    }

    /// What becomes of each object.
    fn objects(&mut self, server: &ServerFacts, restore: &InPlaceRestore<'_>, known: &Known) {
        let role = &server.role.name;
        let (mut unknown, mut foreign, mut staying) = (Vec::new(), Vec::new(), Vec::new());
        for object in &self.inventory.objects {
            let words = object.words();
            match self.inventory.fate(object, known) {
                Fate::Replaced => self.plan.objects += 1,
                Fate::Unknown => {
                    self.plan.objects += 1;
                    unknown.push(words.clone());
                }
                Fate::Stays => {
                    staying.push(words.clone());
                    self.stays.insert(words.clone());
                }
                Fate::NotOurs => {
                    let owner = object.owner.as_deref().unwrap_or("a superuser");
                    foreign.push(format!("{words} of {owner}"));
                }
            }
            self.plan.seen.insert(words);
        }
        let comes = !restore.parts.large_objects.is_empty();
        if self.inventory.large_objects > 0 && !comes {
            unknown.push(format!("{} large objects", self.inventory.large_objects));
        }
        if self.inventory.foreign_large_objects > 0 {
            foreign.push(format!(
                "{} large objects of others",
                self.inventory.foreign_large_objects
            ));
        }
        if !self.inventory.subscriptions.is_empty() {
            self.refuse(
                "The database has a subscription, which no transaction can drop and bring back."
                    .to_owned(),
                None,
            );
        }
        if !foreign.is_empty() {
            self.refuse(
                format!(
                    "{role} may not drop what belongs to others: {}.",
                    told(&foreign)
                ),
                None,
            );
        }
        if !unknown.is_empty() && !restore.reset {
            self.refuse(
                format!(
                    "The snapshot does not have what is there: {}.",
                    told(&unknown)
                ),
                Some("Give --reset to remove it too.".to_owned()),
            );
        }
        if !staying.is_empty() {
            self.plan.notes.push(format!(
                "Stays as it is, because it belongs to others: {}.",
                told(&staying)
            ));
        }
        self.plan.unknown = unknown;
    }

    /// The entries that would make anew what stays, and those about it.
    fn leave_out(&mut self, entries: &[&ArchiveEntry]) {
        let inventory = &self.inventory;
        let stays = |entry: &ArchiveEntry| match entry.kind.as_str() {
            "EXTENSION" => inventory.extensions.contains(&entry.name),
            "SCHEMA" => inventory.objects.iter().any(|object| {
                object.is_schema() && object.name == entry.name && inventory.keeps(object)
            }),
            _ if ABOUT.contains(&entry.kind.as_str()) => false,
            _ => inventory.objects.iter().any(|object| {
                object.is_of_database()
                    && self.stays.contains(&object.words())
                    && entry.class_oid.as_deref() == Some(&object.class)
                    && entry.name == object.name
            }),
        };
        let mut silent: HashSet<i64> = HashSet::new();
        for entry in entries {
            let foreign_schema = entry.kind == "SCHEMA"
                && self
                    .stays
                    .contains(&format!("schema {}", quote_as_server(&entry.name)));
            if stays(entry) {
                self.left_out.insert(entry.id);
                // Of a schema of ours that only cannot be dropped, what is said about it is said again.
                if entry.kind != "SCHEMA" || foreign_schema {
                    silent.insert(entry.id);
                }
            }
        }
        let public_is_foreign = inventory.owns_public == Some(false);
        let of_staying_server = |entry: &ArchiveEntry| {
            let objects = inventory.objects.iter();
            // Only the name says whose it is.
            objects
                .filter(|object| object.kind == "server" && self.stays.contains(&object.words()))
                .any(|server| entry.name.ends_with(&format!(" SERVER {}", server.name)))
        };
        for entry in entries {
            let about = ABOUT.contains(&entry.kind.as_str());
            let about_public =
                entry.name == "SCHEMA public" || entry.kind == "SCHEMA" && entry.name == "public";
            if about && entry.needs.iter().any(|id| silent.contains(id))
                || public_is_foreign && about_public
                || entry.kind == "USER MAPPING" && of_staying_server(entry)
            {
                self.left_out.insert(entry.id);
            }
        }
        if public_is_foreign {
            self.plan.notes.push(
                "The schema public belongs to somebody else: its own grants, owner and comment stay as they are.".to_owned(),
            );
        }
    }

    /// A publication of others stays; but of its tables nothing is left when those are dropped, and only its owner can name
    /// the new ones.
    fn publications(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
        entries: &[&ArchiveEntry],
    ) -> Result<(), QueryError> {
        let mut names = "SELECT p.pubname FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid
                          WHERE NOT pg_catalog.pg_has_role(p.pubowner, 'USAGE')"
            .to_owned();
        if server.major() >= 15 {
            names.push_str(
                " UNION SELECT p.pubname FROM pg_catalog.pg_publication p
                          JOIN pg_catalog.pg_publication_namespace s ON s.pnpubid = p.oid
                          JOIN pg_catalog.pg_namespace n ON n.oid = s.pnnspid
                         WHERE NOT pg_catalog.pg_has_role(p.pubowner, 'USAGE') AND n.nspname <> 'public'",
            );
        }
        let there = column(connection, "list the publications of others", &names)?;
        let mut names: BTreeSet<&str> = there.iter().map(String::as_str).collect();
        let is_of_one = |entry: &&&ArchiveEntry| entry.kind.starts_with("PUBLICATION TABLE");
        for entry in entries.iter().filter(is_of_one) {
            let publication = entries.iter().find(|one| {
                one.kind == "PUBLICATION"
                    && entry.needs.contains(&one.id)
                    && self.left_out.contains(&one.id)
            });
            names.extend(publication.map(|one| one.name.as_str()));
        }
        for name in names {
            self.refuse(
                format!(
                    "The publication {name} belongs to others and names tables that are replaced, which only its owner can do again."
                ),
                Some(format!("DROP PUBLICATION {};", quote::identifier(name))),
            );
        }
        Ok(())
    }

    /// What else goes on in the database.
    fn surroundings(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
    ) -> Result<(), QueryError> {
        const WHAT: &str = "look what else goes on in the database";
        let row = connection.row(
            WHAT,
            "SELECT d.oid, CASE WHEN pg_catalog.has_database_privilege(d.oid, 'CONNECT')
                                THEN pg_catalog.pg_database_size(d.oid) END,
                    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity a
                      WHERE a.datid = d.oid AND a.usename IS NOT NULL AND a.pid <> pg_catalog.pg_backend_pid()),
                    (SELECT pg_catalog.string_agg(gid, ', ') FROM pg_catalog.pg_prepared_xacts p WHERE p.database = d.datname),
                    (SELECT pg_catalog.string_agg(slot_name, ', ') FROM pg_catalog.pg_replication_slots s
                      WHERE s.database = d.datname)
               FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()",
        )?;
        let number = |place: usize| row.get(place)?.as_deref()?.parse::<u64>().ok();
        let oid = number(0).and_then(|oid| u32::try_from(oid).ok());
        self.plan.oid = oid.ok_or_else(|| QueryError::shape(WHAT))?;
        self.plan.len_bytes = number(1);
        self.plan.sessions = number(2).unwrap_or(0);
        if let Some(Some(prepared)) = row.get(3) {
            self.refuse(
                format!("Prepared transactions hold what is to be replaced: {prepared}."),
                Some("COMMIT PREPARED '…'; or ROLLBACK PREPARED '…';".to_owned()),
            );
        }
        if let Some(Some(slots)) = row.get(4) {
            self.plan.notes.push(format!(
                "Who follows the replication slots {slots} gets none of the new rows by them, and has to begin anew."
            ));
        }
        if server.in_recovery {
            self.refuse(
                "The server is a standby, and nothing can be changed there.".to_owned(),
                None,
            );
        }
        Ok(())
    }

    /// Whether the role may make what the backup has.
    fn rights(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
        entries: &[&ArchiveEntry],
        restore: &InPlaceRestore<'_>,
    ) -> Result<(), QueryError> {
        let coming: Vec<&ArchiveEntry> = entries
            .iter()
            .copied()
            .filter(|entry| !self.left_out.contains(&entry.id))
            .collect();
        let options = RestoreOptions {
            facts: restore.facts.cloned(),
            ..RestoreOptions::default()
        };
        for role in missing_roles(connection, &coming, &options)? {
            self.refuse(
                format!("The role {role} owns something in the snapshot or is granted something, and the server lacks it."),
                Some(format!("CREATE ROLE {};", quote::identifier(&role))),
            );
        }
        for name in missing_extensions(connection, &coming)? {
            self.refuse(
                format!("The snapshot uses the extension {name}, and the server has no such extension to install."),
                Some(format!(
                    "Install it on the server's machine; packages are often named postgresql-{}-{name}.",
                    server.major()
                )),
            );
        }
        if coming.iter().any(|entry| entry.kind == "SUBSCRIPTION") {
            self.refuse(
                "The snapshot has a subscription, which no transaction can make.".to_owned(),
                None,
            );
        }
        if server.role.superuser {
            return Ok(());
        }
        let role = &server.role.name;
        // Since version 16 a member is not always one who may act as that role.
        let right = if server.major() >= 16 {
            "SET"
        } else {
            "MEMBER"
        };
        let others = column(
            connection,
            "list the roles that ours may not act as",
            &format!(
                "SELECT rolname FROM pg_catalog.pg_roles WHERE NOT pg_catalog.pg_has_role(oid, '{right}')"
            ),
        )?;
        let is_others = |owner: &str| others.iter().any(|other| other == owner);
        let defaults = coming
            .iter()
            .filter(|entry| entry.kind == "DEFAULT ACL" && entry.owner().is_some_and(is_others));
        let defaults: Vec<(i64, &str)> = defaults
            .map(|entry| (entry.id, entry.owner().unwrap_or_default()))
            .collect();
        for (id, owner) in defaults {
            self.left_out.insert(id);
            let note = format!("What {owner} grants beforehand stays as it is.");
            if !self.plan.notes.contains(&note) {
                self.plan.notes.push(note);
            }
        }
        let owners: BTreeSet<&str> = coming
            .iter()
            .filter(|entry| !entry.drop.as_deref().unwrap_or_default().is_empty())
            .filter(|entry| entry.kind != "EXTENSION" && !entry.kind.starts_with("DATABASE"))
            .filter_map(|entry| entry.owner())
            .filter(|owner| is_others(owner))
            .collect();
        for owner in owners {
            self.refuse(
                format!("Something in the snapshot belongs to {owner}, and {role} may give nothing to that role."),
                Some(format!("GRANT {} TO {};", quote::identifier(owner), quote::identifier(role))),
            );
        }
        let trusted =
            "SELECT name FROM pg_catalog.pg_available_extension_versions WHERE NOT superuser";
        let trusted = match server.major() {
            13.. => format!("{trusted} OR trusted"),
            _ => trusted.to_owned(),
        };
        let trusted = column(
            connection,
            "list the extensions that the role may make",
            &trusted,
        )?;
        let extensions = coming.iter().filter(|entry| entry.kind == "EXTENSION");
        for name in missing(
            extensions.map(|entry| entry.name.as_str()).collect(),
            &trusted,
        ) {
            self.refuse(
                format!("The database lacks the extension {name}, which only a superuser makes."),
                Some(format!("CREATE EXTENSION {};", quote::identifier(&name))),
            );
        }
        let beyond = coming
            .iter()
            .filter(|entry| OF_SUPERUSERS.contains(&entry.kind.as_str()));
        let beyond: Vec<String> = beyond
            .map(|entry| format!("{} {}", entry.kind.to_lowercase(), entry.name))
            .collect();
        if !beyond.is_empty() {
            self.refuse(
                format!(
                    "Only a superuser makes what the snapshot has: {}.",
                    told(&beyond)
                ),
                None,
            );
        }
        self.creation(connection, server, &coming)
    }

    /// Whether the role may make schemas, and something in those that stay.
    fn creation(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
        coming: &[&ArchiveEntry],
    ) -> Result<(), QueryError> {
        let role = &server.role.name;
        let makes = coming
            .iter()
            .any(|entry| entry.kind == "SCHEMA" && entry.name != "public");
        let may = column(
            connection,
            "look whether the role may make schemas",
            "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')",
        )?;
        if makes && may.first().is_none_or(|may| may != "t") {
            self.refuse(
                format!("{role} may not make schemas in the database."),
                Some(format!(
                    "GRANT CREATE ON DATABASE … TO {};",
                    quote::identifier(role)
                )),
            );
        }
        let closed = column(
            connection,
            "list the schemas in which the role may make nothing",
            "SELECT nspname FROM pg_catalog.pg_namespace WHERE NOT pg_catalog.has_schema_privilege(oid, 'CREATE')",
        )?;
        let wanted: BTreeSet<&str> = coming.iter().filter_map(|entry| entry.schema()).collect();
        for schema in wanted
            .into_iter()
            .filter(|schema| closed.iter().any(|one| one == schema))
        {
            self.refuse(
                format!("{role} may make nothing in the schema {schema}."),
                Some(format!(
                    "GRANT CREATE ON SCHEMA {} TO {};",
                    quote::identifier(schema),
                    quote::identifier(role)
                )),
            );
        }
        Ok(())
    }

    /// Whether the database's own form is that of the backup. It stays.
    fn form(
        &mut self,
        connection: &Connection,
        server: &ServerFacts,
        entries: &[&ArchiveEntry],
        restore: &InPlaceRestore<'_>,
    ) -> Result<(), QueryError> {
        if connection.encoding() != "UTF8" {
            self.refuse(
                format!(
                    "The snapshot is in UTF8, and the database in {}.",
                    connection.encoding()
                ),
                None,
            );
        }
        let here = catalog::database(connection, server.major())?;
        let locale = |facts: &DatabaseFacts| match (&facts.provider, &facts.locale) {
            (LocaleProvider::Icu | LocaleProvider::Builtin, Some(locale)) => locale.clone(),
            _ => facts.collate.clone(),
        };
        if let Some(there) = restore.facts.map(locale)
            && there != locale(&here)
        {
            self.plan.notes.push(format!(
                "The snapshot's text was sorted by {there}, and the database sorts by {}.",
                locale(&here)
            ));
        }
        for extension in catalog::extensions(connection)? {
            let there = restore
                .extensions
                .iter()
                .find(|one| one.name == extension.name);
            if let Some(there) = there.filter(|there| there.version != extension.version) {
                self.plan.notes.push(format!(
                    "The extension {} stays in version {}; the snapshot comes from version {}.",
                    extension.name, extension.version, there.version
                ));
            }
        }
        let present = column(
            connection,
            "list the tablespaces",
            "SELECT spcname FROM pg_catalog.pg_tablespace",
        )?;
        let needed = entries
            .iter()
            .filter_map(|entry| entry.tablespace.as_deref());
        for name in missing(needed.filter(|name| !name.is_empty()).collect(), &present) {
            self.refuse(
                format!("Something in the snapshot lies in the tablespace {name}, and the server lacks it."),
                Some(format!("CREATE TABLESPACE {} LOCATION '…';", quote::identifier(&name))),
            );
        }
        Ok(())
    }

    /// Old and new are there at once until the end, and so are their locks.
    fn room(
        &mut self,
        connection: &Connection,
        entries: &[&ArchiveEntry],
        restore: &InPlaceRestore<'_>,
    ) -> Result<(), QueryError> {
        let tables = restore.parts.tables.iter().filter_map(|part| part.digest);
        let rows: u64 = tables.map(|digest| digest.len_bytes).sum();
        let large: u64 = restore
            .parts
            .large_objects
            .iter()
            .map(|part| part.len_bytes)
            .sum();
        if let Some((folder, free)) = free_room(connection)
            && free < rows + large
        {
            self.refuse(
                format!(
                    "The new rows need at least {} MB beside the old ones, and where the server keeps its data {} MB are free.",
                    (rows + large) >> 20,
                    free >> 20
                ),
                Some(format!("Free some room in {folder}.")),
            );
        }
        let what = "count the locks that the server has room for";
        let row = connection.row(
            what,
            "SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint
                    * (pg_catalog.current_setting('max_connections')::bigint
                       + pg_catalog.current_setting('max_prepared_transactions')::bigint),
                    (SELECT pg_catalog.count(*) FROM pg_catalog.pg_class WHERE oid >= 16384)",
        )?;
        let number = |place: usize| row.get(place)?.as_deref()?.parse::<u64>().ok();
        let (Some(locks), Some(old)) = (number(0), number(1)) else {
            return Err(QueryError::shape(what));
        };
        let kinds = [
            "TABLE",
            "INDEX",
            "CONSTRAINT",
            "SEQUENCE",
            "VIEW",
            "MATERIALIZED VIEW",
        ];
        let new = entries
            .iter()
            .filter(|entry| kinds.contains(&entry.kind.as_str()))
            .count() as u64;
        let objects =
            old + new + self.inventory.large_objects + restore.parts.large_objects.len() as u64;
        if objects * LOCKS_PER_OBJECT > locks {
            self.plan.notes.push(format!(
                "One transaction locks about {objects} objects, and the server has room for {locks} locks: it may refuse, and \
                 then nothing changes. A larger max_locks_per_transaction helps."
            ));
        }
        Ok(())
    }
}

/// Names, and how many more there are.
fn told(names: &[String]) -> String {
    let mut text = names
        .iter()
        .take(TOLD_MAX)
        .cloned()
        .collect::<Vec<_>>()
        .join(", ");
    if names.len() > TOLD_MAX {
        text.push_str(&format!(" and {} more", names.len() - TOLD_MAX));
    }
    text
}

/// A name as the server quotes it.
fn quote_as_server(name: &str) -> String {
    crate::wording::identifier(name)
}
