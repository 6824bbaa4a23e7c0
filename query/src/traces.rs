//! Traces: TraceQL, whole traces, and what both ask of the shards.
//!
//! ```text
//! traceql::parse ─► Query ─► engine ─► fragment ─┬─► SpanSource::spans   candidates, by a filter that lets too much through
//!                            merge ◄─ answers ◄──┘   SpanSource::trace   each candidate's trace, whole; then exactly
//! ```
//!
//! All spans of a trace lie on one shard, so that every trace is judged by one shard, in whole: also by spans that begin
//! outside of the time that was asked for.
//!
//! Read first: [`source`], then [`traceql`], [`assemble`], [`engine`].

pub mod assemble;
pub mod compare;
pub mod critical_path;
pub mod engine;
pub(crate) mod fragment;
mod metrics;
mod search;
pub mod source;
pub mod traceql;

pub use assemble::{Summary, Trace, TraceSpan};
pub use engine::{Found, Order, SearchOptions, Summaries, TracePlace};

use protocol::logs::{LogField, LogFilter};

/// A filter that lets every span through that a query may find, and others; none where the text is no TraceQL.
pub fn narrowing(text: &str) -> Option<LogFilter> {
    traceql::parse(text).ok().map(|query| traceql::pushdown(&query))
}

/// The store's field of a query's; none of what the store keeps no values of.
pub fn stored_field(field: &traceql::Field) -> Option<LogField> {
    traceql::stored_field(field)
}
