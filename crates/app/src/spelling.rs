//! "Did you mean": the known word that a mistyped one most resembles.
//!
//! Likeness is the number of single steps (a letter added, left out, replaced, or two neighbours swapped) that lead
//! from one word to the other; capitals do not count. Invariant: a word is proposed only when about two thirds of it
//! are right, so that a proposal is a help and never a riddle.

/// The candidate most like `word`, if one is like it at all; of equals, the first.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = letters(word);
    candidates
        .into_iter()
        .filter_map(|candidate| {
            let letters = letters(candidate);
            let steps = steps_between(&word, &letters);
            let steps_max = word.len().max(letters.len()).div_ceil(3);
            (steps <= steps_max && steps < letters.len()).then_some((steps, candidate))
        })
        .min_by_key(|(steps, _)| *steps)
        .map(|(_, candidate)| candidate)
}

fn letters(word: &str) -> Vec<char> {
    word.chars().flat_map(char::to_lowercase).collect()
}

/// The optimal string alignment distance, row by row of the usual table.
fn steps_between(from: &[char], to: &[char]) -> usize {
    let mut before_last = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, left) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, right) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(left != right);
            let mut steps = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && *left == to[column - 1] && from[row - 1] == *right;
            if swapped {
                let before: &Vec<usize> = &before_last;
                steps = steps.min(before[column - 1] + 1);
            }
            current.push(steps);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_counted_as_people_mistype() {
        for (from, to, steps) in [
            ("", "", 0),
            ("abc", "", 3),
            ("url", "url", 0),
            ("pasword", "password", 1),
            ("passwrod", "password", 1),
            ("lcoation", "location", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(
                steps_between(&letters(from), &letters(to)),
                steps,
                "{from} {to}"
            );
        }
    }

    #[test]
    fn the_nearest_word_is_proposed_and_a_strange_one_is_not() {
        let known = ["location", "password-file", "password-command", "key-file"];
        assert_eq!(nearest("Location", known), Some("location"));
        assert_eq!(nearest("locatoin", known), Some("location"));
        assert_eq!(nearest("passwort-file", known), Some("password-file"));
        assert_eq!(nearest("path", known), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert_eq!(nearest("shp", ["blog", "shop"]), Some("shop"));
    }
}
