//! Spans to the message that [`decode`](super::decode) reads.

use crate::logs::{Attribute, LogStream, LogValue};
use crate::spans::{Span, SpanEvent, SpanLink, SpanSink, SpanStatus};
use crate::varint::{write_prefixed, write_u64};

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

/// Writes spans as they come. Spans of one stream that come one after the other share its description.
#[derive(Debug, Default)]
pub struct SpanEncoder {
    out: Vec<u8>,
    /// The stream, encoded: a resource, and a scope.
    resource: Vec<u8>,
    scope: Vec<u8>,
    /// Spans of the stream, as fields of its message.
    spans: Vec<u8>,
}

impl SpanEncoder {
    /// The message, with everything that came.
    pub fn finish(mut self) -> Vec<u8> {
        self.close();
        self.out
    }

    /// Bytes written so far, roughly.
    pub fn len(&self) -> usize {
        self.out.len() + self.spans.len()
    }

    /// Whether no span came.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn close(&mut self) {
        if self.spans.is_empty() {
            return;
        }
        let mut scope = Vec::with_capacity(self.spans.len() + self.scope.len() + 16);
        bytes(&mut scope, 1, &self.scope);
        scope.append(&mut self.spans);
        let mut resource = Vec::with_capacity(scope.len() + self.resource.len() + 16);
        bytes(&mut resource, 1, &self.resource);
        bytes(&mut resource, 2, &scope);
        bytes(&mut self.out, 1, &resource);
    }
}

impl SpanSink for SpanEncoder {
    fn stream(&mut self, stream: &LogStream<'_>) {
        let mut resource = Vec::new();
        attributes(&mut resource, 1, &stream.resource);
        let mut scope = Vec::new();
        text(&mut scope, 1, &stream.scope_name);
        text(&mut scope, 2, &stream.scope_version);
        attributes(&mut scope, 3, &stream.scope_attributes);
        if (&resource, &scope) != (&self.resource, &self.scope) {
            self.close();
            (self.resource, self.scope) = (resource, scope);
        }
    }

    fn span(&mut self, span: &Span<'_>) {
        let mut message = Vec::with_capacity(256);
        write_span(span, &mut message);
        bytes(&mut self.spans, 2, &message);
    }
}

fn write_span(span: &Span<'_>, out: &mut Vec<u8>) {
    bytes(out, 1, &span.trace_id);
    bytes(out, 2, &span.span_id);
    text(out, 3, &span.trace_state);
    if span.parent_id != [0; 8] {
        bytes(out, 4, &span.parent_id);
    }
    text(out, 5, &span.name);
    number(out, 6, span.kind as u64);
    fixed64(out, 7, span.start_ns as u64);
    fixed64(out, 8, span.end_ns as u64);
    attributes(out, 9, &span.attributes);
    number(out, 10, span.dropped_attributes.into());
    for event in &span.events {
        bytes(out, 11, &event_message(event));
    }
    number(out, 12, span.dropped_events.into());
    for link in &span.links {
        bytes(out, 13, &link_message(link));
    }
    number(out, 14, span.dropped_links.into());
    if span.status != SpanStatus::Unset || !span.status_message.is_empty() {
        let mut status = Vec::new();
        text(&mut status, 2, &span.status_message);
        number(&mut status, 3, span.status as u64);
        bytes(out, 15, &status);
    }
    fixed32(out, 16, span.flags);
}

fn event_message(event: &SpanEvent<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    fixed64(&mut out, 1, event.time_ns as u64);
    text(&mut out, 2, &event.name);
    attributes(&mut out, 3, &event.attributes);
    number(&mut out, 4, event.dropped_attributes.into());
    out
}

fn link_message(link: &SpanLink<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    bytes(&mut out, 1, &link.trace_id);
    bytes(&mut out, 2, &link.span_id);
    text(&mut out, 3, &link.trace_state);
    attributes(&mut out, 4, &link.attributes);
    number(&mut out, 5, link.dropped_attributes.into());
    fixed32(&mut out, 6, link.flags);
    out
}

fn tag(out: &mut Vec<u8>, field: u32, wire: u32) {
    write_u64(out, u64::from(field << 3 | wire));
}

fn bytes(out: &mut Vec<u8>, field: u32, content: &[u8]) {
    tag(out, field, BYTES);
    write_prefixed(out, content);
}

/// Text that is not empty: an absent one is.
fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

fn number(out: &mut Vec<u8>, field: u32, number: u64) {
    if number != 0 {
        tag(out, field, VARINT);
        write_u64(out, number);
    }
}

fn fixed64(out: &mut Vec<u8>, field: u32, number: u64) {
    tag(out, field, FIXED64);
    out.extend_from_slice(&number.to_le_bytes());
}

fn fixed32(out: &mut Vec<u8>, field: u32, number: u32) {
    if number != 0 {
        tag(out, field, FIXED32);
        out.extend_from_slice(&number.to_le_bytes());
    }
}

fn attributes(out: &mut Vec<u8>, field: u32, attributes: &[Attribute<'_>]) {
    for (key, value) in attributes {
        bytes(out, field, &entry(key, value));
    }
}

fn entry(key: &str, value: &LogValue<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 32);
    bytes(&mut out, 1, key.as_bytes());
    if *value != LogValue::Empty {
        bytes(&mut out, 2, &any_value(value));
    }
    out
}

/// An `AnyValue`; what is inside of others is bounded in depth by who made it.
fn any_value(value: &LogValue<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    match value {
        LogValue::Empty => {}
        LogValue::String(text) => bytes(&mut out, 1, text.as_bytes()),
        LogValue::Bool(value) => {
            tag(&mut out, 2, VARINT);
            out.push(u8::from(*value));
        }
        LogValue::Int(value) => {
            tag(&mut out, 3, VARINT);
            write_u64(&mut out, *value as u64);
        }
        LogValue::Float(value) => fixed64(&mut out, 4, value.to_bits()),
        LogValue::Bytes(content) => bytes(&mut out, 7, content),
        LogValue::List(values) => {
            let mut list = Vec::new();
            values.iter().for_each(|value| bytes(&mut list, 1, &any_value(value)));
            bytes(&mut out, 5, &list);
        }
        LogValue::Map(entries) => {
            let mut map = Vec::new();
            attributes(&mut map, 1, entries);
            bytes(&mut out, 6, &map);
        }
    }
    out
}
