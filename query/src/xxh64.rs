//! XXH64, which Prometheus hashes label sets with: `limit_ratio` samples by this hash, and samples the same series
//! only with the same hash.

use protocol::labels::Labels;

const P1: u64 = 0x9E37_79B1_85EB_CA87;
const P2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const P3: u64 = 0x1656_67B1_9E37_79F9;
const P4: u64 = 0x85EB_CA77_C2B2_AE63;
const P5: u64 = 0x27D4_EB2F_1656_67C5;

fn round(acc: u64, lane: u64) -> u64 {
    acc.wrapping_add(lane.wrapping_mul(P2)).rotate_left(31).wrapping_mul(P1)
}

fn merge(hash: u64, acc: u64) -> u64 {
    (hash ^ round(0, acc)).wrapping_mul(P1).wrapping_add(P4)
}

fn lane(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |n, b| n << 8 | u64::from(*b))
}

/// XXH64 with seed 0.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut rest = bytes;
    let mut hash = if bytes.len() >= 32 {
        let mut acc = [P1.wrapping_add(P2), P2, 0, 0u64.wrapping_sub(P1)];
        while let Some((stripe, tail)) = rest.split_at_checked(32) {
            for (acc, bytes) in acc.iter_mut().zip(stripe.chunks_exact(8)) {
                *acc = round(*acc, lane(bytes));
            }
            rest = tail;
        }
        let mixed = acc[0]
            .rotate_left(1)
            .wrapping_add(acc[1].rotate_left(7))
            .wrapping_add(acc[2].rotate_left(12))
            .wrapping_add(acc[3].rotate_left(18));
        acc.iter().fold(mixed, |hash, acc| merge(hash, *acc))
    } else {
        P5
    };
    hash = hash.wrapping_add(bytes.len() as u64);
    while let Some((chunk, tail)) = rest.split_at_checked(8) {
        hash = (hash ^ round(0, lane(chunk))).rotate_left(27).wrapping_mul(P1).wrapping_add(P4);
        rest = tail;
    }
    if let Some((chunk, tail)) = rest.split_at_checked(4) {
        hash = (hash ^ lane(chunk).wrapping_mul(P1)).rotate_left(23).wrapping_mul(P2).wrapping_add(P3);
        rest = tail;
    }
    for byte in rest {
        hash = (hash ^ u64::from(*byte).wrapping_mul(P5)).rotate_left(11).wrapping_mul(P1);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(P2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(P3);
    hash ^ (hash >> 32)
}

/// The hash of a label set over Prometheus' bytes: each string behind its length in one byte, or 255 and three.
pub fn labels(labels: &Labels) -> u64 {
    let mut bytes = Vec::with_capacity(labels.as_bytes().len() + 8);
    for (name, value) in labels {
        for text in [name, value] {
            match u8::try_from(text.len()) {
                Ok(len) if len < 255 => bytes.push(len),
                _ => {
                    bytes.push(255);
                    bytes.extend_from_slice(&(text.len() as u32).to_le_bytes()[..3]);
                }
            }
            bytes.extend_from_slice(text.as_bytes());
        }
    }
    hash(&bytes)
}

#[cfg(test)]
mod tests {
    #[test]
    fn known_hashes() {
        assert_eq!(super::hash(b""), 0xEF46_DB37_51D8_E999);
        assert_eq!(super::hash(b"a"), 0xD24E_C4F1_A98C_6E5B);
        assert_eq!(super::hash(b"abc"), 0x44BC_2CF5_AD77_0999);
        assert_eq!(super::hash(b"Nobody inspects the spammish repetition"), 0xFBCE_A83C_8A37_8BF1);
    }
}
