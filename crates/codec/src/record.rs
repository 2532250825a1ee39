//! The small encodings that everything else is made of: varints, records, padded text (`docs/format.md` §1).
//!
//! A record describes itself: a reader keeps what it does not know and refuses what it must know. Reading never
//! trusts a length: it is compared with what is left before anything is touched or allocated.

use crate::error::FormatError;

/// Bytes that are read from front to back.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Input<'a> {
    /// Starts reading `bytes`; errors say that `what` is cut short.
    #[must_use]
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self { rest: bytes, what }
    }

    /// What has not been read yet.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// True when everything has been read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], FormatError> {
        let (taken, rest) = self
            .rest
            .split_at_checked(length)
            .ok_or(FormatError::Truncated(self.what))?;
        self.rest = rest;
        Ok(taken)
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// When fewer are left.
    #[inline]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let (taken, rest) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(FormatError::Truncated(self.what))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// The next two bytes as a number.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u16(&mut self) -> Result<u16, FormatError> {
        self.array().map(u16::from_le_bytes)
    }

    /// The next four bytes as a number.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        self.array().map(u32::from_le_bytes)
    }

    /// The next eight bytes as a number.
    ///
    /// # Errors
    /// When fewer are left.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        self.array().map(u64::from_le_bytes)
    }

    /// The next varint.
    ///
    /// # Errors
    /// When it is cut short, longer than needed, or larger than 64 bits.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, FormatError> {
        if let [byte, rest @ ..] = self.rest
            && *byte < 0x80
        {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0_u64;
        for index in 0..10_u32 {
            let [byte] = self.array::<1>()?;
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return Err(FormatError::Invalid("a number is larger than 64 bits"));
            }
            value |= bits << (7 * index);
            if byte < 0x80 {
                // A longer form than needed would give one content two encodings.
                return if byte == 0 && index > 0 {
                    Err(FormatError::Invalid("a number is not in its shortest form"))
                } else {
                    Ok(value)
                };
            }
        }
        Err(FormatError::Invalid("a number is larger than 64 bits"))
    }

    /// A varint length and that many bytes.
    ///
    /// # Errors
    /// When it is cut short.
    #[inline]
    pub fn block(&mut self) -> Result<&'a [u8], FormatError> {
        let length = self.varint()?;
        self.take(usize::try_from(length).map_err(|_| FormatError::Truncated(self.what))?)
    }
}

/// Appends `value` as a varint.
#[inline]
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes `value` takes as a varint.
#[must_use]
pub(crate) fn varint_len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Maps a signed number to an unsigned one whose small values are near zero.
#[must_use]
pub(crate) fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

/// The inverse of [`zigzag`].
#[must_use]
pub(crate) fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

/// Writes the fields of a record, in ascending order, to the end of a buffer.
#[derive(Debug)]
pub struct RecordWriter<'a> {
    out: &'a mut Vec<u8>,
    last: u64,
}

impl<'a> RecordWriter<'a> {
    /// Starts a record at the end of `out`.
    #[must_use]
    pub fn new(out: &'a mut Vec<u8>) -> Self {
        Self { out, last: 0 }
    }

    #[inline]
    fn key(&mut self, number: u64, critical: bool, kind: u64) {
        assert!(number >= self.last, "fields are written in ascending order");
        self.last = number;
        put_varint(self.out, number << 2 | u64::from(critical) << 1 | kind);
    }

    /// A number; 0 is not written, because it is what a missing field means.
    #[inline]
    pub fn number(&mut self, field: u64, value: u64) -> &mut Self {
        if value != 0 {
            self.key(field, false, 0);
            put_varint(self.out, value);
        }
        self
    }

    /// A signed number; 0 is not written.
    #[inline]
    pub fn signed(&mut self, field: u64, value: i64) -> &mut Self {
        self.number(field, zigzag(value))
    }

    /// A number that a reader must understand.
    #[inline]
    pub fn required_number(&mut self, field: u64, value: u64) -> &mut Self {
        self.key(field, true, 0);
        put_varint(self.out, value);
        self
    }

    /// A byte string; an empty one is not written.
    #[inline]
    pub fn bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        if !value.is_empty() {
            self.key(field, false, 1);
            put_varint(self.out, value.len() as u64);
            self.out.extend_from_slice(value);
        }
        self
    }

    /// One element of a list of byte strings; written even when empty.
    pub fn element(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.key(field, false, 1);
        put_varint(self.out, value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    /// A byte string that a reader must understand.
    #[inline]
    pub fn required_bytes(&mut self, field: u64, value: &[u8]) -> &mut Self {
        self.key(field, true, 1);
        put_varint(self.out, value.len() as u64);
        self.out.extend_from_slice(value);
        self
    }

    /// A record inside this one.
    pub fn record(&mut self, field: u64, write: impl FnOnce(&mut RecordWriter<'_>)) -> &mut Self {
        let mut inner = Vec::new();
        write(&mut RecordWriter::new(&mut inner));
        self.element(field, &inner)
    }

    /// Fields that a reader kept without knowing them.
    pub fn unknown(&mut self, fields: &Unknown) {
        self.out.extend_from_slice(&fields.0);
    }
}

/// Fields that this version does not know, as they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unknown(Vec<u8>);

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A number.
    Number(u64),
    /// A byte string, text, or a record again.
    Bytes(&'a [u8]),
}

/// One field as read.
#[derive(Clone, Copy, Debug)]
pub struct Field<'a> {
    /// Its number.
    pub number: u64,
    critical: bool,
    /// True when the field before it has the same number.
    again: bool,
    value: Value<'a>,
    raw: &'a [u8],
    record: &'static str,
}

impl<'a> Field<'a> {
    /// The field as one of a list; any other field stands at most once.
    #[inline]
    #[must_use]
    pub fn listed(self) -> Self {
        Self {
            again: false,
            ..self
        }
    }

    #[inline]
    fn value(&self) -> Result<Value<'a>, FormatError> {
        if self.again {
            return Err(FormatError::Invalid(
                "a field that is no list stands more than once",
            ));
        }
        Ok(self.value)
    }

    /// The value as a number.
    ///
    /// # Errors
    /// When the field holds bytes, or stands a second time.
    #[inline]
    pub fn number_value(&self) -> Result<u64, FormatError> {
        match self.value()? {
            Value::Number(number) => Ok(number),
            Value::Bytes(_) => Err(FormatError::Invalid("a field that is a number holds bytes")),
        }
    }

    /// The value as a number that fits `T`.
    ///
    /// # Errors
    /// When the field holds bytes or the number is too large.
    #[inline]
    pub fn small<T: TryFrom<u64>>(&self) -> Result<T, FormatError> {
        T::try_from(self.number_value()?)
            .map_err(|_| FormatError::Invalid("a number is larger than its field allows"))
    }

    /// The value as a signed number.
    ///
    /// # Errors
    /// When the field holds bytes.
    #[inline]
    pub fn signed(&self) -> Result<i64, FormatError> {
        self.number_value().map(unzigzag)
    }

    /// The value as bytes.
    ///
    /// # Errors
    /// When the field holds a number, or stands a second time.
    #[inline]
    pub fn bytes(&self) -> Result<&'a [u8], FormatError> {
        match self.value()? {
            Value::Bytes(bytes) => Ok(bytes),
            Value::Number(_) => Err(FormatError::Invalid("a field that is bytes holds a number")),
        }
    }

    /// The value as text.
    ///
    /// # Errors
    /// When the field holds a number or is not UTF-8.
    pub fn text(&self) -> Result<String, FormatError> {
        std::str::from_utf8(self.bytes()?)
            .map(str::to_owned)
            .map_err(|_| FormatError::Invalid("a text is not UTF-8"))
    }

    /// The value as exactly `N` bytes.
    ///
    /// # Errors
    /// When the field holds a number or another count of bytes.
    #[inline]
    pub fn array<const N: usize>(&self) -> Result<[u8; N], FormatError> {
        self.bytes()?
            .try_into()
            .map_err(|_| FormatError::Invalid("an id or key has a wrong length"))
    }

    /// Keeps a field that the caller does not know.
    ///
    /// # Errors
    /// When it is critical.
    pub fn unknown(&self, kept: &mut Unknown) -> Result<(), FormatError> {
        if self.critical {
            return Err(FormatError::UnknownCritical {
                record: self.record,
                field: self.number,
            });
        }
        kept.0.extend_from_slice(self.raw);
        Ok(())
    }
}

/// The fields of a record, one after the other.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    input: Input<'a>,
    last: u64,
}

impl<'a> Fields<'a> {
    /// Starts reading the record `bytes`, which errors call `what`.
    #[must_use]
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self {
            input: Input::new(bytes, what),
            last: 0,
        }
    }

    #[inline]
    fn field(&mut self) -> Result<Field<'a>, FormatError> {
        let before = self.input.rest();
        let key = self.input.varint()?;
        let number = key >> 2;
        if number < self.last || number == 0 {
            return Err(FormatError::Invalid(
                "the fields of a record are not in order",
            ));
        }
        let again = number == self.last;
        self.last = number;
        let value = if key & 1 == 0 {
            Value::Number(self.input.varint()?)
        } else {
            Value::Bytes(self.input.block()?)
        };
        let length = before.len() - self.input.rest().len();
        let raw = before.get(..length).unwrap_or_default();
        Ok(Field {
            number,
            critical: key & 2 != 0,
            again,
            value,
            raw,
            record: self.input.what,
        })
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, FormatError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.input.rest = &[];
        }
        Some(field)
    }
}

/// The smallest padding class; shorter things all look alike.
pub(crate) const PADDING_MIN: u64 = 256;
/// The coarsest step between padding classes, so that padding of a large pack costs at most 0.4 %.
pub(crate) const PADDING_STEP_MAX: u64 = 131_072;

/// The padded length of `length` bytes: Padmé, with the limits above.
#[must_use]
pub fn padding_class(length: u64) -> u64 {
    if length <= PADDING_MIN {
        return PADDING_MIN;
    }
    let exponent = length.ilog2();
    let mantissa = exponent.ilog2() + 1;
    let step = (1_u64 << (exponent - mantissa)).min(PADDING_STEP_MAX);
    length.next_multiple_of(step)
}

/// `text` with its length in front and zeros behind, as long as a padding class.
#[must_use]
pub(crate) fn padded_text(text: &[u8]) -> Vec<u8> {
    let length = u32::try_from(text.len()).expect("objects are far smaller than 4 GiB");
    let total = padding_class(4 + u64::from(length)) as usize;
    // Room for nonce and tag, so that sealing in place does not copy.
    let mut padded = Vec::with_capacity(total + 64);
    padded.extend_from_slice(&length.to_le_bytes());
    padded.extend_from_slice(text);
    padded.resize(total, 0);
    padded
}

/// The text inside a padded text.
///
/// # Errors
/// When the length, the class or a padding byte is wrong.
pub(crate) fn unpadded_text<'a>(
    padded: &'a [u8],
    what: &'static str,
) -> Result<&'a [u8], FormatError> {
    let mut input = Input::new(padded, what);
    let length = input.u32()?;
    let text = input.take(length as usize)?;
    if padded.len() as u64 != padding_class(4 + u64::from(length))
        || input.rest().iter().any(|byte| *byte != 0)
    {
        return Err(FormatError::Invalid(
            "the padding is not as the format says",
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_have_one_encoding() {
        for value in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            assert_eq!(out.len(), varint_len(value));
            assert_eq!(Input::new(&out, "number").varint(), Ok(value));
        }
        assert!(
            Input::new(&[0x80, 0x00], "number").varint().is_err(),
            "longer than needed"
        );
        assert!(
            Input::new(&[0xff; 10], "number").varint().is_err(),
            "more than 64 bits"
        );
        assert_eq!(
            Input::new(&[0x80], "number").varint(),
            Err(FormatError::Truncated("number"))
        );
    }

    #[test]
    fn a_field_stands_twice_only_in_a_list() {
        let mut record = Vec::new();
        RecordWriter::new(&mut record)
            .element(1, b"a")
            .element(1, b"b")
            .number(2, 7)
            .number(2, 8);
        let fields: Vec<_> = Fields::new(&record, "it").map(Result::unwrap).collect();
        let listed = |at: usize| fields[at].listed().bytes().unwrap();
        assert_eq!((listed(0), listed(1)), (b"a".as_slice(), b"b".as_slice()));
        assert!(fields[0].bytes().is_ok() && fields[1].bytes().is_err());
        assert!(fields[2].number_value().is_ok() && fields[3].signed().is_err());
    }

    #[test]
    fn unknown_fields_survive_unless_critical() {
        let mut bytes = Vec::new();
        RecordWriter::new(&mut bytes)
            .number(1, 7)
            .bytes(9, b"later");
        let mut kept = Unknown::default();
        for field in Fields::new(&bytes, "test") {
            let field = field.unwrap();
            if field.number != 1 {
                field.unknown(&mut kept).unwrap();
            }
        }
        let mut again = Vec::new();
        let mut writer = RecordWriter::new(&mut again);
        writer.number(1, 7);
        writer.unknown(&kept);
        assert_eq!(again, bytes);

        let mut critical = Vec::new();
        RecordWriter::new(&mut critical).required_number(9, 1);
        let field = Fields::new(&critical, "test").next().unwrap().unwrap();
        assert_eq!(
            field.unknown(&mut kept),
            Err(FormatError::UnknownCritical {
                record: "test",
                field: 9
            })
        );
    }

    #[test]
    fn fields_out_of_order_are_refused() {
        let bytes = [2 << 2, 1, 1 << 2, 1];
        assert!(Fields::new(&bytes, "test").any(|field| field.is_err()));
    }

    #[test]
    fn padding_classes_are_those_of_the_page() {
        for (length, class) in [
            (0, 256),
            (256, 256),
            (257, 272),
            (1000, 1024),
            (9_000_000, 9_043_968),
            (33_554_433, 33_685_504),
        ] {
            assert_eq!(padding_class(length), class, "{length}");
        }
    }

    proptest! {
        #[test]
        fn padding_is_monotonic_small_and_reversible(text in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let padded = padded_text(&text);
            prop_assert_eq!(unpadded_text(&padded, "text").unwrap(), &text[..]);
            prop_assert!(padded.len() <= 256.max((text.len() + 4) * 113 / 100 + 1));
            prop_assert!(padding_class(padded.len() as u64) == padded.len() as u64);
        }

        #[test]
        fn signed_numbers_survive(value: i64) {
            prop_assert_eq!(unzigzag(zigzag(value)), value);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            for field in Fields::new(&bytes, "test").flatten() {
                let _ = (field.number_value(), field.bytes(), field.text());
            }
            let _ = unpadded_text(&bytes, "text");
        }
    }
}
