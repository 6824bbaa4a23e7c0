//! What shippers send that is not OTLP. Logs: Loki's push, Elasticsearch's bulk requests, JSON lines and syslog, each
//! decoded into a [`LogSink`](crate::logs::LogSink). Spans: Zipkin's, into a [`SpanSink`](crate::spans::SpanSink).
//!
//! ```text
//! loki     streams with labels and lines           -> a stream for each label set, its labels the resource
//! elastic  action and document, line by line       -> a record for each document, with an outcome for each
//! lines    a JSON object a line                    -> a record a line
//! syslog   RFC 5424 and RFC 3164, framed or not    -> a record a message
//! zipkin   lists of spans, in JSON or protobuf     -> a span a span, a stream a service
//! ```
//!
//! Fields that mean something everywhere (when, how bad, what, which trace) are found under the names that shippers
//! give them ([`fields`]); all others are attributes, in their order, maps flattened.

pub mod elastic;
pub mod fields;
pub mod json;
pub mod lines;
pub mod loki;
pub mod syslog;
#[cfg(test)]
mod testing;
pub mod zipkin;

/// What was taken of a request, and what was not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Records or spans that the sink got.
    pub records: u64,
    /// Those that were left out.
    pub rejected: u64,
    /// Why, of the first.
    pub offence: Option<String>,
    /// Whether a record had no time of its own, so that the same bytes sent again need not be the same request.
    pub lacks_time: bool,
}

impl Taken {
    fn reject(&mut self, offence: impl FnOnce() -> String) {
        self.rejected += 1;
        self.offence.get_or_insert_with(offence);
    }
}
