//! Random numbers of the simulator: one seed, many independent streams.
//!
//! A stream is named by its concern ([`Stream`]) and a number (a node, a client). Adding a draw to one stream leaves
//! all others as they were, so that a seed which found a bug keeps most of its meaning while the harness grows.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// What a stream of random numbers decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Stream {
    /// Which runnable task goes next.
    Scheduler = 1,
    /// What a node draws for itself: election timeouts, ids, jitter.
    Node = 2,
    /// Fate of messages.
    Net = 3,
    /// Fate of disk operations.
    Disk = 4,
    /// When faults strike, and which.
    Faults = 5,
    /// What clients do.
    Clients = 6,
    /// Rates and switches of the run.
    Plan = 7,
    /// What clients delete, and when.
    Deletes = 8,
}

/// A generator for one concern of one seed.
pub fn stream(seed: u64, stream: Stream, number: u64) -> SmallRng {
    SmallRng::seed_from_u64(mix(seed ^ mix((stream as u64) << 48 ^ number)))
}

/// Whether something of the given probability happens.
pub fn chance(rng: &mut SmallRng, probability: f64) -> bool {
    probability > 0.0 && rng.random::<f64>() < probability
}

/// A bijective mixer (the finaliser of SplitMix64): close inputs give unrelated outputs.
pub const fn mix(value: u64) -> u64 {
    let z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let draw = |s, n| stream(7, s, n).random::<u64>();
        assert_eq!(draw(Stream::Net, 1), draw(Stream::Net, 1));
        assert_ne!(draw(Stream::Net, 1), draw(Stream::Net, 2));
        assert_ne!(draw(Stream::Net, 1), draw(Stream::Disk, 1));
        assert_ne!(draw(Stream::Net, 1), stream(8, Stream::Net, 1).random::<u64>());
    }

    #[test]
    fn chance_is_about_right() {
        let mut rng = stream(1, Stream::Plan, 0);
        let hits = (0..10_000).filter(|_| chance(&mut rng, 0.25)).count();
        assert!((2_200..2_800).contains(&hits), "{hits}");
        assert!(!chance(&mut rng, 0.0));
    }
}
