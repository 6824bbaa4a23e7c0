//! Fields that mean the same everywhere, under the names that shippers give them: time, severity, text, trace and span.

use std::borrow::Cow;

use crate::logs::{Attribute, LogRecord, LogValue, TimestampNs};
use crate::otlp::logs::flatten;

/// Names under which a record says when it happened, the first that is there counts.
pub const TIME: [&str; 5] = ["@timestamp", "timestamp", "time", "_time", "ts"];

/// Names under which a record says what happened.
pub const MESSAGE: [&str; 5] = ["message", "msg", "_msg", "log", "body"];

/// Names under which a record says how bad it is.
const LEVEL: [&str; 4] = ["level", "log.level", "severity", "severity_text"];

/// Names of the trace and the span.
const TRACE: [&str; 3] = ["trace_id", "trace.id", "traceId"];
const SPAN: [&str; 3] = ["span_id", "span.id", "spanId"];

/// Which fields say when and what; the usual names where none are given.
#[derive(Clone, Copy, Debug, Default)]
pub struct FieldNames<'a> {
    /// When it happened.
    pub time: &'a [&'a str],
    /// What happened.
    pub message: &'a [&'a str],
}

/// Makes a record of a flat or nested object. What is no time stays an attribute, so that nothing is lost.
pub fn record_of<'a>(object: Vec<Attribute<'a>>, names: FieldNames<'_>) -> LogRecord<'a> {
    let mut attributes = Vec::with_capacity(object.len());
    for (key, value) in object {
        flatten(key, value, &mut attributes);
    }
    let mut record = LogRecord::default();
    let of = |given: &'_ [&str], usual: &'_ [&str]| -> Vec<String> {
        let names = if given.is_empty() { usual } else { given };
        names.iter().map(|name| (*name).to_owned()).collect()
    };
    if let Some(time) = take(&mut attributes, &of(names.time, &TIME), |value| time_of(value)) {
        record.time_ns = time;
    }
    if let Some(message) = take(&mut attributes, &of(names.message, &MESSAGE), |value| match value {
        LogValue::String(text) => Some(LogValue::String(text.clone())),
        _ => None,
    }) {
        record.body = message;
    }
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    if let Some(level) = take(&mut attributes, &owned(&LEVEL), |value| match value {
        LogValue::String(text) if severity_of(text) != 0 => Some(text.clone()),
        _ => None,
    }) {
        record.severity = severity_of(&level);
        record.severity_text = level;
    }
    if let Some(id) = take(&mut attributes, &owned(&TRACE), |value| id_of(value)) {
        record.trace_id = id;
    }
    if let Some(id) = take(&mut attributes, &owned(&SPAN), |value| id_of(value)) {
        record.span_id = id;
    }
    record.attributes = attributes;
    record
}

/// Takes the first field of one of the names whose value is what is looked for.
fn take<'a, T>(
    attributes: &mut Vec<Attribute<'a>>,
    names: &[String],
    read: impl Fn(&LogValue<'a>) -> Option<T>,
) -> Option<T> {
    for name in names {
        let found = attributes
            .iter()
            .enumerate()
            .filter(|(_, (key, _))| key == name)
            .find_map(|(index, (_, value))| Some((index, read(value)?)));
        if let Some((index, value)) = found {
            attributes.remove(index);
            return Some(value);
        }
    }
    None
}

fn id_of<const N: usize>(value: &LogValue<'_>) -> Option<[u8; N]> {
    let LogValue::String(text) = value else { return None };
    if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut id = [0; N];
    for (index, byte) in id.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(id)
}

/// Severity as OpenTelemetry numbers it; 0 where the word is none.
pub fn severity_of(word: &str) -> u8 {
    match word.trim().to_ascii_lowercase().as_str() {
        "trace" => 1,
        "debug" | "dbg" | "verbose" => 5,
        "info" | "information" | "informational" | "inf" => 9,
        "notice" => 10,
        "warn" | "warning" | "wrn" => 13,
        "error" | "err" => 17,
        "critical" | "crit" => 18,
        "alert" => 19,
        "fatal" | "panic" => 21,
        "emergency" | "emerg" => 22,
        _ => 0,
    }
}

/// A moment in nanoseconds: RFC 3339, or a number since 1970 whose unit its size tells.
pub fn time_of(value: &LogValue<'_>) -> Option<TimestampNs> {
    match value {
        LogValue::String(text) => rfc3339(text).or_else(|| text.parse::<i64>().ok().and_then(epoch)),
        LogValue::Int(value) => epoch(*value),
        // Seconds with a fraction, as many libraries write them.
        LogValue::Float(value) if (1e8..1e11).contains(value) => Some((value * 1e6).round() as i64 * 1000),
        LogValue::Float(value) if value.fract() == 0.0 => epoch(*value as i64),
        _ => None,
    }
}

/// Seconds until the year 5138, then milliseconds, microseconds and nanoseconds: no log is from the first months of
/// 1970.
fn epoch(value: i64) -> Option<TimestampNs> {
    match value {
        1..100_000_000_000 => value.checked_mul(1_000_000_000),
        100_000_000_000..100_000_000_000_000 => value.checked_mul(1_000_000),
        100_000_000_000_000..100_000_000_000_000_000 => value.checked_mul(1000),
        100_000_000_000_000_000.. => Some(value),
        _ => None,
    }
}

/// Reads `2026-11-28T10:30:00.123456789+01:00`; a space may stand for the T, and no zone means UTC.
pub fn rfc3339(text: &str) -> Option<TimestampNs> {
    let bytes = text.trim().as_bytes();
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = bytes.get(range)?;
        let all = digits.iter().all(u8::is_ascii_digit);
        all.then(|| digits.iter().fold(0, |value, digit| value * 10 + i64::from(digit - b'0')))
    };
    let is = |at: usize, signs: &[u8]| bytes.get(at).is_some_and(|byte| signs.contains(byte));
    if !(is(4, b"-") && is(7, b"-") && is(10, b"Tt ") && is(13, b":") && is(16, b":")) {
        return None;
    }
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let mut rest = &bytes[19..];
    let mut nanoseconds = 0;
    if let Some((b'.' | b',', digits)) = rest.split_first() {
        let len = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if len == 0 {
            return None;
        }
        for index in 0..9 {
            let digit = digits[..len].get(index).map_or(0, |digit| i64::from(digit - b'0'));
            nanoseconds = nanoseconds * 10 + digit;
        }
        rest = &digits[len..];
    }
    let offset = match rest {
        [] | [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), zone @ ..] => {
            let digits: Vec<i64> = zone
                .iter()
                .filter(|byte| **byte != b':')
                .map(|byte| i64::from(byte.wrapping_sub(b'0')))
                .collect();
            let &[a, b, c, d] = digits.as_slice() else { return None };
            if [a, b, c, d].iter().any(|digit| *digit > 9) || zone.len() > 5 {
                return None;
            }
            let seconds = (a * 10 + b) * 3600 + (c * 10 + d) * 60;
            if *sign == b'+' { seconds } else { -seconds }
        }
        _ => return None,
    };
    let days = days_from_civil(year, month, day)?;
    // A leap second is the first of the next minute.
    if hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let seconds = days * 86_400 + hour * 3600 + minute * 60 + second - offset;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

/// Days since 1970 of a date of the Gregorian calendar.
pub(super) fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let in_month = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=in_month).contains(&day) {
        return None;
    }
    // Years begin in March, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let (era, month) = (year.div_euclid(400), (month + 9) % 12);
    let in_era = year.rem_euclid(400);
    let in_year = (153 * month + 2) / 5 + day - 1;
    Some(era * 146_097 + in_era * 365 + in_era / 4 - in_era / 100 + in_year - 719_468)
}

/// An attribute of text.
pub(super) fn text<'a>(name: &'static str, value: impl Into<Cow<'a, str>>) -> Attribute<'a> {
    (Cow::Borrowed(name), LogValue::String(value.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments() {
        for (text, expected) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600_000_000_000)),
            ("2026-11-28T10:30:00.123456789123Z", Some(1_795_861_800_123_456_789)),
            ("2026-11-28 10:30:00,5", Some(1_795_861_800_500_000_000)),
            ("2026-11-28T11:30:00+01:00", Some(1_795_861_800_000_000_000)),
            ("2026-11-28T08:00:00-0230", Some(1_795_861_800_000_000_000)),
            ("1969-12-31T23:59:59Z", Some(-1_000_000_000)),
            ("2023-02-29T00:00:00Z", None),
            ("2023-13-01T00:00:00Z", None),
            ("2023-01-01T24:00:00Z", None),
            ("2023-01-01T00:00:00+1", None),
            ("2023-01-01T00:00:00.", None),
            ("2023-01-01", None),
            ("9999-12-31T23:59:59Z", None),
            ("", None),
        ] {
            assert_eq!(rfc3339(text), expected, "{text}");
        }
        let second = 1_700_000_000i64;
        for value in [second, second * 1000, second * 1_000_000, second * 1_000_000_000] {
            assert_eq!(time_of(&LogValue::Int(value)), Some(second * 1_000_000_000), "{value}");
            assert_eq!(time_of(&LogValue::String(value.to_string().into())), Some(second * 1_000_000_000));
        }
        assert_eq!(time_of(&LogValue::Float(1_700_000_000.25)), Some(1_700_000_000_250_000_000));
        assert_eq!(time_of(&LogValue::Float(1_700_000_000_250.0)), Some(1_700_000_000_250_000_000));
        for none in [LogValue::Int(0), LogValue::Int(-5), LogValue::Float(f64::NAN), LogValue::Bool(true)] {
            assert_eq!(time_of(&none), None);
        }
    }

    #[test]
    fn an_object_becomes_a_record() {
        let object = crate::shippers::json::read(
            br#"{"time":"nonsense","ts":1700000000,"msg":"hi","level":"odd","log":{"level":"WARN"},"http":{"status":200},
                "trace_id":"0102030405060708090a0b0c0d0e0f10","span_id":"xyz"}"#,
            99,
        );
        let Ok(LogValue::Map(object)) = object else { panic!("{object:?}") };
        let record = record_of(object, FieldNames::default());
        assert_eq!(record.time_ns, 1_700_000_000_000_000_000);
        assert_eq!(record.body, LogValue::String("hi".into()));
        assert_eq!((record.severity, record.severity_text.as_ref()), (13, "WARN"));
        assert_eq!((record.trace_id[15], record.span_id), (16, [0; 8]));
        let attributes: Vec<String> =
            record.attributes.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        assert_eq!(
            attributes,
            [
                "time=String(\"nonsense\")",
                "level=String(\"odd\")",
                "http.status=Int(200)",
                "span_id=String(\"xyz\")"
            ]
        );
        let names = FieldNames { time: &["when"], message: &["what"] };
        let object = vec![("when".into(), LogValue::Int(5)), ("what".into(), LogValue::String("x".into()))];
        let record = record_of(object, names);
        assert_eq!((record.time_ns, record.attributes.len()), (5_000_000_000, 0));
    }
}
