//! The states of sequences, which no snapshot keeps: they are what they are when they are asked for.
//!
//! Asked for after the last row, a state stands at or above the highest value that a row of the moment has used.

use crate::{
    asking::Ask,
    catalog::dumped,
    connect::{QueryError, Row},
    parts::SequencePart,
    quote,
};

/// How many sequences one query reads.
const SEQUENCES_PER_QUERY: usize = 100;

/// Reads the sequences that a dump reads, by schema and name.
pub(crate) fn read_sequences(connection: &dyn Ask) -> Result<Vec<SequencePart>, QueryError> {
    const WHAT: &str = "read the sequences";
    let names = connection.rows(
        "list the sequences",
        &format!(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE {} ORDER BY 1, 2",
            dumped("'S'")
        ),
    )?;
    let mut sequences = Vec::with_capacity(names.len());
    for some in names.chunks(SEQUENCES_PER_QUERY) {
        let mut queries = Vec::with_capacity(some.len());
        for (at, row) in some.iter().enumerate() {
            let [Some(schema), Some(name)] = &row[..] else {
                return Err(QueryError::shape(WHAT));
            };
            queries.push(format!(
                "SELECT {at}, last_value, is_called FROM {}",
                quote::qualified(schema, name)
            ));
        }
        let states = connection.rows(WHAT, &queries.join(" UNION ALL "))?;
        if states.len() != some.len() {
            return Err(QueryError::shape(WHAT));
        }
        for state in &states {
            sequences.push(sequence(state, some).ok_or_else(|| QueryError::shape(WHAT))?);
        }
    }
    Ok(sequences)
}

/// A row of the second query, together with that of the first which it names.
fn sequence(state: &Row, names: &[Row]) -> Option<SequencePart> {
    let [Some(at), Some(last_value), Some(is_called)] = &state[..] else {
        return None;
    };
    let [Some(schema), Some(name)] = &names.get(at.parse::<usize>().ok()?)?[..] else {
        return None;
    };
    Some(SequencePart {
        schema: schema.clone(),
        name: name.clone(),
        last_value: last_value.parse().ok()?,
        is_called: is_called == "t",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{connect::Connection, testing};

    #[test]
    fn sequences_are_those_that_pg_dump_sets_with_the_same_states() {
        let cluster = testing::cluster();
        let settings = testing::everything(&cluster);
        let many: String = (0..250)
            .map(|at| format!("CREATE SEQUENCE many_{at} START {at};"))
            .collect();
        testing::run(&settings, &many.replace("START 0", "MINVALUE -5 START 0"));
        let connection = Connection::open(&settings, testing::runtime()).unwrap();
        let sequences = read_sequences(&connection).unwrap();
        let set: Vec<_> = sequences
            .iter()
            .map(|sequence| {
                let quoted = |name: &String| {
                    let plain = name
                        .chars()
                        .all(|letter| matches!(letter, 'a'..='z' | '0'..='9' | '_'));
                    if plain {
                        name.clone()
                    } else {
                        quote::identifier(name)
                    }
                };
                let path = format!("{}.{}", quoted(&sequence.schema), quoted(&sequence.name));
                format!(
                    "SELECT pg_catalog.setval({}, {}, {});",
                    quote::literal(&path),
                    sequence.last_value,
                    sequence.is_called
                )
            })
            .collect();
        let plain = testing::plain_dump(&testing::programs(&cluster), &settings);
        let mut dumped: Vec<_> = plain
            .lines()
            .filter(|line| line.starts_with("SELECT pg_catalog.setval("))
            .map(ToOwned::to_owned)
            .collect();
        dumped.sort();
        let mut set = set;
        set.sort();
        assert_eq!(set, dumped);
        assert!(set.len() > 250);
    }
}
