//! What the query engine asks of the rest of the system: two traits, implemented where the crates meet.
//!
//! ```text
//! coordinator:  Engine ──fragment bytes──► Cluster::execute ──► every shard ──► one ShardAnswer per shard
//! at a shard:   run_fragment(bytes) ──► ShardSource::select / label_names / ... ──► answer bytes
//! ```
//!
//! [`ShardSource`] is a read view of one shard at one applied index; it never changes while it is held.
//! [`Cluster`] carries opaque fragment bytes (see `protocol::scan`) to all shards of a tenant and brings their
//! answers back in shard order, or fails naming the shard that is missing: a silent partial answer is a bug.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::histogram::Histogram;
use protocol::ids::{ShardId, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use protocol::memory::MemoryLedger;
use protocol::rollup::Rollup;
use protocol::sample::{TimestampMs, is_stale_nan};

use crate::logs::source::LogSource;
use crate::traces::source::SpanSource;

/// A failure below the query engine: storage, network, a missing shard. The message is for the client.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct SourceError {
    /// Decides the code that the client sees and whether a retry can help.
    pub kind: ErrorKind,
    /// What failed, in words that may be shown to a client (names shards, never files).
    pub message: String,
}

impl SourceError {
    /// Builds an error.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

/// Timestamps in milliseconds, both ends inclusive. `start > end` selects nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeRange {
    /// First millisecond that counts.
    pub start: TimestampMs,
    /// Last millisecond that counts.
    pub end: TimestampMs,
}

impl TimeRange {
    /// All of time.
    pub const ALL: Self = Self { start: i64::MIN, end: i64::MAX };

    /// A range with both ends inclusive.
    pub const fn new(start: TimestampMs, end: TimestampMs) -> Self {
        Self { start, end }
    }
}

/// One series' samples inside a time range, as columns.
///
/// Timestamps of each column are strictly ascending and inside the asked range (samples outside it are ignored,
/// but cost). A timestamp has a float or a histogram, not both: storage keeps the first that was written. Staleness
/// markers are included: floats by their bits, histograms by the bits of their sum.
#[derive(Clone, Copy, Debug)]
pub struct SeriesColumns<'a> {
    /// The series' labels, `__name__` included.
    pub labels: &'a Labels,
    /// Timestamps of `values`.
    pub times: &'a [TimestampMs],
    /// The vector that `times` is a part of, where the source keeps one for series that were sampled together: what is
    /// computed per timestamp can then be computed once for all of them.
    pub shared_times: Option<&'a Arc<[TimestampMs]>>,
    /// Float samples, as many as `times`.
    pub values: &'a [f64],
    /// Start timestamps of the float samples (0 = unknown): as many as `times`, or empty when none is known.
    pub start_times: &'a [TimestampMs],
    /// Timestamps of `histograms`.
    pub histogram_times: &'a [TimestampMs],
    /// Native histograms, as many as `histogram_times`.
    pub histograms: &'a [Histogram],
    /// Start timestamps of the histograms, or empty when none is known.
    pub histogram_start_times: &'a [TimestampMs],
    /// Hours of which only some samples are left, in ascending order: those that overlap the asked range.
    pub rolled: &'a [RolledHour],
}

/// An hour of a series that is rolled up: of its samples only some are left, and what all of them came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RolledHour {
    /// First moment.
    pub first: TimestampMs,
    /// Last moment.
    pub last: TimestampMs,
    /// What its samples came to.
    pub rollup: Rollup,
}

impl<'a> SeriesColumns<'a> {
    /// A series of float samples only.
    pub fn floats(labels: &'a Labels, times: &'a [TimestampMs], values: &'a [f64]) -> Self {
        Self {
            labels,
            times,
            shared_times: None,
            values,
            start_times: &[],
            histogram_times: &[],
            histograms: &[],
            histogram_start_times: &[],
            rolled: &[],
        }
    }
}

/// What samples are counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TallyBy {
    /// Nothing: parts of the samples come without labels, each sample in one part.
    Nothing,
    /// Series: parts of the samples come with the labels of their series, which may have several parts.
    Series,
}

/// How many float samples there are in a part of the data, staleness markers left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tally {
    /// How many; 0 where the part has none, then nothing but what was read counts.
    pub samples: u64,
    /// Timestamp of the first.
    pub first: TimestampMs,
    /// Timestamp of the last.
    pub last: TimestampMs,
    /// Samples that were read for it.
    pub read_samples: u64,
    /// Series that these are of.
    pub read_series: u64,
}

/// What is known of a metric family.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricMetadata {
    /// The family's name.
    pub family: String,
    /// `counter`, `gauge`, `histogram`, `gaugehistogram`, `summary`, `info`, `stateset` or `unknown`.
    pub kind: String,
    /// Help text.
    pub help: String,
    /// Unit, may be empty.
    pub unit: String,
}

/// One exemplar of a series.
#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    /// The exemplar's own labels (`trace_id` and the like).
    pub labels: Labels,
    /// Observed value.
    pub value: f64,
    /// When it was observed.
    pub timestamp: TimestampMs,
}

/// What a shard holds of a tenant's current series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeadStats {
    /// Series.
    pub series: u64,
    /// Parts that their samples lie in.
    pub chunks: u64,
    /// First and last timestamp of samples in memory.
    pub span: Option<(TimestampMs, TimestampMs)>,
}

/// A segment that holds series of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Name of its file.
    pub name: String,
    /// Length of its file.
    pub bytes: u64,
    /// First and last timestamp in it, of all tenants.
    pub range: TimeRange,
    /// Series of the tenant in it.
    pub series: u64,
}

/// A read view of one shard, fixed at an applied index.
///
/// Matchers are all to be met; a label that is absent has the empty value. Every method blocks on disk and CPU, so
/// callers run it off the reactor. `visit` may end the walk with `ControlFlow::Break`, which is no error.
pub trait ShardSource: Send + Sync {
    /// The memory of the node that holds the shard, where somebody keeps count of it.
    fn memory(&self) -> Option<&MemoryLedger> {
        None
    }

    /// The shard's logs; none where there are no logs.
    fn logs(&self) -> Option<&dyn LogSource> {
        None
    }

    /// The shard's spans; none where there are no traces.
    fn spans(&self) -> Option<&dyn SpanSource> {
        None
    }

    /// The shard, and the last entry of its log that this view reflects, by which results may be kept. `None` where they
    /// must not be: the view shows, or hides, something that no entry after it will account for.
    fn position(&self) -> Option<(ShardId, u64)> {
        None
    }

    /// The least timestamp of a tenant's samples that log entries after `index` may have added or taken away, those that
    /// this view reflects and perhaps more: `i64::MAX` for none, `i64::MIN` where that is not known.
    fn changed_since(&self, _tenant: &TenantId, _index: u64) -> TimestampMs {
        TimestampMs::MIN
    }

    /// Visits each series that matches and has a sample in `range`, in label order.
    fn select(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;

    /// Whether somebody's samples in `range` were rolled up.
    fn has_rollups(&self, _range: TimeRange) -> bool {
        false
    }

    /// Counts the float samples that the matching series have in `range`, staleness markers left out. Exact: sources that
    /// can tell without reading the samples do so, this one reads them. `visit` may end the count.
    fn tally(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        _by: TallyBy,
        visit: &mut dyn FnMut(&Labels, &Tally) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.select(tenant, matchers, range, &mut |series| {
            let live = || series.times.iter().zip(series.values).filter(|(_, value)| !is_stale_nan(**value));
            let tally = Tally {
                samples: live().count() as u64,
                first: live().next().map_or(TimestampMs::MAX, |(time, _)| *time),
                last: live().next_back().map_or(TimestampMs::MIN, |(time, _)| *time),
                read_samples: series.values.len() as u64,
                read_series: 1,
            };
            visit(series.labels, &tally)
        })
    }

    /// A number of samples in `range` that the matching series have at least, staleness markers included, from what is
    /// known without reading them. Sources that know less than `enough` to be there may answer 0 right away.
    fn least_samples(
        &self,
        _tenant: &TenantId,
        _matchers: &[Matcher],
        _range: TimeRange,
        _enough: u64,
    ) -> Result<u64, SourceError> {
        Ok(0)
    }

    /// Visits the labels of each series that matches and may have a sample in `range`, in label order.
    fn series(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&Labels) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;

    /// Label names of the series that match and may have a sample in `range`, ascending, each once.
    fn label_names(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, SourceError>;

    /// Values of one label over the series that match and may have a sample in `range`, ascending, each once.
    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, SourceError>;

    /// Metadata of all metric families, or of one.
    fn metadata(&self, tenant: &TenantId, family: Option<&str>) -> Result<Vec<MetricMetadata>, SourceError>;

    /// Figures of a tenant's current series; `visit` gets each of their label pairs, by name and value, and the number
    /// of series that have it. Kept as series come where that is possible; this one counts them.
    fn head(
        &self,
        tenant: &TenantId,
        visit: &mut dyn FnMut(&str, &str, u64),
    ) -> Result<HeadStats, SourceError> {
        let (mut series, mut pairs) = (0, BTreeMap::<(String, String), u64>::new());
        self.series(tenant, &[], TimeRange::ALL, &mut |labels| {
            series += 1;
            for (name, value) in labels {
                *pairs.entry((name.to_owned(), value.to_owned())).or_default() += 1;
            }
            ControlFlow::Continue(())
        })?;
        pairs.iter().for_each(|((name, value), series)| visit(name, value, *series));
        Ok(HeadStats { series, ..HeadStats::default() })
    }

    /// How many segments the shard has, and how many of them overlap a time range: the others are not read.
    fn segment_counts(&self, range: TimeRange) -> (u64, u64) {
        let _ = range;
        (0, 0)
    }

    /// The segments that hold anything of a tenant. A source that keeps none has none.
    fn segments(&self, tenant: &TenantId) -> Result<Vec<SegmentInfo>, SourceError> {
        let _ = tenant;
        Ok(Vec::new())
    }

    /// Visits the exemplars of each series that matches, in label order, inside `range`.
    fn exemplars(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&Labels, &[Exemplar]) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;
}

/// How fresh a read must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Sees every write acknowledged before the read began.
    #[default]
    Linearizable,
    /// Sees at least the writes that the commit token names.
    Session {
        /// The token that a write's answer carried.
        token: String,
    },
    /// Whatever the nearest replica has.
    Local,
}

/// For whom and how a fragment runs.
#[derive(Clone, Debug)]
pub struct ReadContext {
    /// Number of the query, as it stands in its fragments.
    pub query: u64,
    /// Whose data.
    pub tenant: TenantId,
    /// How fresh.
    pub consistency: Consistency,
    /// How long the shards may take, retries over moved leaders included.
    pub timeout: Duration,
    /// Bytes that the answers of all shards may come to together.
    pub max_answer_bytes: u64,
}

/// What one shard answered.
#[derive(Clone, Debug)]
pub struct ShardAnswer {
    /// The shard.
    pub shard: ShardId,
    /// The bytes that `run_fragment` returned there.
    pub answer: Bytes,
}

/// The way to all shards that hold a tenant's data.
pub trait Cluster: Send + Sync {
    /// How many shards there are; 0 if that is not known.
    fn shards(&self) -> usize {
        0
    }

    /// Runs a fragment on every shard. Answers come in shard order, one each; a shard that does not answer in time
    /// makes the whole call fail with an error that names it. Dropping the future stops the fragment everywhere.
    fn execute<'a>(
        &'a self,
        context: &'a ReadContext,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<Vec<ShardAnswer>, SourceError>>;

    /// Runs a fragment on one shard, as [`Cluster::execute`] does on all.
    fn execute_on<'a>(
        &'a self,
        context: &'a ReadContext,
        shard: ShardId,
        fragment: Bytes,
    ) -> BoxFuture<'a, Result<ShardAnswer, SourceError>> {
        Box::pin(async move {
            let answers = self.execute(context, fragment).await?;
            let of_shard = answers.into_iter().find(|answer| answer.shard == shard);
            of_shard.ok_or_else(|| {
                SourceError::new(ErrorKind::Unavailable, format!("shard {shard} did not answer"))
            })
        })
    }
}
