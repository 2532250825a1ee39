//! Lifeboat: an adaptive binary range coder, in place of the crate `cabac`, whose licence forbids what the rest allows.
//!
//! Bits are coded by carry-propagating range coding: 32 bits of range, probabilities of 12 bits that move by a sixteenth. The
//! bytes are part of Lifeboat's repository format (coding 1 of a deflate stream) and never change.

use std::io;

const PROBABILITY_BITS: u32 = 12;
const MOVE_BITS: u32 = 4;
const TOP: u32 = 1 << 24;
/// Bytes by which the writer ends, and with which the reader begins.
const END_BYTES: usize = 5;
/// No number that is coded has more bits.
const UNARY_MAX: usize = 32;

/// How likely the next bit of a kind is 0.
#[derive(Clone, Copy, Debug)]
pub struct Context(u16);

impl Default for Context {
    fn default() -> Self {
        Self(1 << (PROBABILITY_BITS - 1))
    }
}

impl Context {
    fn bound(self, range: u32) -> u32 {
        (range >> PROBABILITY_BITS) * u32::from(self.0)
    }

    fn learn(&mut self, bit: bool) {
        if bit {
            self.0 -= self.0 >> MOVE_BITS;
        } else {
            self.0 += ((1 << PROBABILITY_BITS) - self.0) >> MOVE_BITS;
        }
    }
}

/// Codes bits to the end of `out`.
pub struct Writer<'o> {
    out: &'o mut Vec<u8>,
    low: u64,
    range: u32,
    /// The byte that a carry may still change, and how many bytes of ones follow it.
    held: u8,
    ones: u64,
    /// The first byte is always 0 and is not written.
    begun: bool,
}

impl<'o> Writer<'o> {
    pub fn new(out: &'o mut Vec<u8>) -> Self {
        Self {
            out,
            low: 0,
            range: u32::MAX,
            held: 0,
            ones: 0,
            begun: false,
        }
    }

    fn shift(&mut self) {
        let low = self.low;
        if low < 0xFF00_0000 || low > u64::from(u32::MAX) {
            let carry = (low >> 32) as u8;
            if self.begun {
                self.out.push(self.held.wrapping_add(carry));
            }
            self.begun = true;
            for _ in 0..self.ones {
                self.out.push(0xFF_u8.wrapping_add(carry));
            }
            self.ones = 0;
            self.held = (low >> 24) as u8;
        } else {
            self.ones += 1;
        }
        self.low = (low & 0x00FF_FFFF) << 8;
    }

    pub fn put(&mut self, bit: bool, context: &mut Context) {
        let bound = context.bound(self.range);
        if bit {
            self.low += u64::from(bound);
            self.range -= bound;
        } else {
            self.range = bound;
        }
        context.learn(bit);
        while self.range < TOP {
            self.range <<= 8;
            self.shift();
        }
    }

    /// So many ones and a zero.
    pub fn put_unary_encoded<const N: usize>(&mut self, value: usize, contexts: &mut [Context; N]) {
        for place in 0..value {
            self.put(true, &mut contexts[place.min(N - 1)]);
        }
        self.put(false, &mut contexts[value.min(N - 1)]);
    }

    /// The lowest `count` bits of a number, the highest of them first.
    pub fn put_n_bits<const N: usize>(
        &mut self,
        value: u64,
        count: usize,
        contexts: &mut [Context; N],
    ) {
        for place in (0..count).rev() {
            self.put(value >> place & 1 == 1, &mut contexts[place.min(N - 1)]);
        }
    }

    /// Writes what is held back.
    pub fn finish(&mut self) {
        for _ in 0..END_BYTES {
            self.shift();
        }
    }
}

/// Reads what [`Writer`] wrote.
pub struct Reader<'i> {
    rest: &'i [u8],
    code: u32,
    range: u32,
}

impl<'i> Reader<'i> {
    pub fn new(input: &'i [u8]) -> io::Result<Self> {
        let mut reader = Self {
            rest: input,
            code: 0,
            range: u32::MAX,
        };
        for _ in 1..END_BYTES {
            reader.code = reader.code << 8 | reader.next()?;
        }
        Ok(reader)
    }

    fn next(&mut self) -> io::Result<u32> {
        let (first, rest) = self
            .rest
            .split_first()
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        self.rest = rest;
        Ok(u32::from(*first))
    }

    pub fn get(&mut self, context: &mut Context) -> io::Result<bool> {
        let bound = context.bound(self.range);
        let bit = self.code >= bound;
        if bit {
            self.code -= bound;
            self.range -= bound;
        } else {
            self.range = bound;
        }
        context.learn(bit);
        while self.range < TOP {
            self.range <<= 8;
            self.code = self.code << 8 | self.next()?;
        }
        Ok(bit)
    }

    pub fn get_unary_encoded<const N: usize>(
        &mut self,
        contexts: &mut [Context; N],
    ) -> io::Result<usize> {
        let mut value = 0;
        while self.get(&mut contexts[value.min(N - 1)])? {
            value += 1;
            if value > UNARY_MAX {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        Ok(value)
    }

    pub fn get_n_bits<const N: usize>(
        &mut self,
        count: usize,
        contexts: &mut [Context; N],
    ) -> io::Result<u64> {
        let mut value = 0;
        for place in (0..count).rev() {
            value |= u64::from(self.get(&mut contexts[place.min(N - 1)])?) << place;
        }
        Ok(value)
    }
}
