//! Remembers which metadata is written already.
//!
//! Senders of remote write 2.0 repeat a family's type, help and unit with every series and request, those of 1.0 once a
//! minute. A family's metadata goes to the log once an hour: often enough that a shard that lost it, by retention or by a
//! delete, has it again soon.

use std::sync::{Mutex, MutexGuard, PoisonError};

use hashbrown::{DefaultHashBuilder, HashSet};

/// Entries of one half. Beyond, the older half is forgotten and its families are written again.
const HALF: usize = 1 << 16;

const EPOCH_MS: i64 = 3_600_000;

/// Fingerprints of metadata that was acknowledged within the hour.
#[derive(Default)]
pub(super) struct MetadataCache {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    epoch: i64,
    young: HashSet<u128, DefaultHashBuilder>,
    old: HashSet<u128, DefaultHashBuilder>,
}

impl MetadataCache {
    /// The hour of a time.
    pub fn epoch(now_ms: i64) -> i64 {
        now_ms.div_euclid(EPOCH_MS)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Which of the fingerprints need not be written.
    pub fn known(&self, epoch: i64, prints: impl Iterator<Item = u128>) -> Vec<bool> {
        let inner = self.lock();
        prints.map(|p| inner.epoch == epoch && (inner.young.contains(&p) || inner.old.contains(&p))).collect()
    }

    /// Takes in what was acknowledged.
    pub fn confirm(&self, epoch: i64, prints: &[u128]) {
        if prints.is_empty() {
            return;
        }
        let mut inner = self.lock();
        if inner.epoch != epoch {
            *inner = Inner { epoch, ..Inner::default() };
        }
        for &print in prints {
            if inner.young.len() >= HALF {
                inner.old = std::mem::take(&mut inner.young);
            }
            inner.young.insert(print);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_what_was_confirmed_within_the_hour() {
        let cache = MetadataCache::default();
        let known = |epoch| cache.known(epoch, [1, 2].into_iter());
        assert_eq!(known(5), [false, false]);
        cache.confirm(5, &[1]);
        assert_eq!(known(5), [true, false]);
        assert_eq!(known(6), [false, false]);
        cache.confirm(6, &[2]);
        assert_eq!(known(6), [false, true]);
    }

    #[test]
    fn is_bounded() {
        let cache = MetadataCache::default();
        let prints: Vec<u128> = (0..3 * HALF as u128).collect();
        cache.confirm(1, &prints);
        let inner = cache.lock();
        assert!(inner.young.len() + inner.old.len() <= 2 * HALF);
        assert!(inner.young.contains(&(3 * HALF as u128 - 1)));
    }
}
