//! Spans: the parts of traces as they are written and read.
//!
//! ```text
//! decoders (otlp, zipkin) ──spans──► SpanSink: one batch builder for each shard     (write)
//! query ──filter, range──► shard of the trace ──spans──► visitor                    (read)
//! ```
//!
//! A span belongs to a *stream*, the resource and scope that emitted it, as a log record does, and its attributes are flat
//! in the same way (see [`crate::logs`]). All spans of a trace lie on one shard, whenever they arrive. What a shard keeps is
//! a row of the machinery that keeps logs: see [`row`].

pub mod row;

pub mod messages;

use std::borrow::Cow;

use crate::logs::{Attribute, LogStream, TimestampNs};

/// Part that a span plays in a call, numbered as OpenTelemetry does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SpanKind {
    /// The source did not say.
    #[default]
    Unspecified = 0,
    /// Work inside of a service.
    Internal = 1,
    /// The receiving side of a call.
    Server = 2,
    /// The sending side of a call.
    Client = 3,
    /// A message is put into a queue.
    Producer = 4,
    /// A message is taken from a queue.
    Consumer = 5,
}

/// How the work of a span ended, numbered as OpenTelemetry does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SpanStatus {
    /// The source did not say: no error is known.
    #[default]
    Unset = 0,
    /// The source vouches for it.
    Ok = 1,
    /// It failed.
    Error = 2,
}

/// Something that happened within a span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanEvent<'a> {
    /// When.
    pub time_ns: TimestampNs,
    /// What.
    pub name: Cow<'a, str>,
    /// More about it.
    pub attributes: Vec<Attribute<'a>>,
    /// Number of attributes that the source left out.
    pub dropped_attributes: u32,
}

/// Another span that this one has to do with.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SpanLink<'a> {
    /// Trace of the other.
    pub trace_id: [u8; 16],
    /// The other.
    pub span_id: [u8; 8],
    /// W3C trace state of the other.
    pub trace_state: Cow<'a, str>,
    /// W3C trace flags of the other, and OpenTelemetry's bits about it.
    pub flags: u32,
    /// More about the link.
    pub attributes: Vec<Attribute<'a>>,
    /// Number of attributes that the source left out.
    pub dropped_attributes: u32,
}

/// One span.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Span<'a> {
    /// Trace that it belongs to; never zeros in what is stored.
    pub trace_id: [u8; 16],
    /// Its own id; never zeros in what is stored.
    pub span_id: [u8; 8],
    /// The span that caused it, zeros if it is a root.
    pub parent_id: [u8; 8],
    /// W3C trace state.
    pub trace_state: Cow<'a, str>,
    /// W3C trace flags, and OpenTelemetry's bits about the parent.
    pub flags: u32,
    /// Name of the operation.
    pub name: Cow<'a, str>,
    /// Part in a call.
    pub kind: SpanKind,
    /// When it began.
    pub start_ns: TimestampNs,
    /// When it ended; may lie before the start where clocks are wrong.
    pub end_ns: TimestampNs,
    /// How it ended.
    pub status: SpanStatus,
    /// What the source says about the status.
    pub status_message: Cow<'a, str>,
    /// Attributes of the span.
    pub attributes: Vec<Attribute<'a>>,
    /// Number of attributes that the source left out.
    pub dropped_attributes: u32,
    /// What happened within, in the order of the source.
    pub events: Vec<SpanEvent<'a>>,
    /// Number of events that the source left out.
    pub dropped_events: u32,
    /// Other spans, in the order of the source.
    pub links: Vec<SpanLink<'a>>,
    /// Number of links that the source left out.
    pub dropped_links: u32,
}

impl Span<'_> {
    /// Nanoseconds from start to end; 0 where the end lies before the start.
    pub fn duration_ns(&self) -> u64 {
        u64::try_from(self.end_ns.saturating_sub(self.start_ns)).unwrap_or(0)
    }

    /// Its place in time, by which it is kept and found: its start, or its end if it has no start.
    pub fn placed_ns(&self) -> TimestampNs {
        if self.start_ns == 0 { self.end_ns } else { self.start_ns }
    }
}

/// Takes spans as a decoder finds them.
pub trait SpanSink {
    /// The spans that follow belong to this stream.
    fn stream(&mut self, stream: &LogStream<'_>);

    /// One span of the stream named last.
    fn span(&mut self, span: &Span<'_>);
}
