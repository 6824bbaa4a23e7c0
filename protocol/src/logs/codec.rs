//! Bytes of values, streams and whole records.
//!
//! ```text
//! value    tag u8, then  0 empty | 1 text: p | 2 integer: zigzag varint | 3 float: its bits, u64 LE | 4 false | 5 true
//!          6 bytes: p | 7 array: count varint, values | 8 map: count varint, then p(name) and value of each
//! stream   attributes of the resource | p(scope name) | p(scope version) | attributes of the scope
//! record   time z | observed z | severity u8 | p(severity text) | body | trace 16 | span 8 | flags v | p(event)
//!          | attributes
//! attributes: count varint, then p(name) and value of each          p(x): length varint and bytes
//! ```
//!
//! Equal values have equal bytes and different ones different bytes (floats by their bits), so that bytes can be compared
//! and hashed instead. Nothing is nested deeper than [`MAX_DEPTH`].

use std::borrow::Cow;

use super::{Attribute, LogRecord, LogStream, LogValue};
use crate::encoding::DecodeError;
use crate::varint::{
    read_bytes, read_len, read_prefixed, read_u64, unzigzag, write_prefixed, write_u64, zigzag,
};

/// Arrays and maps inside of one another.
pub const MAX_DEPTH: usize = 64;

const EMPTY: u8 = 0;
const STRING: u8 = 1;
const INT: u8 = 2;
const FLOAT: u8 = 3;
const FALSE: u8 = 4;
const TRUE: u8 = 5;
const BYTES: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;

/// Whether a value is nested no deeper than [`MAX_DEPTH`].
pub fn is_shallow(value: &LogValue<'_>) -> bool {
    fn within(value: &LogValue<'_>, depth: usize) -> bool {
        match value {
            LogValue::List(items) => depth > 0 && items.iter().all(|item| within(item, depth - 1)),
            LogValue::Map(items) => depth > 0 && items.iter().all(|(_, item)| within(item, depth - 1)),
            _ => true,
        }
    }
    within(value, MAX_DEPTH)
}

/// Appends a value.
pub fn encode_value(value: &LogValue<'_>, out: &mut Vec<u8>) {
    match value {
        LogValue::Empty => out.push(EMPTY),
        LogValue::String(text) => encode_text(text.as_bytes(), out),
        LogValue::Int(int) => {
            out.push(INT);
            write_u64(out, zigzag(*int));
        }
        LogValue::Float(float) => {
            out.push(FLOAT);
            out.extend_from_slice(&float.to_bits().to_le_bytes());
        }
        LogValue::Bool(truth) => out.push(if *truth { TRUE } else { FALSE }),
        LogValue::Bytes(bytes) => {
            out.push(BYTES);
            write_prefixed(out, bytes);
        }
        LogValue::List(items) => {
            out.push(LIST);
            write_u64(out, items.len() as u64);
            items.iter().for_each(|item| encode_value(item, out));
        }
        LogValue::Map(items) => {
            out.push(MAP);
            encode_attributes(items, out);
        }
    }
}

/// Appends a value that is a text of these bytes.
pub(super) fn encode_text(text: &[u8], out: &mut Vec<u8>) {
    out.push(STRING);
    write_prefixed(out, text);
}

/// Reads what [`encode_value`] wrote and moves `input` past it.
pub fn decode_value<'a>(input: &mut &'a [u8]) -> Result<LogValue<'a>, DecodeError> {
    decode_nested(input, MAX_DEPTH)
}

fn decode_nested<'a>(input: &mut &'a [u8], depth: usize) -> Result<LogValue<'a>, DecodeError> {
    let tag = read_bytes(input, 1).ok_or(DecodeError::Truncated)?[0];
    Ok(match tag {
        EMPTY => LogValue::Empty,
        STRING => LogValue::String(Cow::Borrowed(decode_text(input)?)),
        INT => LogValue::Int(unzigzag(read_u64(input).ok_or(DecodeError::Truncated)?)),
        FLOAT => {
            let bits = read_bytes(input, 8).and_then(|bytes| bytes.try_into().ok());
            LogValue::Float(f64::from_bits(u64::from_le_bytes(bits.ok_or(DecodeError::Truncated)?)))
        }
        FALSE => LogValue::Bool(false),
        TRUE => LogValue::Bool(true),
        BYTES => LogValue::Bytes(Cow::Borrowed(read_prefixed(input).ok_or(DecodeError::Truncated)?)),
        LIST | MAP if depth == 0 => return Err(DecodeError::Malformed("depth of a value")),
        LIST => {
            let count = read_count(input)?;
            LogValue::List((0..count).map(|_| decode_nested(input, depth - 1)).collect::<Result<_, _>>()?)
        }
        MAP => LogValue::Map(decode_list(input, depth - 1)?),
        _ => return Err(DecodeError::Malformed("tag of a value")),
    })
}

/// Appends attributes.
pub fn encode_attributes(attributes: &[Attribute<'_>], out: &mut Vec<u8>) {
    write_u64(out, attributes.len() as u64);
    for (name, value) in attributes {
        write_prefixed(out, name.as_bytes());
        encode_value(value, out);
    }
}

/// Reads what [`encode_attributes`] wrote and moves `input` past it.
pub(crate) fn decode_attributes<'a>(input: &mut &'a [u8]) -> Result<Vec<Attribute<'a>>, DecodeError> {
    decode_list(input, MAX_DEPTH)
}

fn decode_list<'a>(input: &mut &'a [u8], depth: usize) -> Result<Vec<Attribute<'a>>, DecodeError> {
    let one = |input: &mut &'a [u8]| Ok((Cow::Borrowed(decode_text(input)?), decode_nested(input, depth)?));
    (0..read_count(input)?).map(|_| one(input)).collect()
}

/// A number of things that take a byte each at least.
fn read_count(input: &mut &[u8]) -> Result<usize, DecodeError> {
    let count = read_len(input).ok_or(DecodeError::Truncated)?;
    if count <= input.len() { Ok(count) } else { Err(DecodeError::Truncated) }
}

pub(crate) fn decode_text<'a>(input: &mut &'a [u8]) -> Result<&'a str, DecodeError> {
    let bytes = read_prefixed(input).ok_or(DecodeError::Truncated)?;
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Malformed("text"))
}

/// Appends a stream.
pub fn encode_stream(stream: &LogStream<'_>, out: &mut Vec<u8>) {
    encode_attributes(&stream.resource, out);
    write_prefixed(out, stream.scope_name.as_bytes());
    write_prefixed(out, stream.scope_version.as_bytes());
    encode_attributes(&stream.scope_attributes, out);
}

/// Reads a stream that fills `input`.
pub fn decode_stream(mut input: &[u8]) -> Result<LogStream<'_>, DecodeError> {
    let input = &mut input;
    let stream = LogStream {
        resource: decode_attributes(input)?,
        scope_name: Cow::Borrowed(decode_text(input)?),
        scope_version: Cow::Borrowed(decode_text(input)?),
        scope_attributes: decode_attributes(input)?,
    };
    if input.is_empty() { Ok(stream) } else { Err(DecodeError::Malformed("end of a stream")) }
}

/// Appends a record.
pub fn encode_record(record: &LogRecord<'_>, out: &mut Vec<u8>) {
    write_u64(out, zigzag(record.time_ns));
    write_u64(out, zigzag(record.observed_ns));
    out.push(record.severity);
    write_prefixed(out, record.severity_text.as_bytes());
    encode_value(&record.body, out);
    out.extend_from_slice(&record.trace_id);
    out.extend_from_slice(&record.span_id);
    write_u64(out, u64::from(record.flags));
    write_prefixed(out, record.event_name.as_bytes());
    encode_attributes(&record.attributes, out);
}

/// Reads what [`encode_record`] wrote and moves `input` past it.
pub fn decode_record<'a>(input: &mut &'a [u8]) -> Result<LogRecord<'a>, DecodeError> {
    let time = |input: &mut &[u8]| read_u64(input).map(unzigzag).ok_or(DecodeError::Truncated);
    let (time_ns, observed_ns) = (time(input)?, time(input)?);
    let severity = read_bytes(input, 1).ok_or(DecodeError::Truncated)?[0];
    let severity_text = Cow::Borrowed(decode_text(input)?);
    let body = decode_value(input)?;
    let trace_id = read_bytes(input, 16).and_then(|id| id.try_into().ok()).ok_or(DecodeError::Truncated)?;
    let span_id = read_bytes(input, 8).and_then(|id| id.try_into().ok()).ok_or(DecodeError::Truncated)?;
    let flags = read_u64(input).and_then(|flags| u32::try_from(flags).ok());
    Ok(LogRecord {
        time_ns,
        observed_ns,
        severity,
        severity_text,
        body,
        trace_id,
        span_id,
        flags: flags.ok_or(DecodeError::Malformed("flags"))?,
        event_name: Cow::Borrowed(decode_text(input)?),
        attributes: decode_attributes(input)?,
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(crate) fn any_value() -> impl Strategy<Value = LogValue<'static>> {
        let leaf = prop_oneof![
            Just(LogValue::Empty),
            ".{0,12}".prop_map(|text| LogValue::String(Cow::Owned(text))),
            any::<i64>().prop_map(LogValue::Int),
            any::<u64>().prop_map(|bits| LogValue::Float(f64::from_bits(bits))),
            any::<bool>().prop_map(LogValue::Bool),
            any::<Vec<u8>>().prop_map(|bytes| LogValue::Bytes(Cow::Owned(bytes))),
        ];
        leaf.prop_recursive(4, 16, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(LogValue::List),
                prop::collection::vec((".{0,3}".prop_map(Cow::Owned), inner), 0..4).prop_map(LogValue::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn values_round_trip(value in any_value()) {
            let mut bytes = Vec::new();
            encode_value(&value, &mut bytes);
            let mut input = bytes.as_slice();
            let mut again = Vec::new();
            encode_value(&decode_value(&mut input).expect("own bytes"), &mut again);
            prop_assert!(input.is_empty());
            prop_assert_eq!(again, bytes);
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = decode_value(&mut &bytes[..]);
            let _ = decode_stream(&bytes);
            let _ = decode_record(&mut &bytes[..]);
        }
    }

    #[test]
    fn depth_has_an_end() {
        let nest = |depth: usize| (0..depth).fold(LogValue::Empty, |inner, _| LogValue::List(vec![inner]));
        assert!(is_shallow(&nest(MAX_DEPTH)) && !is_shallow(&nest(MAX_DEPTH + 1)));
        let mut bytes = Vec::new();
        encode_value(&nest(MAX_DEPTH), &mut bytes);
        assert!(decode_value(&mut &bytes[..]).is_ok());
        assert!(decode_value(&mut &[&[LIST, 1], &bytes[..]].concat()[..]).is_err());
        assert!(decode_value(&mut &[LIST, 200, 1, 0][..]).is_err());
    }
}
