//! Authenticated encryption: XChaCha20-Poly1305, the only place that calls it.
//!
//! Why no (key, nonce) pair ever repeats: keys are drawn at random for each run (or slot), nonces are 192 random
//! bits for each sealed thing. No counter is kept anywhere, so clones, rollbacks and parallel writers are safe.
//! What the associated data binds is said at each caller; nothing opens in another's place.

pub(crate) use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{Tag, XChaCha20Poly1305, XNonce};

use crate::error::FormatError;
use crate::key::Secret;

/// Length of a nonce.
pub(crate) const NONCE_BYTES: usize = 24;
/// Length of a tag.
pub(crate) const TAG_BYTES: usize = 16;
/// What sealing adds: nonce and tag.
pub(crate) const SEAL_BYTES: usize = NONCE_BYTES + TAG_BYTES;

/// 192 bits that are random for each sealed thing.
#[derive(Clone, Copy)]
pub struct Nonce(pub [u8; NONCE_BYTES]);

/// Appends `nonce ‖ ciphertext ‖ tag` of `plaintext` to `out`.
pub(crate) fn seal(
    key: &Secret,
    nonce: Nonce,
    associated: &[u8],
    plaintext: &[u8],
    out: &mut Vec<u8>,
) {
    out.reserve(plaintext.len() + SEAL_BYTES);
    out.extend_from_slice(&nonce.0);
    let start = out.len();
    out.extend_from_slice(plaintext);
    let text = out
        .get_mut(start..)
        .expect("the plaintext was just appended");
    let tag = seal_text(key, nonce, associated, text.into());
    out.extend_from_slice(&tag);
}

/// Encrypts `text`, where it lies or from one place to another, and returns the tag.
#[must_use]
pub(crate) fn seal_text(
    key: &Secret,
    nonce: Nonce,
    associated: &[u8],
    text: InOutBuf<'_, '_, u8>,
) -> [u8; TAG_BYTES] {
    let cipher = XChaCha20Poly1305::new(key.bytes().into());
    let tag = cipher
        .encrypt_inout_detached(&XNonce::from(nonce.0), associated, text)
        .expect("texts are far shorter than the cipher's limit of 256 GiB");
    tag.into()
}

/// Opens `nonce ‖ ciphertext ‖ tag` where it lies and returns the plaintext; errors name `what`.
///
/// # Errors
/// When a byte, the key, or the associated data is not what it was when it was sealed.
pub(crate) fn open_in_place<'a>(
    key: &Secret,
    associated: &[u8],
    sealed: &'a mut [u8],
    what: &'static str,
) -> Result<&'a mut [u8], FormatError> {
    let (nonce, rest) = sealed
        .split_first_chunk_mut::<NONCE_BYTES>()
        .ok_or(FormatError::Truncated(what))?;
    let (text, tag) = rest
        .split_last_chunk_mut::<TAG_BYTES>()
        .ok_or(FormatError::Truncated(what))?;
    let cipher = XChaCha20Poly1305::new(key.bytes().into());
    cipher
        .decrypt_inout_detached(
            &XNonce::from(*nonce),
            associated,
            (&mut *text).into(),
            &Tag::from(*tag),
        )
        .map_err(|_| FormatError::Unsealed(what))?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_only_unchanged_and_in_its_place() {
        let key = Secret::new([7; 32]);
        let mut sealed = Vec::new();
        seal(&key, Nonce([1; 24]), b"place", b"content", &mut sealed);
        assert_eq!(
            open_in_place(&key, b"place", &mut sealed.clone(), "text").unwrap(),
            b"content"
        );
        assert!(open_in_place(&key, b"other", &mut sealed.clone(), "text").is_err());
        assert!(
            open_in_place(&Secret::new([8; 32]), b"place", &mut sealed.clone(), "text").is_err()
        );
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(
                open_in_place(&key, b"place", &mut changed, "text").is_err(),
                "byte {at}"
            );
            assert!(
                open_in_place(&key, b"place", &mut sealed[..at].to_vec(), "text").is_err(),
                "cut to {at}"
            );
        }
    }

    #[test]
    fn the_cipher_is_the_one_of_the_draft() {
        // draft-irtf-cfrg-xchacha-03, appendix A.3.1.
        let key: [u8; 32] = std::array::from_fn(|index| 0x80 + index as u8);
        let nonce: [u8; 24] = std::array::from_fn(|index| 0x40 + index as u8);
        let associated = [
            0x50, 0x51, 0x52, 0x53, 0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc5, 0xc6, 0xc7,
        ];
        let mut text = b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would be it.".to_vec();
        let secret = Secret::new(key);
        let plain = text.clone();
        let between = InOutBuf::new(&plain, &mut text).unwrap();
        let apart = seal_text(&secret, Nonce(nonce), &associated, between);
        let sealed = std::mem::replace(&mut text, plain);
        let tag = seal_text(&secret, Nonce(nonce), &associated, (&mut text[..]).into());
        assert_eq!((apart, sealed), (tag, text.clone()));
        assert_eq!(text[..4], [0xbd, 0x6d, 0x17, 0x9d]);
        assert_eq!(
            tag,
            [
                0xc0, 0x87, 0x59, 0x24, 0xc1, 0xc7, 0x98, 0x79, 0x47, 0xde, 0xaf, 0xd8, 0x78, 0x0a,
                0xcf, 0x49
            ]
        );
    }
}
