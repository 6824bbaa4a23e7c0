//! OTLP traces: an export request to spans for a [`SpanSink`], and spans to such a request again.
//!
//! ```text
//! ExportTraceServiceRequest  1 ResourceSpans* {1 resource, 2 ScopeSpans*}    ScopeSpans {1 scope, 2 Span*}
//! Span    1 trace id  2 span id  3 trace state  4 parent id  5 name  6 kind  7 start  8 end  9 attribute*  10 dropped
//!         11 event*  12 dropped events  13 link*  14 dropped links  15 status {2 message, 3 code}  16 flags
//! Event   1 time  2 name  3 attribute*  4 dropped
//! Link    1 trace id  2 span id  3 trace state  4 attribute*  5 dropped  6 flags
//! ```
//!
//! The same message is what Tempo answers for a trace and what shards send each other: [`SpanEncoder`] writes what
//! [`decode`] reads, and nothing is lost on the way.
//!
//! Text is borrowed from the request; attributes that are maps are flattened, as [`crate::logs`] has it. A span without a
//! trace id or one of its own (of a wrong length counts as absent) can not be found again and is left out, as is one whose
//! times no clock shows. Kinds and states that do not exist count as not said.

use std::borrow::Cow;

use super::DecodeError;
use super::streams::{Messages, Walk, id, read_attribute, walk};
use super::value::{MAX_VALUES, too_many};
use crate::logs::{LogStream, TimestampNs};
use crate::remote_write::Fault;
use crate::remote_write::wire::Reader;
use crate::spans::{Span, SpanEvent, SpanKind, SpanLink, SpanSink, SpanStatus};

mod encode;

pub use encode::SpanEncoder;

/// What a request had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Spans that the sink got.
    pub spans: u64,
    /// Spans that were left out.
    pub rejected: u64,
    /// Why, of the first.
    pub offence: Option<String>,
}

/// Walks a request's protobuf. After an error, what the sink got is to be dropped.
pub fn decode(body: &[u8], sink: &mut impl SpanSink) -> Result<Decoded, DecodeError> {
    let mut walker = Walker { sink, decoded: Decoded::default() };
    match walk(&mut walker, Reader::new(body)) {
        Ok(()) => Ok(walker.decoded),
        Err(fault) => Err((*fault).into()),
    }
}

struct Walker<'s, S> {
    sink: &'s mut S,
    decoded: Decoded,
}

impl<S: SpanSink> Walk for Walker<'_, S> {
    const MESSAGES: Messages =
        Messages { request: "ExportTraceServiceRequest", resource: "ResourceSpans", entry: "Span" };

    fn stream(&mut self, stream: &LogStream<'_>) {
        self.sink.stream(stream);
    }

    fn entry(&mut self, message: Reader<'_>) -> Result<(), Fault> {
        match read_span(message)? {
            Ok(span) => {
                self.sink.span(&span);
                self.decoded.spans += 1;
            }
            Err(offence) => {
                self.decoded.rejected += 1;
                self.decoded.offence.get_or_insert(offence);
            }
        }
        Ok(())
    }
}

/// Notes a time; one that no clock shows is remembered instead.
fn time(found: u64, beyond: &mut Option<u64>) -> TimestampNs {
    i64::try_from(found).unwrap_or_else(|_| {
        beyond.get_or_insert(found);
        0
    })
}

/// A span, or why it is left out.
fn read_span(mut message: Reader<'_>) -> Result<Result<Span<'_>, String>, Fault> {
    let mut span = Span::default();
    let mut left = MAX_VALUES;
    let mut beyond = None;
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => span.trace_id = id(message.bytes(wire)?),
            2 => span.span_id = id(message.bytes(wire)?),
            3 => span.trace_state = String::from_utf8_lossy(message.bytes(wire)?),
            4 => span.parent_id = id(message.bytes(wire)?),
            5 => span.name = String::from_utf8_lossy(message.bytes(wire)?),
            6 => span.kind = kind_of(message.u64(wire)?),
            7 => span.start_ns = time(message.fixed64(wire)?, &mut beyond),
            8 => span.end_ns = time(message.fixed64(wire)?, &mut beyond),
            9 => read_attribute(message.message(wire)?, &mut left, &mut span.attributes)?,
            10 => span.dropped_attributes = message.u64(wire)? as u32,
            11 => span.events.push(read_event(message.message(wire)?, &mut left, &mut beyond)?),
            12 => span.dropped_events = message.u64(wire)? as u32,
            13 => span.links.push(read_link(message.message(wire)?, &mut left)?),
            14 => span.dropped_links = message.u64(wire)? as u32,
            15 => (span.status, span.status_message) = read_status(message.message(wire)?)?,
            16 => span.flags = message.fixed32(wire)?,
            _ => message.skip(wire)?,
        }
    }
    Ok(match beyond {
        Some(far) => Err(format!("a span's time {far} is beyond the year 2262")),
        None if span.trace_id == [0; 16] => Err("a span has no trace id of 16 bytes".to_owned()),
        None if span.span_id == [0; 8] => Err("a span has no id of 8 bytes".to_owned()),
        None => Ok(span),
    })
}

fn kind_of(number: u64) -> SpanKind {
    match number {
        1 => SpanKind::Internal,
        2 => SpanKind::Server,
        3 => SpanKind::Client,
        4 => SpanKind::Producer,
        5 => SpanKind::Consumer,
        _ => SpanKind::Unspecified,
    }
}

fn read_status(mut message: Reader<'_>) -> Result<(SpanStatus, Cow<'_, str>), Fault> {
    let (mut status, mut text) = (SpanStatus::Unset, Cow::Borrowed(""));
    while !message.is_empty() {
        match message.tag()? {
            (2, wire) => text = String::from_utf8_lossy(message.bytes(wire)?),
            (3, wire) => {
                status = match message.u64(wire)? {
                    1 => SpanStatus::Ok,
                    2 => SpanStatus::Error,
                    _ => SpanStatus::Unset,
                };
            }
            (_, wire) => message.skip(wire)?,
        }
    }
    Ok((status, text))
}

fn read_event<'a>(
    mut message: Reader<'a>,
    left: &mut usize,
    beyond: &mut Option<u64>,
) -> Result<SpanEvent<'a>, Fault> {
    *left = left.checked_sub(1).ok_or_else(too_many)?;
    let mut event = SpanEvent::default();
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => event.time_ns = time(message.fixed64(wire)?, beyond),
            2 => event.name = String::from_utf8_lossy(message.bytes(wire)?),
            3 => read_attribute(message.message(wire)?, left, &mut event.attributes)?,
            4 => event.dropped_attributes = message.u64(wire)? as u32,
            _ => message.skip(wire)?,
        }
    }
    Ok(event)
}

fn read_link<'a>(mut message: Reader<'a>, left: &mut usize) -> Result<SpanLink<'a>, Fault> {
    *left = left.checked_sub(1).ok_or_else(too_many)?;
    let mut link = SpanLink::default();
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => link.trace_id = id(message.bytes(wire)?),
            2 => link.span_id = id(message.bytes(wire)?),
            3 => link.trace_state = String::from_utf8_lossy(message.bytes(wire)?),
            4 => read_attribute(message.message(wire)?, left, &mut link.attributes)?,
            5 => link.dropped_attributes = message.u64(wire)? as u32,
            6 => link.flags = message.fixed32(wire)?,
            _ => message.skip(wire)?,
        }
    }
    Ok(link)
}

#[cfg(test)]
mod tests;
