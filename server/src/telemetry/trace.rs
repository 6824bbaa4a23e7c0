//! The node traces its own requests.
//!
//! ```text
//! request ─► a trace, begun here or continued by its `traceparent`
//!         ─► spans of what is done for it; where the work is in its trace goes along with the task
//!         ─► parts on other nodes carry on a trace that is kept (`wiring`)
//!         ─► at its end the trace is kept or forgotten ─► a bounded queue ─► `own_traces` writes it
//! ```
//!
//! **What is kept.** A trace whose caller samples it, by the W3C trace context's flag; [`Settings::per_second`] traces of
//! each route, after some quiet up to [`BURST_SECONDS`] times as many at once; and as many again of those that turned out
//! to be slow, failed (5xx) or logged a warning. Of the latter only what this node did is there, since nobody knew at the
//! time. By route, so that a flood of writes does not crowd out the queries.
//!
//! **What is not.** Probes, `/metrics` and the page's files are not traced, nor is what the node writes about itself: that
//! comes without a request, and without one there is no trace. Work without a trace costs the look whether there is one.
//!
//! Spans follow OpenTelemetry's conventions for HTTP servers and databases; attributes of our own begin with `pharos.`.

use std::any::Any;
use std::borrow::Cow;
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, Method, StatusCode, header};
use futures_util::future::BoxFuture;
use protocol::logs::{Attribute, LogValue};
use protocol::spans::{Span, SpanKind, SpanStatus};
use sql::TaskTracer;

use crate::runtime::now_ns;

/// Spans that wait to be written at most.
const MOST_WAITING: usize = 8_192;
/// Spans that are held of one trace until its end.
const MOST_HELD: usize = 512;
/// Seconds whose traces may come at once.
const BURST_SECONDS: f64 = 10.0;
/// Longest text of an attribute, in bytes.
const MOST_TEXT: usize = 4 << 10;
/// Routes that are told apart at most; the node itself has fewer.
const MOST_ROUTES: usize = 1_000;

/// Longest trace state that is passed on, as W3C allows.
const MOST_STATE: usize = 512;

/// W3C's flag of a sampled trace.
const SAMPLED: u32 = 1;
/// OpenTelemetry's bits: it is known whether the parent is remote; it is.
const PARENT_KNOWN: u32 = 0x100;
const PARENT_REMOTE: u32 = 0x200;

/// Bytes of [`Position::to_bytes`].
pub const POSITION_BYTES: usize = 24;

/// What is traced.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Traces of a route that are kept in a second; 0 for none at all.
    pub per_second: u32,
    /// Requests that take at least so long are slow; zero for none.
    pub slow_after: Duration,
}

/// Begins traces, and has the spans of those that are kept.
#[derive(Debug)]
pub struct Tracer {
    settings: Settings,
    places: Mutex<BTreeMap<(String, Reason), Places>>,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    spans: VecDeque<Span<'static>>,
    lost: u64,
}

/// Why a trace is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    /// It is one of the samples.
    Sample,
    /// It turned out to be worth it.
    Outcome,
}

/// Traces of a route that may be kept now: a token bucket.
#[derive(Debug)]
struct Places {
    free: f64,
    at: Instant,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Tracer {
    /// A tracer whose queue is empty.
    pub fn new(settings: Settings) -> Arc<Self> {
        Arc::new(Self { settings, places: Mutex::default(), waiting: Mutex::default() })
    }

    /// The root of this node's part of a request's trace.
    pub fn request(self: &Arc<Self>, route: &str, method: &Method, headers: &HeaderMap) -> Request {
        if self.settings.per_second == 0 {
            return Request { root: OpenSpan(None) };
        }
        let parent = Parent::of(headers);
        let mut root = self.root(route, format!("{method} {route}"), SpanKind::Server, parent.as_ref());
        root.set("http.request.method", method.as_str());
        root.set("http.route", route);
        if let Some(agent) = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()) {
            root.set("user_agent.original", agent);
        }
        Request { root }
    }

    /// The root of a trace of work that came by another way than HTTP.
    pub fn work(self: &Arc<Self>, route: &'static str) -> Request {
        if self.settings.per_second == 0 {
            return Request { root: OpenSpan(None) };
        }
        Request { root: self.root(route, route.to_owned(), SpanKind::Server, None) }
    }

    fn root(
        self: &Arc<Self>,
        route: &str,
        name: String,
        kind: SpanKind,
        parent: Option<&Parent>,
    ) -> OpenSpan {
        let is_sampled = match parent {
            Some(parent) => parent.flags & SAMPLED != 0,
            None => self.has_place(route, Reason::Sample),
        };
        let state = if is_sampled { State::Kept } else { State::Open(Vec::new()) };
        let trace = Arc::new(Trace {
            tracer: Arc::clone(self),
            id: parent.map_or_else(rand::random, |parent| parent.trace_id),
            route: route.to_owned(),
            state: Mutex::new(state),
        });
        let mut root =
            OpenSpan::new(trace, parent.map_or([0; 8], |parent| parent.span_id), name.into(), kind);
        if let (Some(open), Some(parent)) = (&mut root.0, parent) {
            open.span.flags |= PARENT_REMOTE;
            open.span.trace_state = parent.trace_state.clone().into();
        }
        root
    }

    /// Goes on with a trace of another node, which keeps it.
    pub fn resume(self: &Arc<Self>, bytes: &[u8; POSITION_BYTES]) -> Position {
        let mut position = Position {
            trace: Arc::new(Trace {
                tracer: Arc::clone(self),
                id: [0; 16],
                route: String::new(),
                state: Mutex::new(State::Kept),
            }),
            span_id: [0; 8],
        };
        let (id, span_id) = bytes.split_at(16);
        if let Some(trace) = Arc::get_mut(&mut position.trace) {
            trace.id.copy_from_slice(id);
        }
        position.span_id.copy_from_slice(span_id);
        position
    }

    fn has_place(&self, route: &str, reason: Reason) -> bool {
        let rate = f64::from(self.settings.per_second);
        let mut places = lock(&self.places);
        let key = (route.to_owned(), reason);
        if places.len() >= MOST_ROUTES && !places.contains_key(&key) {
            return false;
        }
        let now = Instant::now();
        let of_route = places.entry(key).or_insert_with(|| Places { free: rate * BURST_SECONDS, at: now });
        let passed = now.saturating_duration_since(of_route.at).as_secs_f64();
        of_route.free = (of_route.free + passed * rate).min(rate * BURST_SECONDS);
        of_route.at = now;
        let has = of_route.free >= 1.0;
        if has {
            of_route.free -= 1.0;
        }
        has
    }

    fn push(&self, spans: impl IntoIterator<Item = Span<'static>>) {
        let mut waiting = lock(&self.waiting);
        for span in spans {
            if waiting.spans.len() == MOST_WAITING {
                waiting.spans.pop_front();
                waiting.lost += 1;
            }
            waiting.spans.push_back(span);
        }
    }

    /// The spans that wait to be written, those that ended first first, and how many were lost before them.
    pub fn take(&self) -> (Vec<Span<'static>>, u64) {
        let waiting = std::mem::take(&mut *lock(&self.waiting));
        (waiting.spans.into(), waiting.lost)
    }
}

/// The caller's place in a trace, from the headers of W3C's trace context.
#[derive(Debug, PartialEq, Eq)]
struct Parent {
    trace_id: [u8; 16],
    span_id: [u8; 8],
    flags: u32,
    trace_state: String,
}

impl Parent {
    /// Nothing where there is none, or none that can be read: then a new trace begins, as the specification says.
    fn of(headers: &HeaderMap) -> Option<Self> {
        let mut parents = headers.get_all("traceparent").iter();
        let (Some(parent), None) = (parents.next(), parents.next()) else { return None };
        let mut parent = Self::parse(parent.to_str().ok()?.trim())?;
        let states = headers.get_all("tracestate").iter().filter_map(|state| state.to_str().ok());
        let state = states.collect::<Vec<_>>().join(",");
        if state.len() <= MOST_STATE {
            parent.trace_state = state;
        }
        Some(parent)
    }

    /// `version-trace id-span id-flags`, in small hexadecimal digits; later versions may have more behind.
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version: [u8; 1] = hex(parts.next()?)?;
        let (trace_id, span_id) = (hex(parts.next()?)?, hex(parts.next()?)?);
        let flags: [u8; 1] = hex(parts.next()?)?;
        let has_more = parts.next().is_some();
        let is_known = version[0] != 0xff && !(version[0] == 0 && has_more);
        let is_one = trace_id != [0; 16] && span_id != [0; 8];
        let (flags, trace_state) = (u32::from(flags[0]), String::new());
        (is_known && is_one).then_some(Self { trace_id, span_id, flags, trace_state })
    }
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || digits.iter().any(|digit| !matches!(digit, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(digits.chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(out)
}

/// A trace, as far as this node works on it.
#[derive(Debug)]
struct Trace {
    tracer: Arc<Tracer>,
    id: [u8; 16],
    route: String,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// It is not decided yet; these have ended.
    Open(Vec<Span<'static>>),
    Kept,
    Forgotten,
}

impl Trace {
    fn ended(&self, span: Span<'static>) {
        match &mut *lock(&self.state) {
            State::Open(held) if held.len() < MOST_HELD => held.push(span),
            State::Open(_) | State::Forgotten => (),
            State::Kept => self.tracer.push([span]),
        }
    }

    fn is_kept(&self) -> bool {
        matches!(*lock(&self.state), State::Kept)
    }

    /// Keeps it, for how it went; says whether it is kept now.
    fn keep(&self) -> bool {
        let mut state = lock(&self.state);
        if let State::Open(held) = &mut *state
            && self.tracer.has_place(&self.route, Reason::Outcome)
        {
            self.tracer.push(std::mem::take(held));
            *state = State::Kept;
        }
        matches!(*state, State::Kept)
    }

    /// Nothing that speaks for it can come any more.
    fn close(&self) {
        let mut state = lock(&self.state);
        if matches!(*state, State::Open(_)) {
            *state = State::Forgotten;
        }
    }
}

tokio::task_local! {
    static CURRENT: Position;
}

/// A place in a trace: what is begun there is a child of its span.
#[derive(Clone, Debug)]
pub struct Position {
    trace: Arc<Trace>,
    span_id: [u8; 8],
}

impl Position {
    /// Where the work of this task is.
    pub fn current() -> Option<Self> {
        CURRENT.try_with(Clone::clone).ok()
    }

    /// For another node that does a part of the work: ids of the trace and of the span. Nothing while it is open whether
    /// the trace is kept.
    pub fn to_bytes(&self) -> Option<[u8; POSITION_BYTES]> {
        let mut bytes = [0; POSITION_BYTES];
        bytes[..16].copy_from_slice(&self.trace.id);
        bytes[16..].copy_from_slice(&self.span_id);
        self.trace.is_kept().then_some(bytes)
    }

    /// Ids of the trace and of the span, for a line of the log, if there is a trace to find by them. A line that warns is a
    /// reason to keep it.
    pub fn of_line(is_warning: bool) -> Option<([u8; 16], [u8; 8])> {
        let kept = |position: &Self| {
            let trace = &position.trace;
            let is_kept = if is_warning { trace.keep() } else { trace.is_kept() };
            is_kept.then_some((trace.id, position.span_id))
        };
        CURRENT.try_with(kept).ok().flatten()
    }
}

/// Does work at a place in a trace.
pub async fn at<T>(position: Option<Position>, work: impl Future<Output = T>) -> T {
    match position {
        Some(position) => CURRENT.scope(position, work).await,
        None => work.await,
    }
}

/// The same for work that computes.
pub fn compute_at<T>(position: Option<Position>, work: impl FnOnce() -> T) -> T {
    match position {
        Some(position) => CURRENT.sync_scope(position, work),
        None => work(),
    }
}

/// Begins a span of what this task does now.
pub fn span(name: &'static str) -> OpenSpan {
    span_at(Position::current(), name)
}

/// Begins a span at a place in a trace.
pub fn span_at(position: Option<Position>, name: &'static str) -> OpenSpan {
    match position {
        Some(Position { trace, span_id }) => OpenSpan::new(trace, span_id, name.into(), SpanKind::Internal),
        None => OpenSpan(None),
    }
}

/// A span that has not ended; it ends when it is dropped. Where there is no trace it is nothing.
#[derive(Debug)]
pub struct OpenSpan(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    trace: Arc<Trace>,
    begun: Instant,
    span: Span<'static>,
}

impl OpenSpan {
    fn new(trace: Arc<Trace>, parent_id: [u8; 8], name: Cow<'static, str>, kind: SpanKind) -> Self {
        let span = Span {
            trace_id: trace.id,
            span_id: rand::random::<u64>().max(1).to_be_bytes(),
            parent_id,
            flags: SAMPLED | PARENT_KNOWN,
            name,
            kind,
            start_ns: now_ns(),
            ..Span::default()
        };
        Self(Some(Box::new(Open { trace, begun: Instant::now(), span })))
    }

    /// The place within it.
    pub fn position(&self) -> Option<Position> {
        let open = self.0.as_ref()?;
        Some(Position { trace: Arc::clone(&open.trace), span_id: open.span.span_id })
    }

    /// Notes something about it.
    pub fn set(&mut self, key: &'static str, value: impl Noted) {
        if let Some(open) = &mut self.0 {
            let value: Attribute<'static> = (Cow::Borrowed(key), value.noted());
            open.span.attributes.push(value);
        }
    }

    /// It failed, for this reason.
    pub fn fail(&mut self, reason: &dyn std::fmt::Display) {
        if let Some(open) = &mut self.0 {
            open.span.status = SpanStatus::Error;
            open.span.status_message = shortened(&reason.to_string()).into();
        }
    }

    /// Does work within it and ends it; what the work says of a failure is noted.
    pub async fn over<T, E: std::fmt::Display>(
        mut self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        let outcome = at(self.position(), work).await;
        if let Err(error) = &outcome {
            self.fail(error);
        }
        outcome
    }
}

impl Open {
    fn end(mut self: Box<Self>) {
        let took = i64::try_from(self.begun.elapsed().as_nanos()).unwrap_or(i64::MAX);
        // By the clock that does not jump.
        self.span.end_ns = self.span.start_ns.saturating_add(took);
        self.trace.ended(self.span);
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(open) = self.0.take() {
            open.end();
        }
    }
}

/// What can be noted of a span.
pub trait Noted {
    /// As an attribute's value.
    fn noted(self) -> LogValue<'static>;
}

impl Noted for &str {
    fn noted(self) -> LogValue<'static> {
        LogValue::String(shortened(self).into())
    }
}

impl Noted for u64 {
    fn noted(self) -> LogValue<'static> {
        LogValue::Int(i64::try_from(self).unwrap_or(i64::MAX))
    }
}

impl Noted for usize {
    fn noted(self) -> LogValue<'static> {
        (self as u64).noted()
    }
}

impl Noted for Duration {
    /// In seconds.
    fn noted(self) -> LogValue<'static> {
        LogValue::Float(self.as_secs_f64())
    }
}

fn shortened(text: &str) -> String {
    let end = (0..=MOST_TEXT.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text[..end].to_owned()
}

/// A request that is answered.
#[derive(Debug)]
pub struct Request {
    root: OpenSpan,
}

impl Request {
    /// The place within it.
    pub fn position(&self) -> Option<Position> {
        self.root.position()
    }

    /// Notes something about it.
    pub fn set(&mut self, key: &'static str, value: impl Noted) {
        self.root.set(key, value);
    }

    /// It was answered, with this status of HTTP. Gives the id of its trace if that is kept.
    pub fn answered(mut self, status: StatusCode) -> Option<[u8; 16]> {
        self.root.set("http.response.status_code", u64::from(status.as_u16()));
        self.ended(status.is_server_error().then_some(&status))
    }

    /// It ended, perhaps by a failure of ours. Gives the id of its trace if that is kept.
    pub fn ended(mut self, failure: Option<&dyn std::fmt::Display>) -> Option<[u8; 16]> {
        if let Some(failure) = failure {
            self.root.fail(failure);
        }
        self.end()
    }

    fn end(&mut self) -> Option<[u8; 16]> {
        let open = self.root.0.take()?;
        let trace = Arc::clone(&open.trace);
        let slow_after = trace.tracer.settings.slow_after;
        let is_slow = !slow_after.is_zero() && open.begun.elapsed() >= slow_after;
        let has_failed = open.span.status == SpanStatus::Error;
        open.end();
        let is_kept = if is_slow || has_failed { trace.keep() } else { trace.is_kept() };
        trace.close();
        is_kept.then_some(trace.id)
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.root.0.is_some() {
            self.root.set("pharos.outcome", "abandoned by its client");
            self.end();
        }
    }
}

/// Takes the position along into the tasks of an SQL plan.
pub struct Carrier;

impl TaskTracer for Carrier {
    fn trace_future(
        &self,
        work: BoxFuture<'static, Box<dyn Any + Send>>,
    ) -> BoxFuture<'static, Box<dyn Any + Send>> {
        match Position::current() {
            Some(position) => Box::pin(CURRENT.scope(position, work)),
            None => work,
        }
    }

    fn trace_block(
        &self,
        work: Box<dyn FnOnce() -> Box<dyn Any + Send> + Send>,
    ) -> Box<dyn FnOnce() -> Box<dyn Any + Send> + Send> {
        match Position::current() {
            Some(position) => Box::new(move || CURRENT.sync_scope(position, work)),
            None => work,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SETTINGS: Settings = Settings { per_second: 1, slow_after: Duration::from_secs(10) };

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    fn get(tracer: &Arc<Tracer>, pairs: &[(&'static str, &'static str)]) -> Request {
        tracer.request("/api/v1/query", &Method::GET, &headers(pairs))
    }

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_callers_trace_is_carried_on() {
        let tracer = Tracer::new(SETTINGS);
        let request = get(
            &tracer,
            &[
                ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
                ("tracestate", "a=1"),
                ("tracestate", "b=2"),
                ("user-agent", "curl"),
            ],
        );
        let id = request.answered(StatusCode::OK).unwrap();
        assert_eq!(protocol::logs::value::id_text(&id), TRACE);
        let (spans, lost) = tracer.take();
        let [span] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((span.parent_id[7], span.trace_state.as_ref(), lost), (0xb7, "a=1,b=2", 0));
        assert_eq!((span.name.as_ref(), span.kind), ("GET /api/v1/query", SpanKind::Server));
        assert!(span.end_ns >= span.start_ns && span.flags == SAMPLED | PARENT_KNOWN | PARENT_REMOTE);
        let noted: Vec<(&str, String)> =
            span.attributes.iter().map(|(key, value)| (key.as_ref(), value.text().into_owned())).collect();
        let expected = [
            ("http.request.method", "GET"),
            ("http.route", "/api/v1/query"),
            ("user_agent.original", "curl"),
            ("http.response.status_code", "200"),
        ];
        assert_eq!(noted, expected.map(|(key, value)| (key, value.to_owned())));
    }

    #[test]
    fn what_is_no_trace_context_is_ignored() {
        let parent = |text: &'static str| Parent::of(&headers(&[("traceparent", text)]));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-é1",
        ] {
            assert_eq!(parent(bad), None, "{bad:?}");
        }
        let two = headers(&[
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ]);
        assert_eq!(Parent::of(&two), None);
        let later = parent("cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-03-more").unwrap();
        assert_eq!(later.flags, 3);
    }

    #[test]
    fn each_route_has_its_samples() {
        let tracer = Tracer::new(SETTINGS);
        let kept = |route: &str| {
            tracer.request(route, &Method::POST, &HeaderMap::new()).answered(StatusCode::OK).is_some()
        };
        let writes = (0..1_000).filter(|_| kept("/api/v1/write")).count();
        // The burst, and what came free while this ran.
        assert!((10..100).contains(&writes), "{writes}");
        assert!(kept("/api/v1/query"));
        assert_eq!(tracer.take().0.len(), writes + 1);
        // An unsampled trace of a caller is none of the samples, and takes no place.
        let parent = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")];
        assert_eq!(get(&tracer, &parent).answered(StatusCode::OK), None);
    }

    #[test]
    fn what_went_wrong_is_kept_with_all_that_was_done_for_it() {
        let unsampled = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")];
        let tracer = Tracer::new(SETTINGS);
        let request = get(&tracer, &unsampled);
        let mut child = span_at(request.position(), "fragments");
        assert!(child.position().unwrap().to_bytes().is_none(), "nobody knows yet whether it is kept");
        child.fail(&"no quorum");
        drop(child);
        assert!(request.answered(StatusCode::SERVICE_UNAVAILABLE).is_some());
        let (spans, _) = tracer.take();
        let [child, root] = &spans[..] else { panic!("{spans:?}") };
        assert_eq!((child.parent_id, child.status_message.as_ref()), (root.span_id, "no quorum"));
        assert_eq!(root.status, SpanStatus::Error);
        // A slow one, too.
        let tracer = Tracer::new(Settings { slow_after: Duration::from_nanos(1), ..SETTINGS });
        assert!(get(&tracer, &unsampled).answered(StatusCode::OK).is_some());
        // And a warning keeps it as it is said; what ends later belongs to it.
        let tracer = Tracer::new(SETTINGS);
        let request = get(&tracer, &unsampled);
        let line = |is_warning| compute_at(request.position(), || Position::of_line(is_warning));
        assert_eq!(line(false), None);
        assert!(line(true).is_some() && line(false).is_some());
        let late = span_at(request.position(), "late");
        assert!(request.answered(StatusCode::OK).is_some());
        drop(late);
        assert_eq!(tracer.take().0.len(), 2);
        assert_eq!(Position::of_line(true), None, "there is no trace here");
    }

    #[test]
    fn an_abandoned_request_says_so() {
        let tracer = Tracer::new(SETTINGS);
        drop(get(&tracer, &[]));
        let (spans, _) = tracer.take();
        assert_eq!(spans[0].attributes.last().unwrap().0, "pharos.outcome");
    }

    #[test]
    fn a_part_on_another_node_belongs_to_the_trace() {
        let (here, there) = (Tracer::new(SETTINGS), Tracer::new(SETTINGS));
        let request = get(&here, &[]);
        let bytes = request.position().unwrap().to_bytes().unwrap();
        drop(span_at(Some(there.resume(&bytes)), "fragment"));
        let id = request.answered(StatusCode::OK).unwrap();
        let (root, part) = (&here.take().0[0], &there.take().0[0]);
        assert_eq!((part.trace_id, part.parent_id), (id, root.span_id));
    }

    #[test]
    fn nothing_is_traced_when_it_is_off() {
        let tracer = Tracer::new(Settings { per_second: 0, ..SETTINGS });
        let parent = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
        let request = get(&tracer, &parent);
        assert!(request.position().is_none());
        assert_eq!(request.answered(StatusCode::INTERNAL_SERVER_ERROR), None);
        assert_eq!(tracer.take(), (Vec::new(), 0));
    }

    #[test]
    fn the_queue_is_bounded() {
        let tracer = Tracer::new(SETTINGS);
        let request = get(&tracer, &[]);
        for number in 0..MOST_WAITING + 3 {
            span_at(request.position(), "part").set("number", number);
        }
        let (spans, lost) = tracer.take();
        assert_eq!((spans.len(), lost), (MOST_WAITING, 3));
        assert_eq!(spans[0].attributes[0].1, LogValue::Int(3));
    }

    #[tokio::test]
    async fn work_knows_its_place() {
        let tracer = Tracer::new(SETTINGS);
        let request = get(&tracer, &[]);
        let outcome: Result<(), &str> = at(request.position(), async {
            let outer = span("outer");
            let (child, position) = (outer.position(), outer.position());
            outer
                .over(async {
                    tokio::task::yield_now().await;
                    assert_eq!(Position::current().map(|p| p.span_id), child.map(|p| p.span_id));
                    // Into a task of a plan, too.
                    let task = Carrier.trace_future(Box::pin(async { Box::new(()) as Box<dyn Any + Send> }));
                    drop(task);
                    let block = Carrier.trace_block(Box::new(|| {
                        Box::new(Position::current().map(|p| p.span_id)) as Box<dyn Any + Send>
                    }));
                    let there = std::thread::spawn(block).join().unwrap();
                    let there = there.downcast::<Option<[u8; 8]>>().unwrap();
                    assert_eq!(*there, position.map(|p| p.span_id));
                    Err("failed")
                })
                .await
        })
        .await;
        assert_eq!(outcome, Err("failed"));
        assert!(Position::current().is_none());
        assert_eq!(tracer.take().0[0].status_message, "failed");
    }
}
