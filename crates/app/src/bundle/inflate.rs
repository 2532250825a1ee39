//! Reads a deflate stream block by block (RFC 1951), and says to the bit where each block ends.
//!
//! Only what a block holds and where it ends is wanted; how it was packed is for others. Memory is the text that the caller
//! keeps, and a block adds at most what it is told to.

/// How far back a match may reach.
pub(super) const WINDOW_BYTES: usize = 32 << 10;
const LENGTH_BASE: [u16; 29] = [
    3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131,
    163, 195, 227, 258,
];
const LENGTH_EXTRA: [u8; 29] = [
    0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0,
];
const DISTANCE_BASE: [u16; 30] = [
    1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537,
    2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577,
];
const DISTANCE_EXTRA: [u8; 30] = [
    0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13,
    13,
];
const LENGTHS_ORDER: [usize; 19] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// Why a block was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unread {
    /// The bytes end before the block does.
    Short,
    /// It is no deflate, or holds more than it may.
    Wrong,
}

/// Bits from the low end of each byte on. Behind the end come zeros, which are noticed when the block is over.
struct Bits<'p> {
    packed: &'p [u8],
    at: usize,
    held: u64,
    count: u32,
}

impl<'p> Bits<'p> {
    fn new(packed: &'p [u8], bit: usize) -> Self {
        let mut bits = Self {
            packed,
            at: bit / 8,
            held: 0,
            count: 0,
        };
        bits.fill();
        bits.skip((bit % 8) as u32);
        bits
    }

    /// At least 56 bits are held.
    #[inline]
    fn fill(&mut self) {
        if let Some(next) = self.packed.get(self.at..self.at + 8)
            && let Ok(next) = next.try_into()
        {
            self.held |= u64::from_le_bytes(next) << self.count;
            let bytes = (63 - self.count) / 8;
            self.at += bytes as usize;
            self.count += bytes * 8;
            // What was shifted in above the count is shifted in once more, as the same.
            return;
        }
        while self.count <= 56 {
            let byte = self.packed.get(self.at).copied().unwrap_or(0);
            self.held |= u64::from(byte) << self.count;
            self.at += 1;
            self.count += 8;
        }
    }

    #[inline]
    fn skip(&mut self, count: u32) {
        self.held >>= count;
        self.count -= count;
    }

    /// The next `count` bits, at most 16, of those that are held.
    #[inline]
    fn take(&mut self, count: u32) -> u32 {
        let value = self.held as u32 & ((1 << count) - 1);
        self.skip(count);
        value
    }

    /// Bits from the beginning up to here.
    fn position(&self) -> usize {
        self.at * 8 - self.count as usize
    }

    fn is_over(&self) -> bool {
        self.position() > self.packed.len() * 8
    }
}

/// A code of Huffman's: by the next bits, what they mean and how many they are.
struct Code {
    table: Vec<u16>,
    bits: u32,
}

impl Code {
    fn new(lengths: &[u8]) -> Result<Self, Unread> {
        let bits = u32::from(lengths.iter().copied().max().unwrap_or(0)).max(1);
        let mut counts = [0_u32; 16];
        for length in lengths {
            counts[usize::from(*length)] += 1;
        }
        counts[0] = 0;
        let (mut next, mut code, mut room) = ([0_u32; 16], 0, 1_i64);
        for length in 1..16 {
            code = (code + counts[length - 1]) << 1;
            next[length] = code;
            room = (room << 1) - i64::from(counts[length]);
            if room < 0 {
                return Err(Unread::Wrong);
            }
        }
        // Zero, which is no bits, stands for a code that nothing has.
        let mut table = vec![0_u16; 1 << bits];
        for (symbol, length) in lengths
            .iter()
            .enumerate()
            .filter(|(_, length)| **length > 0)
        {
            let length = u32::from(*length);
            let code = next[length as usize];
            next[length as usize] += 1;
            let mut place = (code.reverse_bits() >> (32 - length)) as usize;
            while place < table.len() {
                table[place] = (symbol as u16) << 4 | length as u16;
                place += 1 << length;
            }
        }
        Ok(Self { table, bits })
    }

    #[inline]
    fn next(&self, bits: &mut Bits<'_>) -> Result<usize, Unread> {
        let entry = self.table[bits.held as usize & ((1 << self.bits) - 1)];
        if entry == 0 {
            return Err(Unread::Wrong);
        }
        bits.skip(u32::from(entry & 15));
        Ok(usize::from(entry >> 4))
    }
}

/// Reads the block that begins at this bit, and appends what it holds to `text`, which has what came before, as far as a match
/// may reach, and becomes no longer than `longest`. Returns where the block ends, and whether it is the last.
///
/// After an error there may be more in `text` than there was.
pub(super) fn block(
    packed: &[u8],
    bit: usize,
    text: &mut Vec<u8>,
    longest: usize,
) -> Result<(usize, bool), Unread> {
    let mut bits = Bits::new(packed, bit);
    let is_last = bits.take(1) == 1;
    let read = match bits.take(2) {
        0 => stored(&mut bits, text, longest),
        1 => {
            let mut lengths = [8; 288];
            lengths[144..256].fill(9);
            lengths[256..280].fill(7);
            let (letters, distances) = (Code::new(&lengths)?, Code::new(&[5; 32])?);
            coded(&mut bits, &letters, &distances, text, longest)
        }
        2 => codes(&mut bits)
            .and_then(|(letters, distances)| coded(&mut bits, &letters, &distances, text, longest)),
        _ => Err(Unread::Wrong),
    };
    // What seems wrong behind the end may be right once there is more.
    if bits.is_over() {
        return Err(Unread::Short);
    }
    read.map(|()| (bits.position(), is_last))
}

fn stored(bits: &mut Bits<'_>, text: &mut Vec<u8>, longest: usize) -> Result<(), Unread> {
    let start = bits.position().div_ceil(8);
    let head = bits.packed.get(start..start + 4).ok_or(Unread::Short);
    let Ok(head) = head else {
        bits.at = usize::MAX / 16;
        return Err(Unread::Short);
    };
    let length = u16::from_le_bytes([head[0], head[1]]);
    if length != !u16::from_le_bytes([head[2], head[3]])
        || text.len() + usize::from(length) > longest
    {
        return Err(Unread::Wrong);
    }
    let end = start + 4 + usize::from(length);
    let content = bits.packed.get(start + 4..end);
    if let Some(content) = content {
        text.extend_from_slice(content);
    }
    // From here on where the block ends.
    (bits.at, bits.held, bits.count) = (end, 0, 0);
    content.map(|_| ()).ok_or(Unread::Short)
}

/// The codes of a block that brings its own.
fn codes(bits: &mut Bits<'_>) -> Result<(Code, Code), Unread> {
    bits.fill();
    let letters = bits.take(5) as usize + 257;
    let distances = bits.take(5) as usize + 1;
    let count = bits.take(4) as usize + 4;
    if letters > 286 || distances > 30 {
        return Err(Unread::Wrong);
    }
    let mut lengths = [0_u8; 19];
    for place in &LENGTHS_ORDER[..count] {
        bits.fill();
        lengths[*place] = bits.take(3) as u8;
    }
    let code = Code::new(&lengths)?;
    let mut all = [0_u8; 286 + 30];
    let mut at = 0;
    while at < letters + distances {
        bits.fill();
        let (value, times) = match code.next(bits)? {
            length @ 0..=15 => (length as u8, 1),
            16 if at > 0 => (all[at - 1], 3 + bits.take(2) as usize),
            17 => (0, 3 + bits.take(3) as usize),
            18 => (0, 11 + bits.take(7) as usize),
            _ => return Err(Unread::Wrong),
        };
        let room = all[..letters + distances].get_mut(at..at + times);
        room.ok_or(Unread::Wrong)?.fill(value);
        at += times;
    }
    Ok((
        Code::new(&all[..letters])?,
        Code::new(&all[letters..letters + distances])?,
    ))
}

fn coded(
    bits: &mut Bits<'_>,
    letters: &Code,
    distances: &Code,
    text: &mut Vec<u8>,
    longest: usize,
) -> Result<(), Unread> {
    loop {
        // A letter or a whole match: 15 + 5 + 15 + 13 bits.
        bits.fill();
        let symbol = letters.next(bits)?;
        if symbol < 256 {
            text.push(symbol as u8);
        } else if symbol == 256 {
            return if text.len() > longest {
                Err(Unread::Wrong)
            } else {
                Ok(())
            };
        } else {
            let length = LENGTH_BASE.get(symbol - 257).ok_or(Unread::Wrong)?;
            let length =
                usize::from(*length) + bits.take(LENGTH_EXTRA[symbol - 257].into()) as usize;
            let symbol = distances.next(bits)?;
            let distance = DISTANCE_BASE.get(symbol).ok_or(Unread::Wrong)?;
            let distance =
                usize::from(*distance) + bits.take(DISTANCE_EXTRA[symbol].into()) as usize;
            let start = text.len().checked_sub(distance).ok_or(Unread::Wrong)?;
            if distance >= length {
                text.extend_from_within(start..start + length);
            } else {
                for at in start..start + length {
                    text.push(text[at]);
                }
            }
        }
        // Letters that are made of what is behind the end are bounded too.
        if text.len() > longest || bits.at > bits.packed.len() + 64 {
            return Err(Unread::Wrong);
        }
    }
}
