//! Deterministic traces, encoded as OpenTelemetry's exporters send them.
//!
//! Twelve services with five pods each. A trace has 8 to 20 spans: a request at the gateway, below it calls from service
//! to service (a client's span, and the server's below it), queries of databases and work inside; on the wire a span takes
//! about 245 bytes. Traces are spread evenly over an hour; a request carries those of some 2,000 spans, ordered by stream
//! as a collector's batches are.
//!
//! The same seed and start give the same bytes. [`SpanTruth`] says beforehand what the questions of the benchmark have to
//! be answered with.

use std::borrow::Cow;

use prost::Message;
use protocol::logs::{Attribute, LogStream, LogValue, TimestampNs};
use protocol::spans::{Span, SpanKind, SpanStatus};
use rand::RngExt;
use rand::rngs::SmallRng;

use crate::log_workload::{PODS, SERVICES, SPAN_NS, streams};
use crate::otlp::{KeyValue, Resource, key_values};
use crate::sim::random::{Stream, stream};
use crate::workload::Request;

/// Spans after which a request is full; the trace that fills it is whole.
pub const SPANS_PER_REQUEST: usize = 2000;
/// What a span is longer than to be slow, in nanoseconds.
pub const SLOW_NS: u64 = 1_000_000_000;

const ROUTES: [&str; 8] = [
    "/api/v1/orders/{id}",
    "/api/v1/baskets/{id}/items",
    "/api/v1/payments",
    "/api/v1/users/{id}",
    "/api/v1/search",
    "/api/v1/products/{id}",
    "/api/v1/invoices/{id}",
    "/api/v1/sessions",
];
const METHODS: [&str; 4] = ["GET", "GET", "POST", "PUT"];
const TABLES: [&str; 6] = ["orders", "baskets", "payments", "users", "products", "invoices"];
const STEPS: [&str; 5] = ["validate", "render", "price", "authorize", "serialize"];
const GATEWAY: usize = 6;

/// A span and the number of its stream.
#[derive(Clone, Debug)]
pub struct Made {
    /// In [`streams`].
    pub stream: usize,
    /// The span.
    pub span: Span<'static>,
}

/// Makes traces, oldest first.
pub struct SpanWorkload {
    random: SmallRng,
    start_ns: TimestampNs,
    traces: usize,
    next: usize,
}

fn text(name: &'static str, value: impl Into<Cow<'static, str>>) -> Attribute<'static> {
    (Cow::Borrowed(name), LogValue::String(value.into()))
}

fn int(name: &'static str, value: i64) -> Attribute<'static> {
    (Cow::Borrowed(name), LogValue::Int(value))
}

impl SpanWorkload {
    /// So many traces over an hour from `start_ns` on.
    pub fn new(traces: usize, seed: u64, start_ns: TimestampNs) -> Self {
        Self { random: stream(seed, Stream::Clients, 1), start_ns, traces, next: 0 }
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.random.random_range(0..bound)
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.random.random_range(0..all.len())]
    }

    /// A call of a service over HTTP, as its server or its client sees it.
    fn call(
        &mut self,
        kind: SpanKind,
        method: &'static str,
        route: &'static str,
        to: usize,
    ) -> Span<'static> {
        let fails = self.below(50) == 0;
        let status = if fails { 500 } else { self.one_of(&[200, 200, 200, 201, 404]) };
        let mut attributes = vec![
            text("http.request.method", method),
            int("http.response.status_code", status),
            text("server.address", SERVICES[to]),
            text("network.protocol.version", "1.1"),
        ];
        if kind == SpanKind::Server {
            attributes.push(text("http.route", route));
            attributes.push(text("client.address", format!("10.2.{}.{}", self.below(8), self.below(256))));
        } else {
            let number = self.below(100_000).to_string();
            attributes.push(text("url.path", route.replace("{id}", &number)));
        }
        Span {
            name: format!("{method} {route}").into(),
            kind,
            status: if fails { SpanStatus::Error } else { SpanStatus::Unset },
            attributes,
            ..Span::default()
        }
    }

    /// A query of a database, or a step of a service's own.
    fn inner(&mut self) -> Span<'static> {
        if self.below(2) == 0 {
            let (table, rows) = (self.one_of(&TABLES), self.below(200));
            let attributes = vec![
                text("db.system.name", "postgresql"),
                text("db.namespace", "shop"),
                text("db.query.text", format!("SELECT * FROM {table} WHERE id = $1 LIMIT {}", rows + 1)),
                int("db.response.returned_rows", rows as i64),
            ];
            let name = format!("SELECT shop.{table}").into();
            return Span { name, kind: SpanKind::Client, attributes, ..Span::default() };
        }
        let (step, items) = (self.one_of(&STEPS), self.below(40));
        let attributes = vec![text("code.function.name", step), int("shop.items", items as i64)];
        Span { name: Cow::Borrowed(step), kind: SpanKind::Internal, attributes, ..Span::default() }
    }

    /// Puts a span below another one: in its time, of its trace.
    fn below_of(&mut self, parent: &Span<'_>, mut span: Span<'static>) -> Span<'static> {
        span.attributes.push(int("thread.id", 1 + self.below(64) as i64));
        let room = parent.duration_ns().max(10) as i64;
        let begins = self.below(room as u64 / 3 + 1) as i64;
        let lasts = 1 + self.below((room - begins) as u64 * 9 / 10 + 1) as i64;
        (span.start_ns, span.end_ns) = (parent.start_ns + begins, parent.start_ns + begins + lasts);
        (span.trace_id, span.parent_id, span.span_id) =
            (parent.trace_id, parent.span_id, self.random.random());
        span.flags = 1;
        span
    }
}

impl Iterator for SpanWorkload {
    type Item = Vec<Made>;

    fn next(&mut self) -> Option<Vec<Made>> {
        if self.next == self.traces {
            return None;
        }
        // Half a minute of room for the last one.
        let offset = self.next as i128 * i128::from(SPAN_NS - 30_000_000_000) / self.traces as i128;
        self.next += 1;
        let pod = |this: &mut Self, service: usize| service * PODS + this.below(PODS as u64) as usize;
        let (method, route) = (self.one_of(&METHODS), self.one_of(&ROUTES));
        let mut root = self.call(SpanKind::Server, method, route, GATEWAY);
        (root.trace_id, root.span_id) = (self.random.random(), self.random.random());
        root.start_ns = self.start_ns + offset as i64 + self.below(1_000_000) as i64;
        // Most take tens of milliseconds, few take seconds.
        let (a, b, c) = (self.below(200), self.below(200), self.below(200));
        root.end_ns = root.start_ns + ((a * b * c) as i64 + 1_000) * 300;
        root.flags = 1;
        let count = 8 + self.below(13) as usize;
        let mut made = vec![Made { stream: pod(self, GATEWAY), span: root }];
        // Those that call: the servers' spans.
        let mut servers = vec![0];
        while made.len() < count {
            let parent = self.one_of(&servers);
            let (stream, above) = (made[parent].stream, made[parent].span.clone());
            // A call is two spans, one at each side.
            if self.below(3) == 0 && made.len() + 2 <= count {
                let to = self.below(SERVICES.len() as u64) as usize;
                let (method, route) = (self.one_of(&METHODS), self.one_of(&ROUTES));
                let client = self.call(SpanKind::Client, method, route, to);
                let client = self.below_of(&above, client);
                let server = self.call(SpanKind::Server, method, route, to);
                let server = self.below_of(&client, server);
                made.push(Made { stream, span: client });
                servers.push(made.len());
                let stream = pod(self, to);
                made.push(Made { stream, span: server });
            } else {
                let inner = self.inner();
                let span = self.below_of(&above, inner);
                made.push(Made { stream, span });
            }
        }
        Some(made)
    }
}

/// What is true of a workload.
#[derive(Clone, Debug, Default)]
pub struct SpanTruth {
    /// Spans.
    pub spans: u64,
    /// Traces.
    pub traces: u64,
    /// Services.
    pub services: u64,
    /// Traces in which the service `payment` has a span.
    pub of_payment: u64,
    /// Traces with a span that failed.
    pub failed: u64,
    /// Spans that failed.
    pub errors: u64,
    /// Traces with a span longer than [`SLOW_NS`].
    pub slow: u64,
    /// A trace, and how many spans it has.
    pub needle: ([u8; 16], u64),
    seen: [bool; SERVICES.len()],
}

impl SpanTruth {
    fn note(&mut self, trace: &[Made]) {
        self.traces += 1;
        self.spans += trace.len() as u64;
        let any = |test: &dyn Fn(&Made) -> bool| u64::from(trace.iter().any(test));
        self.of_payment += any(&|made| SERVICES[made.stream / PODS] == "payment");
        self.failed += any(&|made| made.span.status == SpanStatus::Error);
        self.errors += trace.iter().filter(|made| made.span.status == SpanStatus::Error).count() as u64;
        self.slow += any(&|made| made.span.duration_ns() > SLOW_NS);
        trace.iter().for_each(|made| self.seen[made.stream / PODS] = true);
        self.services = self.seen.iter().filter(|seen| **seen).count() as u64;
        // One somewhat inside.
        if self.traces == 100 {
            self.needle = (trace[0].span.trace_id, trace.len() as u64);
        }
    }
}

/// The next requests of a workload, at most so many, dealt to lanes in turn; `truth` learns what is in them.
pub fn encode_requests(
    workload: &mut SpanWorkload,
    requests: usize,
    lanes: usize,
    truth: &mut SpanTruth,
) -> Vec<Vec<Request>> {
    let resources: Vec<Resource> = streams().iter().map(Resource::of).collect();
    let mut dealt: Vec<Vec<Request>> = (0..lanes.max(1)).map(|_| Vec::new()).collect();
    for number in 0..requests {
        let mut made: Vec<Made> = Vec::new();
        while made.len() < SPANS_PER_REQUEST {
            let Some(trace) = workload.next() else { break };
            truth.note(&trace);
            made.extend(trace);
        }
        if made.is_empty() {
            break;
        }
        made.sort_by_key(|made| made.stream);
        let group = number % dealt.len();
        let samples = made.len() as u32;
        dealt[group].push(Request { group, samples, body: encode(&made, &resources) });
    }
    dealt
}

fn encode(spans: &[Made], resources: &[Resource]) -> Vec<u8> {
    let of_stream = |spans: &[Made]| ResourceSpans {
        resource: Some(resources[spans[0].stream].clone()),
        scope_spans: vec![ScopeSpans {
            spans: spans.iter().map(|made| SpanMessage::of(&made.span)).collect(),
        }],
    };
    let resource_spans = spans.chunk_by(|a, b| a.stream == b.stream).map(of_stream).collect();
    ExportRequest { resource_spans }.encode_to_vec()
}

/// Encodes spans of one stream as a whole OTLP export.
pub fn encode_export(stream: &LogStream<'_>, spans: &[Span<'_>]) -> Vec<u8> {
    let scope = ScopeSpans { spans: spans.iter().map(SpanMessage::of).collect() };
    let spans = ResourceSpans { resource: Some(Resource::of(stream)), scope_spans: vec![scope] };
    ExportRequest { resource_spans: vec![spans] }.encode_to_vec()
}

#[derive(Clone, PartialEq, Message)]
struct ExportRequest {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, Message)]
struct ScopeSpans {
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<StatusMessage>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, Message)]
struct StatusMessage {
    #[prost(int32, tag = "3")]
    code: i32,
}

impl SpanMessage {
    fn of(span: &Span<'_>) -> Self {
        let is_root = span.parent_id == [0; 8];
        Self {
            trace_id: span.trace_id.to_vec(),
            span_id: span.span_id.to_vec(),
            parent_span_id: if is_root { Vec::new() } else { span.parent_id.to_vec() },
            name: span.name.to_string(),
            kind: span.kind as i32,
            start_time_unix_nano: span.start_ns as u64,
            end_time_unix_nano: span.end_ns as u64,
            attributes: key_values(&span.attributes),
            status: (span.status != SpanStatus::Unset).then_some(StatusMessage { code: span.status as i32 }),
            flags: span.flags,
        }
    }
}

#[cfg(test)]
mod tests {
    use protocol::spans::SpanSink;

    use super::*;

    #[derive(Default)]
    struct Spans(Vec<(LogStream<'static>, Span<'static>)>, LogStream<'static>);

    impl SpanSink for Spans {
        fn stream(&mut self, stream: &LogStream<'_>) {
            self.1 = stream.clone().into_owned();
        }

        fn span(&mut self, span: &Span<'_>) {
            self.0.push((self.1.clone(), span.clone().into_owned()));
        }
    }

    #[test]
    fn requests_are_what_the_decoder_takes_for_the_spans() {
        const START: i64 = 1_700_000_000_000_000_000;
        let mut truth = SpanTruth::default();
        let lanes = encode_requests(&mut SpanWorkload::new(400, 1, START), 9, 2, &mut truth);
        let mut spans = Spans::default();
        for number in 0.. {
            let Some(request) = lanes[number % 2].get(number / 2) else { break };
            let decoded = protocol::otlp::traces::decode(&request.body, &mut spans).expect("OTLP");
            assert_eq!(decoded.rejected, 0);
        }
        let streams = streams();
        let mut sent = Vec::new();
        let mut traces = SpanWorkload::new(400, 1, START).peekable();
        while traces.peek().is_some() {
            let mut request: Vec<Made> = Vec::new();
            while request.len() < SPANS_PER_REQUEST
                && let Some(trace) = traces.next()
            {
                request.extend(trace);
            }
            request.sort_by_key(|made| made.stream);
            sent.extend(request.into_iter().map(|made| (streams[made.stream].clone(), made.span)));
        }
        assert_eq!(spans.0.len() as u64, truth.spans);
        assert_eq!(spans.0, sent);
    }

    #[test]
    fn spans_are_like_those_that_others_were_measured_with() {
        let mut truth = SpanTruth::default();
        let lanes = encode_requests(&mut SpanWorkload::new(4_000, 3, 0), usize::MAX, 1, &mut truth);
        let sent: usize = lanes[0].iter().map(|request| request.body.len()).sum();
        let per_span = sent as u64 / truth.spans;
        assert!((225..265).contains(&per_span), "{per_span} bytes a span");
        assert!((13..16).contains(&(truth.spans / truth.traces)), "{truth:?}");
        assert_eq!((truth.traces, truth.services), (4_000, 12));
        for count in [truth.of_payment, truth.failed, truth.slow] {
            assert!(count > 20 && count < truth.traces / 2, "{truth:?}");
        }
        assert!((8..=20).contains(&truth.needle.1));
    }

    #[test]
    fn children_lie_within_their_parents() {
        for trace in SpanWorkload::new(500, 7, 0) {
            for made in &trace[1..] {
                let parent = trace.iter().find(|other| other.span.span_id == made.span.parent_id);
                let parent = &parent.expect("a parent in the trace").span;
                assert!(parent.start_ns <= made.span.start_ns && made.span.end_ns <= parent.end_ns + 10);
            }
            assert!(trace.iter().all(|made| (0..SPAN_NS).contains(&made.span.end_ns)));
        }
    }
}
