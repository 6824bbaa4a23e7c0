//! InfluxDB's line protocol: lines to a [`WriteBatch`].
//!
//! ```text
//! weather,city=Graz,stand=a\ b temp=21.5,rain=false,note="dry" 1700000000000000000
//! measurement, tags             fields: floats, 3i, 3u, booleans, "text"   time in the precision of the request
//!
//! -> weather_temp{city="Graz", stand="a b"} 21.5     weather_rain{...} 0
//! ```
//!
//! Each field is a series named after measurement and field, its tags are labels; characters that Prometheus' names did
//! not allow before its version 3 become underscores. Text is no sample: such fields are counted and left out. A line
//! without time gets the time of the request.
//!
//! A line that can not be read is left out and named by its number, and the others are written. A line feed ends a line
//! unless it stands inside of a quoted text.

use std::borrow::Cow;

use crate::labels::METRIC_NAME;
use crate::remote_write::{DecodeError, Fault, Limits, check_rows, check_series};
use crate::varint::{write_prefixed, write_u64};
use crate::write_batch::{FingerprintKey, RowKind, Rows, WriteBatch};

/// Unit of the timestamps of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// Nanoseconds.
    #[default]
    Nanoseconds,
    /// Microseconds.
    Microseconds,
    /// Milliseconds.
    Milliseconds,
    /// Seconds.
    Seconds,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

impl Precision {
    /// The precision of a name, as either version of the API has it.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "" | "n" | "ns" => Self::Nanoseconds,
            "u" | "us" | "µ" | "µs" => Self::Microseconds,
            "ms" => Self::Milliseconds,
            "s" => Self::Seconds,
            "m" => Self::Minutes,
            "h" => Self::Hours,
            _ => return None,
        })
    }

    fn to_ms(self, time: i64) -> Option<i64> {
        match self {
            Self::Nanoseconds => Some(time.div_euclid(1_000_000)),
            Self::Microseconds => Some(time.div_euclid(1000)),
            Self::Milliseconds => Some(time),
            Self::Seconds => time.checked_mul(1000),
            Self::Minutes => time.checked_mul(60_000),
            Self::Hours => time.checked_mul(3_600_000),
        }
    }
}

/// A decoded request.
#[derive(Debug)]
pub struct Decoded {
    /// What is to be written, and which lines were left out.
    pub batch: WriteBatch,
    /// Fields that hold text.
    pub text_fields: u64,
    /// Lines with at least one field that is written.
    pub lines: u64,
}

/// What a line is wrong in, with its number.
type LineError = String;

/// Walks a request's lines. `extra` is a label of every series: the database that the request names.
pub fn decode(
    body: &[u8],
    precision: Precision,
    now_ms: i64,
    extra: Option<(&str, &str)>,
    key: &FingerprintKey,
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    if body.len() > limits.max_body_bytes {
        return Err(DecodeError::TooLong { bytes: body.len() as u64, limit: limits.max_body_bytes });
    }
    let mut walker = Walker {
        rows: Rows::with_pairs(limits.labels),
        key,
        precision,
        now_ms,
        extra,
        tags: Vec::new(),
        text_fields: 0,
        lines: 0,
    };
    match walker.walk(body) {
        Ok(()) => {
            let Walker { rows, text_fields, lines, .. } = walker;
            Ok(Decoded { batch: rows.finish(Vec::new()), text_fields, lines })
        }
        Err(fault) => Err(*fault),
    }
}

struct Walker<'k> {
    rows: Rows,
    key: &'k FingerprintKey,
    precision: Precision,
    now_ms: i64,
    extra: Option<(&'k str, &'k str)>,
    /// Labels of the line in work, as protobuf's label fields.
    tags: Vec<u8>,
    text_fields: u64,
    lines: u64,
}

/// A field's value.
enum Value {
    Number(f64),
    Text,
}

impl Walker<'_> {
    fn walk(&mut self, body: &[u8]) -> Result<(), Fault> {
        let mut rest = body;
        let mut number = 0;
        while !rest.is_empty() {
            number += 1;
            let (line, after) = cut_line(rest);
            // A quoted text may hold line feeds, and people count those.
            let inside = line.iter().filter(|byte| **byte == b'\n').count();
            rest = after;
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let blank = line.iter().all(u8::is_ascii_whitespace);
            if !blank
                && line.first() != Some(&b'#')
                && let Err(offence) = self.walk_line(line)?
            {
                let start = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
                self.rows
                    .rejections()
                    .add(RowKind::Sample, 1, || format!("line {number}: {offence}: {start:?}"));
            }
            number += inside;
        }
        Ok(())
    }

    /// Takes a line wholly or not at all.
    fn walk_line(&mut self, line: &[u8]) -> Result<Result<(), LineError>, Fault> {
        let (measurement, mut rest) = match self.read_head(line) {
            Ok(head) => head,
            Err(offence) => return Ok(Err(offence)),
        };
        let fields_start = rest;
        // First the whole line is read, so that nothing of a wrong one is written.
        let mut fields = 0;
        loop {
            match read_field(rest) {
                Ok((_, value, after)) => {
                    fields += usize::from(matches!(value, Value::Number(_)));
                    self.text_fields += u64::from(matches!(value, Value::Text));
                    rest = after;
                }
                Err(offence) => return Ok(Err(offence)),
            }
            match rest.first() {
                Some(b',') => rest = &rest[1..],
                _ => break,
            }
        }
        let timestamp_ms = match self.read_time(rest) {
            Ok(time) => time,
            Err(offence) => return Ok(Err(offence)),
        };
        self.lines += u64::from(fields > 0);
        let mut rest = fields_start;
        while let Ok((name, value, after)) = read_field(rest) {
            if let Value::Number(value) = value {
                self.push(&measurement, &name, timestamp_ms, value)?;
            }
            match after.first() {
                Some(b',') => rest = &after[1..],
                _ => break,
            }
        }
        Ok(Ok(()))
    }

    /// Reads measurement and tags, and leaves the tags in place.
    fn read_head<'a>(&mut self, line: &'a [u8]) -> Result<(Cow<'a, str>, &'a [u8]), LineError> {
        let (measurement, mut rest) = read_name(line, b", ")?;
        if measurement.is_empty() {
            return Err("the measurement has no name".into());
        }
        self.tags.clear();
        if let Some((name, value)) = self.extra {
            write_label(&mut self.tags, name, value);
        }
        while rest.first() == Some(&b',') {
            let (name, after) = read_name(&rest[1..], b"=, ")?;
            if name.is_empty() || after.first() != Some(&b'=') {
                return Err("a tag is no name=value".into());
            }
            let (value, after) = read_name(&after[1..], b", =")?;
            if after.first() == Some(&b'=') {
                return Err(format!("tag {name:?} has a second sign of equality"));
            }
            write_label(&mut self.tags, &clean(&name), &value);
            rest = after;
        }
        let rest = skip_spaces(rest);
        if rest.is_empty() {
            return Err("the line has no fields".into());
        }
        Ok((measurement, rest))
    }

    fn read_time(&self, rest: &[u8]) -> Result<i64, LineError> {
        let text = skip_spaces(rest);
        if text.len() == rest.len() && !rest.is_empty() {
            return Err(format!(
                "{:?} stands behind the fields",
                String::from_utf8_lossy(&rest[..rest.len().min(20)])
            ));
        }
        if text.is_empty() {
            return Ok(self.now_ms);
        }
        let time = std::str::from_utf8(text).ok().and_then(|text| text.trim_end().parse::<i64>().ok());
        time.and_then(|time| self.precision.to_ms(time)).ok_or_else(|| {
            format!("{:?} is no timestamp", String::from_utf8_lossy(&text[..text.len().min(40)]))
        })
    }

    fn push(&mut self, measurement: &str, field: &str, timestamp_ms: i64, value: f64) -> Result<(), Fault> {
        check_rows(&self.rows)?;
        check_series(&self.rows)?;
        let name = format!("{measurement}_{field}");
        let name = clean(&name);
        let tags = &self.tags;
        let labels = self.rows.keep(|out| {
            write_label(out, METRIC_NAME, &name);
            out.extend_from_slice(tags);
        });
        self.rows.push_sample(timestamp_ms, value);
        let fingerprint = self.key.hash(self.rows.scratch(labels));
        self.rows.end_series(fingerprint, labels);
        Ok(())
    }
}

/// A line, and what follows it.
fn cut_line(body: &[u8]) -> (&[u8], &[u8]) {
    let mut quoted = false;
    let mut index = 0;
    let is_comment = body.first() == Some(&b'#');
    let mut spaces = 0;
    while index < body.len() {
        match body[index] {
            b'\\' => index += 1,
            // Quotes mean something among the fields only, and those stand behind the first space.
            b'"' if spaces > 0 && !is_comment => quoted = !quoted,
            b' ' if !quoted => spaces += 1,
            b'\n' if !quoted => return (&body[..index], &body[index + 1..]),
            _ => {}
        }
        index += 1;
    }
    if quoted {
        // A text that is never closed must not swallow the lines behind it.
        let end = body.iter().position(|byte| *byte == b'\n').unwrap_or(body.len());
        return (&body[..end], body.get(end + 1..).unwrap_or_default());
    }
    (body, &[])
}

fn skip_spaces(text: &[u8]) -> &[u8] {
    let spaces = text.iter().take_while(|byte| **byte == b' ').count();
    &text[spaces..]
}

/// Reads a name up to one of `ends`, undoing escapes. A backslash before anything else is a backslash.
fn read_name<'a>(text: &'a [u8], ends: &[u8]) -> Result<(Cow<'a, str>, &'a [u8]), LineError> {
    let mut owned: Option<Vec<u8>> = None;
    let mut index = 0;
    while index < text.len() && !ends.contains(&text[index]) {
        let escapes = text[index] == b'\\' && text.get(index + 1).is_some_and(|next| b", =".contains(next));
        if escapes {
            owned.get_or_insert_with(|| text[..index].to_vec());
            index += 1;
        }
        if let Some(owned) = &mut owned {
            owned.push(text[index]);
        }
        index += 1;
    }
    let not_utf8 = |_| "a name or tag is not valid UTF-8".to_owned();
    let name = match owned {
        Some(owned) => Cow::Owned(String::from_utf8(owned).map_err(|error| not_utf8(error.utf8_error()))?),
        None => Cow::Borrowed(std::str::from_utf8(&text[..index]).map_err(not_utf8)?),
    };
    Ok((name, &text[index..]))
}

/// Reads `name=value`.
fn read_field(text: &[u8]) -> Result<(Cow<'_, str>, Value, &[u8]), LineError> {
    let (name, after) = read_name(text, b"=, ")?;
    if name.is_empty() || after.first() != Some(&b'=') {
        return Err("a field is no name=value".into());
    }
    let text = &after[1..];
    if text.first() == Some(&b'"') {
        let mut index = 1;
        while index < text.len() {
            match text[index] {
                b'\\' => index += 1,
                b'"' => return Ok((name, Value::Text, &text[index + 1..])),
                _ => {}
            }
            index += 1;
        }
        return Err(format!("the text of field {name:?} has no end"));
    }
    let end = text.iter().position(|byte| b", ".contains(byte)).unwrap_or(text.len());
    let (value, rest) = text.split_at(end);
    let number = std::str::from_utf8(value).ok().and_then(number);
    match number {
        Some(number) => Ok((name, Value::Number(number), rest)),
        None => {
            let value = String::from_utf8_lossy(&value[..value.len().min(40)]);
            Err(format!("field {name:?}: {value:?} is no number, boolean or quoted text"))
        }
    }
}

fn number(text: &str) -> Option<f64> {
    match text {
        "t" | "T" | "true" | "True" | "TRUE" => return Some(1.0),
        "f" | "F" | "false" | "False" | "FALSE" => return Some(0.0),
        _ => {}
    }
    if let Some(digits) = text.strip_suffix('i') {
        return digits.parse::<i64>().ok().map(|value| value as f64);
    }
    if let Some(digits) = text.strip_suffix('u') {
        return digits.parse::<u64>().ok().map(|value| value as f64);
    }
    // Words that Rust reads as numbers are none here.
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    if is_number { text.parse().ok() } else { None }
}

/// A name with underscores in place of what Prometheus did not allow.
fn clean(name: &str) -> Cow<'_, str> {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let starts_well = !name.starts_with(|c: char| c.is_ascii_digit());
    if starts_well && name.chars().all(is_allowed) {
        return Cow::Borrowed(name);
    }
    let mut out = String::with_capacity(name.len() + 1);
    if !starts_well {
        out.push('_');
    }
    out.extend(name.chars().map(|c| if is_allowed(c) { c } else { '_' }));
    Cow::Owned(out)
}

/// Writes a label as remote write 1.0 has it, which is how the batch's labels are read.
fn write_label(out: &mut Vec<u8>, name: &str, value: &str) {
    let prefix = |len: usize| 1 + varint_len(len) + len;
    out.push(1 << 3 | 2);
    write_u64(out, (prefix(name.len()) + prefix(value.len())) as u64);
    out.push(1 << 3 | 2);
    write_prefixed(out, name.as_bytes());
    out.push(2 << 3 | 2);
    write_prefixed(out, value.as_bytes());
}

fn varint_len(value: usize) -> usize {
    (usize::BITS - (value | 1).leading_zeros()).div_ceil(7) as usize
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::*;
    use crate::ids::ClusterSecret;
    use crate::labels::Labels;

    fn decoded(body: &str, precision: Precision) -> Decoded {
        let key = FingerprintKey::new(&ClusterSecret([5; 32]));
        decode(body.as_bytes(), precision, 77, Some(("db", "d")), &key, &Limits::default())
            .expect("not too much")
    }

    fn lines(decoded: &Decoded) -> Vec<String> {
        let series = (0..decoded.batch.series_len()).map(|index| {
            let series = decoded.batch.series(index);
            let sample = series.samples()[0];
            match series.labels() {
                Ok(labels) => format!("{labels} {} @{}", sample.value, sample.timestamp_ms),
                Err(error) => error.to_string(),
            }
        });
        series.collect()
    }

    #[track_caller]
    fn check(body: &str, expected: &[&str]) {
        let decoded = decoded(body, Precision::Nanoseconds);
        assert_eq!(lines(&decoded), expected, "{}", decoded.batch.rejections());
        assert!(decoded.batch.rejections().is_empty(), "{}", decoded.batch.rejections());
    }

    #[track_caller]
    fn refused(line: &str, offence: &str) {
        let body = format!("# a comment\n\nok value=1\n{line}\nok value=2");
        let decoded = decoded(&body, Precision::Nanoseconds);
        let text = decoded.batch.rejections().to_string();
        assert!(text.contains("line 4: ") && text.contains(offence), "{text}");
        assert_eq!((decoded.batch.series_len(), decoded.lines), (2, 2), "{text}");
    }

    #[test]
    fn kinds_of_values() {
        check(
            "cpu,host=a,core=0 usage=0.5,busy=true,n=-3i,m=18446744073709551615u,note=\"x, y=\\\"z\\\"\",e=1e-3 1700000000123456789\n",
            &[
                r#"cpu_usage{core="0", db="d", host="a"} 0.5 @1700000000123"#,
                r#"cpu_busy{core="0", db="d", host="a"} 1 @1700000000123"#,
                r#"cpu_n{core="0", db="d", host="a"} -3 @1700000000123"#,
                r#"cpu_m{core="0", db="d", host="a"} 18446744073709552000 @1700000000123"#,
                r#"cpu_e{core="0", db="d", host="a"} 0.001 @1700000000123"#,
            ],
        );
        assert_eq!(decoded("m s=\"x\",t=\"y\" 1", Precision::Nanoseconds).text_fields, 2);
    }

    #[test]
    fn names_and_escapes() {
        check(
            "my\\ disk\\,x,path=/a\\ b\\,c\\=d\\e used\\ space=1,value=2\r\n",
            &[
                r#"my_disk_x_used_space{db="d", path="/a b,c=d\\e"} 1 @77"#,
                r#"my_disk_x_value{db="d", path="/a b,c=d\\e"} 2 @77"#,
            ],
        );
        check("2x,1t=größe v=1 -1", &[r#"_2x_v{_1t="größe", db="d"} 1 @-1"#]);
        check("a text=\"one\ntwo\",v=1\nb v=2", &[r#"a_v{db="d"} 1 @77"#, r#"b_v{db="d"} 2 @77"#]);
    }

    #[test]
    fn precisions() {
        for (name, ms) in [
            ("", 0i64),
            ("n", 0),
            ("u", 7),
            ("us", 7),
            ("ms", 7200),
            ("s", 7_200_000),
            ("m", 432_000_000),
            ("h", 25_920_000_000),
        ] {
            let precision = Precision::from_name(name).expect("a known name");
            assert_eq!(
                lines(&decoded("a v=1 7200", precision)),
                [format!("a_v{{db=\"d\"}} 1 @{ms}")],
                "{name}"
            );
        }
        assert_eq!(Precision::from_name("d"), None);
        let decoded = decoded("a v=1 9223372036854775807", Precision::Hours);
        assert!(decoded.batch.rejections().to_string().contains("no timestamp"));
    }

    #[test]
    fn lines_that_can_not_be_read_are_named() {
        refused("measurement", "no fields");
        refused(",a=b v=1", "no name");
        refused("m,a v=1", "name=value");
        refused("m,=b v=1", "name=value");
        refused("m,a=b=c v=1", "equality");
        refused("m v", "a field is no name=value");
        refused("m v=", "\"\" is no number");
        refused("m v=1x", "\"1x\" is no number");
        refused("m v=NaN", "no number");
        refused("m v=1,", "a field is no name=value");
        refused("m v=1 x", "\"x\" is no timestamp");
        refused("m v=1 1 2", "no timestamp");
        refused("m v=\"text", "has no end");
        refused("m v=\"text\"x", "behind the fields");
        refused("m v=99999999999999999999i", "no number");
    }

    #[test]
    fn labels_that_make_no_set_are_found_when_they_are_read() {
        let twice = decoded("m,a=1,a=2 v=1", Precision::Nanoseconds);
        assert!(twice.batch.series(0).labels().is_err());
        let empty = decoded("m,a= v=1", Precision::Nanoseconds);
        assert_eq!(
            empty.batch.series(0).labels().map(|labels| labels.to_string()),
            Ok("m_v{db=\"d\"}".to_owned())
        );
    }

    proptest! {
        #[test]
        fn written_lines_are_read(
            measurement in "[a-z][a-z, =]{0,5}[a-z]",
            tags in proptest::collection::btree_map("[a-c ,=]{0,3}[a-c]", "[a-zé ,=]{0,4}[a-z]", 0..4),
            value in any::<i64>(),
            time in any::<i64>(),
        ) {
            let escape = |text: &str| text.replace(',', "\\,").replace('=', "\\=").replace(' ', "\\ ");
            let mut line = escape(&measurement);
            let mut expected = vec![("__name__".to_owned(), format!("{measurement}_f").replace([',', ' ', '='], "_"))];
            for (name, value) in &tags {
                line.push_str(&format!(",{}={}", escape(name), escape(value)));
                expected.push((name.replace([',', ' ', '='], "_"), value.clone()));
            }
            line.push_str(&format!(" f={value}i {time}"));
            let found = decoded(&line, Precision::Milliseconds);
            prop_assert!(found.batch.rejections().is_empty(), "{} {}", line, found.batch.rejections());
            let series = found.batch.series(0);
            prop_assert_eq!((series.samples()[0].timestamp_ms, series.samples()[0].value), (time, value as f64));
            expected.push(("db".into(), "d".into()));
            if let Ok(labels) = Labels::from_pairs(expected) {
                prop_assert_eq!(series.labels().expect("the same labels"), labels);
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(body in proptest::collection::vec(any::<u8>(), 0..100)) {
            let key = FingerprintKey::new(&ClusterSecret([5; 32]));
            let decoded = decode(&body, Precision::Seconds, 1, None, &key, &Limits::default()).expect("not too much");
            for index in 0..decoded.batch.series_len() {
                let _ = decoded.batch.series(index).labels();
            }
        }
    }
}
