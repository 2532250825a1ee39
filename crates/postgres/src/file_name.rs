//! What the files of a database are called in a snapshot (docs/postgres.md, "What lies in the snapshot").
//!
//! Invariant: two tables never have the same name, and none has the name of a file that is not a table's. The way back
//! is not taken: the database's description says which file is whose.

use std::fmt::Write as _;

/// The archive of everything but rows.
pub const SCHEMA_FILE: &str = "schema.dump";
/// The folder of the large objects.
pub const LARGE_OBJECTS_FOLDER: &str = "large-objects";

/// The names that a table's schema and name must not make.
const TAKEN: [&str; 4] = [SCHEMA_FILE, "database.json", "database.sql", "globals.sql"];

/// The name of the file of a table's rows: `public.orders`.
pub fn table_file(schema: &str, name: &str) -> String {
    let mut file = String::with_capacity(schema.len() + 1 + name.len());
    put(&mut file, schema);
    file.push('.');
    put(&mut file, name);
    if TAKEN.contains(&file.as_str()) {
        let first = file.remove(0);
        let mut escaped = String::new();
        put_escaped(&mut escaped, first);
        file.insert_str(0, &escaped);
    }
    file
}

/// The path of a large object's file: `large-objects/16423`.
pub fn large_object_file(oid: u32) -> String {
    format!("{LARGE_OBJECTS_FOLDER}/{oid}")
}

fn put(file: &mut String, name: &str) {
    for letter in name.chars() {
        if matches!(letter, '%' | '/' | '.' | '\0'..=' ') {
            put_escaped(file, letter);
        } else {
            file.push(letter);
        }
    }
}

/// `letter`, which is ASCII, as `%2F`.
fn put_escaped(file: &mut String, letter: char) {
    write!(file, "%{:02X}", u32::from(letter)).expect("a string takes all that is written");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_file_of_its_own_whatever_it_is_called() {
        for (schema, name, file) in [
            ("public", "orders", "public.orders"),
            ("public", "a/b", "public.a%2Fb"),
            ("a.b", "c", "a%2Eb.c"),
            ("a", "b.c", "a.b%2Ec"),
            ("50%", "two words\n", "50%25.two%20words%0A"),
            ("bücher", "…", "bücher.…"),
            (".", "..", "%2E.%2E%2E"),
            ("schema", "dump", "%73chema.dump"),
            ("database", "json", "%64atabase.json"),
            ("database", "sql", "%64atabase.sql"),
            ("globals", "sql", "%67lobals.sql"),
            ("%73chema", "dump", "%2573chema.dump"),
        ] {
            assert_eq!(table_file(schema, name), file);
        }
        assert_eq!(large_object_file(16423), "large-objects/16423");
    }
}
