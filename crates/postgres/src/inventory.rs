//! What a database holds, object by object, as whoever replaces its content has to know it: what would go, what stays,
//! and what is not in a backup.
//!
//! An object here is what nothing else brings with it: a table, and not its indexes, partitions or the sequence of its
//! `serial` column. Members of an extension are the extension's. Objects are known by their catalog and oid.

use std::collections::HashSet;

use crate::{
    archive::ArchiveEntry,
    connect::{Connection, QueryError, Row},
    quote,
};

/// The catalog of schemas, by which archives name it too.
const SCHEMAS: &str = "2615";
/// The catalog of casts, which have no name.
const CASTS: &str = "2605";
/// The catalog of transforms, which have none either.
const TRANSFORMS: &str = "3576";
/// The first number of an object that is not the server's own.
const FIRST_OID: u32 = 16384;
/// The schema that every database has, and that is emptied rather than dropped.
const PUBLIC: &str = "public";

/// An object of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    /// The number of its catalog, in digits, as archives have it.
    pub(crate) class: String,
    pub(crate) oid: String,
    pub(crate) schema: Option<String>,
    /// Without arguments.
    pub(crate) name: String,
    /// The server's word: `table`, `operator class`.
    pub(crate) kind: String,
    /// Its name in SQL, with what tells it from others of that name.
    pub(crate) identity: String,
    pub(crate) owner: Option<String>,
    /// Whether the session's role may drop it.
    pub(crate) is_ours: bool,
    /// Whether the present transaction has written it.
    pub(crate) is_new: bool,
}

impl Object {
    /// `table public.orders`, for people.
    pub(crate) fn words(&self) -> String {
        format!("{} {}", self.kind, self.identity)
    }

    pub(crate) fn is_schema(&self) -> bool {
        self.class == SCHEMAS
    }

    /// Whether it lies in no schema and is none: what a database has for all of its schemas.
    pub(crate) fn is_of_database(&self) -> bool {
        self.schema.is_none() && !self.is_schema()
    }

    /// The statement that drops it, also when something that was dropped before has taken it along; a schema only when
    /// nothing is in it any more.
    fn drop_sql(&self) -> String {
        let kind = match self.kind.as_str() {
            "function" | "procedure" | "aggregate" => "ROUTINE".to_owned(),
            "statistics object" => "STATISTICS".to_owned(),
            "foreign-data wrapper" => "FOREIGN DATA WRAPPER".to_owned(),
            kind => kind.to_uppercase(),
        };
        let how = if self.is_schema() {
            "RESTRICT"
        } else {
            "CASCADE"
        };
        format!("DROP {kind} IF EXISTS {} {how}", self.sql_identity())
    }

    /// Its identity as SQL has it: before 17 the server says of a transform that it is `on language`.
    fn sql_identity(&self) -> String {
        match self.class.as_str() {
            TRANSFORMS => self.identity.replacen(" on language ", " language ", 1),
            _ => self.identity.clone(),
        }
    }
}

/// What a database holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) objects: Vec<Object>,
    /// How many large objects, and how many of them the role may not drop.
    pub(crate) large_objects: u64,
    pub(crate) foreign_large_objects: u64,
    /// The names of the subscriptions, which no transaction drops.
    pub(crate) subscriptions: HashSet<String>,
    /// The names of the extensions.
    pub(crate) extensions: HashSet<String>,
    /// The members of extensions, by catalog and oid.
    members: HashSet<String>,
    /// Tables of extensions whose rows are the database's own and not ours to leave alone: number, and name in SQL.
    extension_tables: Vec<(String, String)>,
    /// Schemas in which an extension has something.
    used_by_extensions: HashSet<String>,
    /// Whether the role owns the schema `public`; nothing when there is none.
    pub(crate) owns_public: Option<bool>,
}

/// Objects with their catalogs, names and owners; what has none has a NULL there.
const OBJECTS: &str = "\
SELECT tableoid AS class, oid, relnamespace AS space, relname::text AS name, relowner AS owner, xmin AS made
  FROM pg_catalog.pg_class WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND NOT relispartition
UNION ALL SELECT t.tableoid, t.oid, t.typnamespace, t.typname, t.typowner, t.xmin
  FROM pg_catalog.pg_type t LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
 WHERE (t.typrelid = 0 OR c.relkind = 'c') AND NOT EXISTS (SELECT FROM pg_catalog.pg_type e WHERE e.typarray = t.oid)
UNION ALL SELECT tableoid, oid, pronamespace, proname, proowner, xmin FROM pg_catalog.pg_proc
UNION ALL SELECT tableoid, oid, oprnamespace, oprname, oprowner, xmin FROM pg_catalog.pg_operator
UNION ALL SELECT tableoid, oid, opcnamespace, opcname, opcowner, xmin FROM pg_catalog.pg_opclass
UNION ALL SELECT tableoid, oid, opfnamespace, opfname, opfowner, xmin FROM pg_catalog.pg_opfamily
UNION ALL SELECT tableoid, oid, collnamespace, collname, collowner, xmin FROM pg_catalog.pg_collation
UNION ALL SELECT tableoid, oid, connamespace, conname, conowner, xmin FROM pg_catalog.pg_conversion
UNION ALL SELECT tableoid, oid, cfgnamespace, cfgname, cfgowner, xmin FROM pg_catalog.pg_ts_config
UNION ALL SELECT tableoid, oid, dictnamespace, dictname, dictowner, xmin FROM pg_catalog.pg_ts_dict
UNION ALL SELECT tableoid, oid, prsnamespace, prsname, NULL, xmin FROM pg_catalog.pg_ts_parser
UNION ALL SELECT tableoid, oid, tmplnamespace, tmplname, NULL, xmin FROM pg_catalog.pg_ts_template
UNION ALL SELECT tableoid, oid, stxnamespace, stxname, stxowner, xmin FROM pg_catalog.pg_statistic_ext
UNION ALL SELECT tableoid, oid, NULL, nspname, nspowner, xmin
  FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'public')
UNION ALL SELECT tableoid, oid, NULL, evtname, evtowner, xmin FROM pg_catalog.pg_event_trigger
UNION ALL SELECT tableoid, oid, NULL, pubname, pubowner, xmin FROM pg_catalog.pg_publication
UNION ALL SELECT tableoid, oid, NULL, fdwname, fdwowner, xmin FROM pg_catalog.pg_foreign_data_wrapper
UNION ALL SELECT tableoid, oid, NULL, srvname, srvowner, xmin FROM pg_catalog.pg_foreign_server
UNION ALL SELECT tableoid, oid, NULL, lanname, lanowner, xmin FROM pg_catalog.pg_language
UNION ALL SELECT tableoid, oid, NULL, amname, NULL, xmin FROM pg_catalog.pg_am
UNION ALL SELECT tableoid, oid, NULL, NULL, NULL, xmin FROM pg_catalog.pg_cast
UNION ALL SELECT tableoid, oid, NULL, NULL, NULL, xmin FROM pg_catalog.pg_transform";

impl Inventory {
    /// Looks at the database that we are connected to.
    pub(crate) fn take(connection: &Connection) -> Result<Self, QueryError> {
        const WHAT: &str = "list what the database holds";
        // What belongs to something else goes with it: by an extension's hand, as a part, or as a column's sequence.
        let sql = format!(
            "WITH object AS ({OBJECTS})
             SELECT o.class::pg_catalog.oid, o.oid, n.nspname, coalesce(o.name, i.identity), i.type, i.identity,
                    pg_catalog.pg_get_userbyid(o.owner),
                    CASE WHEN o.owner IS NULL THEN (SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)
                                                   OR o.class = 'pg_catalog.pg_cast'::pg_catalog.regclass
                         ELSE pg_catalog.pg_has_role(o.owner, 'USAGE') END,
                    o.made::pg_catalog.text = (pg_catalog.txid_current_if_assigned() & 4294967295)::pg_catalog.text
               FROM object o LEFT JOIN pg_catalog.pg_namespace n ON n.oid = o.space,
                    LATERAL pg_catalog.pg_identify_object(o.class, o.oid, 0) i
              WHERE o.oid >= {FIRST_OID}
                AND (o.space IS NULL OR n.nspname !~ '^pg_' AND n.nspname <> 'information_schema')
                AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d
                                 WHERE d.classid = o.class AND d.objid = o.oid AND d.objsubid = 0
                                   AND (d.deptype IN ('e', 'i') OR d.deptype = 'a' AND d.refobjsubid > 0
                                        AND i.type = 'sequence'))
              ORDER BY i.type, i.identity"
        );
        let rows = connection.rows(WHAT, &sql)?;
        let objects = rows.into_iter().map(object);
        let mut inventory = Self {
            objects: objects
                .collect::<Option<_>>()
                .ok_or_else(|| QueryError::shape(WHAT))?,
            ..Self::default()
        };
        let rows = connection.rows(
            "count the large objects",
            "SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE NOT pg_catalog.pg_has_role(lomowner, 'USAGE'))
               FROM pg_catalog.pg_largeobject_metadata",
        )?;
        let count = |place: usize| rows.first()?.get(place)?.as_deref()?.parse().ok();
        inventory.large_objects = count(0).ok_or_else(|| QueryError::shape(WHAT))?;
        inventory.foreign_large_objects = count(1).ok_or_else(|| QueryError::shape(WHAT))?;
        let column = |sql: &str| -> Result<HashSet<String>, QueryError> {
            let rows = connection.rows("list what extensions have", sql)?;
            Ok(rows
                .into_iter()
                .filter_map(|mut row| row.pop().flatten())
                .collect())
        };
        inventory.extensions = column("SELECT extname FROM pg_catalog.pg_extension")?;
        inventory.subscriptions = column(
            "SELECT subname FROM pg_catalog.pg_subscription
              WHERE subdbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())",
        )?;
        inventory.members = column(
            "SELECT pg_catalog.concat_ws('.', classid, objid) FROM pg_catalog.pg_depend WHERE deptype = 'e'",
        )?;
        let rows = connection.rows(
            "list what extensions have",
            "SELECT DISTINCT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname)
               FROM pg_catalog.pg_extension e, LATERAL pg_catalog.unnest(e.extconfig) AS t (oid)
               JOIN pg_catalog.pg_class c ON c.oid = t.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
              WHERE c.relkind IN ('r', 'p') AND pg_catalog.has_table_privilege(c.oid, 'DELETE') ORDER BY 1",
        )?;
        let tables = rows.into_iter().map(|row| {
            let [oid, identity] = <[_; 2]>::try_from(row).ok()?;
            Some((oid?, identity?))
        });
        inventory.extension_tables = tables
            .collect::<Option<_>>()
            .ok_or_else(|| QueryError::shape(WHAT))?;
        inventory.used_by_extensions = column(
            "SELECT n.nspname FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace
             UNION SELECT s.schema FROM pg_catalog.pg_depend d,
                          LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) s
              WHERE d.deptype = 'e' AND s.schema IS NOT NULL",
        )?;
        let owns = column(
            "SELECT pg_catalog.pg_has_role(nspowner, 'USAGE') FROM pg_catalog.pg_namespace WHERE nspname = 'public'",
        )?;
        inventory.owns_public = owns.into_iter().next().map(|owns| owns == "t");
        Ok(inventory)
    }

    /// The tables whose rows are replaced: their numbers, and their names in SQL.
    pub(crate) fn tables(&self) -> impl Iterator<Item = (&str, &str)> {
        let objects = self.objects.iter().filter(|object| object.kind == "table");
        let own = objects.map(|table| (table.oid.as_str(), table.identity.as_str()));
        let of_extensions = self.extension_tables.iter();
        own.chain(of_extensions.map(|(oid, identity)| (oid.as_str(), identity.as_str())))
    }

    /// Whether a schema is emptied and not dropped.
    pub(crate) fn keeps(&self, schema: &Object) -> bool {
        !schema.is_ours || self.used_by_extensions.contains(&schema.name)
    }

    /// The names of the schemas of ours that are emptied and not dropped.
    pub(crate) fn kept_schemas(&self) -> Vec<&str> {
        let schemas = self.objects.iter().filter(|object| object.is_schema());
        let kept = schemas.filter(|schema| schema.is_ours && self.keeps(schema));
        let public = Some(PUBLIC).filter(|_| self.owns_public == Some(true));
        kept.map(|schema| schema.name.as_str())
            .chain(public)
            .collect()
    }

    /// What an object is to be when the content of `backup` replaces the database's.
    pub(crate) fn fate(&self, object: &Object, backup: &Known) -> Fate {
        match (object.is_ours, backup.knows(object)) {
            // Wrappers, languages and event triggers that an administrator has made for the app.
            (false, _) if object.is_of_database() => Fate::Stays,
            (false, true) if object.is_schema() => Fate::Stays,
            (false, _) => Fate::NotOurs,
            (true, true) => Fate::Replaced,
            (true, false) => Fate::Unknown,
        }
    }

    /// The statements that empty the database but for what stays: event triggers first, which would fire; schemas last and
    /// empty, so that what others have put there meanwhile, which nobody has seen, keeps them from going.
    pub(crate) fn drop_sql(&self, stays: &HashSet<String>) -> Vec<String> {
        let rank = |object: &Object| match object.kind.as_str() {
            "event trigger" => 0,
            "publication" => 1,
            "schema" => 3,
            _ => 2,
        };
        let mut goes: Vec<&Object> = self.objects.iter().collect();
        goes.retain(|object| !stays.contains(&object.words()));
        goes.retain(|object| !(object.is_schema() && self.keeps(object)));
        goes.sort_by_key(|object| rank(object));
        let mut statements: Vec<String> = goes.iter().map(|object| object.drop_sql()).collect();
        if self.large_objects > 0 {
            statements.push(
                "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata"
                    .to_owned(),
            );
        }
        statements
    }

    /// What was there in `before`, was to stay, and is gone.
    pub(crate) fn lacks(&self, before: &Self, stays: &HashSet<String>) -> Vec<String> {
        let now: HashSet<&str> = self.objects.iter().map(|one| one.oid.as_str()).collect();
        let objects = before.objects.iter();
        let gone = objects.filter(|one| stays.contains(&one.words()) && !now.contains(&*one.oid));
        let mut gone: Vec<String> = gone.map(Object::words).collect();
        let extensions = before.extensions.difference(&self.extensions);
        gone.extend(extensions.map(|name| format!("extension {name}")));
        if gone.is_empty() && !before.members.is_subset(&self.members) {
            gone.push("something of an extension".to_owned());
        }
        gone
    }
}

fn object(row: Row) -> Option<Object> {
    let [class, oid, schema, name, kind, identity, owner, ours, new] =
        <[_; 9]>::try_from(row).ok()?;
    Some(Object {
        class: class?,
        oid: oid?,
        schema,
        name: name?,
        kind: kind?,
        identity: identity?,
        owner,
        is_ours: ours.as_deref() == Some("t"),
        is_new: new.as_deref() == Some("t"),
    })
}

/// What becomes of an object when a backup replaces the database's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The backup has it.
    Replaced,
    /// The backup has no such object.
    Unknown,
    /// It is somebody else's, who has made it for the whole database.
    Stays,
    /// It is somebody else's, in the way.
    NotOurs,
}

/// The objects that a backup has: by catalog, schema and name. Functions of one name are taken for each other.
pub(crate) struct Known {
    names: HashSet<(String, Option<String>, String)>,
}

impl Known {
    pub(crate) fn of<'e>(entries: impl Iterator<Item = &'e ArchiveEntry>) -> Self {
        let with_catalog = entries.filter_map(|entry| {
            let class = entry.class_oid.clone()?;
            let schema = entry.schema().map(str::to_owned);
            Some((class, schema, bare(&entry.kind, &entry.name)))
        });
        Self {
            names: with_catalog.collect(),
        }
    }

    fn knows(&self, object: &Object) -> bool {
        // Without a name it has its identity, in which the server's own types have their schema.
        let name = match object.class.as_str() {
            CASTS | TRANSFORMS => object.sql_identity().replace("pg_catalog.", ""),
            _ => object.name.clone(),
        };
        self.names
            .contains(&(object.class.clone(), object.schema.clone(), name))
    }
}

/// A name in an archive as the object itself has it, without what only this kind of entry has around it.
fn bare(kind: &str, name: &str) -> String {
    let bare = match kind {
        "FUNCTION" | "PROCEDURE" | "AGGREGATE" => name.split_once('(').map(|(bare, _)| bare),
        "CAST" => name.strip_prefix("CAST "),
        "TRANSFORM" => {
            let parts = name.strip_prefix("TRANSFORM FOR ");
            let parts = parts.and_then(|rest| rest.rsplit_once(" LANGUAGE "));
            return parts.map_or_else(
                || name.to_owned(),
                |(what, language)| format!("for {what} language {language}"),
            );
        }
        _ => None,
    };
    bare.unwrap_or(name).to_owned()
}

/// The statements after which schemas that stay have the grants that they began with, and what is made in them or in the
/// database gets the grants that the server gives by itself.
pub(crate) fn reset_grants(
    connection: &Connection,
    schemas: &[&str],
) -> Result<Vec<String>, QueryError> {
    const WHAT: &str = "list the grants";
    let mut statements = Vec::new();
    let first = |row: Row| row.into_iter().next().flatten();
    let names: Vec<String> = schemas.iter().map(|name| quote::literal(name)).collect();
    if !names.is_empty() {
        // What the server gave a schema of its own, or else all to its owner.
        let sql = format!(
            "WITH schema AS (SELECT * FROM pg_catalog.pg_namespace WHERE nspname IN ({})),
                  began AS (SELECT n.nspname, n.nspowner, p.initprivs FROM schema n
                            LEFT JOIN pg_catalog.pg_init_privs p ON p.objoid = n.oid AND p.objsubid = 0
                                 AND p.classoid = 'pg_catalog.pg_namespace'::pg_catalog.regclass)
             SELECT statement FROM (
                 SELECT 1 AS rank, pg_catalog.format('REVOKE ALL ON SCHEMA %I FROM %s CASCADE', n.nspname,
                            CASE a.grantee WHEN 0 THEN 'PUBLIC'
                                 ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END) AS statement
                   FROM schema n, LATERAL pg_catalog.aclexplode(n.nspacl) a
                 UNION SELECT 2, pg_catalog.format('GRANT %s ON SCHEMA %I TO %s', a.privilege_type, b.nspname,
                            CASE a.grantee WHEN 0 THEN 'PUBLIC'
                                 ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END)
                   FROM began b, LATERAL pg_catalog.aclexplode(b.initprivs) a
                 UNION SELECT 2, pg_catalog.format('GRANT ALL ON SCHEMA %I TO %I', b.nspname,
                            pg_catalog.pg_get_userbyid(b.nspowner))
                   FROM began b WHERE b.initprivs IS NULL) AS statements
              ORDER BY rank",
            names.join(", ")
        );
        statements.extend(connection.rows(WHAT, &sql)?.into_iter().filter_map(first));
    }
    // What is granted beforehand in one schema is nothing by itself; what is granted in all of them is all to the owner,
    // and of functions and types their use to everybody.
    let rows = connection.rows(
        WHAT,
        "WITH given AS (
             SELECT DISTINCT pg_catalog.format('ALTER DEFAULT PRIVILEGES FOR ROLE %I', pg_catalog.pg_get_userbyid(d.defaclrole))
                      || coalesce(' IN SCHEMA ' || pg_catalog.quote_ident(n.nspname), '') AS head,
                    CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES' WHEN 'f' THEN 'FUNCTIONS'
                         WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END AS what,
                    CASE a.grantee WHEN 0 THEN 'PUBLIC'
                         ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END AS who,
                    pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(d.defaclrole)) AS owner,
                    d.defaclnamespace = 0 AS everywhere
               FROM pg_catalog.pg_default_acl d LEFT JOIN pg_catalog.pg_namespace n ON n.oid = d.defaclnamespace,
                    LATERAL pg_catalog.aclexplode(d.defaclacl) a
              WHERE pg_catalog.pg_has_role(d.defaclrole, 'USAGE'))
         SELECT statement FROM (
             SELECT 1 AS rank, pg_catalog.format('%s REVOKE ALL ON %s FROM %s', head, what, who) AS statement FROM given
             UNION SELECT 2, pg_catalog.format('%s GRANT ALL ON %s TO %s', head, what, owner) FROM given WHERE everywhere
             UNION SELECT 3, pg_catalog.format('%s GRANT %s ON %s TO PUBLIC', head,
                                 CASE what WHEN 'TYPES' THEN 'USAGE' ELSE 'EXECUTE' END, what)
                     FROM given WHERE everywhere AND what IN ('FUNCTIONS', 'TYPES')) AS statements
          ORDER BY rank",
    )?;
    statements.extend(rows.into_iter().filter_map(first));
    Ok(statements)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn what_drops_an_object_names_it_as_the_server_does() {
        let object = |kind: &str, identity: &str| Object {
            class: String::new(),
            oid: String::new(),
            schema: None,
            name: String::new(),
            kind: kind.to_owned(),
            identity: identity.to_owned(),
            owner: None,
            is_ours: true,
            is_new: false,
        };
        assert_eq!(
            object("aggregate", "shop.total(integer)").drop_sql(),
            "DROP ROUTINE IF EXISTS shop.total(integer) CASCADE"
        );
        assert_eq!(
            object("text search configuration", "shop.words").drop_sql(),
            "DROP TEXT SEARCH CONFIGURATION IF EXISTS shop.words CASCADE"
        );
        let schema = Object {
            class: SCHEMAS.to_owned(),
            ..object("schema", "shop")
        };
        assert_eq!(schema.drop_sql(), "DROP SCHEMA IF EXISTS shop RESTRICT");
    }

    #[test]
    fn an_inventory_has_what_nothing_else_brings_and_no_member_of_an_extension() {
        let cluster = testing::cluster();
        let settings = testing::database(&cluster, testing::EVERY_KIND_OF_TABLE);
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        let inventory = Inventory::take(&connection).unwrap();
        let names: Vec<&str> = inventory.objects.iter().map(|one| &*one.identity).collect();
        for there in [
            "public.plain",
            "public.parted",
            "odd",
            "public.pair",
            "nowhere",
            "far",
        ] {
            assert!(names.contains(&there), "{there} in {names:?}");
        }
        let brought = [
            "public.part_low",
            "odd.crumbs_id_seq",
            "public.chosen",
            "public.hstore",
        ];
        for brought in brought {
            assert!(!names.contains(&brought), "{brought} in {names:?}");
        }
        assert!(inventory.extensions.contains("hstore"));
        assert!(
            inventory
                .objects
                .iter()
                .all(|one| one.is_ours && !one.is_new)
        );
    }
}
