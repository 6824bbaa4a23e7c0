//! The memory ledger of a node: what memtables, registries, caches, requests and queries hold together, against one
//! budget.
//!
//! Whoever holds memory that grows with the load keeps a [`Charge`] and says how many bytes it stands for. Nobody
//! allocates through the ledger: it counts, and what the counts come to decides what is done. The steps are shares of
//! the budget, in this order:
//!
//! ```text
//! 0 ────────────── 60 % ────── 75 % ────── 90 % ────── 100 %
//!      calm         memtables   queries     writes      applying waits
//!                   are flushed end, alone  are refused for flushes
//! ```
//!
//! The counts are relaxed atomics: a decision may be late by what others charge at the same moment, never wrong for long.
//! Before something is refused for what is measured from time to time, it is measured again, see
//! [`MemoryLedger::measure_with`].

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// What memory is held for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum MemoryUse {
    /// Samples that no segment holds yet.
    Memtables,
    /// Registries of series and their indexes.
    Series,
    /// Caches of routers.
    Caches,
    /// Writes being decoded and delivered.
    Requests,
    /// Queries and fragments of them.
    Queries,
    /// What the process holds besides, see [`MemoryLedger::set_process`].
    Other,
}

impl MemoryUse {
    /// All uses.
    pub const ALL: [Self; 6] =
        [Self::Memtables, Self::Series, Self::Caches, Self::Requests, Self::Queries, Self::Other];

    /// Name for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memtables => "memtables",
            Self::Series => "series",
            Self::Caches => "caches",
            Self::Requests => "requests",
            Self::Queries => "queries",
            Self::Other => "other",
        }
    }
}

/// How much of the budget is used, in steps that call for something. Later ones include the earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    /// Nothing is to be done.
    Calm,
    /// Memtables are to be flushed.
    Flush,
    /// Queries get no more.
    Queries,
    /// Writes are refused.
    Writes,
    /// The budget is used up: what is committed waits until flushes have freed memory.
    Full,
}

/// Percent of the budget at which each step begins.
const STEPS: [(u64, Pressure); 4] =
    [(100, Pressure::Full), (90, Pressure::Writes), (75, Pressure::Queries), (60, Pressure::Flush)];

struct Inner {
    budget: u64,
    used: [AtomicU64; MemoryUse::ALL.len()],
    measure: OnceLock<Box<dyn Fn() -> Option<u64> + Send + Sync>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("budget", &self.budget)
            .field("used", &self.used)
            .finish_non_exhaustive()
    }
}

/// See the module. Clones are the same ledger.
#[derive(Clone, Debug)]
pub struct MemoryLedger(Arc<Inner>);

impl Default for MemoryLedger {
    /// A ledger that counts and never presses.
    fn default() -> Self {
        Self::new(u64::MAX)
    }
}

impl MemoryLedger {
    /// A ledger over so many bytes.
    pub fn new(budget_bytes: u64) -> Self {
        let (used, measure) = (Default::default(), OnceLock::new());
        Self(Arc::new(Inner { budget: budget_bytes.max(1), used, measure }))
    }

    /// Sets how the process is measured, in bytes, when somebody would be refused memory: on that thread, so it has to be
    /// quick, and to say nothing where it was done a moment ago. Only the first one is taken.
    pub fn measure_with(&self, measure: impl Fn() -> Option<u64> + Send + Sync + 'static) {
        let _ = self.0.measure.set(Box::new(measure));
    }

    /// Takes what the process holds in all: what nobody charges of it is in use for [`MemoryUse::Other`].
    pub fn set_process(&self, bytes: u64) {
        let charged = MemoryUse::ALL.into_iter().filter(|what| *what != MemoryUse::Other);
        let charged = charged.map(|what| self.used_for(what)).fold(0, u64::saturating_add);
        self.0.used[MemoryUse::Other as usize].store(bytes.saturating_sub(charged), Relaxed);
    }

    /// The budget in bytes.
    pub fn budget(&self) -> u64 {
        self.0.budget
    }

    /// Bytes in use.
    pub fn used(&self) -> u64 {
        self.0.used.iter().map(|used| used.load(Relaxed)).fold(0, u64::saturating_add)
    }

    /// Bytes in use for one thing.
    pub fn used_for(&self, what: MemoryUse) -> u64 {
        self.0.used[what as usize].load(Relaxed)
    }

    /// What the use of memory calls for.
    pub fn pressure(&self) -> Pressure {
        self.pressure_at(self.used())
    }

    fn pressure_at(&self, used: u64) -> Pressure {
        let percent = u128::from(used) * 100 / u128::from(self.0.budget);
        STEPS.iter().find(|(from, _)| percent >= u128::from(*from)).map_or(Pressure::Calm, |(_, step)| *step)
    }

    /// A charge of nothing yet.
    pub fn charge(&self, what: MemoryUse) -> Charge {
        Charge { ledger: self.clone(), what, bytes: 0 }
    }
}

/// Bytes that somebody holds; given back when dropped.
#[derive(Debug)]
pub struct Charge {
    ledger: MemoryLedger,
    what: MemoryUse,
    bytes: u64,
}

impl Charge {
    /// Says how many bytes are held now.
    pub fn set(&mut self, bytes: u64) {
        let used = &self.ledger.0.used[self.what as usize];
        match bytes.checked_sub(self.bytes) {
            Some(more) => used.fetch_add(more, Relaxed),
            None => used.fetch_sub(self.bytes - bytes, Relaxed),
        };
        self.bytes = bytes;
    }

    /// Says how many bytes are held now, unless that is more than before and brings the node to a step of pressure, also
    /// after what is in use was measured anew. `false`, and no change, where it does.
    pub fn try_set(&mut self, bytes: u64, step: Pressure) -> bool {
        let (ledger, more) = (&self.ledger, bytes.saturating_sub(self.bytes));
        let is_too_much = || more > 0 && ledger.pressure_at(ledger.used().saturating_add(more)) >= step;
        if is_too_much() {
            if let Some(bytes) = ledger.0.measure.get().and_then(|measure| measure()) {
                ledger.set_process(bytes);
            }
            if is_too_much() {
                return false;
            }
        }
        self.set(bytes);
        true
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The ledger that it is part of.
    pub fn ledger(&self) -> &MemoryLedger {
        &self.ledger
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.set(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charges_add_up_and_come_back() {
        let ledger = MemoryLedger::new(1000);
        let (mut a, mut b) = (ledger.charge(MemoryUse::Memtables), ledger.charge(MemoryUse::Queries));
        a.set(500);
        b.set(90);
        assert_eq!((ledger.used(), ledger.used_for(MemoryUse::Queries)), (590, 90));
        assert_eq!(ledger.pressure(), Pressure::Calm);
        a.set(510);
        assert_eq!(ledger.pressure(), Pressure::Flush);
        a.set(100);
        drop(b);
        assert_eq!(ledger.used(), 100);
        drop(a);
        assert_eq!(ledger.used(), 0);
    }

    #[test]
    fn each_step_begins_at_its_share() {
        let ledger = MemoryLedger::new(1000);
        let mut charge = ledger.charge(MemoryUse::Requests);
        for (bytes, expected) in [
            (599, Pressure::Calm),
            (600, Pressure::Flush),
            (750, Pressure::Queries),
            (900, Pressure::Writes),
            (999, Pressure::Writes),
            (1000, Pressure::Full),
            (u64::MAX, Pressure::Full),
        ] {
            charge.set(bytes);
            assert_eq!(ledger.pressure(), expected, "{bytes}");
        }
    }

    #[test]
    fn what_nobody_counts_is_the_rest_of_the_process() {
        let ledger = MemoryLedger::new(1000);
        let mut queries = ledger.charge(MemoryUse::Queries);
        queries.set(300);
        ledger.set_process(500);
        assert_eq!((ledger.used_for(MemoryUse::Other), ledger.used()), (200, 500));
        // What is counted but not touched yet is not there twice.
        queries.set(600);
        ledger.set_process(500);
        assert_eq!((ledger.used_for(MemoryUse::Other), ledger.used()), (0, 600));
    }

    #[test]
    fn nobody_is_refused_for_what_is_not_there_any_more() {
        let ledger = MemoryLedger::new(1000);
        let (held, measured) = (Arc::new(AtomicU64::new(700)), Arc::new(AtomicU64::new(0)));
        let of_process = (Arc::clone(&held), Arc::clone(&measured));
        ledger.measure_with(move || {
            of_process.1.fetch_add(1, Relaxed);
            Some(of_process.0.load(Relaxed))
        });
        ledger.set_process(700);
        let mut queries = ledger.charge(MemoryUse::Queries);
        assert!(queries.try_set(40, Pressure::Queries));
        assert_eq!(measured.load(Relaxed), 0, "there was enough");
        assert!(!queries.try_set(100, Pressure::Queries));
        assert_eq!((measured.load(Relaxed), queries.bytes()), (1, 40));
        held.store(100, Relaxed);
        assert!(queries.try_set(600, Pressure::Queries));
        assert_eq!((ledger.used_for(MemoryUse::Other), ledger.used()), (60, 660));
    }

    #[test]
    fn a_charge_that_would_press_is_not_taken() {
        let ledger = MemoryLedger::new(1000);
        let (mut a, mut b) = (ledger.charge(MemoryUse::Queries), ledger.charge(MemoryUse::Queries));
        assert!(a.try_set(700, Pressure::Queries));
        assert!(!b.try_set(50, Pressure::Queries));
        assert_eq!((b.bytes(), ledger.used()), (0, 700));
        assert!(b.try_set(49, Pressure::Queries) && !b.try_set(50, Pressure::Queries));
        // Less is always taken, and writes may go further than queries.
        assert!(b.try_set(10, Pressure::Queries) && b.try_set(190, Pressure::Writes));
        assert!(MemoryLedger::default().charge(MemoryUse::Requests).try_set(u64::MAX / 2, Pressure::Flush));
    }
}
