//! Logs and spans of one shard: from sub-batches to segments, and reading both.
//!
//! ```text
//! apply(sub-batch) ─► window: is its key new? ─► LogTable: the bytes as they came ─┐ cut with the memtable of metrics
//!                                                                                  ▼
//!    flush: decode, order by tenant and time, move rows into one dictionary per partition ─► segment::LogSegmentBuilder
//!    merge: the same from blocks of segments                                            ─► blocks, filters, dictionary
//! scan: blocks and sub-batches side by side by time, each opened when its turn comes; filters asked of templates,
//!       dictionaries, ranges and fuse filters before any row is put together
//! ```
//!
//! Spans are rows of the same make (`protocol::spans::row`) in tables, segments and partitions of their own; whatever is
//! said of records here holds for them, but that deletes concern logs alone. Their rows are ordered by time like those of
//! logs, and found by trace through the filters of blocks and sub-batches: `docs/decisions/0023-spans-are-rows.md`.
//!
//! Invariants:
//! - Nothing is interpreted twice: what a router split stays split; only texts whose template is too rare to be worth its
//!   place are put together again and kept as they are.
//! - What a delete hides is hidden from the moment it is applied, and gone with the next merge ([`tombstone`]).
//! - The records of a flush add up to the checksum that routers took of them, as they are read back from the finished
//!   bytes. A flush for which this does not hold fails and keeps the log.
//! - Segments are a function of the log, as those of metrics.

mod counting;
pub(crate) mod filter;
mod groups;
pub mod scan;
pub mod segment;
pub mod table;
pub mod tombstone;
pub mod window;
pub(crate) mod write;

use std::ops::{Index, IndexMut};

use protocol::logs::RowSignal;

/// Something of each signal.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PerSignal<T>([T; RowSignal::ALL.len()]);

impl<T> PerSignal<T> {
    /// What a function makes for each.
    pub fn of(each: impl FnMut(RowSignal) -> T) -> Self {
        Self(RowSignal::ALL.map(each))
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T> Index<RowSignal> for PerSignal<T> {
    type Output = T;
    fn index(&self, signal: RowSignal) -> &T {
        &self.0[usize::from(signal.number()) - 1]
    }
}

impl<T> IndexMut<RowSignal> for PerSignal<T> {
    fn index_mut(&mut self, signal: RowSignal) -> &mut T {
        &mut self.0[usize::from(signal.number()) - 1]
    }
}

/// Milliseconds of a time in nanoseconds, as partitions count.
pub const fn ms(time_ns: i64) -> i64 {
    time_ns.div_euclid(1_000_000)
}

#[cfg(test)]
pub(crate) mod tests;
