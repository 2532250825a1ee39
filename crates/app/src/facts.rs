//! What a snapshot says about a PostgreSQL database beside its archive: `database.json` and `database.sql`.

use lifeboat_postgres::{
    DatabaseFacts, DatabaseGrant, DatabaseSetting, Extension, LocaleProvider, Parts, SourceFacts,
};

use crate::parts::PartsText;

/// SQL that makes the database again, for a person who has nothing but `psql`.
pub(crate) fn database_sql(facts: &DatabaseFacts, major: u32) -> String {
    let mut sql =
        "-- How the database was made, and its settings; restore-db does this itself.\n".to_owned();
    let create = facts.create_sql(&facts.name, major);
    for statement in std::iter::once(create).chain(facts.settings_sql(&facts.name, true, true)) {
        sql.push_str(&statement);
        sql.push_str(";\n");
    }
    sql
}

/// The facts that a restore needs, as text that a person can read too.
pub(crate) fn describe(facts: &SourceFacts, parts: Option<&Parts>) -> String {
    let database = &facts.database;
    let mut value = serde_json::json!({
        "server": facts.server.version,
        "server_version_number": facts.server.version_number,
        "database": {
            "name": database.name, "owner": database.owner, "encoding": database.encoding, "collate": database.collate,
            "ctype": database.ctype, "provider": database.provider.word(), "locale": database.locale, "icu_rules": database.icu_rules,
            "collation_version": database.collation_version, "connection_limit": database.connection_limit, "comment": database.comment,
            "settings": database.settings.iter().map(|setting| serde_json::json!({"role": setting.role, "name": setting.name, "value": setting.value})).collect::<Vec<_>>(),
            "grants": database.grants.as_ref().map(|grants| grants.iter().map(|grant| serde_json::json!({"grantee": grant.grantee, "privilege": grant.privilege, "grantable": grant.grantable})).collect::<Vec<_>>()),
            "granted_roles": database.granted_roles, "policy_roles": database.policy_roles,
        },
        "extensions": facts.extensions.iter().map(|extension| serde_json::json!({"name": extension.name, "version": extension.version, "schema": extension.schema})).collect::<Vec<_>>(),
        "tables": facts.tables.iter().map(|table| serde_json::json!({"name": table.path(), "estimated_rows": table.estimated_rows, "bytes": table.size_bytes})).collect::<Vec<_>>(),
        "large_objects": facts.large_objects,
    });
    if let Some(parts) = parts {
        value["parts"] = serde_json::json!(PartsText::of(parts));
    }
    format!("{value:#}\n")
}

/// The extensions that the text names.
pub(crate) fn database_extensions(text: &str) -> Vec<Extension> {
    let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    let listed = value
        .get("extensions")
        .and_then(serde_json::Value::as_array);
    let named = |extension: &serde_json::Value| {
        let text = |key: &str| Some(extension.get(key)?.as_str()?.to_owned());
        Some(Extension {
            name: text("name")?,
            version: text("version")?,
            schema: text("schema")?,
        })
    };
    listed.into_iter().flatten().filter_map(named).collect()
}

/// The parts of the database; nothing where it is one archive.
pub(crate) fn database_parts(text: &str) -> Option<Parts> {
    let mut value: serde_json::Value = serde_json::from_str(text).ok()?;
    let parts = value.get_mut("parts")?.take();
    serde_json::from_value::<PartsText>(parts).ok()?.parts()
}

/// The inverse of `describe`, for the database itself.
pub(crate) fn database_facts(text: &str) -> Option<DatabaseFacts> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let database = value.get("database")?;
    let text = |value: &serde_json::Value, key: &str| {
        value
            .get(key)
            .and_then(|value| value.as_str())
            .map(str::to_owned)
    };
    let list = |key: &str| {
        database
            .get(key)
            .and_then(|value| value.as_array())
            .cloned()
            .unwrap_or_default()
    };
    let words = |key: &str| {
        list(key)
            .iter()
            .filter_map(|value| value.as_str().map(str::to_owned))
            .collect()
    };
    let settings = list("settings").into_iter().filter_map(|setting| {
        Some(DatabaseSetting {
            role: text(&setting, "role"),
            name: text(&setting, "name")?,
            value: text(&setting, "value")?,
        })
    });
    let grants = list("grants").into_iter().filter_map(|grant| {
        let grantable = grant
            .get("grantable")
            .and_then(serde_json::Value::as_bool)
            .unwrap_or(false);
        Some(DatabaseGrant {
            grantee: text(&grant, "grantee"),
            privilege: text(&grant, "privilege")?,
            grantable,
        })
    });
    Some(DatabaseFacts {
        name: text(database, "name")?,
        oid: 0,
        owner: text(database, "owner")?,
        encoding: text(database, "encoding")?,
        collate: text(database, "collate")?,
        ctype: text(database, "ctype")?,
        provider: LocaleProvider::from_word(&text(database, "provider")?)?,
        locale: text(database, "locale"),
        icu_rules: text(database, "icu_rules"),
        collation_version: text(database, "collation_version"),
        size_bytes: None,
        connection_limit: database
            .get("connection_limit")
            .and_then(serde_json::Value::as_i64)
            .and_then(|limit| i32::try_from(limit).ok())?,
        comment: text(database, "comment"),
        settings: settings.collect(),
        grants: database
            .get("grants")
            .filter(|value| !value.is_null())
            .map(|_| grants.collect()),
        granted_roles: words("granted_roles"),
        policy_roles: words("policy_roles"),
    })
}
