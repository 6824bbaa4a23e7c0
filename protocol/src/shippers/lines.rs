//! JSON lines: an object a line, each a record.
//!
//! Fields that the request names make streams: records with equal values of them belong together, and the values are
//! the stream's resource. A line that is no object is left out and named by its number.

use std::borrow::Cow;

use super::Taken;
use super::fields::{FieldNames, record_of};
use super::json;
use crate::logs::{Attribute, LogSink, LogStream, LogValue, TimestampNs};

/// Longest line.
const MAX_LINE_BYTES: usize = 4 << 20;

/// Walks the lines of a body.
pub fn decode(
    body: &[u8],
    names: FieldNames<'_>,
    stream_fields: &[&str],
    now_ns: TimestampNs,
    sink: &mut impl LogSink,
) -> Taken {
    let mut taken = Taken::default();
    let mut current: Option<Vec<Attribute<'_>>> = None;
    for (index, line) in body.split(|byte| *byte == b'\n').enumerate() {
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let object = read_object(line);
        match object {
            Ok(object) => {
                let mut record = record_of(object, names);
                let mut resource: Vec<Attribute<'_>> = Vec::new();
                for field in stream_fields {
                    if let Some(index) = record.attributes.iter().position(|(key, _)| key == field) {
                        let (_, value) = record.attributes.remove(index);
                        resource.push((Cow::Owned((*field).to_owned()), value));
                    }
                }
                if current.as_ref() != Some(&resource) {
                    sink.stream(&LogStream { resource: resource.clone(), ..LogStream::default() });
                    current = Some(resource);
                }
                if record.time_ns == 0 {
                    record.observed_ns = now_ns;
                    taken.lacks_time = true;
                }
                sink.record(&record);
                taken.records += 1;
            }
            Err(offence) => taken.reject(|| format!("line {}: {offence}", index + 1)),
        }
    }
    taken
}

/// Reads a line that is an object.
pub(super) fn read_object(line: &[u8]) -> Result<Vec<Attribute<'_>>, String> {
    if line.len() > MAX_LINE_BYTES {
        return Err(format!("longer than {MAX_LINE_BYTES} bytes"));
    }
    match json::read(line, json::MAX_RECORD_VALUES)? {
        LogValue::Map(object) => Ok(object),
        _ => Err("no JSON object".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shippers::testing::Lines;

    #[test]
    fn lines_become_records_of_streams() {
        let body = b"{\"ts\":1700000000,\"msg\":\"a\",\"app\":\"x\",\"n\":1}\n\n{\"msg\":\"b\",\"app\":\"x\"}\r\n[1]\n{\"app\":\"y\"";
        let mut sink = Lines::default();
        let taken = decode(body, FieldNames::default(), &["app", "pod"], 9, &mut sink);
        assert_eq!(
            sink.0,
            ["stream {app=\"x\"}", "1700000000000000000/0 (0) \"a\" {n=1}", "0/9 (0) \"b\" {}",]
        );
        assert_eq!((taken.records, taken.rejected, taken.lacks_time), (2, 2, true));
        assert_eq!(taken.offence.as_deref(), Some("line 4: no JSON object"));
    }
}
