//! The messages of OTLP that all signals have in common, as exporters write them.
//!
//! Source: `opentelemetry/proto/common/v1` and `resource/v1` of the OpenTelemetry protocol.

use std::borrow::Cow;

use prost::Message;
use protocol::logs::{LogStream, LogValue};

/// Whom records or spans are from.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Resource {
    #[prost(message, repeated, tag = "1")]
    pub attributes: Vec<KeyValue>,
}

impl Resource {
    pub fn of(stream: &LogStream<'_>) -> Self {
        Self { attributes: key_values(&stream.resource) }
    }
}

/// An attribute.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(message, optional, tag = "2")]
    pub value: Option<AnyValue>,
}

/// A value of the kinds that the workloads have.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct AnyValue {
    #[prost(oneof = "Content", tags = "1, 3, 4")]
    pub content: Option<Content>,
}

/// What a value is.
#[derive(Clone, PartialEq, prost::Oneof)]
pub(crate) enum Content {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Int(i64),
    #[prost(double, tag = "4")]
    Float(f64),
}

impl AnyValue {
    pub fn of(value: &LogValue<'_>) -> Self {
        let content = match value {
            LogValue::String(text) => Some(Content::Text(text.to_string())),
            LogValue::Int(value) => Some(Content::Int(*value)),
            LogValue::Float(value) => Some(Content::Float(*value)),
            _ => None,
        };
        Self { content }
    }
}

pub(crate) fn key_values(attributes: &[(Cow<'_, str>, LogValue<'_>)]) -> Vec<KeyValue> {
    let pair = |(key, value): &(Cow<'_, str>, LogValue<'_>)| KeyValue {
        key: key.to_string(),
        value: Some(AnyValue::of(value)),
    };
    attributes.iter().map(pair).collect()
}
