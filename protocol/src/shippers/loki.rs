//! Loki's push: streams of lines, in protobuf or in JSON.
//!
//! ```text
//! PushRequest  1 streams* {1 labels text, 2 entries* {1 timestamp {1 seconds, 2 nanos}, 2 line,
//!                          3 structured metadata* {1 name, 2 value}}, 3 hash}
//! {"streams":[{"stream":{"app":"x"},"values":[["<nanoseconds as text>","line",{"metadata":"value"}]]}]}
//! ```
//!
//! The labels of a stream are its resource, under their names; the structured metadata of an entry are its attributes.
//! In protobuf labels come as the selector that they are in LogQL. A level among labels or metadata is the severity
//! too. Timestamps that are numbers are refused, as Loki does: most writers of JSON can not write them exactly.

use std::borrow::Cow;

use super::Taken;
use super::fields::severity_of;
use super::json;
use crate::logs::{Attribute, LogRecord, LogSink, LogStream, LogValue};
use crate::remote_write::wire::Reader;
use crate::remote_write::{DecodeError, Fault};

/// Walks a decompressed protobuf. After an error, what the sink got is to be dropped.
pub fn decode_protobuf(body: &[u8], sink: &mut impl LogSink) -> Result<Taken, DecodeError> {
    let mut taken = Taken::default();
    match walk(Reader::new(body), sink, &mut taken) {
        Ok(()) => Ok(taken),
        Err(fault) => Err(*fault.within(|| "PushRequest".into())),
    }
}

fn walk(mut request: Reader<'_>, sink: &mut impl LogSink, taken: &mut Taken) -> Result<(), Fault> {
    while !request.is_empty() {
        match request.tag()? {
            (1, wire) => walk_stream(request.message(wire)?, sink, taken)?,
            (_, wire) => request.skip(wire)?,
        }
    }
    Ok(())
}

fn walk_stream(message: Reader<'_>, sink: &mut impl LogSink, taken: &mut Taken) -> Result<(), Fault> {
    let (mut labels, mut entries) = (&[][..], 0);
    let mut fields = message;
    while !fields.is_empty() {
        let (field, wire) = fields.tag()?;
        match field {
            1 => labels = fields.bytes(wire)?,
            2 => {
                fields.message(wire)?;
                entries += 1;
            }
            _ => fields.skip(wire)?,
        }
    }
    let labels = std::str::from_utf8(labels).map_err(|_| "the labels are not valid UTF-8".to_owned());
    let resource = match labels.and_then(parse_labels) {
        Ok(resource) => resource,
        Err(offence) => {
            taken.rejected += entries;
            taken.offence.get_or_insert(offence);
            return Ok(());
        }
    };
    let level = level_of(&resource);
    sink.stream(&LogStream { resource, ..LogStream::default() });
    let mut fields = message;
    while !fields.is_empty() {
        match fields.tag()? {
            (2, wire) => walk_entry(fields.message(wire)?, &level, sink, taken)?,
            (_, wire) => fields.skip(wire)?,
        }
    }
    Ok(())
}

fn walk_entry(
    mut entry: Reader<'_>,
    level: &str,
    sink: &mut impl LogSink,
    taken: &mut Taken,
) -> Result<(), Fault> {
    let mut record = LogRecord::default();
    let mut time = 0i128;
    while !entry.is_empty() {
        let (field, wire) = entry.tag()?;
        match field {
            1 => {
                let mut timestamp = entry.message(wire)?;
                while !timestamp.is_empty() {
                    match timestamp.tag()? {
                        (1, wire) => time += i128::from(timestamp.u64(wire)? as i64) * 1_000_000_000,
                        (2, wire) => time += i128::from(timestamp.u64(wire)? as i64),
                        (_, wire) => timestamp.skip(wire)?,
                    }
                }
            }
            2 => record.body = body(entry.bytes(wire)?),
            3 => {
                let mut pair = entry.message(wire)?;
                let (mut name, mut value) = (Cow::Borrowed(""), Cow::Borrowed(""));
                while !pair.is_empty() {
                    match pair.tag()? {
                        (1, wire) => name = String::from_utf8_lossy(pair.bytes(wire)?),
                        (2, wire) => value = String::from_utf8_lossy(pair.bytes(wire)?),
                        (_, wire) => pair.skip(wire)?,
                    }
                }
                record.attributes.push((name, LogValue::String(value)));
            }
            _ => entry.skip(wire)?,
        }
    }
    match i64::try_from(time) {
        Ok(time) if time > 0 => finish(record, time, level, sink, taken),
        _ => taken.reject(|| format!("an entry's time of {time} ns since 1970 is none")),
    }
    Ok(())
}

/// Most values of a request in JSON: half a million entries with metadata.
const MAX_VALUES: usize = 2 << 20;

/// Walks JSON. After an error, what the sink got is to be dropped.
pub fn decode_json(body: &[u8], sink: &mut impl LogSink) -> Result<Taken, String> {
    let mut taken = Taken::default();
    let LogValue::Map(request) = json::read(body, MAX_VALUES)? else {
        return Err("the body is no JSON object".into());
    };
    for (_, streams) in request.into_iter().filter(|(key, _)| key == "streams") {
        let LogValue::List(streams) = streams else { return Err("streams is no array".into()) };
        for stream in streams {
            let LogValue::Map(stream) = stream else { return Err("a stream is no object".into()) };
            take_stream(stream, sink, &mut taken)?;
        }
    }
    Ok(taken)
}

fn take_stream(fields: Vec<Attribute<'_>>, sink: &mut impl LogSink, taken: &mut Taken) -> Result<(), String> {
    let (mut resource, mut values) = (Vec::new(), Vec::new());
    for (key, value) in fields {
        match (key.as_ref(), value) {
            ("stream", LogValue::Map(labels)) => resource = labels,
            ("stream", _) => return Err("stream is no object".into()),
            ("values", LogValue::List(list)) => values = list,
            ("values", _) => return Err("values is no array".into()),
            _ => {}
        }
    }
    if let Some((name, _)) = resource.iter().find(|(_, value)| !matches!(value, LogValue::String(_))) {
        return Err(format!("the value of label {name:?} is no text"));
    }
    let level = level_of(&resource);
    sink.stream(&LogStream { resource, ..LogStream::default() });
    for entry in values {
        let LogValue::List(entry) = entry else { return Err("an entry of values is no array".into()) };
        let mut parts = entry.into_iter();
        let time = match parts.next() {
            Some(LogValue::String(time)) => time.parse::<i64>().ok().filter(|time| *time > 0),
            _ => None,
        };
        let time = time.ok_or("an entry's time is no text of nanoseconds since 1970")?;
        let Some(LogValue::String(line)) = parts.next() else {
            return Err("an entry's line is no text".into());
        };
        let attributes = match parts.next() {
            None | Some(LogValue::Empty) => Vec::new(),
            Some(LogValue::Map(metadata)) => metadata,
            Some(_) => return Err("an entry's structured metadata are no object".into()),
        };
        if let Some((name, _)) = attributes.iter().find(|(_, value)| !matches!(value, LogValue::String(_))) {
            return Err(format!("the value of structured metadata {name:?} is no text"));
        }
        let record = LogRecord { body: LogValue::String(line), attributes, ..LogRecord::default() };
        finish(record, time, &level, sink, taken);
    }
    Ok(())
}

fn finish(mut record: LogRecord<'_>, time: i64, level: &str, sink: &mut impl LogSink, taken: &mut Taken) {
    record.time_ns = time;
    let own = level_of(&record.attributes);
    let level = if own.is_empty() { level } else { &own };
    record.severity = severity_of(level);
    sink.record(&record);
    taken.records += 1;
}

fn body(line: &[u8]) -> LogValue<'_> {
    match std::str::from_utf8(line) {
        Ok(text) => LogValue::String(Cow::Borrowed(text)),
        Err(_) => LogValue::Bytes(Cow::Borrowed(line)),
    }
}

/// The level that labels or metadata name, or nothing.
fn level_of(attributes: &[Attribute<'_>]) -> String {
    let found = ["level", "detected_level", "severity"].iter().find_map(|name| {
        attributes.iter().find_map(|(key, value)| match value {
            LogValue::String(text) if key == name && severity_of(text) != 0 => Some(text.to_string()),
            _ => None,
        })
    });
    found.unwrap_or_default()
}

/// Reads `{name="value", other="\"quoted\""}`.
fn parse_labels(text: &str) -> Result<Vec<Attribute<'_>>, String> {
    let invalid = || format!("the labels {:?} are no selector", text.chars().take(80).collect::<String>());
    let mut rest = text.trim().strip_prefix('{').ok_or_else(invalid)?.trim_start();
    let mut labels = Vec::new();
    while !rest.starts_with('}') {
        let (name, after) = rest.split_once('=').ok_or_else(invalid)?;
        let name = name.trim();
        if name.is_empty() || name.contains(['"', '{', '}', ',']) {
            return Err(invalid());
        }
        let after = after.trim_start().strip_prefix('"').ok_or_else(invalid)?;
        let (value, after) = unquote(after).ok_or_else(invalid)?;
        labels.push((Cow::Borrowed(name), LogValue::String(Cow::Owned(value))));
        rest = after.trim_start();
        match rest.strip_prefix(',') {
            Some(after) => rest = after.trim_start(),
            None if rest.starts_with('}') => {}
            None => return Err(invalid()),
        }
    }
    if rest[1..].trim().is_empty() { Ok(labels) } else { Err(invalid()) }
}

/// Undoes Go's quoting, up to the closing quote.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    let code = |chars: &mut std::str::CharIndices<'_>, digits: usize| {
        let mut code = 0u32;
        for _ in 0..digits {
            code = code * 16 + chars.next()?.1.to_digit(16)?;
        }
        char::from_u32(code)
    };
    while let Some((index, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[index + 1..])),
            '\\' => value.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                'a' => '\u{7}',
                'b' => '\u{8}',
                'f' => '\u{c}',
                'v' => '\u{b}',
                'x' => code(&mut chars, 2)?,
                'u' => code(&mut chars, 4)?,
                'U' => code(&mut chars, 8)?,
                c @ ('"' | '\\' | '\'') => c,
                _ => return None,
            }),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert_eq, proptest};

    use super::*;
    use crate::shippers::testing::Lines;
    use crate::varint::{write_prefixed, write_u64};

    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        write_prefixed(&mut out, content);
        out
    }

    fn entry(seconds: u64, nanos: u64, line: &[u8], metadata: &[(&str, &str)]) -> Vec<u8> {
        let mut time = vec![8];
        write_u64(&mut time, seconds);
        time.push(16);
        write_u64(&mut time, nanos);
        let mut out = [field(1, &time), field(2, line)].concat();
        for (name, value) in metadata {
            out.extend(field(3, &[field(1, name.as_bytes()), field(2, value.as_bytes())].concat()));
        }
        field(2, &out)
    }

    #[test]
    fn both_encodings_say_the_same() {
        let stream = [
            field(1, b"{app=\"shop\", level=\"warn\", note=\"a \\\"b\\\"\"}"),
            entry(1_700_000_000, 5, b"one", &[("trace", "x"), ("level", "error")]),
            entry(1_700_000_001, 0, "zwö".as_bytes(), &[]),
        ]
        .concat();
        let mut sink = Lines::default();
        let taken = decode_protobuf(&field(1, &stream), &mut sink).expect("a valid message");
        let expected = [
            "stream {app=\"shop\" level=\"warn\" note=\"a \\\"b\\\"\"}",
            "1700000000000000005/0 (17) \"one\" {trace=\"x\" level=\"error\"}",
            "1700000001000000000/0 (13) \"zwö\" {}",
        ];
        assert_eq!((sink.0, taken.records, taken.lacks_time), (expected.map(str::to_owned).into(), 2, false));
        let mut sink = Lines::default();
        let json = r#"{"streams":[{"stream":{"app":"shop","level":"warn","note":"a \"b\""},"values":[
            ["1700000000000000005","one",{"trace":"x","level":"error"}],["1700000001000000000","zw\u00f6"]]}]}"#;
        decode_json(json.as_bytes(), &mut sink).expect("valid JSON");
        assert_eq!(sink.0, expected);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        let values = |values: &str| format!(r#"{{"streams":[{{"stream":{{}},"values":{values}}}]}}"#);
        for (body, offence) in [
            (values(r#"[[1700000000000000000,"x"]]"#), "time"),
            (values(r#"[["0","x"]]"#), "time"),
            (values(r#"[["1",2]]"#), "line"),
            (values(r#"[["1","x",[]]]"#), "metadata"),
            (values(r#"[["1","x",{"a":1}]]"#), "metadata \"a\""),
            (values("{}"), "values"),
            (r#"{"streams":[{"stream":{"a":1}}]}"#.to_owned(), "label \"a\""),
            (r#"{"streams":{}}"#.to_owned(), "streams"),
            ("[]".to_owned(), "no JSON object"),
            ("{".to_owned(), "EOF"),
        ] {
            let error = decode_json(body.as_bytes(), &mut Lines::default()).expect_err(&body);
            assert!(error.contains(offence), "{body}: {error}");
        }
        for labels in
            ["", "{", "{a}", "{a=b}", "{a=\"b}", "{a=\"b\" c=\"d\"}", "{=\"b\"}", "{a=\"\\q\"}", "{}x"]
        {
            let stream = [field(1, labels.as_bytes()), entry(1, 0, b"x", &[])].concat();
            let taken = decode_protobuf(&field(1, &stream), &mut Lines::default()).expect("a valid message");
            assert_eq!((taken.records, taken.rejected), (0, 1), "{labels}");
        }
        let stream = [field(1, b"{}"), entry(0, 0, b"x", &[]), entry(1, 0, b"\xff", &[])].concat();
        let mut sink = Lines::default();
        let taken = decode_protobuf(&field(1, &stream), &mut sink).expect("a valid message");
        assert_eq!(
            (taken.records, taken.rejected, sink.0[1].as_str()),
            (1, 1, "1000000000/0 (0) bytes[255] {}")
        );
    }

    proptest! {
        #[test]
        fn labels_are_read_as_they_are_written(labels in proptest::collection::btree_map("[a-z_]{1,4}", ".*", 0..4)) {
            let written: Vec<String> = labels.iter().map(|(name, value)| {
                let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
                format!("{name}=\"{value}\"")
            }).collect();
            let text = format!("{{{}}}", written.join(", "));
            let found: Vec<(String, String)> = parse_labels(&text).expect("a selector").into_iter().map(|(name, value)| {
                (name.into_owned(), match value { LogValue::String(text) => text.into_owned(), _ => String::new() })
            }).collect();
            prop_assert_eq!(found, labels.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn any_bytes_are_taken_or_refused(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = decode_protobuf(&body, &mut Lines::default());
            let _ = decode_json(&body, &mut Lines::default());
        }
    }
}
