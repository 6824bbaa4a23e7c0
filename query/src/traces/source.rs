//! What questions about traces ask of a shard: one trait, implemented where the crates meet.
//!
//! A span's place in time is its start. The filter is that of logs ([`protocol::logs::filter`]): a span's name is its body,
//! its own attributes are those of the record, and some fields are spans' alone.

use std::ops::ControlFlow;

use protocol::logs::{LogField, LogFilter, LogScan, LogStream, TimestampNs};
use protocol::spans::Span;

use crate::logs::source::{LogCount, LogKinds, LogRead};
use crate::source::SourceError;

/// Visits spans and their streams; may stop.
pub type VisitSpan<'v> = dyn FnMut(&LogStream<'_>, &Span<'_>) -> ControlFlow<()> + 'v;

/// A read view of the spans of one shard, fixed at an applied index.
///
/// Every method blocks on disk and CPU. A visitor that breaks ends the walk, which is no error.
pub trait SpanSource: Send + Sync {
    /// Visits the spans that are wanted, by their start, in the direction that the scan asks for.
    fn spans(&self, read: &LogRead<'_>, scan: &LogScan, visit: &mut VisitSpan<'_>)
    -> Result<(), SourceError>;

    /// Visits all spans of a trace, whenever they were.
    fn trace(
        &self,
        read: &LogRead<'_>,
        trace_id: &[u8; 16],
        visit: &mut VisitSpan<'_>,
    ) -> Result<(), SourceError>;

    /// Visits counts, as [`LogSource::count`](crate::logs::source::LogSource::count) does.
    fn span_counts(
        &self,
        read: &LogRead<'_>,
        count: &LogCount,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;

    /// Visits the fields that spans and their streams have, as
    /// [`LogSource::fields`](crate::logs::source::LogSource::fields) does.
    fn span_fields(
        &self,
        read: &LogRead<'_>,
        range: (TimestampNs, TimestampNs),
        filter: &LogFilter,
        visit: &mut dyn FnMut(&LogField, LogKinds, u64) -> ControlFlow<()>,
    ) -> Result<(), SourceError>;
}
