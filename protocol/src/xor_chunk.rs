//! Prometheus' XOR chunks: the float samples of a series in the form of Facebook's Gorilla, as remote read streams them.
//!
//! ```text
//! count u16 BE | bits, highest first
//!   sample 0   time varint (zigzag), value 64 bits
//!   sample 1   delta of the time uvarint, value against the one before
//!   others     change of the delta d:  0                        d = 0
//!                                      10  + 14 bits            -8191 <= d <= 8192
//!                                      110 + 17 bits            -65535 <= d <= 65536
//!                                      1110 + 20 bits           -524287 <= d <= 524288
//!                                      1111 + 64 bits
//!              value x = bits xor bits before:  0               x = 0
//!                                               10 + the bits   inside the window of the last one
//!                                               11 + leading zeros (5) + width (6, 0 means 64) + the bits
//! ```
//!
//! Source: prometheus/prometheus, tsdb/chunkenc/xor.go and tsdb/docs/format/chunks.md.

use crate::varint::{write_u64, zigzag};

/// Samples that Prometheus puts into a chunk.
pub const MAX_SAMPLES: usize = 120;

/// Bits, written from the highest down.
#[derive(Default)]
pub(crate) struct BitWriter {
    /// What is written so far.
    pub bytes: Vec<u8>,
    /// Bits that are free in the last byte.
    free: u32,
}

impl BitWriter {
    pub fn bits(&mut self, value: u64, count: u32) {
        for at in (0..count).rev() {
            if self.free == 0 {
                self.bytes.push(0);
                self.free = 8;
            }
            self.free -= 1;
            if let Some(last) = self.bytes.last_mut() {
                *last |= (((value >> at) & 1) as u8) << self.free;
            }
        }
    }

    fn varint(&mut self, value: u64) {
        let mut bytes = Vec::with_capacity(10);
        write_u64(&mut bytes, value);
        for byte in bytes {
            self.bits(u64::from(byte), 8);
        }
    }
}

/// Widths of the changes of the delta that are not 64 bits, with the prefix of each and its length.
const WIDTHS: [(u32, u64, u32); 3] = [(14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4)];

fn fits(change: i64, width: u32) -> bool {
    let half = 1i64 << (width - 1);
    -(half - 1) <= change && change <= half
}

/// Encodes up to [`MAX_SAMPLES`] samples (milliseconds, value) with ascending times; more are left out.
pub fn encode(samples: &[(i64, f64)]) -> Vec<u8> {
    let samples = &samples[..samples.len().min(MAX_SAMPLES)];
    let mut out = BitWriter::default();
    out.bits(samples.len() as u64, 16);
    let (mut last_time, mut last_delta, mut last_bits) = (0i64, 0i64, 0u64);
    // The window of meaningful bits: none yet.
    let mut window: Option<(u32, u32)> = None;
    for (i, &(time, value)) in samples.iter().enumerate() {
        let bits = value.to_bits();
        let delta = time.wrapping_sub(last_time);
        match i {
            0 => {
                out.varint(zigzag(time));
                out.bits(bits, 64);
            }
            1 => out.varint(delta as u64),
            _ => {
                let change = delta.wrapping_sub(last_delta);
                if change == 0 {
                    out.bits(0, 1);
                } else if let Some((width, prefix, len)) = WIDTHS.iter().find(|(w, ..)| fits(change, *w)) {
                    out.bits(*prefix, *len);
                    out.bits(change as u64, *width);
                } else {
                    out.bits(0b1111, 4);
                    out.bits(change as u64, 64);
                }
            }
        }
        if i > 0 {
            window = write_value(&mut out, bits ^ last_bits, window);
        }
        (last_time, last_delta, last_bits) = (time, delta, bits);
    }
    out.bytes
}

/// Writes how a value differs from the one before; gives the window for the next.
pub(crate) fn write_value(
    out: &mut BitWriter,
    changed: u64,
    window: Option<(u32, u32)>,
) -> Option<(u32, u32)> {
    if changed == 0 {
        out.bits(0, 1);
        return window;
    }
    // Five bits hold no more.
    let (leading, trailing) = (changed.leading_zeros().min(31), changed.trailing_zeros());
    match window {
        Some((l, t)) if leading >= l && trailing >= t => {
            out.bits(0b10, 2);
            out.bits(changed >> t, 64 - l - t);
            window
        }
        _ => {
            let width = 64 - leading - trailing;
            out.bits(0b11, 2);
            out.bits(u64::from(leading), 5);
            out.bits(u64::from(width & 63), 6);
            out.bits(changed >> trailing, width);
            Some((leading, trailing))
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::varint::unzigzag;

    /// Reads what the format says, written from the description above alone.
    struct BitReader<'a>(&'a [u8], usize);

    impl BitReader<'_> {
        fn bit(&mut self) -> u64 {
            let bit = self.0[self.1 / 8] >> (7 - self.1 % 8) & 1;
            self.1 += 1;
            u64::from(bit)
        }

        fn bits(&mut self, count: u32) -> u64 {
            (0..count).fold(0, |value, _| value << 1 | self.bit())
        }

        fn varint(&mut self) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = self.bits(8);
                value |= (byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
    }

    fn decode(chunk: &[u8]) -> Vec<(i64, u64)> {
        let mut input = BitReader(chunk, 0);
        let count = input.bits(16);
        let mut out: Vec<(i64, u64)> = Vec::new();
        let (mut delta, mut window) = (0i64, (0, 0));
        for i in 0..count {
            let time = match i {
                0 => unzigzag(input.varint()),
                1 => {
                    delta = input.varint() as i64;
                    out[0].0 + delta
                }
                _ => {
                    let ones = (0..4).take_while(|_| input.bit() == 1).count();
                    let width = [0, 14, 17, 20, 64][ones];
                    let mut change = input.bits(width) as i64;
                    if width > 0 && width < 64 && change > 1 << (width - 1) {
                        change -= 1 << width;
                    }
                    delta = delta.wrapping_add(change);
                    out.last().unwrap().0.wrapping_add(delta)
                }
            };
            let bits = if i == 0 {
                input.bits(64)
            } else {
                let before = out.last().unwrap().1;
                if input.bit() == 0 {
                    before
                } else {
                    if input.bit() == 1 {
                        let leading = input.bits(5) as u32;
                        let width = match input.bits(6) as u32 {
                            0 => 64,
                            width => width,
                        };
                        window = (leading, 64 - leading - width);
                    }
                    before ^ input.bits(64 - window.0 - window.1) << window.1
                }
            };
            out.push((time, bits));
        }
        assert!(input.1.div_ceil(8) == chunk.len(), "nothing is left over");
        out
    }

    #[test]
    fn a_chunk_bit_by_bit() {
        // Two samples: 1000 ms and 2000 ms, values 1 and 1.
        let chunk = encode(&[(1000, 1.0), (2000, 1.0)]);
        let mut expected = vec![0, 2, 0xd0, 0x0f];
        expected.extend(1.0f64.to_bits().to_be_bytes());
        expected.extend([0xe8, 0x07, 0x00]);
        assert_eq!(chunk, expected);
        assert_eq!(encode(&[]), [0, 0]);
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out(
            start in -1_000_000_000_000i64..10_000_000_000_000,
            steps in proptest::collection::vec((prop_oneof![1i64..20, 15_000i64..15_003, 1i64..9_000_000_000], any::<u64>()), 0..MAX_SAMPLES),
            smooth: bool,
        ) {
            let mut time = start;
            let mut samples = Vec::new();
            for (step, bits) in steps {
                let value = if smooth { (bits % 1000) as f64 } else { f64::from_bits(bits) };
                samples.push((time, value));
                time += step;
            }
            let expected: Vec<(i64, u64)> = samples.iter().map(|(t, v)| (*t, v.to_bits())).collect();
            prop_assert_eq!(decode(&encode(&samples)), expected);
        }
    }
}
