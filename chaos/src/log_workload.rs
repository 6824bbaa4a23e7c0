//! Deterministic application logs, encoded as OpenTelemetry's exporters send them.
//!
//! Twelve services with five pods each make 60 streams: requests, cache and queue messages, queries, and failures with
//! words that nothing else has, with users, addresses, durations, identifiers, trace and span ids. As flat JSON a line
//! takes about 348 bytes. Lines are spread evenly over an hour; a request carries 2,000 of them, ordered by stream as a
//! collector's batches are.
//!
//! The same seed and start give the same bytes. [`Truth`] says beforehand what the questions of the benchmark have to be
//! answered with.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt::Write as _;

use prost::Message;
use protocol::logs::{LogRecord, LogStream, LogValue, TimestampNs};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::otlp::{AnyValue, KeyValue, Resource, key_values};
use crate::sim::random::{Stream, stream};
use crate::workload::Request;

/// Lines of a request.
pub const LINES_PER_REQUEST: usize = 2000;
/// What the lines are spread over.
pub const SPAN_NS: i64 = 3_600_000_000_000;
pub(crate) const PODS: usize = 5;

pub(crate) const SERVICES: [&str; 12] = [
    "checkout",
    "cart",
    "payment",
    "inventory",
    "search",
    "auth",
    "gateway",
    "email",
    "billing",
    "catalog",
    "shipping",
    "frontend",
];
const VERBS: [&str; 8] =
    ["loading", "storing", "checking", "sending", "reading", "parsing", "merging", "closing"];
const NOUNS: [&str; 18] = [
    "session", "order", "invoice", "basket", "token", "profile", "coupon", "refund", "address", "parcel",
    "review", "wishlist", "receipt", "ticket", "payout", "voucher", "price", "picture",
];
const METHODS: [&str; 4] = ["GET", "POST", "PUT", "DELETE"];
const STATUSES: [i64; 6] = [200, 200, 200, 201, 404, 500];
const LEVELS: [(&str, u8); 4] = [("DEBUG", 5), ("INFO", 9), ("WARN", 13), ("ERROR", 17)];

/// A line and the number of its stream.
#[derive(Clone, Debug)]
pub struct Line {
    /// In [`streams`].
    pub stream: usize,
    /// The line.
    pub record: LogRecord<'static>,
}

/// Makes lines, oldest first.
pub struct LogWorkload {
    random: SmallRng,
    start_ns: TimestampNs,
    lines: usize,
    next: usize,
    trace: [u8; 16],
}

fn text(text: impl Into<String>) -> LogValue<'static> {
    LogValue::String(Cow::Owned(text.into()))
}

/// All streams: service by service, pod by pod.
pub fn streams() -> Vec<LogStream<'static>> {
    let stream = |number: usize| {
        let service = SERVICES[number / PODS];
        let pair = |name: &'static str, value: String| (Cow::Borrowed(name), text(value));
        let resource = vec![
            pair("service.name", service.to_owned()),
            pair("k8s.namespace.name", "shop".to_owned()),
            pair("k8s.pod.name", format!("{service}-7d9f8b6c5-x{}", number % PODS)),
            pair("host.name", format!("node-{:02}", number % 7)),
        ];
        LogStream { resource, ..LogStream::default() }
    };
    (0..SERVICES.len() * PODS).map(stream).collect()
}

impl LogWorkload {
    /// So many lines over an hour from `start_ns` on.
    pub fn new(lines: usize, seed: u64, start_ns: TimestampNs) -> Self {
        Self { random: stream(seed, Stream::Clients, 0), start_ns, lines, next: 0, trace: [1; 16] }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.random_range(0..bound)
    }

    /// Small numbers often, large ones rarely.
    fn skewed(&mut self, bound: u64) -> u64 {
        self.below(bound) * self.below(bound) / bound
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.random_range(0..all.len())]
    }

    fn identifier(&mut self) -> String {
        let (a, b) = (self.random.random::<u64>(), self.random.random::<u64>());
        let (low, high) = (a as u32, a >> 32);
        format!("{low:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}", high as u16, high >> 20, b & 0xfff, b >> 16)
    }

    /// The body and the level of a line; what else it says goes to `attributes`.
    fn body(&mut self, attributes: &mut Vec<(Cow<'static, str>, LogValue<'static>)>) -> (String, usize) {
        let usual = if self.below(20) == 0 { 2 } else { 1 };
        let (verb, noun, method) = (self.one_of(&VERBS), self.one_of(&NOUNS), self.one_of(&METHODS));
        let (user, took) = (self.skewed(50_000), self.skewed(2_000_000));
        let address = format!("10.{}.{}.{}", self.below(4), self.below(256), self.below(256));
        let mut put = |name: &'static str, value| attributes.push((Cow::Borrowed(name), value));
        match self.below(100) {
            0..=37 => {
                let status = self.one_of(&STATUSES);
                put("http.request.method", text(method));
                put("http.response.status_code", LogValue::Int(status));
                put("duration_ms", LogValue::Float(took as f64 / 1000.0));
                put("client_ip", text(address.clone()));
                put("user_id", LogValue::Int(user as i64));
                let (whole, part) = (took / 1000, took % 1000);
                (
                    format!("{method} /api/v1/{noun}s/{user} {status} in {whole}.{part:03}ms from {address}"),
                    usual,
                )
            }
            38..=55 => {
                put("user_id", LogValue::Int(user as i64));
                (format!("{verb} {noun} for user {user} ({} items)", self.skewed(40)), usual)
            }
            56..=70 => {
                put("cache.name", text(format!("{noun}s")));
                let (hit, key) = (self.one_of(&["hit", "miss"]), self.random.random::<u64>());
                (format!("cache {hit} for key {noun}:{key:016x} after {}us", took / 10), usual)
            }
            71..=88 => {
                put("messaging.destination", text(format!("{noun}.{verb}")));
                let (id, worker, partition) = (self.identifier(), self.below(16), self.below(64));
                (format!("message {id} {verb} by worker {worker} in partition {partition}"), usual)
            }
            89..=92 => {
                let (query, rows) = (self.below(100_000), self.skewed(5000));
                (format!("query {query} took {} rows={rows} db={noun}s", took / 1000), 0)
            }
            _ if self.below(15) == 0 => {
                (format!("{verb} {noun} {user} failed: context deadline exceeded after {}ms", took / 1000), 3)
            }
            _ => {
                let (retry, port) = (self.below(5), 8000 + self.below(3));
                (format!("retry {retry} of {verb} {noun}: connection refused by {address}:{port}"), 2)
            }
        }
    }
}

impl Iterator for LogWorkload {
    type Item = Line;

    fn next(&mut self) -> Option<Line> {
        if self.next == self.lines {
            return None;
        }
        let offset = self.next as i128 * i128::from(SPAN_NS) / self.lines as i128;
        let time_ns = self.start_ns + offset as i64;
        self.next += 1;
        let service = self.skewed(SERVICES.len() as u64) as usize;
        let pod = self.below(PODS as u64) as usize;
        // About three lines have a trace in common.
        if self.below(3) == 0 {
            self.trace = self.random.random();
        }
        let mut attributes = Vec::new();
        let (body, level) = self.body(&mut attributes);
        let (severity_text, severity) = LEVELS[level];
        let has_trace = self.below(100) < 62;
        let record = LogRecord {
            time_ns,
            severity,
            severity_text: Cow::Borrowed(severity_text),
            body: text(body),
            trace_id: if has_trace { self.trace } else { [0; 16] },
            span_id: if has_trace { self.random.random() } else { [0; 8] },
            attributes,
            ..LogRecord::default()
        };
        Some(Line { stream: service * PODS + pod, record })
    }
}

/// Bytes of a line as flat JSON, with its end of line: what the data is measured by.
pub fn json_len(stream: &LogStream<'_>, record: &LogRecord<'_>) -> usize {
    let level = &record.severity_text;
    let mut out = format!("{{\"time\":\"2023-11-14T22:13:20.000000000Z\",\"level\":\"{level}\",\"message\":");
    record.body.write_json(&mut out);
    for (name, value) in stream.resource.iter().chain(&record.attributes) {
        let _ = write!(out, ",\"{name}\":");
        value.write_json(&mut out);
    }
    let ids = if record.trace_id == [0; 16] { 0 } else { r#","trace_id":"","span_id":"""#.len() + 32 + 16 };
    out.len() + ids + "}\n".len()
}

/// What is true of a workload.
#[derive(Clone, Debug, Default)]
pub struct Truth {
    /// Lines.
    pub lines: u64,
    /// [`json_len`] of all.
    pub raw_bytes: u64,
    /// Bodies with "context deadline exceeded".
    pub phrase: u64,
    /// Bodies with "nection refus".
    pub substring: u64,
    /// Bodies with `took [0-9]+ rows=1[0-9]{2} `.
    pub regex: u64,
    /// Failed errors of the service `payment`.
    pub word_and_fields: u64,
    /// Lines that took more than 1.5 s.
    pub slow: u64,
    /// Lines with a duration.
    pub durations: u64,
    /// Different users.
    pub users: u64,
    /// A trace, and how many lines it has.
    pub needle: ([u8; 16], u64),
    seen: HashSet<i64>,
    last_trace: [u8; 16],
}

impl Truth {
    /// Takes note of a line.
    fn note(&mut self, line: &Line, streams: &[LogStream<'_>]) {
        let record = &line.record;
        self.lines += 1;
        self.raw_bytes += json_len(&streams[line.stream], record) as u64;
        let LogValue::String(body) = &record.body else { return };
        let failed = body.contains("failed:");
        self.phrase += u64::from(body.contains("context deadline exceeded"));
        self.substring += u64::from(body.contains("nection refus"));
        self.word_and_fields += u64::from(failed && SERVICES[line.stream / PODS] == "payment");
        let rows = body.split_once(" rows=").and_then(|(_, rest)| rest.split_once(' '));
        self.regex += u64::from(rows.is_some_and(|(rows, _)| rows.len() == 3 && rows.starts_with('1')));
        for (name, value) in &record.attributes {
            match (name.as_ref(), value) {
                ("duration_ms", LogValue::Float(took)) => {
                    self.durations += 1;
                    self.slow += u64::from(*took > 1500.0);
                }
                ("user_id", LogValue::Int(user)) => {
                    self.seen.insert(*user);
                    self.users = self.seen.len() as u64;
                }
                _ => {}
            }
        }
        if record.trace_id != [0; 16] {
            // A trace that begins somewhat inside.
            if self.needle.1 == 0 && self.lines > 1000 && record.trace_id != self.last_trace {
                self.needle.0 = record.trace_id;
            }
            self.needle.1 += u64::from(record.trace_id == self.needle.0);
            self.last_trace = record.trace_id;
        }
    }
}

/// The next requests of a workload, at most so many, dealt to lanes in turn; `truth` learns what is in them.
pub fn encode_requests(
    workload: &mut LogWorkload,
    requests: usize,
    lanes: usize,
    truth: &mut Truth,
) -> Vec<Vec<Request>> {
    let streams = streams();
    let resources: Vec<Resource> = streams.iter().map(Resource::of).collect();
    let mut dealt: Vec<Vec<Request>> = (0..lanes.max(1)).map(|_| Vec::new()).collect();
    for number in 0..requests {
        let mut lines: Vec<Line> = workload.by_ref().take(LINES_PER_REQUEST).collect();
        if lines.is_empty() {
            break;
        }
        lines.iter().for_each(|line| truth.note(line, &streams));
        lines.sort_by_key(|line| line.stream);
        let group = number % dealt.len();
        let samples = lines.len() as u32;
        dealt[group].push(Request { group, samples, body: encode(&lines, &resources) });
    }
    dealt
}

fn encode(lines: &[Line], resources: &[Resource]) -> Vec<u8> {
    let mut resource_logs: Vec<ResourceLogs> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if at == 0 || lines[at - 1].stream != line.stream {
            let resource = Some(resources[line.stream].clone());
            resource_logs.push(ResourceLogs { resource, scope_logs: vec![ScopeLogs::default()] });
        }
        if let Some(scope) = resource_logs.last_mut().and_then(|logs| logs.scope_logs.first_mut()) {
            scope.log_records.push(RecordMessage::of(&line.record));
        }
    }
    ExportRequest { resource_logs }.encode_to_vec()
}

/// Encodes records of one stream as a whole OTLP export.
pub fn encode_export(stream: &LogStream<'_>, records: &[LogRecord<'_>]) -> Vec<u8> {
    let scope = ScopeLogs { log_records: records.iter().map(RecordMessage::of).collect() };
    let logs = ResourceLogs { resource: Some(Resource::of(stream)), scope_logs: vec![scope] };
    ExportRequest { resource_logs: vec![logs] }.encode_to_vec()
}

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_logs: Vec<ResourceLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceLogs {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_logs: Vec<ScopeLogs>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeLogs {
    #[prost(message, repeated, tag = "2")]
    log_records: Vec<RecordMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct RecordMessage {
    #[prost(fixed64, tag = "1")]
    time_unix_nano: u64,
    #[prost(int32, tag = "2")]
    severity_number: i32,
    #[prost(string, tag = "3")]
    severity_text: String,
    #[prost(message, optional, tag = "5")]
    body: Option<AnyValue>,
    #[prost(message, repeated, tag = "6")]
    attributes: Vec<KeyValue>,
    #[prost(bytes = "vec", tag = "9")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "10")]
    span_id: Vec<u8>,
}

impl RecordMessage {
    fn of(record: &LogRecord<'_>) -> Self {
        let is_traced = record.trace_id != [0; 16];
        Self {
            time_unix_nano: record.time_ns as u64,
            severity_number: record.severity.into(),
            severity_text: record.severity_text.to_string(),
            body: Some(AnyValue::of(&record.body)),
            attributes: key_values(&record.attributes),
            trace_id: if is_traced { record.trace_id.to_vec() } else { Vec::new() },
            span_id: if is_traced { record.span_id.to_vec() } else { Vec::new() },
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::logs::LogSink;

    use super::*;

    #[derive(Default)]
    struct Records(Vec<(LogStream<'static>, LogRecord<'static>)>, LogStream<'static>);

    impl LogSink for Records {
        fn stream(&mut self, stream: &LogStream<'_>) {
            let known = streams().into_iter().find(|known| known == stream);
            self.1 = known.expect("a stream of the workload");
        }

        fn record(&mut self, record: &LogRecord<'_>) {
            let attributes = record.attributes.iter().map(|(key, value)| {
                let value = match value {
                    LogValue::String(value) => text(value.to_string()),
                    LogValue::Int(value) => LogValue::Int(*value),
                    LogValue::Float(value) => LogValue::Float(*value),
                    other => panic!("{other:?}"),
                };
                (Cow::Owned(key.to_string()), value)
            });
            let LogValue::String(body) = &record.body else { panic!("no text: {:?}", record.body) };
            let record = LogRecord {
                time_ns: record.time_ns,
                severity: record.severity,
                severity_text: Cow::Owned(record.severity_text.to_string()),
                body: text(body.to_string()),
                trace_id: record.trace_id,
                span_id: record.span_id,
                attributes: attributes.collect(),
                ..LogRecord::default()
            };
            self.0.push((self.1.clone(), record));
        }
    }

    #[test]
    fn requests_are_what_the_decoder_takes_for_the_lines() {
        const START: i64 = 1_700_000_000_000_000_000;
        let mut workload = LogWorkload::new(5000, 1, START);
        let mut truth = Truth::default();
        let lanes = encode_requests(&mut workload, 9, 2, &mut truth);
        assert_eq!(lanes.iter().map(Vec::len).collect::<Vec<_>>(), [2, 1]);
        let mut records = Records::default();
        for request in [&lanes[0][0], &lanes[1][0], &lanes[0][1]] {
            let decoded = protocol::otlp::logs::decode(&request.body, 7, &mut records).expect("OTLP");
            assert_eq!((decoded.rejected, decoded.lacks_time), (0, false));
        }
        let streams = streams();
        let mut lines: Vec<Line> = LogWorkload::new(5000, 1, START).collect();
        for request in lines.chunks_mut(LINES_PER_REQUEST) {
            request.sort_by_key(|line| line.stream);
        }
        let sent: Vec<_> =
            lines.iter().map(|line| (streams[line.stream].clone(), line.record.clone())).collect();
        assert_eq!(records.0.len(), 5000);
        for (found, sent) in records.0.iter().zip(&sent) {
            assert_eq!(found, sent);
        }
        assert!(lines.iter().all(|line| (START..START + SPAN_NS).contains(&line.record.time_ns)));
    }

    #[test]
    fn lines_are_like_those_that_others_were_measured_with() {
        let mut truth = Truth::default();
        let lanes = encode_requests(&mut LogWorkload::new(40_000, 3, 0), usize::MAX, 1, &mut truth);
        let sent: usize = lanes[0].iter().map(|request| request.body.len()).sum();
        let per_line = |bytes: u64| bytes / truth.lines;
        assert!((330..366).contains(&per_line(truth.raw_bytes)), "{}", per_line(truth.raw_bytes));
        assert!((145..205).contains(&per_line(sent as u64)), "{}", per_line(sent as u64));
        // 14,255 of 3,000,000.
        assert!((120..270).contains(&truth.phrase), "{}", truth.phrase);
        for count in [truth.substring, truth.regex, truth.word_and_fields, truth.slow, truth.needle.1] {
            assert!(count > 0 && count < truth.lines / 10, "{truth:?}");
        }
    }
}
