//! The tables of rows and their columns.
//!
//! A column that several tables have means the same in all; of an event, time, name and attributes are its own, and what
//! else there is is its span's. Events and links in the row of a span are JSON, since they are lists of what has attributes
//! of its own.

use std::fmt::Write as _;
use std::ops::Range;
use std::sync::Arc;

use datafusion::arrow::array::{
    ArrayRef, Int32Array, Int64Array, ListBuilder, MapBuilder, StringArray, StringBuilder,
    TimestampNanosecondArray,
};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion::error::{DataFusionError, Result};
use protocol::logs::value::id_text;
use protocol::logs::{
    Attribute, LogField, LogFilter, LogRecord, LogStream, LogTest, LogValue, RowSignal, TimestampNs,
};
use protocol::spans::row::span_of;
use protocol::spans::{Span, SpanEvent, SpanKind, SpanLink, SpanStatus};
use query::logs::Row;
use query::traces::Summary;

use crate::columns::{UTC, map_type};

/// Name of the resource's attribute that has a column of its own.
const SERVICE: &str = "service.name";

/// A table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowKind {
    /// Log records.
    Logs,
    /// Spans.
    Spans,
    /// Events of spans.
    SpanEvents,
    /// Traces in short.
    Traces,
}

impl RowKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Logs, Self::Spans, Self::SpanEvents, Self::Traces];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Logs => "logs",
            Self::Spans => "spans",
            Self::SpanEvents => "span_events",
            Self::Traces => "traces",
        }
    }

    pub const fn columns(self) -> &'static [RowColumn] {
        match self {
            Self::Logs => LOGS,
            Self::Spans => SPANS,
            Self::SpanEvents => SPAN_EVENTS,
            Self::Traces => TRACES,
        }
    }

    /// What the shards keep that the table is made of.
    pub const fn signal(self) -> RowSignal {
        match self {
            Self::Logs => RowSignal::Logs,
            Self::Spans | Self::SpanEvents | Self::Traces => RowSignal::Spans,
        }
    }

    /// The column by which rows come, and of which ranges are read. An event may lie outside of its span, so that the range
    /// of its time says nothing of where the span is.
    pub const fn place(self) -> RowColumn {
        match self {
            Self::Logs | Self::Spans | Self::Traces => Time,
            Self::SpanEvents => SpanTime,
        }
    }

    /// What all rows that the table is made of meet.
    pub fn filter(self) -> LogFilter {
        match self {
            Self::SpanEvents => LogFilter::Field(LogField::Events, LogTest::Exists),
            Self::Logs | Self::Spans | Self::Traces => LogFilter::All,
        }
    }
}

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
    SpanTime,
    SpanName,
    RootService,
    RootName,
    SpanCount,
    ErrorCount,
    Services,
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

const SPAN_EVENTS: &[RowColumn] = &[
    Time, Name, Service, SpanName, SpanTime, Duration, Kind, Status, TraceId, SpanId, Scope, Attributes,
    Resource,
];

const TRACES: &[RowColumn] =
    &[Time, EndTime, Duration, TraceId, RootService, RootName, SpanCount, ErrorCount, Services];

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
            SpanTime => "span_time",
            SpanName => "span_name",
            RootService => "root_service",
            RootName => "root_name",
            SpanCount => "span_count",
            ErrorCount => "error_count",
            Services => "services",
        }
    }

    pub fn named(kind: RowKind, name: &str) -> Option<Self> {
        kind.columns().iter().copied().find(|column| column.name() == name)
    }

    fn field(self) -> Field {
        let data_type = match self {
            Time | ObservedTime | EndTime | SpanTime => {
                DataType::Timestamp(TimeUnit::Nanosecond, Some(UTC.into()))
            }
            Severity => DataType::Int32,
            Flags | Duration | SpanCount | ErrorCount => DataType::Int64,
            Attributes | Resource => map_type(),
            Services => DataType::new_list(DataType::Utf8, true),
            _ => DataType::Utf8,
        };
        Field::new(self.name(), data_type, !matches!(self, Time | SpanTime))
    }

    /// Whether the column is the event's own, of which a span may have several.
    fn is_of_event(self, kind: RowKind) -> bool {
        kind == RowKind::SpanEvents && matches!(self, Time | Name | Attributes)
    }

    /// The field of a shard's filter that has the column's text. Traces are not asked for by what some of their spans have.
    pub fn text_field(self, kind: RowKind) -> Option<LogField> {
        if self.is_of_event(kind) {
            return None;
        }
        Some(match self {
            SeverityText => LogField::SeverityText,
            Service => LogField::ResourceAttribute(SERVICE.to_owned()),
            // A span's name is its body.
            Body | Name | SpanName => LogField::Body,
            StatusMessage => LogField::StatusMessage,
            TraceId => LogField::TraceId,
            SpanId => LogField::SpanId,
            ParentId => LogField::ParentId,
            EventName => LogField::EventName,
            Scope => LogField::ScopeName,
            _ => return None,
        })
    }

    /// The field of a shard's filter that has the value of a key of the column's map.
    pub fn key_field(self, kind: RowKind, key: String) -> Option<LogField> {
        match self {
            Attributes if !self.is_of_event(kind) => Some(LogField::RecordAttribute(key)),
            Resource => Some(LogField::ResourceAttribute(key)),
            _ => None,
        }
    }

    /// The field of a shard's filter that has the column's number; where the column shows names, with the number of this
    /// one.
    pub fn number_field(self, kind: RowKind, name: Option<&str>) -> Option<(LogField, Option<u8>)> {
        if kind == RowKind::Traces {
            return None;
        }
        Some(match (self, name) {
            (Severity, None) => (LogField::Severity, None),
            (Duration, None) => (LogField::Duration, None),
            (Kind, Some(name)) => (LogField::SpanKind, Some(value_named(&KINDS, name)? as u8)),
            (Status, Some(name)) => (LogField::SpanStatus, Some(value_named(&STATES, name)? as u8)),
            _ => return None,
        })
    }

    /// The values of the rows that are shown.
    pub fn array(self, page: &Page) -> Result<ArrayRef> {
        let filled = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let service = |stream: &LogStream<'_>| {
            let found = stream.resource.iter().find(|(key, _)| key == SERVICE)?;
            Some(found.1.text().into_owned())
        };
        Ok(match self {
            Time => page.times(true, |row| match row {
                RowRef::Log(record) => record.effective_ns(),
                RowRef::Span(span) => span.placed_ns(),
                RowRef::Event(_, event) => event.time_ns,
                RowRef::Trace(trace) => trace.start_ns,
            }),
            ObservedTime => page.times(false, |row| row.log().map_or(0, |record| record.observed_ns)),
            EndTime => page.times(false, |row| match row {
                RowRef::Trace(trace) => trace.end_ns,
                row => row.span().map_or(0, |span| span.end_ns),
            }),
            SpanTime => page.times(true, |row| row.span().map_or(0, Span::placed_ns)),
            Duration => page.longs(|row| match row {
                RowRef::Trace(trace) => trace.duration_ns(),
                row => row.span().map_or(0, Span::duration_ns),
            }),
            Flags => page.longs(|row| match row {
                RowRef::Log(record) => u64::from(record.flags),
                row => row.span().map_or(0, |span| u64::from(span.flags)),
            }),
            SpanCount => page.longs(|row| row.trace().map_or(0, |trace| trace.spans)),
            ErrorCount => page.longs(|row| row.trace().map_or(0, |trace| trace.errors)),
            Severity => {
                let of = |row: RowRef<'_>| row.log().map(|record| i32::from(record.severity));
                Arc::new(
                    page.each(of).map(|found| found.filter(|number| *number != 0)).collect::<Int32Array>(),
                )
            }
            Service => Arc::new(page.streams().map(service).collect::<StringArray>()),
            Scope => {
                Arc::new(page.streams().map(|stream| filled(&stream.scope_name)).collect::<StringArray>())
            }
            SeverityText => page.texts(|row| filled(&row.log()?.severity_text)),
            EventName => page.texts(|row| filled(&row.log()?.event_name)),
            Body => page.texts(|row| match &row.log()?.body {
                LogValue::Empty => None,
                body => Some(body.text().into_owned()),
            }),
            Name => page.texts(|row| match row {
                RowRef::Event(_, event) => Some(event.name.to_string()),
                row => Some(row.span()?.name.to_string()),
            }),
            SpanName => page.texts(|row| Some(row.span()?.name.to_string())),
            Kind => page.texts(|row| name_in(&KINDS, row.span()?.kind)),
            Status => page.texts(|row| name_in(&STATES, row.span()?.status)),
            StatusMessage => page.texts(|row| filled(&row.span()?.status_message)),
            TraceState => page.texts(|row| filled(&row.span()?.trace_state)),
            TraceId => page.texts(|row| match row {
                RowRef::Log(record) => filled(&id_text(&record.trace_id)),
                RowRef::Span(span) | RowRef::Event(span, _) => filled(&id_text(&span.trace_id)),
                RowRef::Trace(trace) => filled(&id_text(&trace.trace_id)),
            }),
            SpanId => page.texts(|row| match row {
                RowRef::Log(record) => filled(&id_text(&record.span_id)),
                row => filled(&id_text(&row.span()?.span_id)),
            }),
            ParentId => page.texts(|row| filled(&id_text(&row.span()?.parent_id))),
            Events => page.texts(|row| list(&row.span()?.events, write_event)),
            Links => page.texts(|row| list(&row.span()?.links, write_link)),
            Attributes => maps(page.each(|row| match row {
                RowRef::Log(record) => record.attributes.as_slice(),
                RowRef::Span(span) => span.attributes.as_slice(),
                RowRef::Event(_, event) => event.attributes.as_slice(),
                RowRef::Trace(_) => &[],
            }))?,
            Resource => maps(page.streams().map(|stream| stream.resource.as_slice()))?,
            RootService => page.texts(|row| filled(&row.rooted()?.root_service)),
            RootName => page.texts(|row| Some(row.rooted()?.root_name.clone())),
            Services => {
                let mut lists = ListBuilder::new(StringBuilder::new());
                for trace in page.each(RowRef::trace) {
                    let names = trace.into_iter().flat_map(|trace| &trace.services);
                    // A span without a service is counted, but names none.
                    for (name, ..) in names.filter(|(name, ..)| !name.is_empty()) {
                        lists.values().append_value(name);
                    }
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
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

/// A row as its table has it.
#[derive(Clone, Copy)]
enum RowRef<'r> {
    Log(&'r LogRecord<'static>),
    Span(&'r Span<'static>),
    Event(&'r Span<'static>, &'r SpanEvent<'static>),
    Trace(&'r Summary),
}

impl<'r> RowRef<'r> {
    fn log(self) -> Option<&'r LogRecord<'static>> {
        match self {
            Self::Log(record) => Some(record),
            _ => None,
        }
    }

    /// The span, or that of the event.
    fn span(self) -> Option<&'r Span<'static>> {
        match self {
            Self::Span(span) | Self::Event(span, _) => Some(span),
            _ => None,
        }
    }

    fn trace(self) -> Option<&'r Summary> {
        match self {
            Self::Trace(trace) => Some(trace),
            _ => None,
        }
    }

    /// The trace, if its root is there.
    fn rooted(self) -> Option<&'r Summary> {
        self.trace().filter(|trace| !trace.orphaned)
    }
}

/// Rows of one table, of which some at a time are shown.
pub(crate) struct Page {
    streams: Vec<Arc<LogStream<'static>>>,
    rows: PageRows,
    shown: Range<usize>,
}

enum PageRows {
    Logs(Vec<LogRecord<'static>>),
    Spans(Vec<Span<'static>>),
    /// Spans, and which events of which.
    Events(Vec<Span<'static>>, Vec<(usize, usize)>),
    Traces(Vec<Summary>),
}

impl Page {
    /// Rows of what shards keep: a row each, or one for each of their events.
    pub fn new(kind: RowKind, rows: Vec<Row>) -> Result<Self> {
        let (streams, records): (_, Vec<LogRecord<'static>>) =
            rows.into_iter().map(|row| (row.stream, row.record)).unzip();
        if kind == RowKind::Logs {
            return Ok(Self::of(streams, PageRows::Logs(records)));
        }
        let spans = records.into_iter().map(span_of).collect::<std::result::Result<Vec<_>, _>>();
        let spans = spans.map_err(|error| DataFusionError::External(Box::new(error)))?;
        if kind == RowKind::Spans {
            return Ok(Self::of(streams, PageRows::Spans(spans)));
        }
        let of_span = |(at, span): (usize, &Span<'_>)| (0..span.events.len()).map(move |event| (at, event));
        let events = spans.iter().enumerate().flat_map(of_span).collect();
        Ok(Self::of(streams, PageRows::Events(spans, events)))
    }

    pub fn traces(traces: Vec<Summary>) -> Self {
        Self::of(Vec::new(), PageRows::Traces(traces))
    }

    fn of(streams: Vec<Arc<LogStream<'static>>>, rows: PageRows) -> Self {
        Self { streams, rows, shown: 0..0 }
    }

    /// Shows the next rows, so many at most; tells how many they are.
    pub fn show_next(&mut self, most: usize) -> usize {
        let from = self.shown.end;
        self.shown = from..self.len().min(from.saturating_add(most));
        self.shown.len()
    }

    fn len(&self) -> usize {
        match &self.rows {
            PageRows::Logs(logs) => logs.len(),
            PageRows::Spans(spans) => spans.len(),
            PageRows::Events(_, events) => events.len(),
            PageRows::Traces(traces) => traces.len(),
        }
    }

    fn streams(&self) -> Box<dyn Iterator<Item = &LogStream<'static>> + '_> {
        match &self.rows {
            PageRows::Events(_, events) => {
                Box::new(events[self.shown.clone()].iter().map(|(span, _)| self.streams[*span].as_ref()))
            }
            // Traces are of no stream.
            PageRows::Traces(_) => Box::new(std::iter::empty()),
            _ => Box::new(self.streams[self.shown.clone()].iter().map(AsRef::as_ref)),
        }
    }

    fn each<'r, T: 'r>(&'r self, of: impl Fn(RowRef<'r>) -> T + 'r) -> Box<dyn Iterator<Item = T> + 'r> {
        let shown = self.shown.clone();
        match &self.rows {
            PageRows::Logs(logs) => Box::new(logs[shown].iter().map(RowRef::Log).map(of)),
            PageRows::Spans(spans) => Box::new(spans[shown].iter().map(RowRef::Span).map(of)),
            PageRows::Events(spans, events) => {
                let row = |(span, event): &(usize, usize)| {
                    RowRef::Event(&spans[*span], &spans[*span].events[*event])
                };
                Box::new(events[shown].iter().map(row).map(of))
            }
            PageRows::Traces(traces) => Box::new(traces[shown].iter().map(RowRef::Trace).map(of)),
        }
    }

    /// Times, of which 0 is none unless every row has one.
    fn times(&self, all_have_it: bool, of: impl Fn(RowRef<'_>) -> TimestampNs) -> ArrayRef {
        let values = self.each(of).map(|time| Some(time).filter(|time| *time != 0 || all_have_it));
        Arc::new(values.collect::<TimestampNanosecondArray>().with_timezone(UTC))
    }

    fn longs(&self, of: impl Fn(RowRef<'_>) -> u64) -> ArrayRef {
        let long = |value| i64::try_from(value).unwrap_or(i64::MAX);
        Arc::new(self.each(of).map(long).collect::<Int64Array>())
    }

    fn texts(&self, of: impl Fn(RowRef<'_>) -> Option<String>) -> ArrayRef {
        Arc::new(self.each(of).collect::<StringArray>())
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
        assert_eq!(array.len(), page.shown.len(), "{}", column.name());
        let text = pretty_format_columns("x", &[array]).expect("a table").to_string();
        let rows = text.lines().skip(3).map(|line| line.trim_matches(['|', ' ']).to_owned());
        rows.filter(|line| !line.starts_with("+-")).collect::<Vec<_>>().join("; ")
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
        let mut page = Page::new(RowKind::Spans, vec![row]).expect("spans");
        assert_eq!((page.show_next(9), page.len()), (1, 1));
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
        assert_eq!(RowKind::Spans.columns().len(), 18);
    }

    fn row(span: &Span<'_>) -> Row {
        let service = (SERVICE.into(), LogValue::String("shop".into()));
        let stream = LogStream { resource: vec![service], ..LogStream::default() };
        let place = query::logs::Place { time_ns: 0, shard: protocol::ids::ShardId(0), ordinal: 0 };
        Row { stream: Arc::new(stream), record: row_of(span).into_owned(), place }
    }

    #[test]
    fn an_event_has_what_is_its_own_and_what_is_its_spans() {
        let event = |time_ns, name: &'static str| SpanEvent {
            time_ns,
            name: name.into(),
            attributes: vec![("of".into(), LogValue::String(name.into()))],
            ..SpanEvent::default()
        };
        let span = |id: u8, start_ns, end_ns, events| Span {
            trace_id: [1; 16],
            span_id: [id; 8],
            name: "GET".into(),
            kind: SpanKind::Server,
            status: SpanStatus::Error,
            start_ns,
            end_ns,
            attributes: vec![("of".into(), LogValue::String("the span".into()))],
            events,
            ..Span::default()
        };
        let rows = [
            // One before its span, one without a time.
            span(2, 1_000_000_000, 1_000_000_005, vec![event(999_999_999, "early"), event(0, "a")]),
            span(3, 2, 2, Vec::new()),
            // Without a start.
            span(4, 0, 4_000_000_000, vec![event(5_000_000_000, "late")]),
        ];
        let mut page = Page::new(RowKind::SpanEvents, rows.iter().map(row).collect()).expect("spans");
        let mut seen = Vec::new();
        while page.show_next(2) > 0 {
            let of = |column: &RowColumn| format!("{}: {}", column.name(), shown(*column, &page));
            seen.push(RowKind::SpanEvents.columns().iter().map(of).collect::<Vec<_>>());
        }
        let expected = [
            [
                "time: 1970-01-01T00:00:00.999999999Z; 1970-01-01T00:00:00Z",
                "name: early; a",
                "service: shop; shop",
                "span_name: GET; GET",
                "span_time: 1970-01-01T00:00:01Z; 1970-01-01T00:00:01Z",
                "duration_ns: 5; 5",
                "kind: server; server",
                "status: error; error",
                "trace_id: 01010101010101010101010101010101; 01010101010101010101010101010101",
                "span_id: 0202020202020202; 0202020202020202",
                "scope: ; ",
                "attributes: {of: early}; {of: a}",
                "resource: {service.name: shop}; {service.name: shop}",
            ],
            [
                "time: 1970-01-01T00:00:05Z",
                "name: late",
                "service: shop",
                "span_name: GET",
                "span_time: 1970-01-01T00:00:04Z",
                "duration_ns: 4000000000",
                "kind: server",
                "status: error",
                "trace_id: 01010101010101010101010101010101",
                "span_id: 0404040404040404",
                "scope: ",
                "attributes: {of: late}",
                "resource: {service.name: shop}",
            ],
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn a_trace_without_its_root_has_no_root() {
        let whole = Summary {
            trace_id: [7; 16],
            root_service: "web".to_owned(),
            root_name: String::new(),
            orphaned: false,
            start_ns: 1_000_000_000,
            end_ns: 3_000_000_000,
            spans: 5,
            errors: 2,
            services: vec![(String::new(), 1, 0), ("cart".to_owned(), 1, 1), ("web".to_owned(), 3, 1)],
        };
        let orphaned = Summary { orphaned: true, services: Vec::new(), ..whole.clone() };
        let mut page = Page::traces(vec![whole, orphaned]);
        assert_eq!(page.show_next(2), 2);
        for (column, expected) in [
            (Time, "1970-01-01T00:00:01Z; 1970-01-01T00:00:01Z"),
            (EndTime, "1970-01-01T00:00:03Z; 1970-01-01T00:00:03Z"),
            (Duration, "2000000000; 2000000000"),
            (TraceId, "07070707070707070707070707070707; 07070707070707070707070707070707"),
            (SpanCount, "5; 5"),
            (ErrorCount, "2; 2"),
            (Services, "[cart, web]; []"),
        ] {
            assert_eq!(shown(column, &page), expected, "{}", column.name());
        }
        // No text and the empty text look the same.
        assert_eq!(shown(RootService, &page), "web; ");
        let nulls = |column: RowColumn| {
            let array = column.array(&page).expect("an array");
            (0..2).map(|row| array.is_null(row)).collect::<Vec<_>>()
        };
        assert_eq!((nulls(RootService), nulls(RootName)), (vec![false, true], vec![false, true]));
        assert_eq!(RowKind::Traces.columns().len(), 9);
    }

    #[test]
    fn names_of_kinds_and_states_are_the_numbers_that_shards_know() {
        let of = |column: RowColumn, name| column.number_field(RowKind::Spans, name);
        assert_eq!(of(Kind, Some("client")), Some((LogField::SpanKind, Some(3))));
        assert_eq!(of(Status, Some("error")), Some((LogField::SpanStatus, Some(2))));
        assert_eq!(of(Kind, Some("nonsense")), None);
        assert_eq!(of(Duration, None), Some((LogField::Duration, None)));
        assert_eq!(of(Name, None), None);
    }
}
