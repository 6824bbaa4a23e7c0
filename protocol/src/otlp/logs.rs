//! OTLP logs: an export request to records for a [`LogSink`].
//!
//! ```text
//! ExportLogsServiceRequest  1 ResourceLogs* {1 resource, 2 ScopeLogs*}    ScopeLogs {1 scope, 2 LogRecord*}
//! LogRecord  1 time  2 severity  3 severity text  5 body  6 attributes*  8 flags  9 trace id  10 span id
//!            11 observed time  12 event name
//! ```
//!
//! Text is borrowed from the request. Attributes that are maps are flattened, as [`crate::logs`] has it. Text that is
//! not valid UTF-8 is kept as bytes where values stand, and with replacement characters where names stand. Ids of a
//! wrong length count as absent, which is what the specification asks for.

use std::borrow::Cow;

use super::DecodeError;
use super::streams::{Messages, Walk, id, read_attribute, walk};
use super::value::{MAX_VALUES, check_any, read_any};
use crate::logs::{Attribute, LogRecord, LogSink, LogStream, LogValue, TimestampNs};
use crate::remote_write::Fault;
use crate::remote_write::wire::Reader;

/// What a request had.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Records that the sink got.
    pub records: u64,
    /// Records that were left out.
    pub rejected: u64,
    /// Why, in the first case.
    pub offence: Option<String>,
    /// Whether a record had no time of its own, so that the same bytes sent again need not be the same request.
    pub lacks_time: bool,
}

/// Walks a request's protobuf. After an error, what the sink got is to be dropped. A record without any time gets
/// `now_ns` as its observed one.
pub fn decode(body: &[u8], now_ns: TimestampNs, sink: &mut impl LogSink) -> Result<Decoded, DecodeError> {
    let mut walker = Walker { now_ns, sink, decoded: Decoded::default() };
    match walk(&mut walker, Reader::new(body)) {
        Ok(()) => Ok(walker.decoded),
        Err(fault) => Err((*fault).into()),
    }
}

struct Walker<'s, S> {
    now_ns: TimestampNs,
    sink: &'s mut S,
    decoded: Decoded,
}

impl<S: LogSink> Walk for Walker<'_, S> {
    const MESSAGES: Messages =
        Messages { request: "ExportLogsServiceRequest", resource: "ResourceLogs", entry: "LogRecord" };

    fn stream(&mut self, stream: &LogStream<'_>) {
        self.sink.stream(stream);
    }

    fn entry(&mut self, record: Reader<'_>) -> Result<(), Fault> {
        self.walk_record(record)
    }
}

impl<S: LogSink> Walker<'_, S> {
    fn walk_record(&mut self, mut message: Reader<'_>) -> Result<(), Fault> {
        let mut record = LogRecord::default();
        let (mut time, mut observed) = (0, 0);
        let mut left = MAX_VALUES;
        while !message.is_empty() {
            let (field, wire) = message.tag()?;
            match field {
                1 => time = message.fixed64(wire)?,
                2 => {
                    let severity = message.u64(wire)?;
                    record.severity =
                        u8::try_from(severity).ok().filter(|severity| *severity <= 24).unwrap_or(0);
                }
                3 => record.severity_text = String::from_utf8_lossy(message.bytes(wire)?),
                5 => {
                    let body = message.message(wire)?;
                    check_any(body, &mut left)?;
                    record.body = read_any(body)?;
                }
                6 => {
                    read_attribute(message.message(wire)?, &mut left, &mut record.attributes)?;
                }
                8 => record.flags = message.fixed32(wire)?,
                9 => record.trace_id = id(message.bytes(wire)?),
                10 => record.span_id = id(message.bytes(wire)?),
                11 => observed = message.fixed64(wire)?,
                12 => record.event_name = String::from_utf8_lossy(message.bytes(wire)?),
                _ => message.skip(wire)?,
            }
        }
        let (Ok(time), Ok(observed)) = (i64::try_from(time), i64::try_from(observed)) else {
            self.decoded.rejected += 1;
            let far = time.max(observed);
            self.decoded
                .offence
                .get_or_insert_with(|| format!("a record's time {far} is beyond the year 2262"));
            return Ok(());
        };
        (record.time_ns, record.observed_ns) = (time, observed);
        if record.effective_ns() == 0 {
            record.observed_ns = self.now_ns;
            self.decoded.lacks_time = true;
        }
        self.sink.record(&record);
        self.decoded.records += 1;
        Ok(())
    }
}

/// Longest path that flattening makes. What would be longer stays a map: paths repeat the names above them.
const MAX_PATH_BYTES: usize = 256;

/// Adds an attribute, or the leaves of one that is a map. An empty map is a leaf: that it is there says something.
pub(crate) fn flatten<'a>(path: Cow<'a, str>, value: LogValue<'a>, out: &mut Vec<Attribute<'a>>) {
    match value {
        LogValue::Map(entries)
            if !entries.is_empty()
                && entries.iter().all(|(key, _)| path.len() + 1 + key.len() <= MAX_PATH_BYTES) =>
        {
            for (key, value) in entries {
                flatten(Cow::Owned(format!("{path}.{key}")), value, out);
            }
        }
        value => out.push((path, value)),
    }
}

#[cfg(test)]
mod tests;
