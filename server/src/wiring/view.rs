//! A shard's data as the query engine sees it: `query`'s source over `storage`'s snapshot.
//!
//! Mostly a change of types. Histograms are decoded here, since the engine computes with them and storage only keeps
//! their bytes; all else is borrowed through.

use std::ops::ControlFlow;

use protocol::error::ErrorKind;
use protocol::histogram::{self, Histogram};
use protocol::ids::{LogIndex, ShardId, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use protocol::memory::MemoryLedger;
use protocol::rollup::{Rollup, hour_of};
use protocol::sample::TimestampMs;
use query::logs::source::LogSource;
use query::source::{
    Exemplar, HeadStats, MetricMetadata, RolledHour, SegmentInfo, SeriesColumns, ShardSource, SourceError,
    Tally, TallyBy, TimeRange,
};
use query::traces::source::SpanSource;
use storage::error::StorageError;
use storage::scan::StoreSnapshot;
use storage::segment::TimeSlice;

/// A read view of one shard.
#[derive(Debug)]
pub struct ShardView {
    /// Which shard, for messages.
    pub shard: ShardId,
    /// Its data at one applied index.
    pub snapshot: StoreSnapshot,
    /// The node's memory, on which what is read is charged.
    pub memory: MemoryLedger,
}

impl ShardView {
    /// Logs what storage says, for it names files, and tells the client which shard it was.
    pub(super) fn failed(&self, error: &StorageError) -> SourceError {
        tracing::error!(shard = %self.shard, error = %crate::error::chain(error), "a shard cannot be read");
        let kind = match error.kind() {
            // A file that is gone or does not open is our trouble, not the client's.
            ErrorKind::NotFound | ErrorKind::InvalidInput => ErrorKind::Internal,
            kind => kind,
        };
        SourceError::new(kind, format!("shard {} cannot be read, see the log of its node", self.shard))
    }

    fn damaged(&self, error: &histogram::HistogramError) -> SourceError {
        tracing::error!(shard = %self.shard, %error, "a stored histogram cannot be decoded");
        SourceError::new(ErrorKind::Corruption, format!("shard {} holds a damaged histogram", self.shard))
    }
}

/// A series' samples that are no floats.
#[derive(Default)]
struct Decoded {
    histograms: Vec<Histogram>,
    /// Their times and start times, where they are not all that there are.
    times: Option<Vec<i64>>,
    starts: Option<Vec<i64>>,
    rolled: Vec<RolledHour>,
}

impl Decoded {
    /// Takes histograms up to `end_ms`, and roll-ups.
    fn read(
        &mut self,
        series: &storage::scan::SeriesColumns<'_>,
        end_ms: i64,
    ) -> Result<(), histogram::HistogramError> {
        self.histograms.clear();
        self.rolled.clear();
        (self.times, self.starts) = (None, None);
        let mut is_taken = Vec::with_capacity(series.histograms.len());
        for (time, blob) in series.histogram_times.iter().zip(series.histograms) {
            let sample = histogram::decode(blob)?;
            let rollup = Rollup::of_histogram(&sample);
            is_taken.push(rollup.is_none() && *time <= end_ms);
            if let Some(rollup) = rollup {
                let (first, last) = hour_of(*time);
                self.rolled.push(RolledHour { first, last, rollup });
            } else if *time <= end_ms {
                self.histograms.push(sample);
            }
        }
        if self.histograms.len() < series.histograms.len() {
            let of = |column: &[i64]| {
                let taken = column.iter().zip(&is_taken).filter(|(_, is_taken)| **is_taken);
                taken.map(|(time, _)| *time).collect::<Vec<_>>()
            };
            self.times = Some(of(series.histogram_times));
            self.starts = Some(of(series.histogram_start_times));
        }
        Ok(())
    }
}

impl ShardSource for ShardView {
    fn memory(&self) -> Option<&MemoryLedger> {
        Some(&self.memory)
    }

    fn logs(&self) -> Option<&dyn LogSource> {
        Some(self)
    }

    fn spans(&self) -> Option<&dyn SpanSource> {
        Some(self)
    }

    fn position(&self) -> Option<(ShardId, u64)> {
        self.snapshot.position().map(|index| (self.shard, index.0))
    }

    fn changed_since(&self, tenant: &TenantId, index: u64) -> TimestampMs {
        self.snapshot.changed_since(tenant, LogIndex(index))
    }

    fn select(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let mut decoded = Decoded::default();
        let mut damaged = None;
        // The roll-up of an hour that the range ends in may lie behind the range.
        let end = match self.snapshot.may_have_rollups(range.start, range.end) {
            true => hour_of(range.end).1,
            false => range.end,
        };
        let walked = self.snapshot.select(tenant, matchers, range.start, end, &mut |series| {
            if let Err(error) = decoded.read(&series, range.end) {
                damaged = Some(error);
                return ControlFlow::Break(());
            }
            let floats = if end == range.end {
                series.times.len()
            } else {
                series.times.partition_point(|time| *time <= range.end)
            };
            if floats == 0 && decoded.histograms.is_empty() && decoded.rolled.is_empty() {
                return ControlFlow::Continue(());
            }
            visit(SeriesColumns {
                labels: series.labels,
                times: &series.times[..floats],
                shared_times: series.shared_times.map(TimeSlice::vector),
                values: &series.values[..floats],
                start_times: series.start_times.get(..floats).unwrap_or_default(),
                histogram_times: decoded.times.as_deref().unwrap_or(series.histogram_times),
                histograms: &decoded.histograms,
                histogram_start_times: decoded.starts.as_deref().unwrap_or(series.histogram_start_times),
                rolled: &decoded.rolled,
            })
        });
        match damaged {
            Some(error) => Err(self.damaged(&error)),
            None => walked.map_err(|error| self.failed(&error)),
        }
    }

    fn has_rollups(&self, range: TimeRange) -> bool {
        self.snapshot.has_rollups(range.start, range.end)
    }

    fn tally(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        by: TallyBy,
        visit: &mut dyn FnMut(&Labels, &Tally) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let by = match by {
            TallyBy::Nothing => storage::scan::TallyBy::Nothing,
            TallyBy::Series => storage::scan::TallyBy::Series,
        };
        let counted =
            self.snapshot.tally(tenant, matchers, range.start, range.end, by, &mut |labels, tally| {
                let storage::tally::Tally { samples, first_ms, last_ms, read_samples, read_series } = *tally;
                let tally = Tally { samples, first: first_ms, last: last_ms, read_samples, read_series };
                visit(labels, &tally)
            });
        counted.map_err(|error| self.failed(&error))
    }

    fn least_samples(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        enough: u64,
    ) -> Result<u64, SourceError> {
        let least = self.snapshot.least_samples(tenant, matchers, range.start, range.end, enough);
        least.map_err(|error| self.failed(&error))
    }

    fn series(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&Labels) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        self.snapshot
            .series(tenant, matchers, range.start, range.end, visit)
            .map_err(|error| self.failed(&error))
    }

    fn label_names(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, SourceError> {
        let names = self.snapshot.label_names(tenant, matchers, range.start, range.end);
        names.map(|names| names.into_iter().collect()).map_err(|error| self.failed(&error))
    }

    fn label_values(
        &self,
        tenant: &TenantId,
        name: &str,
        matchers: &[Matcher],
        range: TimeRange,
    ) -> Result<Vec<String>, SourceError> {
        let values = self.snapshot.label_values(tenant, name, matchers, range.start, range.end);
        values.map(|values| values.into_iter().collect()).map_err(|error| self.failed(&error))
    }

    fn metadata(&self, tenant: &TenantId, family: Option<&str>) -> Result<Vec<MetricMetadata>, SourceError> {
        let families = self.snapshot.metadata(tenant, family).into_iter();
        let known = families.map(|(family, known)| MetricMetadata {
            family: family.to_owned(),
            kind: known.metric_type.as_str().to_owned(),
            help: known.help.clone(),
            unit: known.unit.clone(),
        });
        Ok(known.collect())
    }

    fn head(
        &self,
        tenant: &TenantId,
        visit: &mut dyn FnMut(&str, &str, u64),
    ) -> Result<HeadStats, SourceError> {
        let storage::scan::HeadStats { series, parts, span } = self.snapshot.head(tenant, visit);
        Ok(HeadStats { series, chunks: parts, span })
    }

    fn segment_counts(&self, range: TimeRange) -> (u64, u64) {
        let (all, overlapping) = self.snapshot.segment_counts(range.start, range.end);
        (all as u64, overlapping as u64)
    }

    fn segments(&self, tenant: &TenantId) -> Result<Vec<SegmentInfo>, SourceError> {
        let info = |segment: storage::scan::SegmentSummary| SegmentInfo {
            name: segment.name,
            bytes: segment.bytes,
            range: TimeRange::new(segment.span.0, segment.span.1),
            series: segment.series,
        };
        let segments = self.snapshot.segments(tenant).map_err(|error| self.failed(&error))?;
        Ok(segments.into_iter().map(info).collect())
    }

    fn exemplars(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(&Labels, &[Exemplar]) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let mut turned: Vec<Exemplar> = Vec::new();
        let walked =
            self.snapshot.exemplars(tenant, matchers, range.start, range.end, &mut |labels, exemplars| {
                turned.clear();
                turned.extend(exemplars.iter().map(|exemplar| Exemplar {
                    labels: exemplar.labels.clone(),
                    value: exemplar.value,
                    timestamp: exemplar.time_ms,
                }));
                visit(labels, &turned)
            });
        walked.map_err(|error| self.failed(&error))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use protocol::batch::{Metadata, MetricType, SubBatchBuilder};
    use protocol::command::{CommandHeader, encode_write};
    use protocol::ids::ClusterSecret;
    use protocol::matcher::MatchOp;
    use storage::engine::{LogPosition, ShardOptions, ShardStore};
    use storage::fs::mem::MemFs;

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        Labels::from_pairs(pairs.iter().copied()).unwrap()
    }

    /// A shard with a float series, a histogram series, an exemplar and metadata.
    fn view() -> (ShardView, Histogram) {
        let (tenant, secret) = (TenantId::default(), ClusterSecret([1; 32]));
        let histogram = Histogram {
            count: 3.0,
            sum: 4.5,
            zero_threshold: 0.001,
            positive_spans: vec![histogram::Span { offset: 0, length: 1 }],
            positive_buckets: vec![3.0],
            ..Histogram::default()
        };
        let mut blob = Vec::new();
        histogram::encode(&histogram, &mut blob).unwrap();
        let mut builder = SubBatchBuilder::new(tenant.clone(), 0);
        let up = labels(&[("__name__", "up"), ("job", "a")]);
        let seconds = labels(&[("__name__", "seconds"), ("job", "a")]);
        let up_ref = builder.push_new_series(up.series_id(&secret, &tenant), &up);
        let seconds_ref = builder.push_new_series(seconds.series_id(&secret, &tenant), &seconds);
        builder.push_float(up_ref, 1000, 1.0, 0);
        builder.push_float(up_ref, 2000, 0.0, 0);
        builder.push_histogram(seconds_ref, 1500, &blob, 0);
        builder.push_exemplar(up_ref, 1000, 0.5, labels(&[("trace_id", "7")]).as_bytes());
        builder.push_metadata(&Metadata {
            family: "up",
            metric_type: MetricType::Gauge,
            help: "Up.",
            unit: "",
        });
        let command =
            encode_write(CommandHeader { encoder_epoch: 1, cluster_time_ms: 0 }, &[builder.finish()]);
        let shard = ShardId(1);
        let store =
            ShardStore::open(MemFs::new(1), Path::new("/shard"), shard, ShardOptions::default(), LogIndex(0))
                .unwrap();
        store.apply(LogPosition { index: LogIndex(1), log_id: b"1" }, &command);
        (ShardView { shard, snapshot: store.snapshot(), memory: MemoryLedger::default() }, histogram)
    }

    #[test]
    fn every_kind_of_data_comes_through() {
        let (view, histogram) = view();
        let tenant = TenantId::default();
        let mut seen = Vec::new();
        view.select(&tenant, &[], TimeRange::new(0, 1999), &mut |series| {
            seen.push((series.labels.get("__name__").unwrap().to_owned(), series.times.to_vec()));
            if !series.histograms.is_empty() {
                assert_eq!(
                    (series.histogram_times, series.histograms),
                    (&[1500][..], &[histogram.clone()][..])
                );
            }
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(seen, [("seconds".to_owned(), vec![]), ("up".to_owned(), vec![1000])]);
        assert_eq!(view.label_names(&tenant, &[], TimeRange::ALL).unwrap(), ["__name__", "job"]);
        let up = Matcher::new("__name__", MatchOp::Equal, "up").unwrap();
        assert_eq!(view.label_values(&tenant, "__name__", &[up], TimeRange::ALL).unwrap(), ["up"]);
        let metadata = view.metadata(&tenant, None).unwrap();
        assert_eq!((metadata[0].family.as_str(), metadata[0].kind.as_str()), ("up", "gauge"));
        let mut exemplars = Vec::new();
        view.exemplars(&tenant, &[], TimeRange::ALL, &mut |labels, found| {
            exemplars.push((labels.clone(), found.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(exemplars.len(), 1);
        assert_eq!((exemplars[0].1[0].timestamp, exemplars[0].1[0].value), (1000, 0.5));
        let mut names = 0;
        view.series(&TenantId::new("other").unwrap(), &[], TimeRange::ALL, &mut |_| {
            names += 1;
            ControlFlow::Continue(())
        })
        .unwrap();
        assert_eq!(names, 0, "a tenant sees its own series only");
    }

    #[test]
    fn the_visitor_may_end_the_walk() {
        let (view, _) = view();
        let mut visits = 0;
        view.select(&TenantId::default(), &[], TimeRange::ALL, &mut |_| {
            visits += 1;
            ControlFlow::Break(())
        })
        .unwrap();
        assert_eq!(visits, 1);
    }
}
