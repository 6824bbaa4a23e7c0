//! Zipkin's spans, version 2: `POST /api/v2/spans`, in JSON and in protobuf.
//!
//! ```text
//! JSON      [{"traceId","id","parentId","name","kind","timestamp","duration","localEndpoint","remoteEndpoint",
//!             "annotations":[{"timestamp","value"}],"tags":{},"debug","shared"}]
//! protobuf  ListOfSpans 1 Span*    Span  1 trace id  2 parent id  3 id  4 kind  5 name  6 timestamp  7 duration
//!             8 local endpoint  9 remote endpoint  10 annotation* {1 timestamp, 2 value}  11 tag* {1 key, 2 value}
//!             12 debug  13 shared         Endpoint  1 service  2 IPv4  3 IPv6  4 port
//! ```
//!
//! Both become the same parts, and these a span as OpenTelemetry's translation has it: the local service is the resource's
//! `service.name`; the remote end is `peer.service`, `net.peer.ip`, `net.peer.port`; annotations are events, tags are
//! attributes, save those by which OpenTelemetry's exporters say what Zipkin has no place for (`otel.status_code`,
//! `otel.status_description`, `error`, `otel.scope.name`, `otel.scope.version`, `w3c.tracestate`).
//!
//! Ids of 64 bits get leading zeros. Client and server may share one span id; both are kept, and `zipkin.shared` marks the
//! server's. Times are microseconds. A span without a time of its own begins at its first annotation; without any it can
//! not be placed, and is left out.

use std::borrow::Cow;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};

use super::Taken;
use super::json::{Json, MAX_RECORD_VALUES};
use crate::logs::value::id_text;
use crate::logs::{LogStream, LogValue, TimestampNs};
use crate::otlp::logs::flatten;
use crate::remote_write::wire::Reader;
use crate::remote_write::{DecodeError, Fault};
use crate::spans::{Span, SpanEvent, SpanKind, SpanSink, SpanStatus};

/// Marks the server's part of a span whose id is the client's, too.
pub const SHARED: &str = "zipkin.shared";
/// Marks a span that samplers had to let through.
pub const DEBUG: &str = "zipkin.debug";

/// An end of a call.
#[derive(Default)]
struct Endpoint<'a> {
    service: Cow<'a, str>,
    address: Cow<'a, str>,
    port: i64,
}

/// A span as Zipkin has it, in whichever encoding it came.
#[derive(Default)]
struct Parts<'a> {
    trace_id: [u8; 16],
    id: [u8; 8],
    parent_id: [u8; 8],
    kind: Option<SpanKind>,
    name: Cow<'a, str>,
    timestamp_us: u64,
    duration_us: u64,
    local: Endpoint<'a>,
    remote: Endpoint<'a>,
    annotations: Vec<(u64, Cow<'a, str>)>,
    tags: Vec<(Cow<'a, str>, LogValue<'a>)>,
    debug: bool,
    shared: bool,
}

/// Reads a list of spans in JSON. After an error, what the sink got is to be dropped.
pub fn decode_json(body: &[u8], sink: &mut impl SpanSink) -> Result<Taken, String> {
    let mut spans = Spans::new(sink);
    let mut json = serde_json::Deserializer::from_slice(body);
    json.deserialize_seq(ListVisitor(&mut spans)).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(spans.taken)
}

/// Reads a list of spans in protobuf. After an error, what the sink got is to be dropped.
pub fn decode_protobuf(body: &[u8], sink: &mut impl SpanSink) -> Result<Taken, DecodeError> {
    let mut spans = Spans::new(sink);
    match walk_list(Reader::new(body), &mut spans) {
        Ok(()) => Ok(spans.taken),
        Err(fault) => Err(*fault.within(|| "ListOfSpans".into())),
    }
}

struct ListVisitor<'v, 's, S>(&'v mut Spans<'s, S>);

impl<'de, S: SpanSink> Visitor<'de> for ListVisitor<'_, '_, S> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of spans")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let mut left = MAX_RECORD_VALUES;
        while let Some(value) = list.next_element_seed(Json(&mut left))? {
            match parts_of_json(value) {
                Ok(parts) => self.0.take(parts),
                Err(offence) => self.0.taken.reject(|| offence),
            }
            left = MAX_RECORD_VALUES;
        }
        Ok(())
    }
}

fn text<'a>(name: &str, value: LogValue<'a>) -> Result<Cow<'a, str>, String> {
    match value {
        LogValue::String(text) => Ok(text),
        LogValue::Empty => Ok(Cow::Borrowed("")),
        other => Err(format!("a span's {name:?} is no text: {}", short(&other.text()))),
    }
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

fn number(name: &str, value: &LogValue<'_>) -> Result<u64, String> {
    let found = match value {
        LogValue::Empty => Some(0),
        LogValue::Int(number) => u64::try_from(*number).ok(),
        LogValue::Float(number) if *number >= 0.0 && *number < 9e15 => Some(*number as u64),
        LogValue::String(text) => text.parse().ok(),
        _ => None,
    };
    found.ok_or_else(|| format!("a span's {name:?} is no positive number: {}", short(&value.text())))
}

/// An id of up to so many bytes in hexadecimal; leading zeros may be missing.
fn id<const N: usize>(name: &str, value: &LogValue<'_>) -> Result<[u8; N], String> {
    let text = value.text();
    let parsed = match text.len() <= 2 * N && !text.starts_with('+') {
        true if text.is_empty() => Some(0),
        true => u128::from_str_radix(&text, 16).ok(),
        false => None,
    };
    let bytes =
        parsed.ok_or_else(|| format!("a span's {name:?} is no id: {:?}", short(&text)))?.to_be_bytes();
    let mut out = [0; N];
    out.copy_from_slice(&bytes[16 - N..]);
    Ok(out)
}

fn endpoint_of_json(value: LogValue<'_>) -> Result<Endpoint<'_>, String> {
    let mut endpoint = Endpoint::default();
    let LogValue::Map(fields) = value else {
        return match value {
            LogValue::Empty => Ok(endpoint),
            _ => Err("a span's endpoint is no object".to_owned()),
        };
    };
    for (key, value) in fields {
        match key.as_ref() {
            "serviceName" => endpoint.service = text("serviceName", value)?,
            "ipv4" => endpoint.address = text("ipv4", value)?,
            "ipv6" if endpoint.address.is_empty() => endpoint.address = text("ipv6", value)?,
            "port" => endpoint.port = number("port", &value)? as i64,
            _ => {}
        }
    }
    Ok(endpoint)
}

fn parts_of_json(value: LogValue<'_>) -> Result<Parts<'_>, String> {
    let LogValue::Map(fields) = value else { return Err("a span is no object".to_owned()) };
    let mut parts = Parts::default();
    for (key, value) in fields {
        match key.as_ref() {
            "traceId" => parts.trace_id = id("traceId", &value)?,
            "id" => parts.id = id("id", &value)?,
            "parentId" => parts.parent_id = id("parentId", &value)?,
            "name" => parts.name = text("name", value)?,
            "kind" => {
                parts.kind = match text("kind", value)?.to_ascii_uppercase().as_str() {
                    "CLIENT" => Some(SpanKind::Client),
                    "SERVER" => Some(SpanKind::Server),
                    "PRODUCER" => Some(SpanKind::Producer),
                    "CONSUMER" => Some(SpanKind::Consumer),
                    _ => None,
                }
            }
            "timestamp" => parts.timestamp_us = number("timestamp", &value)?,
            "duration" => parts.duration_us = number("duration", &value)?,
            "localEndpoint" => parts.local = endpoint_of_json(value)?,
            "remoteEndpoint" => parts.remote = endpoint_of_json(value)?,
            "annotations" => parts.annotations = annotations_of_json(value)?,
            "tags" => {
                parts.tags = match value {
                    LogValue::Map(tags) => tags,
                    LogValue::Empty => Vec::new(),
                    _ => return Err("a span's tags are no object".to_owned()),
                }
            }
            "debug" => parts.debug = value == LogValue::Bool(true),
            "shared" => parts.shared = value == LogValue::Bool(true),
            _ => {}
        }
    }
    Ok(parts)
}

fn annotations_of_json(value: LogValue<'_>) -> Result<Vec<(u64, Cow<'_, str>)>, String> {
    let LogValue::List(list) = value else { return Ok(Vec::new()) };
    let mut annotations = Vec::with_capacity(list.len());
    for annotation in list {
        let LogValue::Map(fields) = annotation else {
            return Err("a span's annotation is no object".to_owned());
        };
        let (mut time, mut what) = (0, Cow::Borrowed(""));
        for (key, value) in fields {
            match key.as_ref() {
                "timestamp" => time = number("timestamp", &value)?,
                "value" => what = text("value", value)?,
                _ => {}
            }
        }
        annotations.push((time, what));
    }
    Ok(annotations)
}

fn walk_list<S: SpanSink>(mut list: Reader<'_>, spans: &mut Spans<'_, S>) -> Result<(), Fault> {
    while !list.is_empty() {
        match list.tag()? {
            (1, wire) => {
                let span = list.message(wire)?;
                match parts_of_message(span).map_err(|error| error.within(|| "Span".into()))? {
                    Ok(parts) => spans.take(parts),
                    Err(offence) => spans.taken.reject(|| offence),
                }
            }
            (_, wire) => list.skip(wire)?,
        }
    }
    Ok(())
}

/// An id of up to so many bytes.
fn short_id<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    let mut out = [0; N];
    out.get_mut(N.checked_sub(bytes.len())?..)?.copy_from_slice(bytes);
    Some(out)
}

fn parts_of_message(mut message: Reader<'_>) -> Result<Result<Parts<'_>, String>, Fault> {
    let mut parts = Parts::default();
    let mut offence = None;
    let mut too_long = |name: &str, bytes: &[u8]| {
        offence.get_or_insert_with(|| format!("a span's {name} has {} bytes", bytes.len()));
    };
    let mut left = MAX_RECORD_VALUES;
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1..=3 => {
                let bytes = message.bytes(wire)?;
                match field {
                    1 => match short_id(bytes) {
                        Some(id) => parts.trace_id = id,
                        None => too_long("trace id", bytes),
                    },
                    2 => match short_id(bytes) {
                        Some(id) => parts.parent_id = id,
                        None => too_long("parent id", bytes),
                    },
                    _ => match short_id(bytes) {
                        Some(id) => parts.id = id,
                        None => too_long("id", bytes),
                    },
                }
            }
            4 => {
                parts.kind = match message.u64(wire)? {
                    1 => Some(SpanKind::Client),
                    2 => Some(SpanKind::Server),
                    3 => Some(SpanKind::Producer),
                    4 => Some(SpanKind::Consumer),
                    _ => None,
                }
            }
            5 => parts.name = String::from_utf8_lossy(message.bytes(wire)?),
            6 => parts.timestamp_us = message.fixed64(wire)?,
            7 => parts.duration_us = message.u64(wire)?,
            8 => parts.local = endpoint_of_message(message.message(wire)?)?,
            9 => parts.remote = endpoint_of_message(message.message(wire)?)?,
            10 | 11 => {
                let Some(fewer) = left.checked_sub(1) else {
                    return Ok(Err(format!("a span has more than {MAX_RECORD_VALUES} annotations and tags")));
                };
                left = fewer;
                let inner = message.message(wire)?;
                match field {
                    10 => parts.annotations.push(annotation_of_message(inner)?),
                    _ => parts.tags.push(tag_of_message(inner)?),
                }
            }
            12 => parts.debug = message.u64(wire)? != 0,
            13 => parts.shared = message.u64(wire)? != 0,
            _ => message.skip(wire)?,
        }
    }
    Ok(match offence {
        Some(offence) => Err(offence),
        None => Ok(parts),
    })
}

fn endpoint_of_message(mut message: Reader<'_>) -> Result<Endpoint<'_>, Fault> {
    let mut endpoint = Endpoint::default();
    while !message.is_empty() {
        match message.tag()? {
            (1, wire) => endpoint.service = String::from_utf8_lossy(message.bytes(wire)?),
            (2, wire) => {
                if let Ok(address) = <[u8; 4]>::try_from(message.bytes(wire)?) {
                    endpoint.address = Ipv4Addr::from(address).to_string().into();
                }
            }
            (3, wire) => {
                if let (Ok(address), true) =
                    (<[u8; 16]>::try_from(message.bytes(wire)?), endpoint.address.is_empty())
                {
                    endpoint.address = Ipv6Addr::from(address).to_string().into();
                }
            }
            (4, wire) => endpoint.port = message.u64(wire)? as i64,
            (_, wire) => message.skip(wire)?,
        }
    }
    Ok(endpoint)
}

fn annotation_of_message(mut message: Reader<'_>) -> Result<(u64, Cow<'_, str>), Fault> {
    let (mut time, mut what) = (0, Cow::Borrowed(""));
    while !message.is_empty() {
        match message.tag()? {
            (1, wire) => time = message.fixed64(wire)?,
            (2, wire) => what = String::from_utf8_lossy(message.bytes(wire)?),
            (_, wire) => message.skip(wire)?,
        }
    }
    Ok((time, what))
}

fn tag_of_message(mut message: Reader<'_>) -> Result<(Cow<'_, str>, LogValue<'_>), Fault> {
    let (mut key, mut value) = (Cow::Borrowed(""), Cow::Borrowed(""));
    while !message.is_empty() {
        match message.tag()? {
            (1, wire) => key = String::from_utf8_lossy(message.bytes(wire)?),
            (2, wire) => value = String::from_utf8_lossy(message.bytes(wire)?),
            (_, wire) => message.skip(wire)?,
        }
    }
    Ok((key, LogValue::String(value)))
}

/// Microseconds as nanoseconds, if a clock shows them.
fn ns(us: u64) -> Option<TimestampNs> {
    i64::try_from(us).ok()?.checked_mul(1000)
}

/// Hands spans on, a stream for each run of spans of one service and scope.
struct Spans<'s, S> {
    sink: &'s mut S,
    /// Service, scope and its version, of the stream named last.
    named: Option<[String; 3]>,
    taken: Taken,
}

impl<'s, S: SpanSink> Spans<'s, S> {
    fn new(sink: &'s mut S) -> Self {
        Self { sink, named: None, taken: Taken::default() }
    }

    fn take(&mut self, parts: Parts<'_>) {
        match span_of(parts) {
            Ok((stream, span)) => {
                if self.named.as_ref().is_none_or(|named| *named != stream) {
                    let [service, scope_name, scope_version] = &stream;
                    let mut resource = Vec::new();
                    if !service.is_empty() {
                        let service = LogValue::String(Cow::Borrowed(service.as_str()));
                        resource.push((Cow::Borrowed("service.name"), service));
                    }
                    self.sink.stream(&LogStream {
                        resource,
                        scope_name: Cow::Borrowed(scope_name),
                        scope_version: Cow::Borrowed(scope_version),
                        ..LogStream::default()
                    });
                    self.named = Some(stream);
                }
                self.sink.span(&span);
                self.taken.records += 1;
            }
            Err(offence) => self.taken.reject(|| offence),
        }
    }
}

/// Service, scope and its version; and the span.
fn span_of(parts: Parts<'_>) -> Result<([String; 3], Span<'_>), String> {
    if parts.trace_id == [0; 16] {
        return Err("a span has no traceId".to_owned());
    }
    if parts.id == [0; 8] {
        return Err("a span has no id".to_owned());
    }
    let far = || format!("span {} lies beyond the year 2262", id_text(&parts.id));
    let mut events = Vec::with_capacity(parts.annotations.len());
    for (time_us, name) in parts.annotations {
        events.push(SpanEvent { time_ns: ns(time_us).ok_or_else(far)?, name, ..SpanEvent::default() });
    }
    let start_ns = match ns(parts.timestamp_us).ok_or_else(far)? {
        0 => events.iter().map(|event| event.time_ns).min().unwrap_or(0),
        start => start,
    };
    if start_ns == 0 {
        return Err(format!("span {} has no timestamp", id_text(&parts.id)));
    }
    let end_ns = ns(parts.duration_us).and_then(|ns| start_ns.checked_add(ns)).ok_or_else(far)?;
    let mut stream = [parts.local.service.into_owned(), String::new(), String::new()];
    let mut span = Span {
        trace_id: parts.trace_id,
        span_id: parts.id,
        parent_id: parts.parent_id,
        name: parts.name,
        kind: parts.kind.unwrap_or_default(),
        start_ns,
        end_ns,
        events,
        ..Span::default()
    };
    for (key, value) in parts.tags {
        match key.as_ref() {
            "otel.status_code" => match value.text().to_ascii_uppercase().as_str() {
                "OK" | "STATUS_CODE_OK" | "1" => span.status = SpanStatus::Ok,
                "ERROR" | "STATUS_CODE_ERROR" | "2" => span.status = SpanStatus::Error,
                _ => {}
            },
            "otel.status_description" => span.status_message = Cow::Owned(value.text().into_owned()),
            "w3c.tracestate" => span.trace_state = Cow::Owned(value.text().into_owned()),
            "otel.scope.name" | "otel.library.name" => stream[1] = value.text().into_owned(),
            "otel.scope.version" | "otel.library.version" => stream[2] = value.text().into_owned(),
            "span.kind" if parts.kind.is_none() && value.text() == "internal" => {
                span.kind = SpanKind::Internal;
            }
            "error" => {
                // The tag alone says that the span failed; what it says besides is why.
                let why = value.text().into_owned();
                if why != "false" {
                    span.status = SpanStatus::Error;
                    if span.status_message.is_empty() && why != "true" {
                        span.status_message = Cow::Owned(why.clone());
                    }
                }
                if why != "true" {
                    span.attributes.push((key, value));
                }
            }
            _ => flatten(key, value, &mut span.attributes),
        }
    }
    let mut put = |name: &'static str, value: LogValue<'static>| {
        if !span.attributes.iter().any(|(key, _)| key == name) {
            span.attributes.push((Cow::Borrowed(name), value));
        }
    };
    let owned = |text: Cow<'_, str>| LogValue::String(Cow::Owned(text.into_owned()));
    if !parts.remote.service.is_empty() {
        put("peer.service", owned(parts.remote.service));
    }
    for (endpoint, address, port) in [
        (parts.local.address, "net.host.ip", parts.local.port),
        (parts.remote.address, "net.peer.ip", parts.remote.port),
    ] {
        if !endpoint.is_empty() {
            put(address, owned(endpoint));
        }
        if port > 0 {
            put(
                if address == "net.host.ip" { "net.host.port" } else { "net.peer.port" },
                LogValue::Int(port),
            );
        }
    }
    for (marked, name) in [(parts.shared, SHARED), (parts.debug, DEBUG)] {
        if marked {
            put(name, LogValue::Bool(true));
        }
    }
    Ok((stream, span))
}

#[cfg(test)]
mod tests;
