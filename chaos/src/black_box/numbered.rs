//! What clients write: everything has a number, and by its number it is known what it has to be.
//!
//! Number `n` of a client is, at `n` milliseconds after the start of the run,
//! - of metrics: a sample of value `n` in each of the client's [`SERIES`] series;
//! - of logs: a record whose attribute `seq` and whose body say it;
//! - of traces: a span whose attribute `seq` says it. A trace has [`SPANS_OF_A_TRACE`] spans in a row, below the first of
//!   them: most requests begin in the middle of one and end in the middle of another.

use std::borrow::Cow;

use protocol::logs::{Attribute, LogRecord, LogStream, LogValue};
use protocol::spans::{Span, SpanKind};

use crate::black_box::history::Signal;
use crate::client::{Series, encode_write};
use crate::{log_workload, span_workload};

/// Name of the metric.
pub const METRIC: &str = "chaos_numbered";
/// Service of records and spans.
pub const SERVICE: &str = "chaos";
/// Series of a client of metrics.
const SERIES: usize = 24;
/// Numbers of a trace.
const SPANS_OF_A_TRACE: u64 = 7;

/// Series of which each has every number of a client.
pub const fn series(signal: Signal) -> usize {
    match signal {
        Signal::Metrics => SERIES,
        Signal::Logs | Signal::Traces => 1,
    }
}

/// The request that writes the numbers from `from` to before `to`.
pub fn encode(signal: Signal, client: usize, start_ms: i64, (from, to): (u64, u64)) -> Vec<u8> {
    let numbers = from..to;
    match signal {
        Signal::Metrics => {
            let samples: Vec<(i64, f64)> = numbers.map(|n| (start_ms + n as i64, n as f64)).collect();
            let client = client.to_string();
            let series: Vec<Series> = (0..SERIES)
                .map(|number| {
                    let labels = [("client", client.as_str()), ("series", &number.to_string())];
                    Series::new(METRIC, &labels, samples.clone())
                })
                .collect();
            encode_write(&series)
        }
        Signal::Logs => {
            let records: Vec<LogRecord<'_>> = numbers
                .map(|number| LogRecord {
                    time_ns: ns(start_ms, number),
                    severity: 9,
                    severity_text: Cow::Borrowed("INFO"),
                    body: LogValue::String(Cow::Owned(log_body(client, number))),
                    attributes: vec![(Cow::Borrowed("seq"), LogValue::Int(number as i64))],
                    ..LogRecord::default()
                })
                .collect();
            log_workload::encode_export(&resource(client), &records)
        }
        Signal::Traces => {
            let spans: Vec<Span<'_>> = numbers.map(|number| span(client, start_ms, number)).collect();
            span_workload::encode_export(&resource(client), &spans)
        }
    }
}

/// Time of a number, in nanoseconds since 1970.
pub const fn ns(start_ms: i64, number: u64) -> i64 {
    (start_ms + number as i64) * 1_000_000
}

fn text(name: &'static str, value: String) -> Attribute<'static> {
    (Cow::Borrowed(name), LogValue::String(Cow::Owned(value)))
}

fn resource(client: usize) -> LogStream<'static> {
    let resource = vec![text("service.name", SERVICE.to_owned()), text("chaos_client", client.to_string())];
    LogStream { resource, ..LogStream::default() }
}

/// The body of a record, long enough to tell it from every other.
pub fn log_body(client: usize, number: u64) -> String {
    format!("record {number} of client {client}: nothing of this may be lost, doubled or changed")
}

/// A span.
pub fn span(client: usize, start_ms: i64, number: u64) -> Span<'static> {
    let trace = number / SPANS_OF_A_TRACE;
    let id = |number: u64| (((client as u64 + 1) << 40) | (number + 1)).to_be_bytes();
    let first = trace * SPANS_OF_A_TRACE;
    let start_ns = ns(start_ms, number);
    // By a hash, so that they lie on all shards.
    let hash = xxhash_rust::xxh3::xxh3_128(&id(first));
    Span {
        trace_id: hash.to_be_bytes(),
        span_id: id(number),
        parent_id: if number == first { [0; 8] } else { id(first) },
        name: Cow::Owned(format!("step {} of client {client}", number - first)),
        kind: if number == first { SpanKind::Server } else { SpanKind::Internal },
        start_ns,
        end_ns: start_ns + 1_000 * (1 + number as i64 % 1000),
        attributes: vec![
            text("chaos_client", client.to_string()),
            (Cow::Borrowed("seq"), LogValue::Int(number as i64)),
        ],
        ..Span::default()
    }
}
