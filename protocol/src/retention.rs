//! How long data is kept: an age for each kind of it, and what is different for single tenants.
//!
//! What arrives is refused by the same ages by which what is there goes (`cluster::router`, `storage::engine`).

use std::collections::BTreeMap;

use crate::ids::TenantId;

/// What has an age of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// Samples of metrics.
    Metrics,
    /// What is left of them when they go (`crate::rollup`).
    Rollups,
    /// Log records.
    Logs,
    /// Spans.
    Spans,
}

impl Kept {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Metrics, Self::Rollups, Self::Logs, Self::Spans];
}

/// Ages in milliseconds at which data may go; `None` keeps it. Nothing goes by default, and so nothing is rolled up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ages {
    /// Of metrics.
    pub metrics: Option<i64>,
    /// Of logs.
    pub logs: Option<i64>,
    /// Of spans.
    pub spans: Option<i64>,
    /// Of roll-ups.
    pub rollups: Rollups,
}

/// What becomes of metrics when their time is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rollups {
    /// They go.
    #[default]
    None,
    /// Their roll-ups stay until the samples would be so many milliseconds old; `None` for good.
    Until(Option<i64>),
}

impl Ages {
    /// The age of one of them.
    pub const fn of(&self, kept: Kept) -> Option<i64> {
        match (kept, self.rollups) {
            (Kept::Metrics, _) => self.metrics,
            // Those that are there although nobody wants any.
            (Kept::Rollups, Rollups::None) => self.metrics,
            (Kept::Rollups, Rollups::Until(age)) => age,
            (Kept::Logs, _) => self.logs,
            (Kept::Spans, _) => self.spans,
        }
    }
}

/// The ages of all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Retention {
    /// Of everybody who has none of his own.
    pub general: Ages,
    /// Of single tenants, all of each.
    pub own: BTreeMap<TenantId, Ages>,
}

impl Retention {
    /// The same for everybody.
    pub const fn of_all(general: Ages) -> Self {
        Self { general, own: BTreeMap::new() }
    }

    /// A tenant's.
    pub fn of(&self, tenant: &str) -> &Ages {
        self.own.get(tenant).unwrap_or(&self.general)
    }

    /// Whether anything of anybody's metrics is rolled up.
    pub fn rolls_up(&self) -> bool {
        self.all().any(|ages| ages.rollups != Rollups::None)
    }

    /// The least age at which anybody's may go; `None` keeps everybody's.
    pub fn shortest(&self, kept: Kept) -> Option<i64> {
        self.all().filter_map(|ages| ages.of(kept)).min()
    }

    /// The age at which everybody's may go; `None` keeps somebody's.
    pub fn longest(&self, kept: Kept) -> Option<i64> {
        self.all().try_fold(i64::MIN, |longest, ages| Some(longest.max(ages.of(kept)?)))
    }

    fn all(&self) -> impl Iterator<Item = &Ages> {
        std::iter::once(&self.general).chain(self.own.values())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_has_its_own_or_everybodys() {
        let ages = |metrics, logs| Ages { metrics, logs, ..Ages::default() };
        let tenant = |name: &str| TenantId::new(name).expect("a valid name");
        let mut retention = Retention::of_all(ages(Some(30), Some(14)));
        assert_eq!(
            (retention.shortest(Kept::Metrics), retention.longest(Kept::Metrics)),
            (Some(30), Some(30))
        );
        retention.own.insert(tenant("brief"), ages(Some(7), Some(14)));
        retention.own.insert(tenant("endless"), ages(None, Some(20)));
        assert_eq!(retention.of("brief").metrics, Some(7));
        assert_eq!(retention.of("endless").metrics, None);
        assert_eq!(retention.of("else").metrics, Some(30));
        assert_eq!((retention.shortest(Kept::Metrics), retention.longest(Kept::Metrics)), (Some(7), None));
        assert_eq!((retention.shortest(Kept::Logs), retention.longest(Kept::Logs)), (Some(14), Some(20)));
        assert_eq!((retention.shortest(Kept::Spans), retention.longest(Kept::Spans)), (None, None));
    }

    #[test]
    fn roll_ups_go_with_the_samples_where_nobody_wants_them() {
        let mut retention = Retention::of_all(Ages { metrics: Some(30), ..Ages::default() });
        assert!(!retention.rolls_up());
        assert_eq!(retention.longest(Kept::Rollups), Some(30));
        retention.general.rollups = Rollups::Until(Some(365));
        assert!(retention.rolls_up());
        assert_eq!(retention.longest(Kept::Rollups), Some(365));
        retention.general.rollups = Rollups::Until(None);
        assert_eq!((retention.shortest(Kept::Rollups), retention.longest(Kept::Rollups)), (None, None));
    }
}
