//! A sink that remembers what it got, as text.

use crate::logs::{Attribute, LogRecord, LogSink, LogStream, LogValue};

#[derive(Default)]
pub struct Lines(pub Vec<String>);

impl LogSink for Lines {
    fn stream(&mut self, stream: &LogStream<'_>) {
        self.0.push(format!("stream {}", attributes(&stream.resource)));
    }

    fn record(&mut self, record: &LogRecord<'_>) {
        self.0.push(format!(
            "{}/{} {}({}) {} {}",
            record.time_ns,
            record.observed_ns,
            record.severity_text,
            record.severity,
            value(&record.body),
            attributes(&record.attributes),
        ));
    }
}

fn value(value: &LogValue<'_>) -> String {
    match value {
        LogValue::Empty => "empty".into(),
        LogValue::String(text) => format!("{text:?}"),
        LogValue::Int(value) => value.to_string(),
        LogValue::Float(value) => format!("{value:?}"),
        LogValue::Bool(value) => value.to_string(),
        LogValue::Bytes(bytes) => format!("bytes{bytes:?}"),
        LogValue::List(values) => {
            format!("[{}]", values.iter().map(self::value).collect::<Vec<_>>().join(","))
        }
        LogValue::Map(entries) => attributes(entries),
    }
}

fn attributes(entries: &[Attribute<'_>]) -> String {
    let entries = entries.iter().map(|(key, entry)| format!("{key}={}", value(entry)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(" "))
}
