//! The catalog's answers, read into [facts](crate::facts).
//!
//! The queries name every catalog table with its schema and work from PostgreSQL 12 on; where a column is newer, its
//! absence is spelled out.

use crate::{
    asking::Ask,
    connect::{QueryError, Row},
    facts::{
        DatabaseFacts, DatabaseGrant, DatabaseSetting, Extension, LocaleProvider, RoleFacts,
        ServerFacts, Table,
    },
    quote,
};

/// One row read field by field; a missing or malformed field is an answer of unexpected form.
struct Fields {
    what: &'static str,
    values: std::vec::IntoIter<Option<String>>,
}

impl Fields {
    fn of(what: &'static str, row: Row) -> Self {
        Self {
            what,
            values: row.into_iter(),
        }
    }

    fn maybe(&mut self) -> Result<Option<String>, QueryError> {
        self.values
            .next()
            .ok_or_else(|| QueryError::shape(self.what))
    }

    fn text(&mut self) -> Result<String, QueryError> {
        self.maybe()?.ok_or_else(|| QueryError::shape(self.what))
    }

    fn number<T: std::str::FromStr>(&mut self) -> Result<T, QueryError> {
        self.text()?
            .parse()
            .map_err(|_| QueryError::shape(self.what))
    }

    fn maybe_number<T: std::str::FromStr>(&mut self) -> Result<Option<T>, QueryError> {
        self.maybe()?
            .map(|text| text.parse().map_err(|_| QueryError::shape(self.what)))
            .transpose()
    }

    fn truth(&mut self) -> Result<bool, QueryError> {
        Ok(self.text()? == "t")
    }
}

/// Reads the server's facts.
pub(crate) fn server(connection: &dyn Ask) -> Result<ServerFacts, QueryError> {
    const WHAT: &str = "read the server's version";
    let row = connection.row(
        WHAT,
        "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('server_version_num'),
                pg_catalog.pg_is_in_recovery(), r.rolname, r.rolsuper, r.rolbypassrls,
                pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')
           FROM pg_catalog.pg_roles r WHERE r.rolname = current_user",
    )?;
    let mut fields = Fields::of(WHAT, row);
    let mut facts = ServerFacts {
        version: fields.text()?,
        version_number: fields.number()?,
        system_identifier: None,
        in_recovery: fields.truth()?,
        role: RoleFacts {
            name: fields.text()?,
            superuser: fields.truth()?,
            bypasses_row_security: fields.truth()?,
        },
    };
    if fields.truth()? {
        let what = "read the system identifier";
        let row = connection.row(
            what,
            "SELECT system_identifier FROM pg_catalog.pg_control_system()",
        )?;
        facts.system_identifier = Some(Fields::of(what, row).text()?);
    }
    Ok(facts)
}

/// Reads the facts of the database we are connected to, on a server of `major`.
pub(crate) fn database(connection: &dyn Ask, major: u32) -> Result<DatabaseFacts, QueryError> {
    const WHAT: &str = "read the database's properties";
    let (provider, locale, rules, version) = match major {
        17.. => (
            "d.datlocprovider",
            "d.datlocale",
            "d.daticurules",
            "d.datcollversion",
        ),
        16 => (
            "d.datlocprovider",
            "d.daticulocale",
            "d.daticurules",
            "d.datcollversion",
        ),
        15 => (
            "d.datlocprovider",
            "d.daticulocale",
            "NULL",
            "d.datcollversion",
        ),
        _ => ("'c'", "NULL", "NULL", "NULL"),
    };
    let row = connection.row(
        WHAT,
        &format!(
            "SELECT d.datname, d.oid, pg_catalog.pg_get_userbyid(d.datdba), pg_catalog.pg_encoding_to_char(d.encoding),
                    d.datcollate, d.datctype, {provider}, {locale}, {rules}, {version},
                    pg_catalog.pg_database_size(d.oid), d.datconnlimit,
                    pg_catalog.shobj_description(d.oid, 'pg_database'), d.datacl IS NOT NULL
               FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()"
        ),
    )?;
    let mut fields = Fields::of(WHAT, row);
    let mut facts = DatabaseFacts {
        name: fields.text()?,
        oid: fields.number()?,
        owner: fields.text()?,
        encoding: fields.text()?,
        collate: fields.text()?,
        ctype: fields.text()?,
        provider: LocaleProvider::from_letter(&fields.text()?)
            .ok_or_else(|| QueryError::shape(WHAT))?,
        locale: fields.maybe()?,
        icu_rules: fields.maybe()?,
        collation_version: fields.maybe()?,
        size_bytes: fields.maybe_number()?,
        connection_limit: fields.number()?,
        comment: fields.maybe()?,
        settings: settings(connection)?,
        grants: None,
        granted_roles: roles(connection, "a")?,
        policy_roles: roles(connection, "r")?,
    };
    if fields.truth()? {
        facts.grants = Some(grants(connection)?);
    }
    Ok(facts)
}

fn settings(connection: &dyn Ask) -> Result<Vec<DatabaseSetting>, QueryError> {
    const WHAT: &str = "read the database's settings";
    connection
        .rows(
            WHAT,
            "SELECT r.rolname, c.entry
               FROM pg_catalog.pg_db_role_setting s
               CROSS JOIN LATERAL pg_catalog.unnest(s.setconfig) WITH ORDINALITY AS c (entry, place)
               LEFT JOIN pg_catalog.pg_roles r ON r.oid = s.setrole
              WHERE s.setdatabase = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
              ORDER BY r.rolname NULLS FIRST, c.place",
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            let role = fields.maybe()?;
            let entry = fields.text()?;
            let (name, value) = entry.split_once('=').ok_or_else(|| QueryError::shape(WHAT))?;
            Ok(DatabaseSetting {
                role,
                name: name.to_owned(),
                value: value.to_owned(),
            })
        })
        .collect()
}

/// The roles that objects of the database depend on in one way: `a` by grant, `r` by policy.
fn roles(connection: &dyn Ask, dependency: &str) -> Result<Vec<String>, QueryError> {
    let rows = connection.rows(
        "read the roles that the database needs",
        &format!(
            "SELECT DISTINCT r.rolname FROM pg_catalog.pg_shdepend d JOIN pg_catalog.pg_roles r ON r.oid = d.refobjid
              WHERE d.refclassid = 'pg_catalog.pg_authid'::pg_catalog.regclass AND d.deptype = {}
                AND d.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
              ORDER BY 1",
            quote::literal(dependency)
        ),
    )?;
    Ok(rows
        .into_iter()
        .filter_map(|mut row| row.pop().flatten())
        .collect())
}

fn grants(connection: &dyn Ask) -> Result<Vec<DatabaseGrant>, QueryError> {
    const WHAT: &str = "read the database's grants";
    connection
        .rows(
            WHAT,
            "SELECT CASE WHEN a.grantee <> 0 THEN pg_catalog.pg_get_userbyid(a.grantee) END,
                    a.privilege_type, a.is_grantable
               FROM pg_catalog.pg_database d CROSS JOIN LATERAL pg_catalog.aclexplode(d.datacl) a
              WHERE d.datname = pg_catalog.current_database() ORDER BY 1 NULLS FIRST, 2",
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            Ok(DatabaseGrant {
                grantee: fields.maybe()?,
                privilege: fields.text()?,
                grantable: fields.truth()?,
            })
        })
        .collect()
}

/// Reads the list of extensions.
pub(crate) fn extensions(connection: &dyn Ask) -> Result<Vec<Extension>, QueryError> {
    const WHAT: &str = "read the list of extensions";
    connection
        .rows(
            WHAT,
            "SELECT e.extname, e.extversion, n.nspname
               FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace ORDER BY 1",
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            Ok(Extension {
                name: fields.text()?,
                version: fields.text()?,
                schema: fields.text()?,
            })
        })
        .collect()
}

/// What makes a relation `c` of one of these kinds (`'r', 'p'`) one that a dump locks and reads: not a system's, not
/// another session's, and not an extension's, unless the extension says that its rows are the user's.
pub(crate) fn dumped(kinds: &str) -> String {
    format!(
        "c.relkind IN ({kinds}) AND c.relpersistence <> 't'
           AND c.relnamespace IN (SELECT oid FROM pg_catalog.pg_namespace
                                   WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema')
           AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
                            WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid
                              AND d.deptype = 'e' AND (c.oid = ANY (e.extconfig)) IS NOT TRUE)"
    )
}

/// The kinds that a dump locks: tables, partitioned or not.
pub(crate) const TABLES: &str = "'r', 'p'";

/// Reads the tables with their sizes; those must be locked, or a table that goes meanwhile fails the query.
pub(crate) fn tables(connection: &dyn Ask) -> Result<Vec<Table>, QueryError> {
    const WHAT: &str = "read the list of tables";
    connection
        .rows(
            WHAT,
            &format!(
                "SELECT c.oid, n.nspname, c.relname, c.relkind = 'p',
                        (SELECT i.inhparent FROM pg_catalog.pg_inherits i WHERE i.inhrelid = c.oid AND c.relispartition),
                        c.relpersistence = 'u', CASE WHEN c.reltuples >= 0 THEN c.reltuples::numeric(30, 0) END,
                        pg_catalog.pg_table_size(c.oid)
                   FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
                  WHERE {} ORDER BY 2, 3",
                dumped(TABLES)
            ),
        )?
        .into_iter()
        .map(|row| {
            let mut fields = Fields::of(WHAT, row);
            Ok(Table {
                oid: fields.number()?,
                schema: fields.text()?,
                name: fields.text()?,
                partitioned: fields.truth()?,
                partition_of: fields.maybe_number()?,
                unlogged: fields.truth()?,
                estimated_rows: fields.maybe_number()?,
                size_bytes: fields.maybe_number()?.unwrap_or(0),
            })
        })
        .collect()
}

/// Counts the large objects.
pub(crate) fn large_objects(connection: &dyn Ask) -> Result<u64, QueryError> {
    const WHAT: &str = "count the large objects";
    let row = connection.row(
        WHAT,
        "SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata",
    )?;
    Fields::of(WHAT, row).number()
}

/// Lists the large objects by their numbers.
pub(crate) fn large_object_oids(connection: &dyn Ask) -> Result<Vec<u32>, QueryError> {
    const WHAT: &str = "list the large objects";
    connection
        .rows(
            WHAT,
            "SELECT oid FROM pg_catalog.pg_largeobject_metadata ORDER BY oid",
        )?
        .into_iter()
        .map(|row| Fields::of(WHAT, row).number())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Connection, testing};

    #[test]
    fn tables_are_listed_with_their_partitions_and_without_what_a_dump_does_not_read() {
        let cluster = testing::cluster();
        let settings = testing::database(
            &cluster,
            "CREATE TABLE parent (id int) PARTITION BY RANGE (id);
             CREATE TABLE part PARTITION OF parent FOR VALUES FROM (0) TO (9);
             CREATE UNLOGGED TABLE fast (id int);
             CREATE VIEW v AS SELECT 1;
             INSERT INTO part SELECT generate_series(0, 8);
             ANALYZE",
        );
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        connection
            .execute("make", "CREATE TEMPORARY TABLE mine (id int)")
            .unwrap();
        let tables = tables(&connection).unwrap();
        let paths: Vec<_> = tables.iter().map(Table::path).collect();
        assert_eq!(paths, ["public.fast", "public.parent", "public.part"]);
        assert!(tables[0].unlogged && tables[1].partitioned);
        assert_eq!(tables[2].partition_of, Some(tables[1].oid));
        assert_eq!(tables[2].estimated_rows, Some(9));
    }
}
