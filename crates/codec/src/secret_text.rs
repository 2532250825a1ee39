//! Secrets as text: key files, and the recovery key that people write down (`docs/format.md` §4).

use zeroize::Zeroizing;

use crate::error::FormatError;
use crate::id::{FamilyId, SlotId};
use crate::key::{Secret, context};
use crate::sign::SignerKey;

/// A key file's content.
pub struct KeyFile {
    /// The repository.
    pub family: FamilyId,
    /// The slot that it opens.
    pub slot: SlotId,
    /// The pinned admin public key.
    pub admin: SignerKey,
    /// The slot's secret.
    pub secret: Secret,
}

impl KeyFile {
    /// The text of the file.
    #[must_use]
    pub fn encode(&self) -> Zeroizing<String> {
        let hex = |bytes: &[u8; 32]| Zeroizing::new(crate::id::ObjectHash(*bytes).to_string());
        Zeroizing::new(format!(
            "lifeboat key 1\nfamily {}\nslot {}\nadmin {}\nsecret {}\n",
            self.family,
            self.slot,
            *hex(&self.admin),
            *hex(self.secret.bytes())
        ))
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// When it is none.
    pub fn decode(text: &str) -> Result<Self, FormatError> {
        const NONE: FormatError = FormatError::Invalid("this is not a lifeboat key file");
        let mut lines = text.lines();
        if lines.next() != Some("lifeboat key 1") {
            return Err(NONE);
        }
        let mut field = |name: &str| {
            lines
                .next()
                .and_then(|line| line.strip_prefix(name)?.strip_prefix(' '))
                .ok_or(NONE)
        };
        let hash = |text: &str| {
            crate::id::ObjectHash::from_hex(text)
                .map(|hash| hash.0)
                .ok_or(NONE)
        };
        Ok(Self {
            family: FamilyId::from_hex(field("family")?).ok_or(NONE)?,
            slot: SlotId::from_hex(field("slot")?).ok_or(NONE)?,
            admin: hash(field("admin")?)?,
            secret: Secret::new(hash(field("secret")?)?),
        })
    }
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
/// Letters of a recovery key.
pub(crate) const RECOVERY_LETTERS: usize = 55;

fn recovery_check(secret: &Secret) -> [u8; 2] {
    let hash = blake3::Hasher::new()
        .update(context::RECOVERY)
        .update(secret.bytes())
        .finalize();
    let (check, _) = hash
        .as_bytes()
        .split_first_chunk::<2>()
        .expect("a hash is longer than two bytes");
    *check
}

/// A recovery secret as people write it down: groups of five letters.
#[must_use]
pub fn encode_recovery(secret: &Secret) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(80));
    let (mut bits, mut held, mut letters) = (0_u32, 0_u32, 0_usize);
    let mut push = |index: u32| {
        if letters > 0 && letters.is_multiple_of(5) {
            text.push('-');
        }
        text.push(char::from(
            BASE32.get(index as usize & 31).copied().unwrap_or(b'A'),
        ));
        letters += 1;
    };
    for byte in secret.bytes().iter().chain(&recovery_check(secret)) {
        held = held << 8 | u32::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            push(held >> bits);
            held &= (1 << bits) - 1;
        }
    }
    if bits > 0 {
        push(held << (5 - bits));
    }
    text
}

/// Reads a recovery key; case, spaces and dashes do not matter.
///
/// # Errors
/// When it has a wrong length or letter, or its check does not fit.
pub fn decode_recovery(text: &str) -> Result<Secret, FormatError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(40));
    let (mut bits, mut held, mut letters) = (0_u32, 0_u32, 0_usize);
    for letter in text
        .chars()
        .filter(|letter| !letter.is_whitespace() && *letter != '-')
    {
        let upper = letter.to_ascii_uppercase();
        let value = BASE32
            .iter()
            .position(|known| char::from(*known) == upper)
            .ok_or(FormatError::Invalid(
                "a recovery key has only letters and the digits 2 to 7",
            ))?;
        held = held << 5 | value as u32;
        bits += 5;
        letters += 1;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    let wrong = FormatError::Invalid("the recovery key is not complete, or a letter is wrong");
    if letters != RECOVERY_LETTERS || held != 0 {
        return Err(wrong);
    }
    let (secret, check) = bytes.split_first_chunk::<32>().ok_or(wrong.clone())?;
    let secret = Secret::new(*secret);
    if recovery_check(&secret) == *check {
        Ok(secret)
    } else {
        Err(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::tests::Counted;

    #[test]
    fn a_recovery_key_survives_paper_and_notices_a_wrong_letter() {
        for seed in 0..50 {
            let secret = Secret::random(&mut Counted(seed));
            let text = encode_recovery(&secret);
            assert_eq!(
                text.chars().filter(|letter| *letter != '-').count(),
                RECOVERY_LETTERS
            );
            assert_eq!(
                decode_recovery(&text.to_lowercase().replace('-', " "))
                    .unwrap()
                    .bytes(),
                secret.bytes()
            );
            assert!(decode_recovery(&text[1..]).is_err());
            let wrong = text.replacen(
                text.chars().next().unwrap(),
                if text.starts_with('Q') { "R" } else { "Q" },
                1,
            );
            assert!(decode_recovery(&wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_key_file_survives_its_text() {
        let file = KeyFile {
            family: FamilyId([1; 16]),
            slot: SlotId([2; 16]),
            admin: [3; 32],
            secret: Secret::new([4; 32]),
        };
        let read = KeyFile::decode(&file.encode()).unwrap();
        assert_eq!(
            (read.family, read.slot, read.admin, read.secret.bytes()),
            (file.family, file.slot, file.admin, file.secret.bytes())
        );
        assert!(KeyFile::decode("ssh-ed25519").is_err());
    }
}
