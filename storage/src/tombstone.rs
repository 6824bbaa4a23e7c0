//! Deletes: a tombstone hides samples that entries before it wrote.
//!
//! `DeleteSeries` at log index d is also a flush boundary: the memtable is cut there, so that every segment lies
//! wholly before or after d and one comparison of log positions says whether a tombstone applies. Reads hide what it
//! covers from the moment it is applied; merges leave those samples out for good, and the tombstone goes when no
//! segment needs it any more.

use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::matcher::Matcher;

use crate::columns::Columns;

/// A delete.
#[derive(Clone, Debug, PartialEq)]
pub struct Tombstone {
    /// Index of its log entry: it hides what lower entries wrote.
    pub index: u64,
    /// Whose series.
    pub tenant: TenantId,
    /// Which series; all must match.
    pub matchers: Vec<Matcher>,
    /// First timestamp.
    pub start_ms: i64,
    /// Last timestamp.
    pub end_ms: i64,
}

impl Tombstone {
    /// Whether it says anything about samples of entries up to `log_last`, of which deletes up to `deleted_upto` are
    /// applied already, in a closed time range.
    pub fn concerns(&self, log_last: u64, deleted_upto: u64, range: (i64, i64)) -> bool {
        log_last <= self.index
            && deleted_upto < self.index
            && self.start_ms <= range.1
            && self.end_ms >= range.0
    }

    /// Whether it names the series.
    pub fn matches(&self, tenant: &TenantId, labels: &Labels) -> bool {
        self.tenant == *tenant && self.matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
    }

    /// Whether it names the time.
    pub fn covers(&self, time_ms: i64) -> bool {
        self.start_ms <= time_ms && time_ms <= self.end_ms
    }
}

/// Takes away what tombstones hide of a series' piece from one place (a segment or memtable).
pub fn apply_tombstones<'a>(
    tombstones: impl Iterator<Item = &'a Tombstone>,
    tenant: &TenantId,
    labels: &Labels,
    columns: &mut Columns,
) {
    for tombstone in tombstones {
        if tombstone.matches(tenant, labels) {
            columns.retain_times(|time, _| !tombstone.covers(time));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hides_what_older_entries_wrote_in_its_range() {
        let tenant = TenantId::default();
        let labels = Labels::from_pairs([("a", "x")]).expect("valid labels");
        let tombstone = Tombstone {
            index: 10,
            tenant: tenant.clone(),
            matchers: vec![Matcher::equal("a", "x")],
            start_ms: 5,
            end_ms: 6,
        };
        assert!(tombstone.concerns(10, 0, (0, 9)), "a segment that ends at the delete lies before it");
        assert!(!tombstone.concerns(11, 0, (0, 9)), "younger data");
        assert!(!tombstone.concerns(10, 10, (0, 9)), "already applied");
        assert!(!tombstone.concerns(10, 0, (7, 9)), "other times");
        let mut columns = Columns { times: vec![4, 5, 6, 7], values: vec![1.0; 4], ..Columns::default() };
        apply_tombstones([&tombstone].into_iter(), &tenant, &labels, &mut columns);
        assert_eq!(columns.times, [4, 7]);
        apply_tombstones(
            [&tombstone].into_iter(),
            &TenantId::new("other").expect("valid"),
            &labels,
            &mut columns,
        );
        assert_eq!(columns.values.len(), 2);
    }
}
