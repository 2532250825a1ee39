//! Packs: segments without borders, and a sealed directory that says what they are (`docs/format.md` §6).
//!
//! Invariant: the storage sees neither a chunk's length nor how many there are. A pack's length is that of a
//! padding class, and the directory's is too.

use crate::base::Base;
use crate::chunker::CHUNK_MAX;
use crate::envelope::{Envelope, RunKey, decode_area, encode_area};
use crate::error::FormatError;
use crate::frame::{HEADER_BYTES, Header, Kind, close};
use crate::hash::TreeHasher;
use crate::id::{ChunkId, FamilyId, ObjectHash, PackId, RunId, WriterId};
use crate::key::{Entropy, Recipient, context, random};
use crate::record::{
    Fields, Input, RecordWriter, Unknown, padded_text, padding_class, put_varint, unpadded_text,
    varint_len,
};
use crate::seal::{Nonce, SEAL_BYTES, open_in_place, seal};
use crate::segment::{CONTENT_MAX, Codec};
use crate::sign::{Author, Authors};

const WHAT: &str = "a pack's directory";
/// Chunks in one segment, at most.
pub(crate) const SEGMENT_CHUNKS_MAX: usize = 65_535;

/// Who wrote a segment, and for whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Origin {
    /// Whose chunks.
    pub domain: u32,
    /// Who wrote them first.
    pub writer: WriterId,
}

/// Where a moved segment comes from, or what a segment rests on; one that lies in the pack it was made for and rests on
/// nothing has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moved<'a> {
    /// Which of the pack's envelopes opens it.
    pub envelope: u16,
    /// Which of the pack's origins it has.
    pub origin: u16,
    /// Its base, as [`Base::encode`] makes it; empty without one.
    pub base: &'a [u8],
}

/// One segment in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row<'a> {
    /// Offset of the sealed segment behind the first one.
    pub offset: u64,
    /// Length of the sealed segment.
    pub sealed_bytes: u64,
    /// How its content is stored.
    pub codec: Codec,
    /// Set for a moved segment and for one with a base.
    pub moved: Option<Moved<'a>>,
    /// The chunks' ids, concatenated.
    pub ids: &'a [u8],
}

impl Row<'_> {
    /// How many chunks.
    #[must_use]
    pub fn count(&self) -> usize {
        self.ids.len() / ChunkId::LENGTH
    }

    /// The chunks' ids in order.
    pub fn chunk_ids(&self) -> impl Iterator<Item = ChunkId> {
        self.ids
            .chunks_exact(ChunkId::LENGTH)
            .filter_map(ChunkId::from_slice)
    }

    /// What it rests on; `None` for a segment without a base.
    #[must_use]
    pub fn base(&self) -> Option<Base> {
        let moved = self.moved.filter(|moved| !moved.base.is_empty())?;
        Some(Base::decode(moved.base).expect("a row's base is looked at when the row is read"))
    }

    /// How many segments stand on each other up to this one, without it.
    #[must_use]
    pub fn height(&self) -> u8 {
        let height = self.moved.and_then(|moved| moved.base.first());
        height.copied().unwrap_or_default()
    }

    /// Which of the pack's origins the segment has.
    #[must_use]
    pub fn origin(&self) -> u16 {
        self.moved.map_or(0, |moved| moved.origin)
    }
}

/// Appends a row; `ids` are concatenated.
pub fn put_row(
    rows: &mut Vec<u8>,
    sealed_bytes: u64,
    codec: Codec,
    moved: Option<Moved<'_>>,
    ids: &[u8],
) {
    let count = ids.len() / ChunkId::LENGTH;
    assert!(
        (1..=SEGMENT_CHUNKS_MAX).contains(&count) && ids.len().is_multiple_of(ChunkId::LENGTH),
        "a segment has 1 to 65,535 chunks"
    );
    put_varint(rows, sealed_bytes);
    put_varint(
        rows,
        (count as u64) << 4 | (codec as u64) << 1 | u64::from(moved.is_some()),
    );
    if let Some(moved) = moved {
        put_varint(rows, moved.envelope.into());
        put_varint(rows, moved.origin.into());
        put_varint(rows, moved.base.len() as u64);
        rows.extend_from_slice(moved.base);
    }
    rows.extend_from_slice(ids);
}

/// The rows of a directory or of an index entry.
#[derive(Clone, Debug)]
pub struct Rows<'a> {
    input: Input<'a>,
    offset: u64,
}

impl<'a> Rows<'a> {
    /// Starts reading `rows`.
    #[must_use]
    pub fn new(rows: &'a [u8]) -> Self {
        Self {
            input: Input::new(rows, WHAT),
            offset: 0,
        }
    }

    fn row(&mut self) -> Result<Row<'a>, FormatError> {
        let sealed_bytes = self.input.varint()?;
        let head = self.input.varint()?;
        let (count, codec) = (head >> 4, Codec::from_number(head >> 1 & 7)?);
        if !(SEAL_BYTES as u64..=(CONTENT_MAX + SEAL_BYTES) as u64).contains(&sealed_bytes)
            || !(1..=SEGMENT_CHUNKS_MAX as u64).contains(&count)
        {
            return Err(FormatError::Invalid("a row's numbers are not allowed"));
        }
        let moved = if head & 1 == 1 {
            let small = |value: u64| {
                u16::try_from(value)
                    .map_err(|_| FormatError::Invalid("a row's numbers are not allowed"))
            };
            Some(Moved {
                envelope: small(self.input.varint()?)?,
                origin: small(self.input.varint()?)?,
                base: self.input.block()?,
            })
        } else {
            None
        };
        if (codec == Codec::ZstdBase) != moved.is_some_and(|moved| !moved.base.is_empty()) {
            return Err(FormatError::Invalid("a row's codec does not fit its base"));
        }
        if codec == Codec::ZstdBase {
            Base::decode(moved.map_or(&[], |moved| moved.base))?;
        }
        let ids = self.input.take(count as usize * ChunkId::LENGTH)?;
        let row = Row {
            offset: self.offset,
            sealed_bytes,
            codec,
            moved,
            ids,
        };
        self.offset = self
            .offset
            .checked_add(sealed_bytes)
            .ok_or(FormatError::Invalid("a row's numbers are not allowed"))?;
        Ok(row)
    }
}

impl<'a> Iterator for Rows<'a> {
    type Item = Result<Row<'a>, FormatError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.input.is_empty() {
            return None;
        }
        let row = self.row();
        if row.is_err() {
            self.input = Input::new(&[], WHAT);
        }
        Some(row)
    }
}

/// Appends origins as list field `field`.
pub(crate) fn put_origins(writer: &mut RecordWriter<'_>, field: u64, origins: &[Origin]) {
    for origin in origins {
        writer.record(field, |record| {
            record
                .number(1, origin.domain.into())
                .required_bytes(2, &origin.writer.0);
        });
    }
}

/// Reads one origin.
pub(crate) fn decode_origin(bytes: &[u8]) -> Result<Origin, FormatError> {
    let (mut domain, mut writer, mut unknown) = (0, None, Unknown::default());
    for field in Fields::new(bytes, "an origin") {
        let field = field?;
        match field.number {
            1 => domain = field.small()?,
            2 => writer = Some(WriterId(field.array()?)),
            _ => field.unknown(&mut unknown)?,
        }
    }
    Ok(Origin {
        domain,
        writer: writer.ok_or(FormatError::Truncated("an origin"))?,
    })
}

/// Checks everything that rows say against what stands around them.
///
/// # Errors
/// When a row names an envelope or origin that is not there, or the segments do not fit the room that is there.
pub(crate) fn check_rows(
    rows: &[u8],
    envelopes: usize,
    origins: usize,
    room: u64,
) -> Result<(), FormatError> {
    let mut end = 0;
    for row in Rows::new(rows) {
        let row = row?;
        end = row.offset + row.sealed_bytes;
        if usize::from(row.origin()) >= origins
            || row
                .moved
                .is_some_and(|moved| usize::from(moved.envelope) >= envelopes)
        {
            return Err(FormatError::Invalid(
                "a row names an envelope or origin that is not there",
            ));
        }
    }
    if end > room {
        Err(FormatError::Invalid(
            "the rows' segments are longer than the pack",
        ))
    } else {
        Ok(())
    }
}

/// Writes a pack from front to back: the caller stores the bytes, this keeps the hash and the rows.
pub struct PackBuilder {
    header: Header,
    hasher: TreeHasher,
    rows: Vec<u8>,
    envelopes: Vec<Envelope>,
    segments_at: u64,
}

/// The last bytes of a pack, and what the index says about it.
pub struct FinishedPack {
    /// Bytes after the last segment.
    pub tail: Vec<u8>,
    /// The pack's row in the index; its `envelopes` are numbers into the pack's own.
    pub entry: PackEntry,
    /// The pack's envelopes.
    pub envelopes: Vec<Envelope>,
}

impl PackBuilder {
    /// Starts a pack; the bytes are its first ones. The first envelope of the pack's recipient opens its segments, the first
    /// one of recipient meta its directory.
    #[must_use]
    pub fn begin(
        kind: Kind,
        family: FamilyId,
        run: RunId,
        created_ms: u64,
        envelopes: &[Envelope],
    ) -> (Self, Vec<u8>) {
        let header = Header::by_content(kind, family, run, created_ms);
        let mut first = header.encode().to_vec();
        first.extend_from_slice(&encode_area(envelopes));
        let mut hasher = TreeHasher::new();
        hasher.update(&first);
        let segments_at = first.len() as u64;
        (
            Self {
                header,
                hasher,
                rows: Vec::new(),
                envelopes: envelopes.to_vec(),
                segments_at,
            },
            first,
        )
    }

    /// Takes note of the segment whose bytes come next.
    pub fn append(&mut self, sealed: &[u8], codec: Codec, moved: Option<Moved<'_>>, ids: &[u8]) {
        self.hasher.update(sealed);
        put_row(&mut self.rows, sealed.len() as u64, codec, moved, ids);
    }

    /// Bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.hasher.length()
    }

    /// The rows of the segments so far.
    #[must_use]
    pub fn rows(&self) -> &[u8] {
        &self.rows
    }

    /// Offset of the first segment.
    #[must_use]
    pub fn segments_at(&self) -> u64 {
        self.segments_at
    }

    /// Ends the pack with padding, directory, table, footer and hash.
    #[must_use]
    pub fn finish(
        mut self,
        origins: &[Origin],
        author: &Author,
        meta_key: &RunKey,
        entropy: &mut dyn Entropy,
    ) -> FinishedPack {
        let padding = padding_class(self.length()) - self.length();
        let mut tail = vec![0; usize::try_from(padding).expect("padding is at most 128 KiB")];
        entropy.fill(&mut tail);
        self.hasher.update(&tail);

        let header = self.header.encode();
        let mut record = Vec::with_capacity(self.rows.len() + 128);
        let mut writer = RecordWriter::new(&mut record);
        writer.required_bytes(1, &self.hasher.hash().0);
        put_origins(&mut writer, 2, origins);
        writer.required_bytes(3, &self.rows);
        let text = padded_text(&author.sign_record(&header, "", &record));
        let start = tail.len();
        // The key is random for this run, the nonce for this pack; the data binds kind, family, run and time.
        seal(
            meta_key.directory(),
            Nonce(random(entropy)),
            &directory_data(&header),
            &text,
            &mut tail,
        );
        let directory = tail.get(start..).expect("the directory was just appended");
        let directory_bytes =
            u32::try_from(directory.len()).expect("a directory is smaller than 4 GiB");
        self.hasher.update(directory);

        let (end, hash) = close(self.hasher.clone(), directory_bytes);
        tail.extend_from_slice(&end);
        let (run, _) = self
            .header
            .run
            .0
            .split_first_chunk::<8>()
            .expect("a run id is longer than 8 bytes");
        let entry = PackEntry {
            id: PackId(hash.0),
            run: *run,
            kind: self.header.kind,
            object_bytes: self.hasher.length() + end.len() as u64,
            segments_at: self.segments_at,
            origins: origins.to_vec(),
            rows: self.rows,
            envelopes: (0..self.envelopes.len() as u32).collect(),
        };
        FinishedPack {
            tail,
            entry,
            envelopes: self.envelopes,
        }
    }
}

fn directory_data(header: &[u8; HEADER_BYTES]) -> Vec<u8> {
    [context::DIRECTORY.as_bytes(), header].concat()
}

/// What the index says about a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackEntry {
    /// Its name.
    pub id: PackId,
    /// The first half of the id of the run that wrote it; part of the object's name.
    pub run: [u8; 8],
    /// Data or meta.
    pub kind: Kind,
    /// Length of the object.
    pub object_bytes: u64,
    /// Offset of the first segment.
    pub segments_at: u64,
    /// Who wrote its segments.
    pub origins: Vec<Origin>,
    /// Its rows, as they stand in the directory.
    pub rows: Vec<u8>,
    /// For each of the pack's envelopes its number in the index object.
    pub envelopes: Vec<u32>,
}

/// An opened directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory {
    /// BLAKE3 of all the pack's bytes before the directory.
    pub area_hash: ObjectHash,
    /// Who wrote its segments.
    pub origins: Vec<Origin>,
    /// Its rows.
    pub rows: Vec<u8>,
    /// Who signed it.
    pub author: WriterId,
}

/// The first bytes of a pack, read apart from the rest.
#[derive(Clone, Debug)]
pub struct PackFront {
    /// The header.
    pub header: Header,
    /// The pack's envelopes; `None` for a suite that this program does not know.
    pub envelopes: Vec<Option<Envelope>>,
    /// Offset of the first segment.
    pub segments_at: u64,
}

impl PackFront {
    /// Reads header and envelopes from the first bytes of a pack, or `None` when more bytes are needed.
    ///
    /// # Errors
    /// When they are malformed or the object is no pack.
    pub fn decode(bytes: &[u8]) -> Result<Option<Self>, FormatError> {
        let header = Header::decode(bytes)?;
        if !matches!(header.kind, Kind::DataPack | Kind::MetaPack) {
            return Err(FormatError::Invalid("the object is not a pack"));
        }
        let area = bytes.get(HEADER_BYTES..).unwrap_or_default();
        let mut input = Input::new(area, "a pack's envelopes");
        match decode_area(&mut input) {
            Ok(envelopes) => Ok(Some(Self {
                header,
                envelopes,
                segments_at: (HEADER_BYTES + area.len() - input.rest().len()) as u64,
            })),
            Err(FormatError::Truncated(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The number of the envelope that opens `row`.
    #[must_use]
    pub fn envelope_of(&self, row: &Row<'_>) -> Option<u16> {
        envelope_number(
            row,
            self.header.kind,
            self.envelopes
                .iter()
                .map(|envelope| envelope.map(|envelope| envelope.recipient)),
        )
    }

    /// The envelope that opens the directory.
    #[must_use]
    pub fn directory_envelope(&self) -> Option<&Envelope> {
        self.envelopes
            .iter()
            .flatten()
            .find(|envelope| envelope.recipient == Recipient::Meta)
    }

    /// Opens the sealed directory.
    ///
    /// # Errors
    /// When it does not open, is not signed by one of `authors`, or says something that cannot be.
    pub fn open_directory(
        &self,
        key: &RunKey,
        sealed: &mut [u8],
        area_bytes: u64,
        authors: &Authors,
    ) -> Result<Directory, FormatError> {
        let header = self.header.encode();
        let text = open_in_place(key.directory(), &directory_data(&header), sealed, WHAT)?;
        let (record, author) =
            authors.verify_record(&header, "", unpadded_text(text, WHAT)?, WHAT)?;
        let (mut area_hash, mut rows, mut origins, mut unknown) =
            (None, None, Vec::new(), Unknown::default());
        for field in Fields::new(record, WHAT) {
            let field = field?;
            match field.number {
                1 => area_hash = Some(ObjectHash(field.array()?)),
                2 => origins.push(decode_origin(field.listed().bytes()?)?),
                3 => rows = Some(field.bytes()?.to_vec()),
                _ => field.unknown(&mut unknown)?,
            }
        }
        let (Some(area_hash), Some(rows)) = (area_hash, rows) else {
            return Err(FormatError::Truncated(WHAT));
        };
        check_rows(
            &rows,
            self.envelopes.len(),
            origins.len(),
            area_bytes.saturating_sub(self.segments_at),
        )?;
        check_origins(&origins, author, authors)?;
        Ok(Directory {
            area_hash,
            origins,
            rows,
            author,
        })
    }
}

/// The number of the envelope that opens `row` in a pack whose envelopes have these recipients.
#[must_use]
pub fn envelope_number(
    row: &Row<'_>,
    kind: Kind,
    mut recipients: impl Iterator<Item = Option<Recipient>>,
) -> Option<u16> {
    if let Some(moved) = row.moved {
        return Some(moved.envelope);
    }
    let recipient = recipient_of(kind);
    recipients
        .position(|candidate| candidate == Some(recipient))
        .and_then(|number| u16::try_from(number).ok())
}

/// Whose key seals the segments of packs of this kind.
#[must_use]
pub fn recipient_of(kind: Kind) -> Recipient {
    if kind == Kind::DataPack {
        Recipient::Data
    } else {
        Recipient::Meta
    }
}

/// A writer speaks for itself and its domain only; the admin, who moves segments, for everyone.
///
/// # Errors
/// When an origin is not the author's own.
pub(crate) fn check_origins(
    origins: &[Origin],
    author: WriterId,
    authors: &Authors,
) -> Result<(), FormatError> {
    if author == authors.admin_id() {
        return Ok(());
    }
    let domain = authors.writer(author).map(|writer| writer.domain);
    if origins
        .iter()
        .all(|origin| origin.writer == author && Some(origin.domain) == domain)
    {
        Ok(())
    } else {
        Err(FormatError::Signature("a row of another writer"))
    }
}

/// Bytes of metadata that a chunk costs in a segment of `count` chunks of `chunk_bytes` each: list, directory, index, lengths.
#[must_use]
pub fn metadata_per_chunk(count: u64, chunk_bytes: u64) -> f64 {
    assert!(
        chunk_bytes as usize <= CHUNK_MAX && count > 0,
        "a real segment"
    );
    let list = varint_len(chunk_bytes << 1) + ChunkId::LENGTH;
    let row = (varint_len(count * chunk_bytes) + varint_len(count << 4)) as f64 / count as f64
        + ChunkId::LENGTH as f64;
    let lengths = if count > 1 {
        varint_len(chunk_bytes) as f64 + 4.0 / count as f64
    } else {
        0.0
    };
    list as f64 + 2.0 * row + lengths
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Frame;
    use crate::key::Keyring;
    use crate::key::tests::Counted;
    use crate::record::padding_class;
    use crate::sign::Enrolled;

    struct World {
        keyring: Keyring,
        author: Author,
        authors: Authors,
        family: FamilyId,
        entropy: Counted,
    }

    fn world() -> World {
        let mut entropy = Counted(0);
        let keyring = Keyring::create(&mut entropy);
        let author = Author::new(&crate::key::Secret::new([5; 32]));
        let mut authors = Authors::new(Author::new(keyring.admin.as_ref().unwrap()).public());
        authors.enrol(Enrolled {
            public: author.public(),
            domain: 0,
            role: crate::key::Role::Full,
        });
        World {
            keyring,
            author,
            authors,
            family: FamilyId([1; 16]),
            entropy,
        }
    }

    fn pack(
        world: &mut World,
        segments: &[(&[u8], &[u8])],
        origin: Origin,
    ) -> (Vec<u8>, PackEntry) {
        let (data, _) = Envelope::create(
            Recipient::Data,
            &world.keyring,
            world.family,
            &mut world.entropy,
        );
        let (meta, meta_key) = Envelope::create(
            Recipient::Meta,
            &world.keyring,
            world.family,
            &mut world.entropy,
        );
        let (mut builder, mut object) = PackBuilder::begin(
            Kind::DataPack,
            world.family,
            RunId([9; 16]),
            1,
            &[data, meta],
        );
        for (sealed, ids) in segments {
            builder.append(sealed, Codec::Raw, None, ids);
            object.extend_from_slice(sealed);
        }
        let finished = builder.finish(&[origin], &world.author, &meta_key, &mut world.entropy);
        object.extend_from_slice(&finished.tail);
        (object, finished.entry)
    }

    fn open(world: &World, object: &[u8]) -> Result<(PackFront, Directory), FormatError> {
        let frame = Frame::decode(object)?;
        let front = PackFront::decode(object)?.unwrap();
        let key = front
            .directory_envelope()
            .unwrap()
            .open(&world.keyring, world.family)?;
        let end = HEADER_BYTES + frame.body.len();
        let start = end - frame.directory_bytes as usize;
        let directory = front.open_directory(
            &key,
            &mut object[start..end].to_vec(),
            start as u64,
            &world.authors,
        )?;
        assert_eq!(
            directory.area_hash.0,
            *blake3::hash(&object[..start]).as_bytes()
        );
        assert_eq!(padding_class(start as u64), start as u64);
        Ok((front, directory))
    }

    #[test]
    fn a_pack_says_what_was_put_in() {
        let mut world = world();
        let own = Origin {
            domain: 0,
            writer: world.author.id(),
        };
        let (object, entry) = pack(
            &mut world,
            &[(&[1; 5000], &[7; 32]), (&[2; 90_000], &[8; 16])],
            own,
        );
        assert_eq!(
            (entry.object_bytes, entry.id.0),
            (object.len() as u64, Frame::decode(&object).unwrap().hash.0)
        );
        let (front, directory) = open(&world, &object).unwrap();
        assert_eq!(
            (directory.rows.clone(), front.segments_at),
            (entry.rows, entry.segments_at)
        );
        let rows: Vec<Row<'_>> = Rows::new(&directory.rows)
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(rows.iter().map(Row::count).collect::<Vec<_>>(), [2, 1]);
        let at = front.segments_at as usize + rows[1].offset as usize;
        assert_eq!(object[at..at + 90_000], [2; 90_000]);
        assert_eq!(front.envelope_of(&rows[0]), Some(0));
    }

    #[test]
    fn a_writer_cannot_speak_for_another() {
        let mut world = world();
        for origin in [
            Origin {
                domain: 1,
                writer: world.author.id(),
            },
            Origin {
                domain: 0,
                writer: WriterId([3; 16]),
            },
        ] {
            let (object, _) = pack(&mut world, &[(&[1; 5000], &[7; 16])], origin);
            assert_eq!(
                open(&world, &object).unwrap_err(),
                FormatError::Signature("a row of another writer")
            );
        }
    }

    #[test]
    fn rows_that_cannot_be_are_refused() {
        let mut rows = Vec::new();
        put_row(&mut rows, 5000, Codec::Raw, None, &[1; 16]);
        assert!(check_rows(&rows, 1, 1, 5000).is_ok());
        assert!(
            check_rows(&rows, 1, 1, 4999).is_err(),
            "longer than the pack"
        );
        assert!(check_rows(&rows, 1, 0, 5000).is_err(), "no such origin");
        let mut moved = Vec::new();
        put_row(
            &mut moved,
            5000,
            Codec::Zstd,
            Some(Moved {
                envelope: 3,
                origin: 0,
                base: &[],
            }),
            &[1; 16],
        );
        assert!(
            check_rows(&moved, 4, 1, 5000).is_ok() && check_rows(&moved, 3, 1, 5000).is_err(),
            "no such envelope"
        );
        let mut lying = Vec::new();
        put_varint(&mut lying, 5000);
        put_varint(&mut lying, u64::MAX);
        assert!(check_rows(&lying, 1, 1, 5000).is_err(), "a count of 2^60");
    }

    #[test]
    fn the_budget_of_the_page_holds() {
        assert!((metadata_per_chunk(16, 64 << 10) - 54.9).abs() < 0.2);
        assert!(metadata_per_chunk(1, 1 << 20) <= 61.0);
        for (count, bytes) in [
            (1, 4 << 20),
            (4, 256 << 10),
            (64, 16 << 10),
            (128, 8 << 10),
            (32, 32 << 10),
        ] {
            assert!(
                metadata_per_chunk(count, bytes) <= 64.0,
                "{count} chunks of {bytes}"
            );
        }
    }
}
