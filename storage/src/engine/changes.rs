//! Since when what is older than a timestamp has not changed: for caches of results.
//!
//! For each tenant, the least timestamp that any log entry after a given one may have added or taken away. A stack of
//! (log index, timestamp), both ascending, answers that: an entry that reaches further back takes those before it off, for
//! whoever asks about them now hears its timestamp.
//!
//! ```text
//! entries   5: t=100   6: t=110   7: t=90    8: t=120
//! stack     (7, 90) (8, 120)                      since 4 -> 90, since 7 -> 120, since 8 -> nothing
//! ```
//!
//! Timestamps are rounded down to [`GRAIN_MS`], which keeps the stack short: live data of an hour takes a few hundred
//! places. A stack that grows beyond [`MAX_ENTRIES`] forgets its oldest, a list beyond [`MAX_TENANTS`] all; what is not known
//! is said to be unknown. Only memory holds this: a replica that starts, or takes over a snapshot, knows nothing of before.
//!
//! Readers ask after they took their view. They may then hear of entries that the view does not show yet, never miss one
//! that it shows.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};

use protocol::ids::TenantId;

/// Timestamps are kept as multiples of this.
const GRAIN_MS: i64 = 10_000;

/// Entries of a tenant that are remembered.
const MAX_ENTRIES: usize = 1024;

/// Tenants that are remembered.
const MAX_TENANTS: usize = 256;

#[derive(Debug, Default)]
struct Stack {
    /// Nothing is known of entries up to this.
    floor: u64,
    entries: VecDeque<(u64, i64)>,
}

#[derive(Debug)]
struct Inner {
    /// Nothing is known of entries up to this, for any tenant.
    floor: u64,
    /// Last entry that concerned all tenants and all times.
    all: u64,
    tenants: HashMap<TenantId, Stack>,
}

/// See the module.
#[derive(Debug)]
pub struct Changes(Mutex<Inner>);

impl Changes {
    /// Knows nothing of entries up to `floor`.
    pub fn new(floor: u64) -> Self {
        Self(Mutex::new(Inner { floor, all: 0, tenants: HashMap::new() }))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that could panic runs under the lock but allocation.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that an entry changed something of a tenant from a timestamp on. Entries come in order.
    pub fn note(&self, tenant: &TenantId, index: u64, from_ms: i64) {
        let from = from_ms.div_euclid(GRAIN_MS).saturating_mul(GRAIN_MS).min(from_ms);
        let mut inner = self.lock();
        if !inner.tenants.contains_key(tenant) {
            if inner.tenants.len() == MAX_TENANTS {
                inner.tenants.clear();
                inner.floor = index - 1;
            }
            let floor = inner.floor;
            inner.tenants.insert(tenant.clone(), Stack { floor, ..Stack::default() });
        }
        let Some(stack) = inner.tenants.get_mut(tenant) else { return };
        while stack.entries.back().is_some_and(|(_, other)| *other >= from) {
            stack.entries.pop_back();
        }
        if stack.entries.len() == MAX_ENTRIES
            && let Some((forgotten, _)) = stack.entries.pop_front()
        {
            stack.floor = forgotten;
        }
        stack.entries.push_back((index, from));
    }

    /// Notes that an entry may have changed anything of anybody.
    pub fn note_all(&self, index: u64) {
        self.lock().all = index;
    }

    /// The least timestamp of a tenant that entries after `index` may have changed: `i64::MAX` where they changed nothing,
    /// `i64::MIN` where that is not known.
    pub fn since(&self, tenant: &TenantId, index: u64) -> i64 {
        let inner = self.lock();
        let Some(stack) = inner.tenants.get(tenant) else {
            return if index < inner.floor.max(inner.all) { i64::MIN } else { i64::MAX };
        };
        if index < stack.floor.max(inner.all) {
            return i64::MIN;
        }
        let at = stack.entries.partition_point(|(other, _)| *other <= index);
        stack.entries.get(at).map_or(i64::MAX, |(_, from)| *from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tenant(n: usize) -> TenantId {
        TenantId::new(&format!("t{n}")).expect("a valid name")
    }

    #[test]
    fn later_entries_that_reach_further_back_count() {
        let changes = Changes::new(4);
        let of = tenant(0);
        for (index, time) in [(5, 100_000), (6, 110_000), (7, 90_000), (8, 120_001)] {
            changes.note(&of, index, time);
        }
        let since = |index| changes.since(&of, index);
        assert_eq!((since(4), since(6), since(7), since(8)), (90_000, 90_000, 120_000, i64::MAX));
        assert_eq!(since(3), i64::MIN, "before it began to look");
        assert_eq!(changes.since(&tenant(1), 4), i64::MAX, "nothing of another tenant");
        assert_eq!(changes.since(&tenant(1), 3), i64::MIN);
        changes.note_all(9);
        assert_eq!((since(8), since(9), changes.since(&tenant(1), 8)), (i64::MIN, i64::MAX, i64::MIN));
        changes.note(&of, 10, i64::MIN);
        assert_eq!(since(9), i64::MIN);
    }

    #[test]
    fn what_is_forgotten_is_unknown() {
        let changes = Changes::new(0);
        let (of, entries) = (tenant(0), MAX_ENTRIES as i64 + 10);
        for n in 1..=entries {
            changes.note(&of, n as u64, n * GRAIN_MS);
        }
        assert_eq!(changes.since(&of, 9), i64::MIN);
        assert_eq!(changes.since(&of, 10), 11 * GRAIN_MS);
        for n in 0..MAX_TENANTS {
            changes.note(&tenant(n + 1), (entries + 1) as u64 + n as u64, 0);
        }
        assert_eq!(changes.since(&of, entries as u64), i64::MIN);
        let last = entries as u64 + MAX_TENANTS as u64;
        assert_eq!(changes.since(&of, last), i64::MAX);
        assert_eq!(changes.since(&tenant(MAX_TENANTS), last - 1), 0);
    }

    proptest! {
        #[test]
        fn never_a_change_is_missed(
            entries in prop::collection::vec((0usize..3, -50_000i64..50_000, 0u8..20), 1..200),
            asked in prop::collection::vec((0usize..3, 0u64..200), 20),
        ) {
            let changes = Changes::new(0);
            for (at, (of, time, kind)) in entries.iter().enumerate() {
                let index = at as u64 + 1;
                if *kind == 0 { changes.note_all(index) } else { changes.note(&tenant(*of), index, *time) }
            }
            for (of, index) in asked {
                let later = entries.iter().enumerate().skip(index as usize);
                let least = later
                    .filter(|(_, (other, _, kind))| *kind == 0 || *other == of)
                    .map(|(_, (_, time, kind))| if *kind == 0 { i64::MIN } else { *time })
                    .min();
                let told = changes.since(&tenant(of), index);
                match least {
                    None => prop_assert_eq!(told, i64::MAX),
                    // Not more than the rounding too early.
                    Some(i64::MIN) => prop_assert_eq!(told, i64::MIN),
                    Some(least) => prop_assert!(told <= least && told > least - GRAIN_MS, "{} for {}", told, least),
                }
            }
        }
    }
}
