//! Which index objects a run rested on, so that the next one can tell whether one of them is gone.
//!
//! A lost index object takes its chunks with it and leaves no trace. What was seen while it was there must not be
//! believed without a look at each chunk.

use std::collections::BTreeSet;

/// The index objects that there were at some time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Basis(BTreeSet<[u8; Self::NAME_BYTES]>);

impl Basis {
    /// Of a name's hash: enough that nobody finds two names that share it and are of use to him.
    const NAME_BYTES: usize = 16;

    pub(crate) fn add(&mut self, name: &str) {
        let hash = blake3::hash(name.as_bytes());
        let (start, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash is longer than its start");
        self.0.insert(*start);
    }

    /// True when all that `earlier` had is still there.
    pub(crate) fn holds(&self, earlier: &Self) -> bool {
        earlier.0.is_subset(&self.0)
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let count = self.0.len() as u64;
        let names = self.0.iter().flatten().copied();
        count.to_le_bytes().into_iter().chain(names).collect()
    }

    /// Takes a basis off the front of `bytes`.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, rest) = bytes.split_first_chunk()?;
        let length = usize::try_from(u64::from_le_bytes(*count))
            .ok()?
            .checked_mul(Self::NAME_BYTES)?;
        let (names, rest) = rest.split_at_checked(length)?;
        let names = names.chunks_exact(Self::NAME_BYTES);
        Some((
            Self(names.map_while(|name| name.try_into().ok()).collect()),
            rest,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn basis(names: &[&str]) -> Basis {
        let mut basis = Basis::default();
        names.iter().for_each(|name| basis.add(name));
        basis
    }

    #[test]
    fn a_basis_holds_as_long_as_nothing_of_it_is_gone() {
        let earlier = basis(&["index/a", "index/b"]);
        assert!(basis(&["index/c", "index/b", "index/a"]).holds(&earlier));
        assert!(!basis(&["index/c", "index/b"]).holds(&earlier));
        assert!(earlier.holds(&Basis::default()));
    }

    #[test]
    fn a_basis_comes_back_from_its_bytes_and_from_no_others() {
        let basis = basis(&["index/a", "index/b"]);
        let bytes = [basis.encode(), b"rest".to_vec()].concat();
        assert_eq!(Basis::decode(&bytes), Some((basis, b"rest".as_slice())));
        assert_eq!(Basis::decode(&bytes[..30]), None);
        assert_eq!(Basis::decode(&[0xFF; 30]), None);
    }
}
