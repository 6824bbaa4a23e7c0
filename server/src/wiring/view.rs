//! A shard's data as the query engine sees it: `query`'s source over `storage`'s snapshot.
//!
//! Mostly a change of types. Histograms are decoded here, since the engine computes with them and storage only keeps
//! their bytes; all else is borrowed through.

use std::ops::ControlFlow;

use protocol::error::ErrorKind;
use protocol::histogram::{self, Histogram};
use protocol::ids::{ShardId, TenantId};
use protocol::labels::Labels;
use protocol::matcher::Matcher;
use query::source::{Exemplar, MetricMetadata, SeriesColumns, ShardSource, SourceError, TimeRange};
use storage::error::StorageError;
use storage::scan::StoreSnapshot;

/// A read view of one shard.
#[derive(Debug)]
pub struct ShardView {
    /// Which shard, for messages.
    pub shard: ShardId,
    /// Its data at one applied index.
    pub snapshot: StoreSnapshot,
}

impl ShardView {
    /// Logs what storage says, for it names files, and tells the client which shard it was.
    fn failed(&self, error: &StorageError) -> SourceError {
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

impl ShardSource for ShardView {
    fn select(
        &self,
        tenant: &TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let mut histograms: Vec<Histogram> = Vec::new();
        let mut damaged = None;
        let walked = self.snapshot.select(tenant, matchers, range.start, range.end, &mut |series| {
            histograms.clear();
            for blob in series.histograms {
                match histogram::decode(blob) {
                    Ok(histogram) => histograms.push(histogram),
                    Err(error) => {
                        damaged = Some(error);
                        return ControlFlow::Break(());
                    }
                }
            }
            visit(SeriesColumns {
                labels: series.labels,
                times: series.times,
                values: series.values,
                start_times: series.start_times,
                histogram_times: series.histogram_times,
                histograms: &histograms,
                histogram_start_times: series.histogram_start_times,
            })
        });
        match damaged {
            Some(error) => Err(self.damaged(&error)),
            None => walked.map_err(|error| self.failed(&error)),
        }
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
