//! Objects whose body is one signed record: sealed to the meta recipient, or clear (`docs/format.md` §2).

use crate::envelope::{Envelope, RunKey, decode_area, encode_area};
use crate::error::FormatError;
use crate::frame::{Frame, Header, assemble};
use crate::id::{ObjectHash, WriterId};
use crate::key::{Entropy, context, random};
use crate::record::{Input, padded_text, unpadded_text};
use crate::seal::{Nonce, open_in_place, seal};
use crate::sign::{Author, Authors};

/// A sealed object: `record`, signed by `author`, sealed with the run's meta key.
///
/// `name` is empty for objects that are named by their content.
#[must_use]
pub fn seal_object(
    header: &Header,
    name: &str,
    record: &[u8],
    author: &Author,
    (envelope, key): (&Envelope, &RunKey),
    entropy: &mut dyn Entropy,
) -> (Vec<u8>, ObjectHash) {
    let header_bytes = header.encode();
    let text = padded_text(&author.sign_record(&header_bytes, name, record));
    let mut body = encode_area(std::slice::from_ref(envelope));
    // The run key is random for this run and the nonce for this object: the pair cannot repeat. The data binds kind, family and name.
    seal(
        key.object(),
        Nonce(random(entropy)),
        &associated(&header_bytes, name),
        &text,
        &mut body,
    );
    assemble(header, &body)
}

/// What an opened object says, and who says it.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The record.
    pub record: Vec<u8>,
    /// Who signed it.
    pub author: WriterId,
    /// The object's header.
    pub header: Header,
    /// The object's final hash.
    pub hash: ObjectHash,
}

/// Opens a sealed object whose frame is verified; `run_key` finds the key of an envelope.
///
/// # Errors
/// When it does not open, or is not signed by one of `authors`.
pub fn open_object<K: std::ops::Deref<Target = RunKey>>(
    frame: &Frame<'_>,
    name: &str,
    authors: &Authors,
    run_key: impl FnOnce(&Envelope) -> Result<K, FormatError>,
    what: &'static str,
) -> Result<Opened, FormatError> {
    let mut input = Input::new(frame.body, what);
    let envelopes = decode_area(&mut input)?;
    let [Some(envelope)] = envelopes.as_slice() else {
        return Err(FormatError::Unsupported(what));
    };
    let key = run_key(envelope)?;
    let mut sealed = input.rest().to_vec();
    let text = open_in_place(
        key.object(),
        &associated(frame.header_bytes, name),
        &mut sealed,
        what,
    )?;
    let (record, author) =
        authors.verify_record(frame.header_bytes, name, unpadded_text(text, what)?, what)?;
    Ok(Opened {
        record: record.to_vec(),
        author,
        header: frame.header,
        hash: frame.hash,
    })
}

/// A clear object: `record`, signed by `author`.
#[must_use]
pub fn clear_object(
    header: &Header,
    name: &str,
    record: &[u8],
    author: &Author,
) -> (Vec<u8>, ObjectHash) {
    let signed = author.sign_record(&header.encode(), name, record);
    let length = u32::try_from(signed.len()).expect("clear records are small");
    assemble(header, &[&length.to_le_bytes(), signed.as_slice()].concat())
}

/// Opens a clear object whose frame is verified.
///
/// # Errors
/// When it is not signed by one of `authors`.
pub fn open_clear(
    frame: &Frame<'_>,
    name: &str,
    authors: &Authors,
    what: &'static str,
) -> Result<Opened, FormatError> {
    let signed = clear_body(frame, what)?;
    let (record, author) = authors.verify_record(frame.header_bytes, name, signed, what)?;
    Ok(Opened {
        record: record.to_vec(),
        author,
        header: frame.header,
        hash: frame.hash,
    })
}

fn clear_body<'a>(frame: &Frame<'a>, what: &'static str) -> Result<&'a [u8], FormatError> {
    let mut input = Input::new(frame.body, what);
    let length = input.u32()?;
    let signed = input.take(length as usize)?;
    if input.is_empty() {
        Ok(signed)
    } else {
        Err(FormatError::Invalid("there are bytes after the record"))
    }
}

fn associated(header: &[u8], name: &str) -> Vec<u8> {
    [context::OBJECT.as_bytes(), header, name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Kind;
    use crate::id::{FamilyId, RunId};
    use crate::key::tests::Counted;
    use crate::key::{Keyring, Recipient};

    #[test]
    fn a_sealed_object_opens_under_its_name_and_no_other() {
        let mut entropy = Counted(0);
        let keyring = Keyring::create(&mut entropy);
        let family = FamilyId([1; 16]);
        let author = Author::new(keyring.admin.as_ref().unwrap());
        let authors = Authors::new(author.public());
        let (envelope, key) = Envelope::create(Recipient::Meta, &keyring, family, &mut entropy);
        let header = Header::named(Kind::Confirm, family, RunId([2; 16]), 0, "snap/a.ok");
        let (object, _) = seal_object(
            &header,
            "snap/a.ok",
            b"record",
            &author,
            (&envelope, &key),
            &mut entropy,
        );
        let frame = Frame::decode(&object).unwrap();
        let open = |name: &str| {
            open_object(
                &frame,
                name,
                &authors,
                |envelope| envelope.open(&keyring, family).map(Box::new),
                "it",
            )
        };
        assert_eq!(open("snap/a.ok").unwrap().record, b"record");
        assert_eq!(open("snap/b.ok").unwrap_err(), FormatError::Unsealed("it"));
        let strangers = Authors::new([9; 32]);
        let refused = open_object(
            &frame,
            "snap/a.ok",
            &strangers,
            |envelope| envelope.open(&keyring, family).map(Box::new),
            "it",
        );
        assert_eq!(refused.unwrap_err(), FormatError::Signature("it"));
    }

    #[test]
    fn a_clear_object_is_read_by_anyone_and_changed_by_nobody() {
        let author = Author::new(&crate::key::Secret::new([1; 32]));
        let authors = Authors::new(author.public());
        let header = Header::named(
            Kind::Marker,
            FamilyId([1; 16]),
            RunId([2; 16]),
            0,
            "trash/a",
        );
        let (object, _) = clear_object(&header, "trash/a", b"record", &author);
        let frame = Frame::decode(&object).unwrap();
        assert_eq!(
            open_clear(&frame, "trash/a", &authors, "it")
                .unwrap()
                .record,
            b"record"
        );
        assert!(open_clear(&frame, "trash/b", &authors, "it").is_err());
    }
}
