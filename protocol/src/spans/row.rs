//! A span as a row of the store that logs are kept in, and the row as a span again. Nothing is lost either way.
//!
//! ```text
//! row               span
//! time              start
//! observed time     end: the column that holds it, as the difference, is the duration
//! body              name: split into a template and slots, as bodies are
//! severity number   kind + 8 * status
//! trace id, span id, flags: as they are
//! attributes        "\x01parent" parent's id as a number | "\x01message" of the status | "\x01state" of the trace
//!                   "\x01events", "\x01links" bytes, see below | "\x01dropped", "\x01dropped.events", "\x01dropped.links"
//!                   then those of the span, in its order
//!
//! events  count v | count x ( z(time - effective time of the row) | p(name) | dropped v | attributes )
//! links   count v | count x ( trace id 16 | span id 8 | p(trace state) | flags v | dropped v | attributes )
//! ```
//!
//! (`v`, `z`, `p` and attributes as [`crate::logs::codec`] writes them.) What a span does not have takes no attribute. A
//! name that a client begins with the control character gets another one in front, so that none of its names is one of
//! ours. A row without [effective time](LogRecord::effective_ns) of its own, a span whose start is 0, is placed at its end.
//!
//! A row that no span gives is a [`DecodeError`]: routers write no such rows.

use std::borrow::Cow;

use super::{Span, SpanEvent, SpanKind, SpanLink, SpanStatus};
use crate::encoding::DecodeError;
use crate::logs::codec::{decode_attributes, decode_text, encode_attributes};
use crate::logs::value::owned_attributes;
use crate::logs::{Attribute, LogField, LogFilter, LogRecord, LogValue};
use crate::varint::{read_bytes, read_len, read_u64, unzigzag, write_prefixed, write_u64, zigzag};

/// First character of the names that are ours.
const MARK: char = '\u{1}';

/// Attribute that holds the parent's id.
pub const PARENT: &str = "\u{1}parent";
/// Attribute that holds the message of the status.
pub const STATUS_MESSAGE: &str = "\u{1}message";
/// Attribute that holds the events, where there are any.
pub const EVENTS: &str = "\u{1}events";
const TRACE_STATE: &str = "\u{1}state";
const LINKS: &str = "\u{1}links";
const DROPPED_ATTRIBUTES: &str = "\u{1}dropped";
const DROPPED_EVENTS: &str = "\u{1}dropped.events";
const DROPPED_LINKS: &str = "\u{1}dropped.links";

/// Number of a row's kind of span.
pub const fn kind_number(severity: u8) -> u8 {
    severity & 7
}

/// Number of the status of a row's span.
pub const fn status_number(severity: u8) -> u8 {
    severity >> 3
}

/// The name of a span's attribute in its row.
pub fn row_name(name: &str) -> Cow<'_, str> {
    if name.starts_with(MARK) { Cow::Owned(format!("{MARK}{name}")) } else { Cow::Borrowed(name) }
}

/// The name that a span's attribute has outside of its row; `None` for what is no attribute of the span.
pub fn span_name(name: &str) -> Option<&str> {
    match name.strip_prefix(MARK) {
        None => Some(name),
        Some(rest) => rest.starts_with(MARK).then_some(rest),
    }
}

/// What a row holds under one of our names.
pub(crate) fn own<'r, 'a>(record: &'r LogRecord<'a>, name: &str) -> Option<&'r LogValue<'a>> {
    record.attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Id of the parent of a row's span, zeros if it has none.
pub(crate) fn parent_of(record: &LogRecord<'_>) -> [u8; 8] {
    match own(record, PARENT) {
        Some(LogValue::Int(id)) => id.to_be_bytes(),
        _ => [0; 8],
    }
}

/// A filter of spans as one of rows.
pub fn row_filter(filter: &LogFilter) -> LogFilter {
    let all = |parts: &[LogFilter]| parts.iter().map(row_filter).collect();
    match filter {
        LogFilter::All => LogFilter::All,
        LogFilter::And(parts) => LogFilter::And(all(parts)),
        LogFilter::Or(parts) => LogFilter::Or(all(parts)),
        LogFilter::Not(part) => LogFilter::Not(Box::new(row_filter(part))),
        LogFilter::Field(field, test) => LogFilter::Field(row_field(field), test.clone()),
    }
}

/// A field of spans as one of rows. An attribute wherever it is, of a name that begins with the control character, is
/// looked for in spans alone.
pub fn row_field(field: &LogField) -> LogField {
    match field {
        LogField::Attribute(name) | LogField::RecordAttribute(name) if name.starts_with(MARK) => {
            LogField::RecordAttribute(row_name(name).into_owned())
        }
        field => field.clone(),
    }
}

/// The row of a span. It borrows what it can.
pub fn row_of<'a>(span: &'a Span<'_>) -> LogRecord<'a> {
    let mut record = LogRecord {
        time_ns: span.start_ns,
        observed_ns: span.end_ns,
        severity: span.kind as u8 | (span.status as u8) << 3,
        body: LogValue::String(Cow::Borrowed(&span.name)),
        trace_id: span.trace_id,
        span_id: span.span_id,
        flags: span.flags,
        attributes: Vec::with_capacity(span.attributes.len() + 2),
        ..LogRecord::default()
    };
    let effective_ns = record.effective_ns();
    let mut put = |name: &'static str, value| record.attributes.push((Cow::Borrowed(name), value));
    if span.parent_id != [0; 8] {
        put(PARENT, LogValue::Int(i64::from_be_bytes(span.parent_id)));
    }
    for (name, text) in [(STATUS_MESSAGE, &span.status_message), (TRACE_STATE, &span.trace_state)] {
        if !text.is_empty() {
            put(name, LogValue::String(Cow::Borrowed(text)));
        }
    }
    if !span.events.is_empty() {
        put(EVENTS, LogValue::Bytes(Cow::Owned(encode_events(&span.events, effective_ns))));
    }
    if !span.links.is_empty() {
        put(LINKS, LogValue::Bytes(Cow::Owned(encode_links(&span.links))));
    }
    for (name, dropped) in [
        (DROPPED_ATTRIBUTES, span.dropped_attributes),
        (DROPPED_EVENTS, span.dropped_events),
        (DROPPED_LINKS, span.dropped_links),
    ] {
        if dropped > 0 {
            put(name, LogValue::Int(i64::from(dropped)));
        }
    }
    let own = span.attributes.iter().map(|(name, value)| (row_name(name), borrowed(value)));
    record.attributes.extend(own);
    record
}

/// The same value; arrays and maps, which spans rarely have, are copied.
fn borrowed<'a>(value: &'a LogValue<'_>) -> LogValue<'a> {
    match value {
        LogValue::Empty => LogValue::Empty,
        LogValue::String(text) => LogValue::String(Cow::Borrowed(text)),
        LogValue::Int(int) => LogValue::Int(*int),
        LogValue::Float(float) => LogValue::Float(*float),
        LogValue::Bool(truth) => LogValue::Bool(*truth),
        LogValue::Bytes(bytes) => LogValue::Bytes(Cow::Borrowed(bytes)),
        LogValue::List(items) => LogValue::List(items.iter().map(borrowed).collect()),
        LogValue::Map(items) => LogValue::Map(
            items.iter().map(|(name, value)| (Cow::Borrowed(&**name), borrowed(value))).collect(),
        ),
    }
}

/// The span of a row. Of a row without some columns, the span without what they hold.
pub fn span_of<'a>(record: LogRecord<'a>) -> Result<Span<'a>, DecodeError> {
    let effective_ns = record.effective_ns();
    let mut span = Span {
        trace_id: record.trace_id,
        span_id: record.span_id,
        flags: record.flags,
        name: match record.body {
            LogValue::String(name) => name,
            LogValue::Empty => Cow::Borrowed(""),
            _ => return Err(DecodeError::Malformed("name of a span")),
        },
        kind: SpanKind::of_number(kind_number(record.severity)).ok_or(DecodeError::Malformed("kind"))?,
        status: SpanStatus::of_number(status_number(record.severity))
            .ok_or(DecodeError::Malformed("status"))?,
        start_ns: record.time_ns,
        end_ns: record.observed_ns,
        attributes: Vec::with_capacity(record.attributes.len()),
        ..Span::default()
    };
    for (name, value) in record.attributes {
        if !name.starts_with(MARK) {
            span.attributes.push((name, value));
            continue;
        }
        let count = |value: i64| u32::try_from(value).map_err(|_| DecodeError::Malformed("dropped count"));
        match (&*name, value) {
            (PARENT, LogValue::Int(id)) => span.parent_id = id.to_be_bytes(),
            (STATUS_MESSAGE, LogValue::String(text)) => span.status_message = text,
            (TRACE_STATE, LogValue::String(text)) => span.trace_state = text,
            (EVENTS, LogValue::Bytes(bytes)) => {
                span.events = match bytes {
                    Cow::Borrowed(bytes) => decode_events(bytes, effective_ns)?,
                    Cow::Owned(bytes) => {
                        decode_events(&bytes, effective_ns)?.into_iter().map(SpanEvent::into_owned).collect()
                    }
                };
            }
            (LINKS, LogValue::Bytes(bytes)) => {
                span.links = match bytes {
                    Cow::Borrowed(bytes) => decode_links(bytes)?,
                    Cow::Owned(bytes) => {
                        decode_links(&bytes)?.into_iter().map(SpanLink::into_owned).collect()
                    }
                };
            }
            (DROPPED_ATTRIBUTES, LogValue::Int(dropped)) => span.dropped_attributes = count(dropped)?,
            (DROPPED_EVENTS, LogValue::Int(dropped)) => span.dropped_events = count(dropped)?,
            (DROPPED_LINKS, LogValue::Int(dropped)) => span.dropped_links = count(dropped)?,
            (_, value) => {
                let own = span_name(&name).ok_or(DecodeError::Malformed("attribute of a span"))?.to_owned();
                span.attributes.push((Cow::Owned(own), value));
            }
        }
    }
    Ok(span)
}

fn encode_events(events: &[SpanEvent<'_>], base_ns: i64) -> Vec<u8> {
    let mut out = Vec::new();
    write_u64(&mut out, events.len() as u64);
    for event in events {
        write_u64(&mut out, zigzag(event.time_ns.wrapping_sub(base_ns)));
        write_prefixed(&mut out, event.name.as_bytes());
        write_u64(&mut out, u64::from(event.dropped_attributes));
        encode_attributes(&event.attributes, &mut out);
    }
    out
}

fn encode_links(links: &[SpanLink<'_>]) -> Vec<u8> {
    let mut out = Vec::new();
    write_u64(&mut out, links.len() as u64);
    for link in links {
        out.extend_from_slice(&link.trace_id);
        out.extend_from_slice(&link.span_id);
        write_prefixed(&mut out, link.trace_state.as_bytes());
        write_u64(&mut out, u64::from(link.flags));
        write_u64(&mut out, u64::from(link.dropped_attributes));
        encode_attributes(&link.attributes, &mut out);
    }
    out
}

fn decode_events(bytes: &[u8], base_ns: i64) -> Result<Vec<SpanEvent<'_>>, DecodeError> {
    decode_all(bytes, |input| {
        let time = read_u64(input).map(unzigzag).ok_or(DecodeError::Truncated)?;
        Ok(SpanEvent {
            time_ns: base_ns.wrapping_add(time),
            name: Cow::Borrowed(decode_text(input)?),
            dropped_attributes: decode_u32(input)?,
            attributes: decode_attributes(input)?,
        })
    })
}

fn decode_links(bytes: &[u8]) -> Result<Vec<SpanLink<'_>>, DecodeError> {
    decode_all(bytes, |input| {
        let trace_id = read_bytes(input, 16).and_then(|id| id.try_into().ok());
        let span_id = read_bytes(input, 8).and_then(|id| id.try_into().ok());
        Ok(SpanLink {
            trace_id: trace_id.ok_or(DecodeError::Truncated)?,
            span_id: span_id.ok_or(DecodeError::Truncated)?,
            trace_state: Cow::Borrowed(decode_text(input)?),
            flags: decode_u32(input)?,
            dropped_attributes: decode_u32(input)?,
            attributes: decode_attributes(input)?,
        })
    })
}

fn decode_u32(input: &mut &[u8]) -> Result<u32, DecodeError> {
    let number = read_u64(input).ok_or(DecodeError::Truncated)?;
    u32::try_from(number).map_err(|_| DecodeError::Malformed("number of a span"))
}

/// A counted list that fills its bytes. It grows with what is really there.
fn decode_all<'a, T>(
    mut bytes: &'a [u8],
    mut one: impl FnMut(&mut &'a [u8]) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let input = &mut bytes;
    let count = read_len(input).ok_or(DecodeError::Truncated)?;
    let all = (0..count).map(|_| one(input)).collect::<Result<Vec<T>, _>>()?;
    if input.is_empty() { Ok(all) } else { Err(DecodeError::Malformed("end of a list of a span")) }
}

impl SpanKind {
    /// The kind of a number.
    pub const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unspecified,
            1 => Self::Internal,
            2 => Self::Server,
            3 => Self::Client,
            4 => Self::Producer,
            5 => Self::Consumer,
            _ => return None,
        })
    }
}

impl SpanStatus {
    /// The status of a number.
    pub const fn of_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Unset,
            1 => Self::Ok,
            2 => Self::Error,
            _ => return None,
        })
    }
}

impl SpanEvent<'_> {
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> SpanEvent<'static> {
        SpanEvent {
            time_ns: self.time_ns,
            name: Cow::Owned(self.name.into_owned()),
            attributes: owned_attributes(self.attributes),
            dropped_attributes: self.dropped_attributes,
        }
    }
}

impl SpanLink<'_> {
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> SpanLink<'static> {
        SpanLink {
            trace_id: self.trace_id,
            span_id: self.span_id,
            trace_state: Cow::Owned(self.trace_state.into_owned()),
            flags: self.flags,
            attributes: owned_attributes(self.attributes),
            dropped_attributes: self.dropped_attributes,
        }
    }
}

impl Span<'_> {
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Span<'static> {
        Span {
            trace_id: self.trace_id,
            span_id: self.span_id,
            parent_id: self.parent_id,
            trace_state: Cow::Owned(self.trace_state.into_owned()),
            flags: self.flags,
            name: Cow::Owned(self.name.into_owned()),
            kind: self.kind,
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            status: self.status,
            status_message: Cow::Owned(self.status_message.into_owned()),
            attributes: owned_attributes(self.attributes),
            dropped_attributes: self.dropped_attributes,
            events: self.events.into_iter().map(SpanEvent::into_owned).collect(),
            dropped_events: self.dropped_events,
            links: self.links.into_iter().map(SpanLink::into_owned).collect(),
            dropped_links: self.dropped_links,
        }
    }

    /// All attributes: of the span, its events and its links.
    pub fn all_attributes(&self) -> impl Iterator<Item = &Attribute<'_>> {
        let of_events = self.events.iter().flat_map(|event| &event.attributes);
        let of_links = self.links.iter().flat_map(|link| &link.attributes);
        self.attributes.iter().chain(of_events).chain(of_links)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::logs::codec::encode_record;
    use crate::logs::codec::tests::any_value;
    use crate::logs::matching::CompiledFilter;
    use crate::logs::{LogStream, LogTest};

    fn bytes_of(span: &Span<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        encode_record(&row_of(span), &mut out);
        out
    }

    fn check(span: &Span<'_>) {
        let again = span_of(row_of(span)).expect("a row of a span");
        // By their bytes: NaN is not equal to itself.
        assert_eq!(format!("{again:?}"), format!("{span:?}"));
        assert_eq!(bytes_of(&again), bytes_of(span));
        assert_eq!(format!("{:?}", again.into_owned()), format!("{span:?}"));
    }

    fn name() -> impl Strategy<Value = Cow<'static, str>> {
        prop_oneof![
            4 => "[a-c]{0,2}",
            1 => "\u{1}{1,3}[a-z]{0,2}",
            1 => Just("\u{1}parent".to_owned()),
            1 => Just("\u{1}\u{1}events".to_owned()),
        ]
        .prop_map(Cow::Owned)
    }

    fn attributes() -> impl Strategy<Value = Vec<Attribute<'static>>> {
        prop::collection::vec((name(), any_value()), 0..4)
    }

    fn number() -> impl Strategy<Value = u32> {
        prop_oneof![3 => Just(0), 1 => any::<u32>()]
    }

    fn time() -> impl Strategy<Value = i64> {
        prop_oneof![Just(0), 1i64..4, any::<i64>()]
    }

    /// Spans with everything, or hardly anything, in them.
    pub(crate) fn any_span() -> impl Strategy<Value = Span<'static>> {
        let text = || "[a-z =]{0,6}".prop_map(Cow::<'static, str>::Owned);
        let events = prop::collection::vec((time(), text(), attributes(), number()), 0..3);
        let links = prop::collection::vec(
            (any::<[u8; 16]>(), any::<[u8; 8]>(), text(), number(), attributes()),
            0..3,
        );
        let ids = (any::<[u8; 16]>(), any::<[u8; 8]>(), prop_oneof![Just([0u8; 8]), any::<[u8; 8]>()]);
        let first = (ids, text(), number(), text(), 0u8..6, (time(), time()), 0u8..3, text());
        (first, attributes(), events, links, (number(), number(), number())).prop_map(
            |(first, attributes, events, links, dropped)| {
                let (ids, trace_state, flags, name, kind, times, status, status_message) = first;
                let event = |(time_ns, name, attributes, dropped_attributes)| SpanEvent {
                    time_ns,
                    name,
                    attributes,
                    dropped_attributes,
                };
                let link = |(trace_id, span_id, trace_state, flags, attributes)| SpanLink {
                    trace_id,
                    span_id,
                    trace_state,
                    flags,
                    attributes,
                    dropped_attributes: flags / 2,
                };
                Span {
                    trace_id: ids.0,
                    span_id: ids.1,
                    parent_id: ids.2,
                    trace_state,
                    flags,
                    name,
                    kind: SpanKind::of_number(kind).unwrap_or_default(),
                    start_ns: times.0,
                    end_ns: times.1,
                    status: SpanStatus::of_number(status).unwrap_or_default(),
                    status_message,
                    attributes,
                    dropped_attributes: dropped.0,
                    events: events.into_iter().map(event).collect(),
                    dropped_events: dropped.1,
                    links: links.into_iter().map(link).collect(),
                    dropped_links: dropped.2,
                }
            },
        )
    }

    proptest! {
        #[test]
        fn any_span_comes_back(span in any_span()) {
            check(&span);
        }

        #[test]
        fn any_bytes_in_place_of_lists_are_refused_or_read(bytes: Vec<u8>, base: i64) {
            let _ = decode_events(&bytes, base);
            let _ = decode_links(&bytes);
        }
    }

    #[test]
    fn a_bare_span_is_a_bare_row() {
        let span = Span { name: "".into(), ..Span::default() };
        check(&span);
        assert!(row_of(&span).attributes.is_empty());
        check(&Span { start_ns: 9, end_ns: 9, ..Span::default() });
        check(&Span { start_ns: 9, end_ns: 4, ..Span::default() });
        let placed = |start_ns, end_ns| {
            let span = Span { start_ns, end_ns, ..Span::default() };
            check(&span);
            let row = row_of(&span);
            assert_eq!(row.lasted_ns() as u64, span.duration_ns());
            row.effective_ns()
        };
        assert_eq!((placed(0, 7), placed(7, 0), placed(-3, 7)), (7, 7, -3));
        assert_eq!(placed(i64::MIN, i64::MAX), i64::MIN);
    }

    #[test]
    fn rows_that_no_span_gives_are_refused() {
        let attribute = |name: &'static str, value| LogRecord {
            attributes: vec![(name.into(), value)],
            ..LogRecord::default()
        };
        for record in [
            LogRecord { body: LogValue::Int(1), ..LogRecord::default() },
            LogRecord { severity: 6, ..LogRecord::default() },
            LogRecord { severity: 3 << 3, ..LogRecord::default() },
            attribute("\u{1}unknown", LogValue::Empty),
            attribute(PARENT, LogValue::Empty),
            attribute(EVENTS, LogValue::Bytes(b"\x02".as_slice().into())),
            attribute(DROPPED_LINKS, LogValue::Int(-1)),
        ] {
            assert!(span_of(record.clone()).is_err(), "{record:?}");
        }
    }

    #[test]
    fn filters_ask_for_what_a_span_says() {
        let text = |text: &str| LogValue::String(text.to_owned().into());
        let span = Span {
            parent_id: [0, 0, 0, 0, 0, 0, 0, 0xab],
            name: "GET /".into(),
            kind: SpanKind::Client,
            status: SpanStatus::Error,
            status_message: "timed out".into(),
            start_ns: 100,
            end_ns: 350,
            attributes: vec![("\u{1}parent".into(), text("of the client"))],
            ..Span::default()
        };
        let meets = |span: &Span<'_>, field: LogField, expected: &str| {
            let filter = row_filter(&LogFilter::Field(field, LogTest::Equals(expected.to_owned())));
            let filter = CompiledFilter::new(&filter).expect("the filter compiles");
            filter.matches(&LogStream::default(), &row_of(span))
        };
        assert!(meets(&span, LogField::Body, "GET /"));
        assert!(meets(&span, LogField::Duration, "250"));
        assert!(meets(&span, LogField::SpanKind, "3"));
        assert!(meets(&span, LogField::SpanStatus, "2"));
        assert!(meets(&span, LogField::StatusMessage, "timed out"));
        assert!(meets(&span, LogField::ParentId, "00000000000000ab"));
        assert!(meets(&span, LogField::Attribute("\u{1}parent".to_owned()), "of the client"));
        assert!(!meets(&span, LogField::RecordAttribute("\u{1}message".to_owned()), "timed out"));
        let root = Span { end_ns: -1, ..Span::default() };
        assert!(meets(&root, LogField::ParentId, "") && meets(&root, LogField::StatusMessage, ""));
        assert!(meets(&root, LogField::Duration, "0"));
        let happened = Span { events: vec![SpanEvent::default()], ..Span::default() };
        let has_events = row_filter(&LogFilter::Field(LogField::Events, LogTest::Exists));
        let has_events = CompiledFilter::new(&has_events).expect("the filter compiles");
        let has_events = |span: &Span<'_>| has_events.matches(&LogStream::default(), &row_of(span));
        assert!(has_events(&happened) && !has_events(&span) && !has_events(&root));
    }
}
