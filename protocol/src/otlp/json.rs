//! OTLP in JSON, rewritten into protobuf.
//!
//! The shapes of the messages are a table; one visitor walks text and table together and writes each field as it comes.
//! No tree of values is made: memory is the text and the protobuf, which is shorter.
//!
//! OTLP's JSON differs from protobuf's usual one: trace and span ids are hexadecimal, enumerations are numbers (their
//! names, which some writers send, are taken too where they occur in spans). 64-bit
//! integers come as text or as numbers, floats may be the texts `NaN`, `Infinity` and `-Infinity`, keys are camel case
//! (the original spelling is taken too), unknown keys and nulls mean nothing.
//!
//! Lengths of nested messages are written before their content is known: as varints of four bytes, filled in
//! afterwards. That bounds a message to 256 MiB, which is above what a body may have.

use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Unexpected, Visitor};

use crate::varint::{write_prefixed, write_u64, zigzag};

/// Why text is no export request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the body is not a valid {message} in JSON: {reason}")]
pub struct JsonError {
    /// The message that was due.
    pub message: &'static str,
    /// What is wrong, with line and column.
    pub reason: String,
}

/// An export request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// `ExportMetricsServiceRequest`
    Metrics,
    /// `ExportLogsServiceRequest`
    Logs,
    /// `ExportTraceServiceRequest`
    Traces,
}

/// Rewrites a request's JSON into protobuf.
pub fn to_protobuf(request: Request, text: &[u8]) -> Result<Vec<u8>, JsonError> {
    let shape = match request {
        Request::Metrics => &EXPORT_METRICS,
        Request::Logs => &EXPORT_LOGS,
        Request::Traces => &EXPORT_TRACES,
    };
    let mut out = Vec::with_capacity(text.len() / 2);
    let mut json = serde_json::Deserializer::from_slice(text);
    let error = |error: serde_json::Error| JsonError { message: shape.name, reason: error.to_string() };
    MessageSeed { shape, out: &mut out }.deserialize(&mut json).map_err(error)?;
    json.end().map_err(error)?;
    Ok(out)
}

/// A message's fields.
struct Shape {
    name: &'static str,
    fields: &'static [Field],
}

struct Field {
    /// Name in camel case.
    name: &'static str,
    number: u32,
    kind: Kind,
    repeated: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    /// Bytes in hexadecimal.
    Hex,
    /// Bytes in base64.
    Base64,
    Bool,
    Float,
    Int,
    Unsigned,
    Zigzag,
    Fixed64,
    SignedFixed64,
    Fixed32,
    /// A number, or one of these names, which are numbered from 0 on.
    Enum(&'static [&'static str]),
    Message(&'static Shape),
}

const fn one(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, repeated: false }
}

const fn many(name: &'static str, number: u32, kind: Kind) -> Field {
    Field { name, number, kind, repeated: true }
}

const fn shape(name: &'static str, fields: &'static [Field]) -> Shape {
    Shape { name, fields }
}

use Kind::{
    Base64, Bool, Enum, Fixed32, Fixed64, Float, Hex, Int, Message, SignedFixed64, Text, Unsigned, Zigzag,
};

static ANY_VALUE: Shape = shape(
    "AnyValue",
    &[
        one("stringValue", 1, Text),
        one("boolValue", 2, Bool),
        one("intValue", 3, Int),
        one("doubleValue", 4, Float),
        one("arrayValue", 5, Message(&ARRAY_VALUE)),
        one("kvlistValue", 6, Message(&KEY_VALUE_LIST)),
        one("bytesValue", 7, Base64),
    ],
);
static ARRAY_VALUE: Shape = shape("ArrayValue", &[many("values", 1, Message(&ANY_VALUE))]);
static KEY_VALUE_LIST: Shape = shape("KeyValueList", &[many("values", 1, Message(&KEY_VALUE))]);
static KEY_VALUE: Shape = shape("KeyValue", &[one("key", 1, Text), one("value", 2, Message(&ANY_VALUE))]);
static RESOURCE: Shape = shape(
    "Resource",
    &[many("attributes", 1, Message(&KEY_VALUE)), one("droppedAttributesCount", 2, Unsigned)],
);
static SCOPE: Shape = shape(
    "InstrumentationScope",
    &[
        one("name", 1, Text),
        one("version", 2, Text),
        many("attributes", 3, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 4, Unsigned),
    ],
);

static EXPORT_METRICS: Shape =
    shape("ExportMetricsServiceRequest", &[many("resourceMetrics", 1, Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Shape = shape(
    "ResourceMetrics",
    &[
        one("resource", 1, Message(&RESOURCE)),
        many("scopeMetrics", 2, Message(&SCOPE_METRICS)),
        one("schemaUrl", 3, Text),
    ],
);
static SCOPE_METRICS: Shape = shape(
    "ScopeMetrics",
    &[one("scope", 1, Message(&SCOPE)), many("metrics", 2, Message(&METRIC)), one("schemaUrl", 3, Text)],
);
static METRIC: Shape = shape(
    "Metric",
    &[
        one("name", 1, Text),
        one("description", 2, Text),
        one("unit", 3, Text),
        one("gauge", 5, Message(&GAUGE)),
        one("sum", 7, Message(&SUM)),
        one("histogram", 9, Message(&HISTOGRAM)),
        one("exponentialHistogram", 10, Message(&EXPONENTIAL_HISTOGRAM)),
        one("summary", 11, Message(&SUMMARY)),
        many("metadata", 12, Message(&KEY_VALUE)),
    ],
);
static GAUGE: Shape = shape("Gauge", &[many("dataPoints", 1, Message(&NUMBER_POINT))]);
static SUM: Shape = shape(
    "Sum",
    &[
        many("dataPoints", 1, Message(&NUMBER_POINT)),
        one("aggregationTemporality", 2, Int),
        one("isMonotonic", 3, Bool),
    ],
);
static HISTOGRAM: Shape = shape(
    "Histogram",
    &[many("dataPoints", 1, Message(&HISTOGRAM_POINT)), one("aggregationTemporality", 2, Int)],
);
static EXPONENTIAL_HISTOGRAM: Shape = shape(
    "ExponentialHistogram",
    &[many("dataPoints", 1, Message(&EXPONENTIAL_POINT)), one("aggregationTemporality", 2, Int)],
);
static SUMMARY: Shape = shape("Summary", &[many("dataPoints", 1, Message(&SUMMARY_POINT))]);
static NUMBER_POINT: Shape = shape(
    "NumberDataPoint",
    &[
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("asDouble", 4, Float),
        many("exemplars", 5, Message(&EXEMPLAR)),
        one("asInt", 6, SignedFixed64),
        many("attributes", 7, Message(&KEY_VALUE)),
        one("flags", 8, Unsigned),
    ],
);
static HISTOGRAM_POINT: Shape = shape(
    "HistogramDataPoint",
    &[
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Float),
        many("bucketCounts", 6, Fixed64),
        many("explicitBounds", 7, Float),
        many("exemplars", 8, Message(&EXEMPLAR)),
        many("attributes", 9, Message(&KEY_VALUE)),
        one("flags", 10, Unsigned),
        one("min", 11, Float),
        one("max", 12, Float),
    ],
);
static EXPONENTIAL_POINT: Shape = shape(
    "ExponentialHistogramDataPoint",
    &[
        many("attributes", 1, Message(&KEY_VALUE)),
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Float),
        one("scale", 6, Zigzag),
        one("zeroCount", 7, Fixed64),
        one("positive", 8, Message(&BUCKETS)),
        one("negative", 9, Message(&BUCKETS)),
        one("flags", 10, Unsigned),
        many("exemplars", 11, Message(&EXEMPLAR)),
        one("min", 12, Float),
        one("max", 13, Float),
        one("zeroThreshold", 14, Float),
    ],
);
static BUCKETS: Shape = shape("Buckets", &[one("offset", 1, Zigzag), many("bucketCounts", 2, Unsigned)]);
static SUMMARY_POINT: Shape = shape(
    "SummaryDataPoint",
    &[
        one("startTimeUnixNano", 2, Fixed64),
        one("timeUnixNano", 3, Fixed64),
        one("count", 4, Fixed64),
        one("sum", 5, Float),
        many("quantileValues", 6, Message(&QUANTILE)),
        many("attributes", 7, Message(&KEY_VALUE)),
        one("flags", 8, Unsigned),
    ],
);
static QUANTILE: Shape = shape("ValueAtQuantile", &[one("quantile", 1, Float), one("value", 2, Float)]);
static EXEMPLAR: Shape = shape(
    "Exemplar",
    &[
        one("timeUnixNano", 2, Fixed64),
        one("asDouble", 3, Float),
        one("spanId", 4, Hex),
        one("traceId", 5, Hex),
        one("asInt", 6, SignedFixed64),
        many("filteredAttributes", 7, Message(&KEY_VALUE)),
    ],
);

static EXPORT_LOGS: Shape =
    shape("ExportLogsServiceRequest", &[many("resourceLogs", 1, Message(&RESOURCE_LOGS))]);
static RESOURCE_LOGS: Shape = shape(
    "ResourceLogs",
    &[
        one("resource", 1, Message(&RESOURCE)),
        many("scopeLogs", 2, Message(&SCOPE_LOGS)),
        one("schemaUrl", 3, Text),
    ],
);
static SCOPE_LOGS: Shape = shape(
    "ScopeLogs",
    &[
        one("scope", 1, Message(&SCOPE)),
        many("logRecords", 2, Message(&LOG_RECORD)),
        one("schemaUrl", 3, Text),
    ],
);
static LOG_RECORD: Shape = shape(
    "LogRecord",
    &[
        one("timeUnixNano", 1, Fixed64),
        one("severityNumber", 2, Int),
        one("severityText", 3, Text),
        one("body", 5, Message(&ANY_VALUE)),
        many("attributes", 6, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 7, Unsigned),
        one("flags", 8, Fixed32),
        one("traceId", 9, Hex),
        one("spanId", 10, Hex),
        one("observedTimeUnixNano", 11, Fixed64),
        one("eventName", 12, Text),
    ],
);

static EXPORT_TRACES: Shape =
    shape("ExportTraceServiceRequest", &[many("resourceSpans", 1, Message(&RESOURCE_SPANS))]);
static RESOURCE_SPANS: Shape = shape(
    "ResourceSpans",
    &[
        one("resource", 1, Message(&RESOURCE)),
        many("scopeSpans", 2, Message(&SCOPE_SPANS)),
        one("schemaUrl", 3, Text),
    ],
);
static SCOPE_SPANS: Shape = shape(
    "ScopeSpans",
    &[one("scope", 1, Message(&SCOPE)), many("spans", 2, Message(&SPAN)), one("schemaUrl", 3, Text)],
);
static SPAN: Shape = shape(
    "Span",
    &[
        one("traceId", 1, Hex),
        one("spanId", 2, Hex),
        one("traceState", 3, Text),
        one("parentSpanId", 4, Hex),
        one("name", 5, Text),
        one("kind", 6, Enum(&SPAN_KINDS)),
        one("startTimeUnixNano", 7, Fixed64),
        one("endTimeUnixNano", 8, Fixed64),
        many("attributes", 9, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 10, Unsigned),
        many("events", 11, Message(&SPAN_EVENT)),
        one("droppedEventsCount", 12, Unsigned),
        many("links", 13, Message(&SPAN_LINK)),
        one("droppedLinksCount", 14, Unsigned),
        one("status", 15, Message(&STATUS)),
        one("flags", 16, Fixed32),
    ],
);
static SPAN_EVENT: Shape = shape(
    "Event",
    &[
        one("timeUnixNano", 1, Fixed64),
        one("name", 2, Text),
        many("attributes", 3, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 4, Unsigned),
    ],
);
static SPAN_LINK: Shape = shape(
    "Link",
    &[
        one("traceId", 1, Hex),
        one("spanId", 2, Hex),
        one("traceState", 3, Text),
        many("attributes", 4, Message(&KEY_VALUE)),
        one("droppedAttributesCount", 5, Unsigned),
        one("flags", 6, Fixed32),
    ],
);
static STATUS: Shape = shape("Status", &[one("message", 2, Text), one("code", 3, Enum(&STATUS_CODES))]);
static SPAN_KINDS: [&str; 6] = [
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];
static STATUS_CODES: [&str; 3] = ["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"];

impl Shape {
    fn field(&self, key: &str) -> Option<&Field> {
        if let Some(field) = self.fields.iter().find(|field| field.name == key) {
            return Some(field);
        }
        key.contains('_').then(|| self.fields.iter().find(|field| is_snake_case_of(key, field.name)))?
    }
}

/// Whether `snake` is how the message's definition spells a name.
fn is_snake_case_of(snake: &str, camel: &str) -> bool {
    let mut chars = snake.chars();
    camel.chars().all(|c| match c.is_ascii_uppercase() {
        true => chars.next() == Some('_') && chars.next() == Some(c.to_ascii_lowercase()),
        false => chars.next() == Some(c),
    }) && chars.next().is_none()
}

/// Reads an object and writes the content of a message.
struct MessageSeed<'o> {
    shape: &'static Shape,
    out: &'o mut Vec<u8>,
}

impl<'de> DeserializeSeed<'de> for MessageSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for MessageSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object ({})", self.shape.name)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(Known(field)) = map.next_key_seed(KeySeed(self.shape))? {
            match field {
                Some(field) => map.next_value_seed(FieldSeed { field, in_list: false, out: self.out })?,
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

/// The field of a key, if there is one.
struct Known(Option<&'static Field>);

struct KeySeed(&'static Shape);

impl<'de> DeserializeSeed<'de> for KeySeed {
    type Value = Known;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Known, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KeySeed {
    type Value = Known;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Known, E> {
        Ok(Known(self.0.field(key)))
    }
}

/// Reads a value and writes the field.
struct FieldSeed<'o> {
    field: &'static Field,
    /// Whether the list around the value has been entered.
    in_list: bool,
    out: &'o mut Vec<u8>,
}

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

impl FieldSeed<'_> {
    fn tag(&mut self, wire: u32) {
        write_u64(self.out, u64::from(self.field.number << 3 | wire));
    }

    fn varint<E>(mut self, value: u64) -> Result<(), E> {
        self.tag(VARINT);
        write_u64(self.out, value);
        Ok(())
    }

    fn fixed64<E>(mut self, value: u64) -> Result<(), E> {
        self.tag(FIXED64);
        self.out.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn bytes<E>(mut self, bytes: &[u8]) -> Result<(), E> {
        self.tag(BYTES);
        write_prefixed(self.out, bytes);
        Ok(())
    }

    /// A whole number, from whatever form it came in.
    fn whole<E: Error>(mut self, value: i128) -> Result<(), E> {
        let name = self.field.name;
        let range = move || E::custom(format_args!("{value} is out of range for {name}"));
        match self.field.kind {
            Float => self.fixed64((value as f64).to_bits()),
            Int | Enum(_) => self.varint(i64::try_from(value).map_err(|_| range())? as u64),
            Unsigned => self.varint(u64::try_from(value).map_err(|_| range())?),
            Zigzag => self.varint(zigzag(i64::from(i32::try_from(value).map_err(|_| range())?))),
            Fixed64 => self.fixed64(u64::try_from(value).map_err(|_| range())?),
            SignedFixed64 => self.fixed64(i64::try_from(value).map_err(|_| range())? as u64),
            Fixed32 => {
                let value = u32::try_from(value).map_err(|_| range())?;
                self.tag(FIXED32);
                self.out.extend_from_slice(&value.to_le_bytes());
                Ok(())
            }
            _ => Err(E::invalid_type(Unexpected::Other("a number"), &self)),
        }
    }

    fn is_number(&self) -> bool {
        !matches!(self.field.kind, Text | Hex | Base64 | Bool | Message(_))
    }
}

impl<'de> DeserializeSeed<'de> for FieldSeed<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for FieldSeed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.field.kind {
            _ if self.field.repeated && !self.in_list => "an array",
            Text => "text",
            Hex => "hexadecimal digits",
            Base64 => "base64",
            Bool => "true or false",
            Float => "a number",
            Message(_) => "an object",
            _ => "a whole number",
        };
        write!(f, "{what} for {}", self.field.name)
    }

    fn visit_unit<E: Error>(mut self) -> Result<(), E> {
        // An element of a list has to stay one, or lists would change by being sent.
        if self.in_list
            && let Message(_) = self.field.kind
        {
            self.tag(BYTES);
            self.out.push(0);
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        match self.field.kind {
            Bool => self.varint(u64::from(value)),
            _ => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.whole(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.whole(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        match self.field.kind {
            Float => self.fixed64(value.to_bits()),
            // Some writers put a point into every number.
            _ if self.is_number() && value.fract() == 0.0 && value.abs() < 1e18 => self.whole(value as i128),
            _ => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let invalid =
            |seed: &Self| E::invalid_value(Unexpected::Str(&text[..text.floor_char_boundary(64)]), seed);
        match self.field.kind {
            Text => self.bytes(text.as_bytes()),
            Hex => match from_hex(text) {
                Some(bytes) => self.bytes(&bytes),
                None => Err(invalid(&self)),
            },
            Base64 => match from_base64(text) {
                Some(bytes) => self.bytes(&bytes),
                None => Err(invalid(&self)),
            },
            Float => {
                let value = match text {
                    "NaN" => f64::NAN,
                    "Infinity" => f64::INFINITY,
                    "-Infinity" => f64::NEG_INFINITY,
                    number => match number.parse::<f64>() {
                        Ok(value) if number.starts_with(|c: char| c == '-' || c.is_ascii_digit()) => value,
                        _ => return Err(invalid(&self)),
                    },
                };
                self.fixed64(value.to_bits())
            }
            Enum(names) if names.contains(&text) => {
                let number = names.iter().position(|name| *name == text).unwrap_or(0);
                self.whole(number as i128)
            }
            _ if self.is_number() => match text.parse::<i128>() {
                Ok(value) => self.whole(value),
                Err(_) => Err(invalid(&self)),
            },
            _ => Err(E::invalid_type(Unexpected::Str(&text[..text.floor_char_boundary(64)]), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        if !self.field.repeated || self.in_list {
            return Err(A::Error::invalid_type(Unexpected::Seq, &self));
        }
        while list
            .next_element_seed(FieldSeed { field: self.field, in_list: true, out: &mut *self.out })?
            .is_some()
        {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(mut self, map: A) -> Result<(), A::Error> {
        let Message(shape) = self.field.kind else {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        };
        if self.field.repeated && !self.in_list {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        }
        self.tag(BYTES);
        let start = self.out.len();
        self.out.extend_from_slice(&[0; 4]);
        MessageSeed { shape, out: &mut *self.out }.visit_map(map)?;
        let len = self.out.len() - start - 4;
        if len >= 1 << 28 {
            return Err(A::Error::custom(format_args!("{} is longer than 256 MiB", shape.name)));
        }
        for (i, byte) in self.out[start..start + 4].iter_mut().enumerate() {
            *byte = (len >> (7 * i)) as u8 & 0x7f | if i < 3 { 0x80 } else { 0 };
        }
        Ok(())
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

/// Standard or URL-safe base64, with padding or without.
pub(crate) fn from_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    if digits.len() % 4 == 1 || text.len() - digits.len() > 2 {
        return None;
    }
    let mut out = Vec::with_capacity(digits.len() / 4 * 3 + 2);
    for chunk in digits.chunks(4) {
        let mut group = 0u32;
        for &byte in chunk {
            let digit = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' | b'-' => 62,
                b'/' | b'_' => 63,
                _ => return None,
            };
            group = group << 6 | u32::from(digit);
        }
        group <<= 6 * (4 - chunk.len());
        let bytes = group.to_be_bytes();
        out.extend_from_slice(&bytes[1..chunk.len()]);
    }
    Some(out)
}

#[cfg(test)]
mod tests;
