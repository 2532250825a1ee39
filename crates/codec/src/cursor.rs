//! A tree that comes in pieces: its entries one at a time, in no more memory than a piece and one entry.
//!
//! Pieces are cut anywhere. The names are held against each other across them, as [`Entries`](crate::Entries) does
//! within one.

use crate::error::FormatError;
use crate::record::{Fields, Input};
use crate::tree::{ENTRY_MAX, Entry, TOO_LONG};

/// The field that holds the name (`docs/format.md` §7).
const NAME: u64 = 2;

/// Walks a tree that is fed to it.
#[derive(Debug, Default)]
pub struct TreeCursor {
    bytes: Vec<u8>,
    /// Where the current entry begins, its length before it.
    at: usize,
    /// Where the current entry's record begins.
    record: usize,
    /// Where the next entry begins.
    end: usize,
    /// The current entry's name.
    name: Vec<u8>,
}

impl TreeCursor {
    /// Takes the next bytes of the tree; the current entry is forgotten.
    pub fn feed(&mut self, piece: &[u8]) {
        self.bytes.drain(..self.end);
        (self.at, self.record, self.end) = (0, 0, 0);
        self.bytes.extend_from_slice(piece);
    }

    /// Goes to the next entry; false when not all of it was fed. At the end of a tree, what is [left](Self::left)
    /// then must be nothing.
    ///
    /// # Errors
    /// When the bytes are no entry, or the names are not in order.
    pub fn advance(&mut self) -> Result<bool, FormatError> {
        let rest = &self.bytes[self.end..];
        let Some((prefix, length)) = length_before(rest)? else {
            return Ok(false);
        };
        let Some(record) = rest[prefix..].get(..length) else {
            return Ok(false);
        };
        let name = name_in(record)?;
        if name <= self.name.as_slice() {
            return Err(FormatError::Invalid("a tree's names are not in order"));
        }
        self.name.clear();
        self.name.extend_from_slice(name);
        self.at = self.end;
        self.record = self.at + prefix;
        self.end = self.record + length;
        Ok(true)
    }

    /// How many bytes were fed and are not yet of an entry.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.end
    }

    /// The current entry's name; whether a file may have it is known when the [entry](Self::entry) is read.
    #[must_use]
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// The current entry.
    ///
    /// # Errors
    /// When it is not one that this version may read.
    pub fn entry(&self) -> Result<Entry<'_>, FormatError> {
        Entry::decode(&self.bytes[self.record..self.end])
    }

    /// How much memory the pieces take that are not passed yet.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.name.capacity()
    }

    /// The bytes of the current entry as they stand in the tree.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.bytes[self.at..self.end]
    }
}

/// How long the length before an entry is, and the entry; `None` when the length is not whole.
fn length_before(rest: &[u8]) -> Result<Option<(usize, usize)>, FormatError> {
    let Some(last) = rest.iter().position(|byte| byte & 0x80 == 0) else {
        return if rest.len() < 10 {
            Ok(None)
        } else {
            Err(FormatError::Invalid("a tree's entry has no length"))
        };
    };
    let length = Input::new(&rest[..=last], "a tree's entry").varint()?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > ENTRY_MAX {
        return Err(TOO_LONG);
    }
    Ok(Some((last + 1, length)))
}

/// The name in an entry's record: the kind and the name stand first.
fn name_in(record: &[u8]) -> Result<&[u8], FormatError> {
    for field in Fields::new(record, "a tree's entry").take(2) {
        let field = field?;
        if field.number == NAME {
            return field.bytes();
        }
    }
    Err(FormatError::Truncated("a tree's entry"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::record::put_varint;
    use crate::tree::{Entries, EntryKind, put_entry};

    fn tree(names: &[&[u8]]) -> Vec<u8> {
        let (mut tree, mut scratch) = (Vec::new(), Vec::new());
        for name in names {
            put_entry(&mut tree, &Entry::new(EntryKind::File, name), &mut scratch);
        }
        tree
    }

    /// The names in `tree`, fed piece by piece, or that it was refused.
    fn names(tree: &[u8], piece: usize) -> Result<Vec<Vec<u8>>, FormatError> {
        let mut cursor = TreeCursor::default();
        let (mut names, mut pieces) = (Vec::new(), tree.chunks(piece));
        loop {
            if cursor.advance()? {
                let entry = cursor.entry()?;
                assert_eq!(entry.name, cursor.name());
                names.push(entry.name.to_vec());
            } else if let Some(piece) = pieces.next() {
                cursor.feed(piece);
            } else if cursor.left() > 0 {
                return Err(FormatError::Truncated("a tree"));
            } else {
                return Ok(names);
            }
        }
    }

    #[test]
    fn pieces_of_any_length_are_the_same_tree() {
        let expected = [b"a".as_slice(), b"b\xff", &[b'c'; 300], b"d"];
        let tree = tree(&expected);
        for piece in 1..=tree.len() {
            assert_eq!(names(&tree, piece).unwrap(), expected);
        }
        assert!(names(&tree[..tree.len() - 1], 7).is_err());
    }

    #[test]
    fn names_out_of_order_are_refused_across_pieces() {
        for names_there in [[b"b".as_slice(), b"a"], [b"a", b"a"]] {
            let tree = tree(&names_there);
            for piece in 1..=tree.len() {
                assert!(names(&tree, piece).is_err());
            }
        }
    }

    #[test]
    fn an_entry_that_is_too_long_is_refused_before_it_is_there() {
        for (length, is_refused) in [(ENTRY_MAX, false), (ENTRY_MAX + 1, true)] {
            let mut tree = Vec::new();
            put_varint(&mut tree, length as u64);
            let mut cursor = TreeCursor::default();
            cursor.feed(&tree);
            assert_eq!(cursor.advance().is_err(), is_refused);
        }
    }

    #[test]
    fn a_length_without_end_is_refused() {
        assert!(names(&[0xff; 12], 1).is_err());
        assert!(names(&[0xff, 0xff, 0xff, 0xff, 0x0f, 1], 3).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_read_as_at_once(bytes in proptest::collection::vec(any::<u8>(), 0..400), piece in 1_usize..50) {
            let whole: Result<Vec<Vec<u8>>, FormatError> =
                Entries::new(&bytes).map(|entry| entry.map(|entry| entry.name.to_vec())).collect();
            prop_assert_eq!(names(&bytes, piece).ok(), whole.ok());
        }

        #[test]
        fn any_names_are_read_as_at_once(names_there in proptest::collection::btree_set("[a-c]{1,3}", 0..20), piece in 1_usize..50) {
            let sorted: Vec<&[u8]> = names_there.iter().map(String::as_bytes).collect();
            prop_assert_eq!(names(&tree(&sorted), piece).unwrap(), sorted);
        }
    }
}
