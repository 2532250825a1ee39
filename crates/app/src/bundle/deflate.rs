//! A deflate stream as its text and corrections, and the same bits again from those (`docs/format.md` §7).
//!
//! A stream is taken apart in pieces of whole blocks: preflate-rs guesses from the first one how it was packed, and notes where
//! that was otherwise. Where its guess fails, it begins anew with the next piece: it gets a stream that begins with what came
//! before, so that matches find what they repeat, and that begins at a whole byte. Invariant: a piece counts only when the bits
//! that come from its text and corrections, by the code that a restore runs, are those that were read.

use std::cell::Cell;
use std::io::Cursor;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::Once;

use preflate_rs::{PreflateConfig, PreflateStreamProcessor, RecreateStreamProcessor};

use super::inflate::{WINDOW_BYTES, block};

/// A piece ends with the first block behind so much text.
const PIECE_BYTES: usize = 2 << 20;
/// One with more text is not taken apart.
const TEXT_MAX: usize = 6 << 20;
/// More packed bytes are never looked at at once.
pub(super) const PACKED_BYTES: usize = 2 << 20;
/// A piece of which a repository says that it has more text is refused, or more bits or corrections for each byte of it.
pub(super) const TEXT_REFUSED: usize = 32 << 20;
/// preflate counts bytes in 31 bits, so that it begins anew before it has seen so many.
const FRESH_BYTES: u64 = 1 << 30;
/// From this many bytes of text on, no byte of a stream may stand for more than so many of text.
const RATIO_FREE: u64 = 1 << 20;
const RATIO_MAX: u64 = 64;

/// It cannot be taken apart, or not be made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Unproven;

/// How preflate begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fresh {
    /// With the sample before what came before.
    pub(super) has_sample: bool,
    /// The bits before the piece that were not made with those before it: fewer than eight.
    pub(super) tail: u8,
}

/// How a piece is made again, but for its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of its text.
    pub(super) text_bytes: usize,
    /// Bits that it makes.
    pub(super) bits: usize,
    /// Preflate begins anew with it.
    pub(super) fresh: Option<Fresh>,
    /// It ends the stream.
    pub(super) is_last: bool,
    /// What preflate noted.
    pub(super) corrections: Vec<u8>,
}

/// Puts bits behind each other.
#[derive(Default)]
struct Joined {
    bytes: Vec<u8>,
    /// Bits of the last byte that are there; 0 when it is whole.
    bits: u32,
}

impl Joined {
    /// Appends `count` bits of `from`, from bit `first` on. The bits behind the last one are zeros.
    fn put(&mut self, from: &[u8], first: usize, count: usize) {
        let byte = |at: usize| u16::from(from.get(at).copied().unwrap_or(0));
        let (mut at, mut left) = (first, count);
        if self.bits == 0 && first.is_multiple_of(8) {
            let whole = count / 8;
            self.bytes
                .extend_from_slice(&from[first / 8..first / 8 + whole]);
            (at, left) = (first + whole * 8, count % 8);
        }
        while left > 0 {
            let eight = (byte(at / 8) | byte(at / 8 + 1) << 8) >> (at % 8);
            let count = left.min(8) as u32;
            let value = eight & ((1 << count) - 1);
            if self.bits == 0 {
                self.bytes.push(value as u8);
            } else if let Some(last) = self.bytes.last_mut() {
                *last |= (value << self.bits) as u8;
                if self.bits + count > 8 {
                    self.bytes.push((value >> (8 - self.bits)) as u8);
                }
            }
            self.bits = (self.bits + count) % 8;
            at += count as usize;
            left -= count as usize;
        }
    }

    /// The whole bytes, which are forgotten.
    fn whole(&mut self) -> Vec<u8> {
        let rest = if self.bits > 0 {
            self.bytes.pop()
        } else {
            None
        };
        std::mem::replace(&mut self.bytes, Vec::from_iter(rest))
    }
}

/// A block that says: whoever packed this put every place of long matches into its table. preflate knows that only when it sees
/// a match that begins inside of one of 258 bytes, and takes other packers for zlib's fast levels where a text has none.
fn sample(feed: &mut Joined) {
    // The code of RFC 1951, 3.2.6: of a letter from 144 on 9 bits, of length 258 the 8 bits 11000101, of the end 7 zeros.
    let mut code = |value: u32, count: u32| {
        let bits = value.reverse_bits() >> (32 - count);
        feed.put(&bits.to_le_bytes(), 0, count as usize);
    };
    code(0b0, 1);
    code(0b10, 2);
    let letters = [0xfe_u32, 0xff, 0xfd, 0xfc, 0xfb];
    for letter in letters {
        code(0b1_1001_0000 + letter - 144, 9);
    }
    let mut repeat = |symbol: u32, extra: u32, extra_bits: u32| {
        code(0b1100_0101, 8);
        code(symbol, 5);
        // Extra bits stand with the lowest first.
        for bit in 0..extra_bits {
            code(extra >> bit & 1, 1);
        }
    };
    // Five bytes back, so the first match repeats the letters; then from inside of it.
    repeat(4, 0, 1);
    repeat(4, 0, 1);
    code(0, 7);
}

/// What stands before a piece: perhaps the sample, then what came before as a stored block, so that the piece begins at a byte.
fn before(has_sample: bool, window: &[u8]) -> Joined {
    let mut feed = Joined::default();
    if has_sample {
        sample(&mut feed);
    }
    feed.put(&[0], 0, 3);
    feed.bits = 0;
    let length = window.len() as u16;
    feed.bytes.extend_from_slice(&length.to_le_bytes());
    feed.bytes.extend_from_slice(&(!length).to_le_bytes());
    feed.bytes.extend_from_slice(window);
    feed
}

/// The text of the sample.
const SAMPLE: [u8; 5] = [0xfe, 0xff, 0xfd, 0xfc, 0xfb];
const SAMPLE_TEXT_BYTES: usize = 5 + 2 * 258;

/// What the text that came before leaves: as much as a match may reach.
fn keep_window(text: &mut Vec<u8>) {
    let surplus = text.len().saturating_sub(WINDOW_BYTES);
    text.drain(..surplus);
}

/// The text that [`before`] holds.
fn text_before(has_sample: bool, window: &[u8]) -> Vec<u8> {
    let sample = if has_sample { SAMPLE_TEXT_BYTES } else { 0 };
    let mut text: Vec<u8> = SAMPLE.iter().copied().cycle().take(sample).collect();
    text.extend_from_slice(window);
    text
}

/// What others' code makes of bytes that others wrote: its panics are errors like its errors.
fn tried<T>(work: impl FnOnce() -> preflate_rs::Result<T>) -> Result<T, Unproven> {
    thread_local! {
        static IS_TRYING: Cell<bool> = const { Cell::new(false) };
    }
    static QUIET: Once = Once::new();
    // They are not told to people either, who could do nothing about them.
    QUIET.call_once(|| {
        let told = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !IS_TRYING.get() {
                told(panic);
            }
        }));
    });
    IS_TRYING.set(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    IS_TRYING.set(false);
    done.map_err(|_| Unproven)?.map_err(|_| Unproven)
}

/// Makes a stream again, piece by piece.
#[derive(Default)]
pub(super) struct Packer {
    window: Vec<u8>,
    packing: Option<RecreateStreamProcessor>,
    out: Joined,
    /// Bits that are to come of the pieces so far.
    due: usize,
}

impl Packer {
    /// The bytes that are whole with this piece.
    pub(super) fn piece(&mut self, head: &Head, text: &[u8]) -> Result<Vec<u8>, Unproven> {
        let mut first = 0;
        let mut whole = Vec::new();
        let mut begun = Joined::default();
        if let Some(fresh) = head.fresh {
            if self.due >= 8 {
                return Err(Unproven);
            }
            self.out.put(&[fresh.tail], 0, self.due);
            self.due = 0;
            begun = before(fresh.has_sample, &self.window);
            first = begun.bytes.len();
            whole = text_before(fresh.has_sample, &self.window);
            self.packing = Some(RecreateStreamProcessor::new());
        }
        whole.extend_from_slice(text);
        let packing = self.packing.as_mut().ok_or(Unproven)?;
        let (made, _) = tried(|| packing.recompress(&mut Cursor::new(&whole), &head.corrections))?;
        drop(whole);
        if !made.starts_with(&begun.bytes) {
            return Err(Unproven);
        }
        self.due += head.bits;
        let there = (made.len() - first) * 8;
        let bits = if head.is_last { self.due } else { there };
        if bits > there || bits > self.due || self.due - bits >= 8 {
            return Err(Unproven);
        }
        self.out.put(&made, first * 8, bits);
        self.due -= bits;
        if head.is_last {
            self.out.bits = 0;
        }
        let seen = text.len().saturating_sub(WINDOW_BYTES);
        self.window.extend_from_slice(&text[seen..]);
        keep_window(&mut self.window);
        Ok(self.out.whole())
    }
}

/// Takes a stream apart, piece by piece.
#[derive(Default)]
pub(super) struct Unpacker {
    /// What came before, and behind it the text of the piece.
    text: Vec<u8>,
    window_bytes: usize,
    /// Where in the first byte of what is left the next block begins, and where in a byte of what preflate is given.
    bit: usize,
    fed_bit: usize,
    is_done: bool,
    /// Whether the sample does any good; not known before the first piece.
    has_sample: Option<bool>,
    analysis: Option<PreflateStreamProcessor>,
    /// Bytes that it saw.
    seen_bytes: u64,
    packer: Packer,
    packed_bytes: u64,
    text_bytes: u64,
}

/// A piece as it lies in what is left of the stream.
#[derive(Clone, Copy)]
struct Span {
    end: usize,
    is_last: bool,
}

impl Unpacker {
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// The text of the piece that was taken last.
    pub(super) fn text(&self) -> &[u8] {
        &self.text[self.window_bytes..]
    }

    /// Takes the next piece from the front of `packed`, which has at least [`PACKED_BYTES`] or all that there is; returns how
    /// many bytes of it are done with. After an error nothing more can be taken.
    pub(super) fn piece(&mut self, packed: &[u8]) -> Result<(Head, usize), Unproven> {
        let span = self.blocks(packed)?;
        let going_on = match self.analysis.take() {
            Some(analysis) if self.seen_bytes < FRESH_BYTES => {
                self.analyse(packed, span, analysis, None).ok()
            }
            _ => None,
        };
        let (head, analysis) = match going_on {
            Some(found) => found,
            None => self.begin(packed, span)?,
        };
        let bytes = self.packer.piece(&head, &self.text[self.window_bytes..])?;
        if packed.get(..bytes.len()) != Some(&bytes[..]) {
            return Err(Unproven);
        }
        self.packed_bytes += bytes.len() as u64;
        self.text_bytes += head.text_bytes as u64;
        // Corrections as large as the stream are no gain, and a text without bounds is an attack.
        let is_dear = head.corrections.len() * 4 > (span.end - self.bit) / 8 + 4096;
        let is_bomb = self.text_bytes > RATIO_FREE + self.packed_bytes.saturating_mul(RATIO_MAX);
        if is_dear || is_bomb {
            return Err(Unproven);
        }
        self.analysis = Some(analysis);
        // What preflate holds back of a byte is left to be seen again, up to two bytes of ours.
        self.bit = span.end.saturating_sub(bytes.len() * 8);
        self.is_done = span.is_last;
        Ok((head, bytes.len()))
    }

    /// Reads the blocks of the next piece.
    fn blocks(&mut self, packed: &[u8]) -> Result<Span, Unproven> {
        keep_window(&mut self.text);
        self.window_bytes = self.text.len();
        let longest = self.window_bytes + TEXT_MAX;
        let (mut end, mut is_last) = (self.bit, false);
        while !is_last && self.text().len() < PIECE_BYTES {
            let start = self.text.len();
            match block(packed, end, &mut self.text, longest) {
                Ok(next) => (end, is_last) = next,
                // What is whole is a piece; the rest may be in the next.
                Err(_) if end > self.bit => {
                    self.text.truncate(start);
                    break;
                }
                Err(_) => return Err(Unproven),
            }
        }
        Ok(Span { end, is_last })
    }

    /// Begins anew, with the sample or without it, whichever needs fewer corrections.
    fn begin(
        &mut self,
        packed: &[u8],
        span: Span,
    ) -> Result<(Head, PreflateStreamProcessor), Unproven> {
        let tail = (0..self.packer.due).fold(0, |tail, number| {
            let at = self.bit - self.packer.due + number;
            tail | (packed[at / 8] >> (at % 8) & 1) << number
        });
        let mut best: Option<(Head, PreflateStreamProcessor)> = None;
        let mut fed = (0, 0);
        for has_sample in [true, false] {
            if self.has_sample.is_some_and(|known| known != has_sample) {
                continue;
            }
            let config = PreflateConfig {
                max_chain_length: 4096,
                plain_text_limit: TEXT_REFUSED,
                // Proven by what a restore runs instead.
                verify_compression: false,
            };
            let fresh = Fresh { has_sample, tail };
            let analysis = PreflateStreamProcessor::new(&config);
            (self.fed_bit, self.seen_bytes) = (0, 0);
            let Ok(found) = self.analyse(packed, span, analysis, Some(fresh)) else {
                continue;
            };
            let needs = found.0.corrections.len();
            if best
                .as_ref()
                .is_none_or(|(head, _)| needs < head.corrections.len())
            {
                best = Some(found);
                fed = (self.fed_bit, self.seen_bytes);
            }
        }
        let best = best.ok_or(Unproven)?;
        (self.fed_bit, self.seen_bytes) = fed;
        self.has_sample = best.0.fresh.map(|fresh| fresh.has_sample);
        Ok(best)
    }

    fn analyse(
        &mut self,
        packed: &[u8],
        span: Span,
        mut analysis: PreflateStreamProcessor,
        fresh: Option<Fresh>,
    ) -> Result<(Head, PreflateStreamProcessor), Unproven> {
        let bits = span.end - self.bit;
        let window = &self.text[..self.window_bytes];
        let mut feed = Joined::default();
        let mut expected = Vec::new();
        if let Some(fresh) = fresh {
            feed = before(fresh.has_sample, window);
            expected = text_before(fresh.has_sample, window);
        } else {
            // Of a byte that was begun preflate skips what it has seen.
            feed.put(&[0], 0, self.fed_bit);
        }
        let begun_bits = feed.bytes.len() * 8;
        let begun_bits = if fresh.is_some() {
            begun_bits
        } else {
            self.fed_bit
        };
        feed.put(packed, self.bit, bits);
        analysis.shrink_to_dictionary();
        let analysed = tried(|| analysis.decompress(&feed.bytes))?;
        let all = begun_bits + bits;
        let whole = if span.is_last {
            all.div_ceil(8)
        } else {
            all / 8
        };
        let text = analysis.plain_text().text();
        let is_as_read = text.strip_prefix(&expected[..]) == Some(self.text());
        if analysed.compressed_size != whole || !is_as_read || analysis.is_done() != span.is_last {
            return Err(Unproven);
        }
        self.fed_bit = all % 8;
        self.seen_bytes += text.len() as u64;
        let head = Head {
            text_bytes: self.text().len(),
            bits,
            fresh,
            is_last: span.is_last,
            corrections: analysed.corrections,
        };
        Ok((head, analysis))
    }
}
