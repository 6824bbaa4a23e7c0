//! The columns of `logs` and `spans`.
//!
//! A column that both tables have means the same in both. Events and links of a span are JSON, since they are lists of
//! what has attributes of its own.

use std::fmt::Write as _;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int32Array, Int64Array, MapBuilder, StringArray, StringBuilder, TimestampNanosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use protocol::logs::value::id_text;
use protocol::logs::{Attribute, LogField, LogRecord, LogStream, LogValue, RowSignal, TimestampNs};
use protocol::spans::row::span_of;
use protocol::spans::{Span, SpanEvent, SpanKind, SpanLink, SpanStatus};
use query::logs::Row;

use crate::columns::{UTC, map_type};

/// Name of the resource's attribute that has a column of its own.
const SERVICE: &str = "service.name";

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowColumn {
    Time,
    ObservedTime,
    EndTime,
    Duration,
    Severity,
    SeverityText,
    Service,
    Body,
    Name,
    Kind,
    Status,
    StatusMessage,
    TraceId,
    SpanId,
    ParentId,
    TraceState,
    Flags,
    EventName,
    Scope,
    Attributes,
    Resource,
    Events,
    Links,
}

use RowColumn::*;

const LOGS: &[RowColumn] = &[
    Time,
    ObservedTime,
    Severity,
    SeverityText,
    Service,
    Body,
    TraceId,
    SpanId,
    Flags,
    EventName,
    Scope,
    Attributes,
    Resource,
];

const SPANS: &[RowColumn] = &[
    Time,
    EndTime,
    Duration,
    Service,
    Name,
    Kind,
    Status,
    StatusMessage,
    TraceId,
    SpanId,
    ParentId,
    TraceState,
    Flags,
    Scope,
    Attributes,
    Resource,
    Events,
    Links,
];

/// Kinds and states by the names that they have in the table.
const KINDS: [(SpanKind, &str); 6] = [
    (SpanKind::Unspecified, "unspecified"),
    (SpanKind::Internal, "internal"),
    (SpanKind::Server, "server"),
    (SpanKind::Client, "client"),
    (SpanKind::Producer, "producer"),
    (SpanKind::Consumer, "consumer"),
];
const STATES: [(SpanStatus, &str); 3] =
    [(SpanStatus::Unset, "unset"), (SpanStatus::Ok, "ok"), (SpanStatus::Error, "error")];

impl RowColumn {
    /// Columns of a signal's table.
    pub const fn all(signal: RowSignal) -> &'static [Self] {
        match signal {
            RowSignal::Logs => LOGS,
            RowSignal::Spans => SPANS,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Time => "time",
            ObservedTime => "observed_time",
            EndTime => "end_time",
            Duration => "duration_ns",
            Severity => "severity",
            SeverityText => "severity_text",
            Service => "service",
            Body => "body",
            Name => "name",
            Kind => "kind",
            Status => "status",
            StatusMessage => "status_message",
            TraceId => "trace_id",
            SpanId => "span_id",
            ParentId => "parent_id",
            TraceState => "trace_state",
            Flags => "flags",
            EventName => "event_name",
            Scope => "scope",
            Attributes => "attributes",
            Resource => "resource",
            Events => "events",
            Links => "links",
        }
    }

    pub fn named(signal: RowSignal, name: &str) -> Option<Self> {
        Self::all(signal).iter().copied().find(|column| column.name() == name)
    }

    fn field(self) -> Field {
        let data_type = match self {
            Time | ObservedTime | EndTime => DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into())),
            Severity => DataType::Int32,
            Flags | Duration => DataType::Int64,
            Attributes | Resource => map_type(),
            _ => DataType::Utf8,
        };
        Field::new(self.name(), data_type, self != Time)
    }

    /// The field of a shard's filter that has the column's text.
    pub fn text_field(self) -> Option<LogField> {
        Some(match self {
            SeverityText => LogField::SeverityText,
            Service => LogField::ResourceAttribute(SERVICE.to_owned()),
            // A span's name is its body.
            Body | Name => LogField::Body,
            StatusMessage => LogField::StatusMessage,
            TraceId => LogField::TraceId,
            SpanId => LogField::SpanId,
            ParentId => LogField::ParentId,
            EventName => LogField::EventName,
            Scope => LogField::ScopeName,
            _ => return None,
        })
    }

    /// The field of a shard's filter that has the column's number; where the column shows names, with the number of this
    /// one.
    pub fn number_field(self, name: Option<&str>) -> Option<(LogField, Option<u8>)> {
        Some(match (self, name) {
            (Severity, None) => (LogField::Severity, None),
            (Duration, None) => (LogField::Duration, None),
            (Kind, Some(name)) => (LogField::SpanKind, Some(value_named(&KINDS, name)? as u8)),
            (Status, Some(name)) => (LogField::SpanStatus, Some(value_named(&STATES, name)? as u8)),
            _ => return None,
        })
    }

    /// The values of rows.
    pub fn array(self, page: &Page) -> Result<ArrayRef> {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let service = |stream: &LogStream<'_>| {
            let found = stream.resource.iter().find(|(key, _)| key == SERVICE)?;
            Some(found.1.text().into_owned())
        };
        Ok(match self {
            Time => page.times(|record| record.effective_ns(), |span| span.start_ns, true),
            ObservedTime => page.times(|record| record.observed_ns, |_| 0, false),
            EndTime => page.times(|_| 0, |span| span.end_ns, false),
            Duration => page.longs(|_| 0, |span| i64::try_from(span.duration_ns()).unwrap_or(i64::MAX)),
            Flags => page.longs(|record| i64::from(record.flags), |span| i64::from(span.flags)),
            Severity => {
                let of = |row: RowRef<'_>| match row {
                    RowRef::Log(record) => Some(i32::from(record.severity)).filter(|severity| *severity != 0),
                    RowRef::Span(_) => None,
                };
                Arc::new(page.each(of).collect::<Int32Array>())
            }
            Service => Arc::new(page.streams().map(service).collect::<StringArray>()),
            Scope => {
                Arc::new(page.streams().map(|stream| filled(&stream.scope_name)).collect::<StringArray>())
            }
            SeverityText => page.texts(|record| filled(&record.severity_text), |_| None),
            EventName => page.texts(|record| filled(&record.event_name), |_| None),
            Body => page.texts(
                |record| match &record.body {
                    LogValue::Empty => None,
                    body => Some(body.text().into_owned()),
                },
                |_| None,
            ),
            Name => page.texts(|_| None, |span| Some(span.name.to_string())),
            Kind => page.texts(|_| None, |span| name_in(&KINDS, span.kind)),
            Status => page.texts(|_| None, |span| name_in(&STATES, span.status)),
            StatusMessage => page.texts(|_| None, |span| filled(&span.status_message)),
            TraceState => page.texts(|_| None, |span| filled(&span.trace_state)),
            TraceId => page
                .texts(|record| filled(&id_text(&record.trace_id)), |span| filled(&id_text(&span.trace_id))),
            SpanId => {
                page.texts(|record| filled(&id_text(&record.span_id)), |span| filled(&id_text(&span.span_id)))
            }
            ParentId => page.texts(|_| None, |span| filled(&id_text(&span.parent_id))),
            Events => page.texts(|_| None, |span| list(&span.events, write_event)),
            Links => page.texts(|_| None, |span| list(&span.links, write_link)),
            Attributes => maps(page.each(|row| match row {
                RowRef::Log(record) => record.attributes.as_slice(),
                RowRef::Span(span) => span.attributes.as_slice(),
            }))?,
            Resource => maps(page.streams().map(|stream| stream.resource.as_slice()))?,
        })
    }
}

fn name_in<T: PartialEq>(names: &[(T, &'static str)], value: T) -> Option<String> {
    names.iter().find(|(known, _)| *known == value).map(|(_, name)| (*name).to_owned())
}

fn value_named<T: Copy>(names: &[(T, &'static str)], name: &str) -> Option<T> {
    names.iter().find(|(_, known)| *known == name).map(|(value, _)| *value)
}

fn list<T>(items: &[T], write: fn(&T, &mut String)) -> Option<String> {
    if items.is_empty() {
        return None;
    }
    let mut out = String::from("[");
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write(item, &mut out);
    }
    out.push(']');
    Some(out)
}

fn write_event(event: &SpanEvent<'_>, out: &mut String) {
    let _ = write!(out, "{{\"time_ns\":{},\"name\":", event.time_ns);
    LogValue::String(event.name.as_ref().into()).write_json(out);
    write_attributes(&event.attributes, out);
}

fn write_link(link: &SpanLink<'_>, out: &mut String) {
    let (trace, span) = (id_text(&link.trace_id), id_text(&link.span_id));
    let _ = write!(out, "{{\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"");
    write_attributes(&link.attributes, out);
}

/// The attributes of an object, and its end.
fn write_attributes(attributes: &[Attribute<'_>], out: &mut String) {
    out.push_str(",\"attributes\":{");
    for (at, (key, value)) in distinct(attributes).enumerate() {
        if at > 0 {
            out.push(',');
        }
        LogValue::String(key.into()).write_json(out);
        out.push(':');
        value.write_json(out);
    }
    out.push_str("}}");
}

/// Each key once, with its first value.
fn distinct<'r, 'a>(attributes: &'r [Attribute<'a>]) -> impl Iterator<Item = (&'r str, &'r LogValue<'a>)> {
    let is_first =
        |(at, (key, _)): &(usize, &Attribute<'_>)| !attributes[..*at].iter().any(|(before, _)| before == key);
    attributes.iter().enumerate().filter(is_first).map(|(_, (key, value))| (key.as_ref(), value))
}

fn maps<'r, 'a: 'r>(rows: impl Iterator<Item = &'r [Attribute<'a>]>) -> Result<ArrayRef> {
    let names = datafusion::arrow::array::MapFieldNames {
        entry: "entries".to_owned(),
        key: "keys".to_owned(),
        value: "values".to_owned(),
    };
    let mut maps = MapBuilder::new(Some(names), StringBuilder::new(), StringBuilder::new());
    for attributes in rows {
        for (key, value) in distinct(attributes) {
            maps.keys().append_value(key);
            match value {
                LogValue::Empty => maps.values().append_null(),
                value => maps.values().append_value(value.text()),
            }
        }
        maps.append(true)?;
    }
    Ok(Arc::new(maps.finish()))
}

pub(crate) fn schema(columns: &[RowColumn]) -> SchemaRef {
    Arc::new(Schema::new(columns.iter().map(|column| column.field()).collect::<Vec<_>>()))
}

/// A row as its signal has it.
#[derive(Clone, Copy)]
enum RowRef<'r> {
    Log(&'r LogRecord<'static>),
    Span(&'r Span<'static>),
}

/// Rows of one signal.
pub(crate) struct Page {
    streams: Vec<Arc<LogStream<'static>>>,
    rows: PageRows,
}

enum PageRows {
    Logs(Vec<LogRecord<'static>>),
    Spans(Vec<Span<'static>>),
}

impl Page {
    pub fn new(signal: RowSignal, rows: Vec<Row>) -> Result<Self> {
        let (streams, records): (_, Vec<LogRecord<'static>>) =
            rows.into_iter().map(|row| (row.stream, row.record)).unzip();
        let rows = match signal {
            RowSignal::Logs => PageRows::Logs(records),
            RowSignal::Spans => {
                let spans = records.into_iter().map(span_of).collect::<std::result::Result<Vec<_>, _>>();
                PageRows::Spans(spans.map_err(|error| DataFusionError::External(Box::new(error)))?)
            }
        };
        Ok(Self { streams, rows })
    }

    pub fn len(&self) -> usize {
        self.streams.len()
    }

    fn streams(&self) -> impl Iterator<Item = &LogStream<'static>> {
        self.streams.iter().map(AsRef::as_ref)
    }

    fn each<'r, T>(&'r self, of: impl Fn(RowRef<'r>) -> T) -> impl Iterator<Item = T> {
        let (logs, spans) = match &self.rows {
            PageRows::Logs(logs) => (logs.as_slice(), [].as_slice()),
            PageRows::Spans(spans) => ([].as_slice(), spans.as_slice()),
        };
        logs.iter().map(RowRef::Log).chain(spans.iter().map(RowRef::Span)).map(of)
    }

    /// Times, of which 0 is none unless every row has one.
    fn times(
        &self,
        log: impl Fn(&LogRecord<'static>) -> TimestampNs,
        span: impl Fn(&Span<'static>) -> TimestampNs,
        all_have_it: bool,
    ) -> ArrayRef {
        let values = self.each(|row| match row {
            RowRef::Log(record) => log(record),
            RowRef::Span(found) => span(found),
        });
        let values = values.map(|time| Some(time).filter(|time| *time != 0 || all_have_it));
        Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone(UTC))
    }

    fn longs(
        &self,
        log: impl Fn(&LogRecord<'static>) -> i64,
        span: impl Fn(&Span<'static>) -> i64,
    ) -> ArrayRef {
        let values = self.each(|row| match row {
            RowRef::Log(record) => log(record),
            RowRef::Span(found) => span(found),
        });
        Arc::new(values.collect::<Int64Array>())
    }

    fn texts(
        &self,
        log: impl Fn(&LogRecord<'static>) -> Option<String>,
        span: impl Fn(&Span<'static>) -> Option<String>,
    ) -> ArrayRef {
        let values = self.each(|row| match row {
            RowRef::Log(record) => log(record),
            RowRef::Span(found) => span(found),
        });
        Arc::new(values.collect::<StringArray>())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::arrow::util::pretty::pretty_format_columns;
    use protocol::spans::row::row_of;

    use super::*;

    fn shown(column: RowColumn, page: &Page) -> String {
        let array = column.array(page).expect("an array");
        assert_eq!(array.data_type(), column.field().data_type(), "{}", column.name());
        assert_eq!(array.len(), page.len(), "{}", column.name());
        let text = pretty_format_columns("x", &[array]).expect("a table").to_string();
        text.lines().nth(3).unwrap_or_default().trim_matches(['|', ' ']).to_owned()
    }

    #[test]
    fn a_span_has_all_that_it_says() {
        let attribute = |key: &'static str, value: &'static str| -> Attribute<'static> {
            (key.into(), LogValue::String(value.into()))
        };
        let span = Span {
            trace_id: [1; 16],
            span_id: [2; 8],
            parent_id: [3; 8],
            name: "GET \"/\"".into(),
            kind: SpanKind::Server,
            start_ns: 1_000_000_000,
            end_ns: 1_000_000_500,
            status: SpanStatus::Error,
            status_message: "no".into(),
            trace_state: "a=b".into(),
            attributes: vec![attribute("k", "v"), attribute("k", "later")],
            events: vec![SpanEvent {
                time_ns: 7,
                name: "it \"happened\"".into(),
                attributes: vec![attribute("why", "<b>")],
                ..SpanEvent::default()
            }],
            links: vec![SpanLink { trace_id: [9; 16], span_id: [8; 8], ..SpanLink::default() }],
            ..Span::default()
        };
        let stream = LogStream { resource: vec![attribute(SERVICE, "shop")], ..LogStream::default() };
        let place = query::logs::Place { time_ns: 0, shard: protocol::ids::ShardId(0), ordinal: 0 };
        let record = row_of(&span).into_owned();
        let row = Row { stream: Arc::new(stream), record, place };
        let page = Page::new(RowSignal::Spans, vec![row]).expect("spans");
        for (column, expected) in [
            (Time, "1970-01-01T00:00:01Z"),
            (EndTime, "1970-01-01T00:00:01.000000500Z"),
            (Duration, "500"),
            (Service, "shop"),
            (Name, "GET \"/\""),
            (Kind, "server"),
            (Status, "error"),
            (StatusMessage, "no"),
            (TraceId, "01010101010101010101010101010101"),
            (SpanId, "0202020202020202"),
            (ParentId, "0303030303030303"),
            (TraceState, "a=b"),
            (Flags, "0"),
            (Scope, ""),
            (Attributes, "{k: v}"),
            (Resource, "{service.name: shop}"),
            (Events, r#"[{"time_ns":7,"name":"it \"happened\"","attributes":{"why":"<b>"}}]"#),
            (
                Links,
                r#"[{"trace_id":"09090909090909090909090909090909","span_id":"0808080808080808","attributes":{}}]"#,
            ),
        ] {
            assert_eq!(shown(column, &page), expected, "{}", column.name());
        }
        assert_eq!(RowColumn::all(RowSignal::Spans).len(), 18);
    }

    #[test]
    fn names_of_kinds_and_states_are_the_numbers_that_shards_know() {
        assert_eq!(Kind.number_field(Some("client")), Some((LogField::SpanKind, Some(3))));
        assert_eq!(Status.number_field(Some("error")), Some((LogField::SpanStatus, Some(2))));
        assert_eq!(Kind.number_field(Some("nonsense")), None);
        assert_eq!(Duration.number_field(None), Some((LogField::Duration, None)));
        assert_eq!(Name.number_field(None), None);
    }
}
