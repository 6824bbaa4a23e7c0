//! A trace as OTLP: in protobuf, and in JSON as OTLP has it or as Tempo writes it.

use protocol::logs::value::{base64, id_text};
use protocol::logs::{Attribute, LogStream, LogValue};
use protocol::otlp::traces::SpanEncoder;
use protocol::spans::{Span, SpanKind, SpanSink, SpanStatus};
use query::traces::Trace;
use serde_json::{Map, Value, json};

/// How JSON is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    /// Ids in hexadecimal, enumerations as numbers: OTLP's own.
    Otlp,
    /// Ids in base64, enumerations as names: protobuf's usual one, which Tempo writes.
    Proto,
}

/// An `ExportTraceServiceRequest` or `TracesData`, which are the same.
pub(super) fn protobuf(trace: &Trace) -> Vec<u8> {
    let mut encoder = SpanEncoder::default();
    for span in &trace.spans {
        encoder.stream(&span.stream);
        encoder.span(&span.span);
    }
    encoder.finish()
}

/// A list of `ResourceSpans`: an entry for each run of spans of one stream.
pub(super) fn resource_spans(trace: &Trace, style: Style) -> Value {
    let mut out: Vec<Value> = Vec::new();
    let mut spans: Vec<Value> = Vec::new();
    for (at, span) in trace.spans.iter().enumerate() {
        spans.push(span_json(&span.span, style));
        let is_last = trace.spans.get(at + 1).is_none_or(|next| next.stream != span.stream);
        if is_last {
            out.push(stream_json(&span.stream, std::mem::take(&mut spans)));
        }
    }
    Value::Array(out)
}

fn stream_json(stream: &LogStream<'_>, spans: Vec<Value>) -> Value {
    let mut scope = Map::new();
    for (key, text) in [("name", &stream.scope_name), ("version", &stream.scope_version)] {
        if !text.is_empty() {
            scope.insert(key.to_owned(), json!(text));
        }
    }
    put_attributes(&mut scope, &stream.scope_attributes);
    let mut resource = Map::new();
    put_attributes(&mut resource, &stream.resource);
    json!({"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]})
}

/// An id; none is the empty text.
fn id(id: &[u8], style: Style) -> Value {
    match style {
        Style::Otlp => json!(id_text(id)),
        Style::Proto if id.iter().all(|byte| *byte == 0) => json!(""),
        Style::Proto => json!(base64(id)),
    }
}

fn span_json(span: &Span<'_>, style: Style) -> Value {
    let mut out = Map::new();
    out.insert("traceId".to_owned(), id(&span.trace_id, style));
    out.insert("spanId".to_owned(), id(&span.span_id, style));
    if span.parent_id != [0; 8] {
        out.insert("parentSpanId".to_owned(), id(&span.parent_id, style));
    }
    put_text(&mut out, "traceState", &span.trace_state);
    put_number(&mut out, "flags", span.flags);
    out.insert("name".to_owned(), json!(span.name));
    out.insert("kind".to_owned(), kind_json(span.kind, style));
    out.insert("startTimeUnixNano".to_owned(), json!(span.start_ns.to_string()));
    out.insert("endTimeUnixNano".to_owned(), json!(span.end_ns.to_string()));
    put_attributes(&mut out, &span.attributes);
    put_number(&mut out, "droppedAttributesCount", span.dropped_attributes);
    let events = span.events.iter().map(|event| {
        let mut out = Map::new();
        out.insert("timeUnixNano".to_owned(), json!(event.time_ns.to_string()));
        out.insert("name".to_owned(), json!(event.name));
        put_attributes(&mut out, &event.attributes);
        put_number(&mut out, "droppedAttributesCount", event.dropped_attributes);
        Value::Object(out)
    });
    put_list(&mut out, "events", events.collect());
    put_number(&mut out, "droppedEventsCount", span.dropped_events);
    let links = span.links.iter().map(|link| {
        let mut out = Map::new();
        out.insert("traceId".to_owned(), id(&link.trace_id, style));
        out.insert("spanId".to_owned(), id(&link.span_id, style));
        put_text(&mut out, "traceState", &link.trace_state);
        put_number(&mut out, "flags", link.flags);
        put_attributes(&mut out, &link.attributes);
        put_number(&mut out, "droppedAttributesCount", link.dropped_attributes);
        Value::Object(out)
    });
    put_list(&mut out, "links", links.collect());
    put_number(&mut out, "droppedLinksCount", span.dropped_links);
    let mut status = Map::new();
    put_text(&mut status, "message", &span.status_message);
    let code = match (span.status, style) {
        (SpanStatus::Unset, _) => None,
        (status, Style::Otlp) => Some(json!(status as u8)),
        (SpanStatus::Ok, Style::Proto) => Some(json!("STATUS_CODE_OK")),
        (SpanStatus::Error, Style::Proto) => Some(json!("STATUS_CODE_ERROR")),
    };
    if let Some(code) = code {
        status.insert("code".to_owned(), code);
    }
    out.insert("status".to_owned(), Value::Object(status));
    Value::Object(out)
}

fn kind_json(kind: SpanKind, style: Style) -> Value {
    match (style, kind) {
        (Style::Otlp, kind) => json!(kind as u8),
        (Style::Proto, SpanKind::Unspecified) => json!("SPAN_KIND_UNSPECIFIED"),
        (Style::Proto, SpanKind::Internal) => json!("SPAN_KIND_INTERNAL"),
        (Style::Proto, SpanKind::Server) => json!("SPAN_KIND_SERVER"),
        (Style::Proto, SpanKind::Client) => json!("SPAN_KIND_CLIENT"),
        (Style::Proto, SpanKind::Producer) => json!("SPAN_KIND_PRODUCER"),
        (Style::Proto, SpanKind::Consumer) => json!("SPAN_KIND_CONSUMER"),
    }
}

fn put_text(out: &mut Map<String, Value>, key: &str, text: &str) {
    if !text.is_empty() {
        out.insert(key.to_owned(), json!(text));
    }
}

fn put_number(out: &mut Map<String, Value>, key: &str, number: u32) {
    if number != 0 {
        out.insert(key.to_owned(), json!(number));
    }
}

fn put_list(out: &mut Map<String, Value>, key: &str, list: Vec<Value>) {
    if !list.is_empty() {
        out.insert(key.to_owned(), Value::Array(list));
    }
}

fn put_attributes(out: &mut Map<String, Value>, attributes: &[Attribute<'_>]) {
    put_list(out, "attributes", key_values(attributes));
}

/// A list of `KeyValue`.
pub(super) fn key_values(attributes: &[Attribute<'_>]) -> Vec<Value> {
    attributes.iter().map(|(key, value)| json!({"key": key, "value": any_value(value)})).collect()
}

/// An `AnyValue`.
pub(super) fn any_value(value: &LogValue<'_>) -> Value {
    match value {
        LogValue::Empty => json!({}),
        LogValue::String(text) => json!({"stringValue": text}),
        LogValue::Int(number) => json!({"intValue": number.to_string()}),
        LogValue::Float(number) if number.is_finite() => json!({"doubleValue": number}),
        LogValue::Float(_) => json!({"doubleValue": value.text()}),
        LogValue::Bool(value) => json!({"boolValue": value}),
        LogValue::Bytes(bytes) => json!({"bytesValue": base64(bytes)}),
        LogValue::List(values) => {
            json!({"arrayValue": {"values": values.iter().map(any_value).collect::<Vec<_>>()}})
        }
        LogValue::Map(entries) => json!({"kvlistValue": {"values": key_values(entries)}}),
    }
}
