//! Values: their text and number, which tests look at, and copies that outlive what they were decoded from.
//!
//! ```text
//! "a" ─► a     7 ─► 7     1.0 ─► 1     true ─► true     bytes ─► base64     [1,{"a":null}] ─► [1,{"a":null}]
//! ```
//!
//! Numbers are written with the fewest digits that read back as the same number, whole ones without a fraction; what is
//! no number in JSON is `NaN`, `Infinity` or `-Infinity`, quoted inside arrays and maps. The text of a value is total:
//! every value has one, and none of it depends on the platform.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::{Attribute, LogRecord, LogStream, LogValue};

impl<'a> LogValue<'a> {
    /// The text that tests look at, see [`filter`](super::filter).
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Empty => Cow::Borrowed(""),
            Self::String(text) => Cow::Borrowed(text),
            Self::Bool(value) => Cow::Borrowed(if *value { "true" } else { "false" }),
            Self::Int(value) => Cow::Owned(value.to_string()),
            Self::Float(value) => Cow::Owned(float_text(*value)),
            Self::Bytes(bytes) => Cow::Owned(base64(bytes)),
            Self::List(_) | Self::Map(_) => {
                let mut out = String::new();
                self.write_json(&mut out);
                Cow::Owned(out)
            }
        }
    }

    /// The value if it is a number or text that is one: a sign, digits, a fraction, an exponent, nothing else.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Int(value) => Some(*value as f64),
            Self::Float(value) => Some(*value),
            Self::String(text) => number_in(text),
            _ => None,
        }
    }

    /// Whether it is nothing or has an empty text.
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::String(text) => text.is_empty(),
            Self::Bytes(bytes) => bytes.is_empty(),
            _ => false,
        }
    }

    /// Appends the value as JSON; bytes as a string of base64.
    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Empty => out.push_str("null"),
            Self::String(text) => write_json_string(text, out),
            Self::Float(value) if !value.is_finite() => write_json_string(&float_text(*value), out),
            Self::Bytes(bytes) => write_json_string(&base64(bytes), out),
            Self::Bool(_) | Self::Int(_) | Self::Float(_) => out.push_str(&self.text()),
            Self::List(values) => {
                out.push('[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    value.write_json(out);
                }
                out.push(']');
            }
            Self::Map(entries) => {
                out.push('{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        out.push(',');
                    }
                    write_json_string(key, out);
                    out.push(':');
                    value.write_json(out);
                }
                out.push('}');
            }
        }
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> LogValue<'static> {
        match self {
            Self::Empty => LogValue::Empty,
            Self::String(text) => LogValue::String(Cow::Owned(text.into_owned())),
            Self::Int(value) => LogValue::Int(value),
            Self::Float(value) => LogValue::Float(value),
            Self::Bool(value) => LogValue::Bool(value),
            Self::Bytes(bytes) => LogValue::Bytes(Cow::Owned(bytes.into_owned())),
            Self::List(values) => LogValue::List(values.into_iter().map(LogValue::into_owned).collect()),
            Self::Map(entries) => LogValue::Map(owned_attributes(entries)),
        }
    }

    /// Bytes that the value takes in memory, roughly: for ledgers.
    pub fn memory_bytes(&self) -> u64 {
        let own = size_of::<Self>() as u64;
        own + match self {
            Self::String(text) => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::List(values) => values.iter().map(LogValue::memory_bytes).sum(),
            Self::Map(entries) => attributes_bytes(entries),
            _ => 0,
        }
    }
}

pub(crate) fn owned_attributes(attributes: Vec<Attribute<'_>>) -> Vec<Attribute<'static>> {
    attributes.into_iter().map(|(key, value)| (Cow::Owned(key.into_owned()), value.into_owned())).collect()
}

fn attributes_bytes(attributes: &[Attribute<'_>]) -> u64 {
    attributes
        .iter()
        .map(|(key, value)| size_of::<Cow<'_, str>>() as u64 + key.len() as u64 + value.memory_bytes())
        .sum()
}

impl LogStream<'_> {
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> LogStream<'static> {
        LogStream {
            resource: owned_attributes(self.resource),
            scope_name: Cow::Owned(self.scope_name.into_owned()),
            scope_version: Cow::Owned(self.scope_version.into_owned()),
            scope_attributes: owned_attributes(self.scope_attributes),
        }
    }

    /// Bytes that the stream takes in memory, roughly.
    pub fn memory_bytes(&self) -> u64 {
        size_of::<Self>() as u64
            + attributes_bytes(&self.resource)
            + attributes_bytes(&self.scope_attributes)
            + (self.scope_name.len() + self.scope_version.len()) as u64
    }
}

impl LogRecord<'_> {
    /// A copy that borrows nothing.
    pub fn into_owned(self) -> LogRecord<'static> {
        LogRecord {
            time_ns: self.time_ns,
            observed_ns: self.observed_ns,
            severity: self.severity,
            severity_text: Cow::Owned(self.severity_text.into_owned()),
            body: self.body.into_owned(),
            trace_id: self.trace_id,
            span_id: self.span_id,
            flags: self.flags,
            event_name: Cow::Owned(self.event_name.into_owned()),
            attributes: owned_attributes(self.attributes),
        }
    }

    /// Bytes that the record takes in memory, roughly.
    pub fn memory_bytes(&self) -> u64 {
        size_of::<Self>() as u64
            + self.body.memory_bytes()
            + attributes_bytes(&self.attributes)
            + (self.severity_text.len() + self.event_name.len()) as u64
    }
}

/// A float as text: the fewest digits, never an exponent.
pub fn float_text(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        (if value > 0.0 { "Infinity" } else { "-Infinity" }).to_owned()
    } else {
        format!("{value}")
    }
}

/// The number that a text is, if it is one.
pub fn number_in(text: &str) -> Option<f64> {
    let is_numeric = |byte: u8| byte.is_ascii_digit() || matches!(byte, b'+' | b'-' | b'.' | b'e' | b'E');
    if !text.bytes().all(is_numeric) || !text.bytes().any(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Lower-case hex of an id; nothing for one that is all zeros.
pub fn id_text(id: &[u8]) -> String {
    let mut out = String::new();
    if id.iter().any(|byte| *byte != 0) {
        for byte in id {
            let _ = write!(out, "{byte:02x}");
        }
    }
    out
}

/// Appends a text as a string of JSON.
pub fn write_json_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", c as u32);
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Standard base64 with padding.
pub fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word =
            chunk.iter().fold(0u32, |word, byte| word << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for digit in 0..4 {
            let at = (word >> (18 - 6 * digit) & 63) as usize;
            out.push(if digit <= chunk.len() { char::from(DIGITS[at]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> LogValue<'_> {
        LogValue::String(Cow::Borrowed(text))
    }

    #[test]
    fn texts() {
        let check = |value: LogValue<'_>, expected: &str| assert_eq!(value.text(), expected);
        check(LogValue::Empty, "");
        check(string("a\"b"), "a\"b");
        check(LogValue::Int(-7), "-7");
        check(LogValue::Float(1.0), "1");
        check(LogValue::Float(0.1), "0.1");
        check(LogValue::Float(f64::NAN), "NaN");
        check(LogValue::Bool(true), "true");
        check(LogValue::Bytes(Cow::Borrowed(b"f")), "Zg==");
        check(LogValue::Bytes(Cow::Borrowed(b"foob")), "Zm9vYg==");
        check(LogValue::Bytes(Cow::Borrowed(&[255, 254, 253])), "//79");
        let map = LogValue::Map(vec![
            (Cow::Borrowed("a\n"), LogValue::Empty),
            (Cow::Borrowed("b"), LogValue::Float(f64::INFINITY)),
        ]);
        check(
            LogValue::List(vec![LogValue::Int(1), string("x\u{1}"), map]),
            r#"[1,"x\u0001",{"a\n":null,"b":"Infinity"}]"#,
        );
    }

    #[test]
    fn numbers() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(string(text).number(), expected, "{text}");
        check("12", Some(12.0));
        check("-1.5e3", Some(-1500.0));
        check("inf", None);
        check("nan", None);
        check("", None);
        check("1 ", None);
        check("e", None);
        check("1-2", None);
        assert_eq!(LogValue::Int(3).number(), Some(3.0));
        assert_eq!(LogValue::Bool(true).number(), None);
    }

    #[test]
    fn ids() {
        assert_eq!(id_text(&[0; 8]), "");
        assert_eq!(id_text(&[0, 0xab]), "00ab");
    }
}
