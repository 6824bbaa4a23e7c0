//! Deletes of logs: a tombstone hides records that entries before it wrote.
//!
//! As with samples (see [`crate::tombstone`]), `DeleteLogs` is a flush boundary: each segment and each memtable lies wholly
//! before or after it. Readers leave out the rows that its filter finds, merges drop them for good, and the tombstone goes
//! when no segment needs it any more. What a filter finds depends on the record alone, so all replicas hide the same.

use protocol::ids::TenantId;
use protocol::logs::dict::Dict;
use protocol::logs::matching::FilterError;
use protocol::logs::rows::Rows;
use protocol::logs::{LogFilter, TimestampNs};

use super::filter::{Bits, Bound, Compiled};
use super::ms;
use super::scan::within;

/// A delete.
#[derive(Clone, Debug, PartialEq)]
pub struct LogTombstone {
    /// Index of its log entry: it hides what lower entries wrote.
    pub index: u64,
    /// Whose records.
    pub tenant: TenantId,
    /// Which of them. It compiles.
    pub filter: LogFilter,
    /// First time.
    pub start_ns: TimestampNs,
    /// Last time.
    pub end_ns: TimestampNs,
}

impl LogTombstone {
    /// Whether it says anything about records of entries up to `log_last`, of which deletes up to `deleted_upto` are
    /// applied already, in a closed time range of milliseconds.
    pub fn concerns(&self, log_last: u64, deleted_upto: u64, range_ms: (i64, i64)) -> bool {
        log_last <= self.index
            && deleted_upto < self.index
            && ms(self.start_ns) <= range_ms.1
            && ms(self.end_ns) >= range_ms.0
    }
}

/// A tombstone that is about to be asked.
#[derive(Debug)]
pub(crate) struct Hidden {
    /// Index of its log entry.
    pub index: u64,
    /// Which records it hides.
    pub filter: Compiled,
    /// Closed range of their times.
    pub range: (TimestampNs, TimestampNs),
}

impl Hidden {
    /// Compiles those of a tenant.
    pub fn of_tenant(tombstones: &[LogTombstone], tenant: &str) -> Result<Vec<Self>, FilterError> {
        let own = tombstones.iter().filter(|t| t.tenant.as_str() == tenant);
        own.map(|t| {
            Ok(Self { index: t.index, filter: Compiled::new(&t.filter)?, range: (t.start_ns, t.end_ns) })
        })
        .collect()
    }

    /// Rows that it hides, of those whose columns [`Bound::want`] of its filter names. `bound` is its filter, bound to the
    /// dictionary.
    pub fn rows(&self, bound: &Bound<'_>, rows: &Rows, dict: &Dict) -> Bits {
        let mut bits = bound.of_rows(rows, dict);
        bits.keep(within(rows, self.range));
        bits
    }

    /// As [`LogTombstone::concerns`], of rows of a closed range of nanoseconds.
    pub fn concerns(&self, written: Written, span: (TimestampNs, TimestampNs)) -> bool {
        written.log_last <= self.index
            && written.deleted_upto < self.index
            && self.range.0 <= span.1
            && self.range.1 >= span.0
    }
}

/// Which entries wrote rows, and which deletes are applied to them already.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    /// The last entry.
    pub log_last: u64,
    /// Deletes up to this.
    pub deleted_upto: u64,
}
