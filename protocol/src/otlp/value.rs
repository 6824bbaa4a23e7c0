//! Attributes and values: checked when a message is walked, read when somebody asks.
//!
//! ```text
//! KeyValue  1 key  2 value        AnyValue  1 string | 2 bool | 3 int | 4 double | 5 array {1 values*}
//!                                           6 map {1 KeyValue*} | 7 bytes
//! ```

use std::borrow::Cow;

use crate::logs::{Attribute, LogValue};
use crate::remote_write::wire::{BYTES, Reader};
use crate::remote_write::{DecodeError, Fault, Problem};

/// Deepest nesting of values. Every level costs a stack frame.
const MAX_DEPTH: usize = 64;

/// Most values of one point, record, resource or scope, those inside of others counted. Read, a value takes many times
/// the two bytes that it may have on the wire.
pub(super) const MAX_VALUES: usize = 1 << 16;

/// Checks that a message is a `KeyValue`, all the way down. `left` counts the values that may still come.
pub(super) fn check_key_value(message: Reader<'_>, left: &mut usize) -> Result<(), Fault> {
    check_entry(message, MAX_DEPTH, left)
}

fn check_entry(mut message: Reader<'_>, depth: usize, left: &mut usize) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or_else(too_many)?;
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => drop(message.message(wire)?),
            2 => check_value(message.message(wire)?, depth, left)?,
            _ => message.skip(wire)?,
        }
    }
    Ok(())
}

#[cold]
pub(super) fn too_many() -> Fault {
    Box::new(DecodeError::TooMany {
        what: "values in one point, record, resource or scope",
        limit: MAX_VALUES,
    })
}

/// Checks that a message is an `AnyValue`.
pub(super) fn check_any(message: Reader<'_>, left: &mut usize) -> Result<(), Fault> {
    check_value(message, MAX_DEPTH, left)
}

fn check_value(mut message: Reader<'_>, depth: usize, left: &mut usize) -> Result<(), Fault> {
    *left = left.checked_sub(1).ok_or_else(too_many)?;
    if depth == 0 {
        return Err(message.error(Problem::Depth(MAX_DEPTH)));
    }
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 | 7 => drop(message.message(wire)?),
            2 | 3 => drop(message.u64(wire)?),
            4 => drop(message.f64(wire)?),
            5 | 6 => {
                let mut list = message.message(wire)?;
                while !list.is_empty() {
                    let (inner, wire) = list.tag()?;
                    match (inner, field) {
                        (1, 5) => check_value(list.message(wire)?, depth - 1, left)?,
                        (1, _) => check_entry(list.message(wire)?, depth - 1, left)?,
                        _ => list.skip(wire)?,
                    }
                }
            }
            _ => message.skip(wire)?,
        }
    }
    Ok(())
}

/// As [`read_key_value`], where all text has to be valid UTF-8: else nothing.
pub(super) fn read_text_key_value(message: Reader<'_>) -> Result<Option<(&str, LogValue<'_>)>, Fault> {
    let (key, value) = read_key_value(message)?;
    Ok(std::str::from_utf8(key).ok().filter(|_| is_text(message)).map(|key| (key, value)))
}

/// Whether all strings of a checked attribute are valid UTF-8.
fn is_text(mut entry: Reader<'_>) -> bool {
    while let Ok((field, wire)) = entry.tag() {
        let Ok(mut content) = entry.message(wire) else { return true };
        if field != 2 {
            continue;
        }
        while let Ok((field, wire)) = content.tag() {
            if field == 1 && content.bytes(wire).is_ok_and(|text| std::str::from_utf8(text).is_err()) {
                return false;
            }
            if field != 1 && content.skip(wire).is_err() {
                return true;
            }
        }
    }
    true
}

/// Reads an attribute of a message that [`check_key_value`] has passed.
pub(super) fn read_key_value<'a>(mut message: Reader<'a>) -> Result<(&'a [u8], LogValue<'a>), Fault> {
    let (mut key, mut value) = (&[][..], LogValue::Empty);
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => key = message.bytes(wire)?,
            2 => value = read_value(message.message(wire)?, MAX_DEPTH)?,
            _ => message.skip(wire)?,
        }
    }
    Ok((key, value))
}

/// Reads a value. Text that is not valid UTF-8 is kept, as bytes.
pub(super) fn read_any(message: Reader<'_>) -> Result<LogValue<'_>, Fault> {
    read_value(message, MAX_DEPTH)
}

fn read_value(mut message: Reader<'_>, depth: usize) -> Result<LogValue<'_>, Fault> {
    if depth == 0 {
        return Err(message.error(Problem::Depth(MAX_DEPTH)));
    }
    let mut value = LogValue::Empty;
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        value = match field {
            1 => text_or_bytes(message.bytes(wire)?),
            2 => LogValue::Bool(message.u64(wire)? != 0),
            3 => LogValue::Int(message.u64(wire)? as i64),
            4 => LogValue::Float(message.f64(wire)?),
            5 => {
                let mut list = message.message(wire)?;
                let mut values = Vec::new();
                while !list.is_empty() {
                    match list.tag()? {
                        (1, BYTES) => values.push(read_value(list.message(BYTES)?, depth - 1)?),
                        (_, wire) => list.skip(wire)?,
                    }
                }
                LogValue::List(values)
            }
            6 => {
                let mut map = message.message(wire)?;
                let mut entries = Vec::new();
                while !map.is_empty() {
                    match map.tag()? {
                        (1, BYTES) => entries.push(read_entry(map.message(BYTES)?, depth - 1)?),
                        (_, wire) => map.skip(wire)?,
                    }
                }
                LogValue::Map(entries)
            }
            7 => LogValue::Bytes(Cow::Borrowed(message.bytes(wire)?)),
            _ => {
                message.skip(wire)?;
                continue;
            }
        };
    }
    Ok(value)
}

fn read_entry(mut message: Reader<'_>, depth: usize) -> Result<Attribute<'_>, Fault> {
    let (mut key, mut value) = (Cow::Borrowed(""), LogValue::Empty);
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => key = String::from_utf8_lossy(message.bytes(wire)?),
            2 => value = read_value(message.message(wire)?, depth)?,
            _ => message.skip(wire)?,
        }
    }
    Ok((key, value))
}

fn text_or_bytes(bytes: &[u8]) -> LogValue<'_> {
    match std::str::from_utf8(bytes) {
        Ok(text) => LogValue::String(Cow::Borrowed(text)),
        Err(_) => LogValue::Bytes(Cow::Borrowed(bytes)),
    }
}

/// A value as a label's text, as the OpenTelemetry collector and Prometheus write it: numbers in their shortest form,
/// bytes in base64, lists and maps as JSON.
pub(super) fn label_text<'a>(value: LogValue<'a>) -> Cow<'a, str> {
    match value {
        LogValue::Empty => Cow::Borrowed(""),
        LogValue::String(text) => text,
        LogValue::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
        LogValue::Int(value) => Cow::Owned(value.to_string()),
        LogValue::Float(value) => Cow::Owned(float_text(value)),
        LogValue::Bytes(bytes) => Cow::Owned(base64(&bytes)),
        list @ (LogValue::List(_) | LogValue::Map(_)) => {
            let mut out = String::new();
            // JSON has no infinities: such a value has no text.
            if write_json(&list, &mut out) { Cow::Owned(out) } else { Cow::Borrowed("") }
        }
    }
}

/// A float as JavaScript writes it, which is how collectors do.
fn float_text(value: f64) -> String {
    if value.is_nan() {
        return "json: unsupported value: NaN".to_owned();
    }
    if value.is_infinite() {
        return format!("json: unsupported value: {}Inf", if value > 0.0 { '+' } else { '-' });
    }
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{value:e}");
        return if magnitude >= 1.0 { text.replacen('e', "e+", 1) } else { text };
    }
    value.to_string()
}

/// `false` where the value has no JSON. Keys are sorted and the characters escaped that Go escapes.
fn write_json(value: &LogValue<'_>, out: &mut String) -> bool {
    match value {
        LogValue::Empty => out.push_str("null"),
        LogValue::Bool(_) | LogValue::Int(_) => out.push_str(&label_text(value.clone())),
        LogValue::Float(value) if !value.is_finite() => return false,
        LogValue::Float(value) => out.push_str(&float_text(*value)),
        LogValue::String(text) => write_json_text(text, out),
        LogValue::Bytes(bytes) => write_json_text(&base64(bytes), out),
        LogValue::List(values) => {
            out.push('[');
            for (i, value) in values.iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                if !write_json(value, out) {
                    return false;
                }
            }
            out.push(']');
        }
        LogValue::Map(entries) => {
            let sorted: std::collections::BTreeMap<&str, &LogValue<'_>> =
                entries.iter().map(|(key, value)| (key.as_ref(), value)).collect();
            out.push('{');
            for (i, (key, value)) in sorted.into_iter().enumerate() {
                out.push_str(if i > 0 { "," } else { "" });
                write_json_text(key, out);
                out.push(':');
                if !write_json(value, out) {
                    return false;
                }
            }
            out.push('}');
        }
    }
    true
}

fn write_json_text(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

/// Standard base64 with padding.
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = u32::from(chunk[0]) << 16
            | u32::from(chunk.get(1).copied().unwrap_or(0)) << 8
            | u32::from(chunk.get(2).copied().unwrap_or(0));
        for position in 0..4 {
            let digit = ALPHABET[(group >> (18 - 6 * position)) as usize & 63];
            out.push(if position <= chunk.len() { char::from(digit) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_labels() {
        let text = |value| label_text(value).into_owned();
        assert_eq!(text(LogValue::Empty), "");
        assert_eq!(text(LogValue::Bool(true)), "true");
        assert_eq!(text(LogValue::Int(-3)), "-3");
        for (value, expected) in [
            (1.0, "1"),
            (0.1, "0.1"),
            (-2.5, "-2.5"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (f64::NAN, "json: unsupported value: NaN"),
            (f64::NEG_INFINITY, "json: unsupported value: -Inf"),
        ] {
            assert_eq!(text(LogValue::Float(value)), expected);
        }
        for (bytes, expected) in
            [(&b""[..], ""), (b"a", "YQ=="), (b"ab", "YWI="), (b"abc", "YWJj"), (b"\xff\xfe", "//4=")]
        {
            assert_eq!(text(LogValue::Bytes(Cow::Borrowed(bytes))), expected);
        }
        let map = LogValue::Map(vec![
            (
                "z".into(),
                LogValue::List(vec![LogValue::Int(1), LogValue::Empty, LogValue::Bytes(Cow::Borrowed(b"a"))]),
            ),
            ("a".into(), LogValue::String("<\"\n\u{1}é>".into())),
        ]);
        assert_eq!(text(map), r#"{"a":"\u003c\"\n\u0001é\u003e","z":[1,null,"YQ=="]}"#);
        assert_eq!(text(LogValue::List(vec![LogValue::Float(f64::NAN)])), "");
    }
}
