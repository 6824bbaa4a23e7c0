//! What clients do during a run: writers that number what they write, readers that ask for it.
//!
//! Writers behave as exporters do. A request that fails is sent again, the same bytes, until it is acknowledged or 30 s are
//! over: by some to the same node ([`Class::Exporter`]), by some to the next ([`Class::OtherNode`]); some never do
//! ([`Class::Once`]). Each waits for the end of one request before it makes the next, and none is faster than its rate.
//! Readers ask all nodes in turn for what was written last, now and then for something older, or for a count over all series
//! of a client. Everything is noted in the history; nothing is judged here.

use std::borrow::Cow;
use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use protocol::logs::{LogRecord, LogStream, LogValue};
use rand::RngExt;
use rand::rngs::SmallRng;
use serde_json::Value;

use crate::black_box::history::{
    Attempt, Class, CountOp, Found, Line, Outcome, ReadOp, Recorder, Runs, Signal, WriteOp,
};
use crate::client::{Series, encode_write, escape, seconds};
use crate::http::{Answer, Connection};
use crate::log_workload::encode_export;
use crate::scenario::{Load, Retry};
use crate::sim::random::{Stream, stream};

/// Name of the metric.
pub const METRIC: &str = "chaos_numbered";
/// Series of a client of metrics.
pub const SERIES: usize = 24;
/// How long a request is sent again.
const GIVE_UP: Duration = Duration::from_secs(30);
/// How long one attempt may take. The servers themselves give a write up after five seconds.
pub const ATTEMPT: Duration = Duration::from_secs(6);
/// Numbers that a read looks back.
const LOOK_BACK: u64 = 200;
/// Rows of a page of logs.
const PAGE: usize = 5000;
/// Numbers that one query asks for.
const WINDOW: u64 = 10_000;

/// What all clients of a run know.
#[derive(Clone)]
pub struct Common {
    /// HTTP addresses of the nodes.
    pub nodes: Arc<Vec<SocketAddr>>,
    /// Where everything is noted.
    pub recorder: Recorder,
    /// Time of number 0, milliseconds since 1970.
    pub start_ms: i64,
    /// The seed.
    pub seed: u64,
}

/// Who writes, and how far it is.
#[derive(Clone)]
pub struct Writer {
    /// What.
    pub signal: Signal,
    /// Its number among those of the same signal.
    pub client: usize,
    /// How it goes on after a failure.
    pub class: Class,
    /// Numbers of one request.
    pub numbers: u64,
    /// Time from request to request.
    pub interval: Duration,
    /// Number behind the last that was sent.
    pub sent: Arc<AtomicU64>,
}

impl Writer {
    fn new(signal: Signal, client: usize, class: Class, numbers: u64, interval: Duration) -> Self {
        Self { signal, client, class, numbers, interval, sent: Arc::default() }
    }

    /// Series of which each has every number.
    pub fn series(&self) -> usize {
        match self.signal {
            Signal::Metrics => SERIES,
            Signal::Logs => 1,
        }
    }

    fn body(&self, start_ms: i64, from: u64, to: u64) -> Vec<u8> {
        match self.signal {
            Signal::Metrics => {
                let samples: Vec<(i64, f64)> = (from..to).map(|n| (start_ms + n as i64, n as f64)).collect();
                let client = self.client.to_string();
                let series: Vec<Series> = (0..SERIES)
                    .map(|number| {
                        let labels = [("client", client.as_str()), ("series", &number.to_string())];
                        Series::new(METRIC, &labels, samples.clone())
                    })
                    .collect();
                encode_write(&series)
            }
            Signal::Logs => {
                let text = |text: String| LogValue::String(Cow::Owned(text));
                let resource = vec![
                    (Cow::Borrowed("service.name"), text("chaos".to_owned())),
                    (Cow::Borrowed("chaos_client"), text(self.client.to_string())),
                ];
                let records: Vec<LogRecord<'_>> = (from..to)
                    .map(|number| LogRecord {
                        time_ns: (start_ms + number as i64) * 1_000_000,
                        severity: 9,
                        severity_text: Cow::Borrowed("INFO"),
                        body: text(log_body(self.client, number)),
                        attributes: vec![(Cow::Borrowed("seq"), LogValue::Int(number as i64))],
                        ..LogRecord::default()
                    })
                    .collect();
                encode_export(&LogStream { resource, ..LogStream::default() }, &records)
            }
        }
    }
}

/// The body of a record, long enough to tell it from every other.
fn log_body(client: usize, number: u64) -> String {
    format!("record {number} of client {client}: nothing of this may be lost, doubled or changed")
}

/// The writers of a load.
pub fn writers(load: &Load) -> Vec<Writer> {
    let class = |mixed: Class| match load.retry {
        Retry::Mixed => mixed,
        Retry::Exporter => Class::Exporter,
        Retry::OtherNode => Class::OtherNode,
        Retry::None => Class::Once,
    };
    let every = |numbers: u64, rate: u32, clients: usize, series: usize| {
        Duration::from_secs_f64((numbers as usize * series * clients) as f64 / f64::from(rate.max(1)))
    };
    let mut writers = Vec::new();
    // At high rates requests grow, not their number.
    let metrics = [Class::OtherNode, Class::Exporter, Class::OtherNode, Class::Once];
    if load.metrics > 0 {
        let numbers = u64::from(load.metrics.div_ceil(4000)) * 2;
        let interval = every(numbers, load.metrics, metrics.len(), SERIES);
        let of = |(client, mixed): (usize, &Class)| {
            Writer::new(Signal::Metrics, client, class(*mixed), numbers, interval)
        };
        writers.extend(metrics.iter().enumerate().map(of));
    }
    let logs = [Class::OtherNode, Class::Once, Class::Exporter];
    if load.logs > 0 {
        let numbers = u64::from(load.logs.div_ceil(300)) * 10;
        let interval = every(numbers, load.logs, logs.len(), 1);
        let of = |(client, mixed): (usize, &Class)| {
            Writer::new(Signal::Logs, client, class(*mixed), numbers, interval)
        };
        writers.extend(logs.iter().enumerate().map(of));
    }
    writers
}

/// A writer of an overload: large requests, one after the other.
pub fn burst_writer(number: usize) -> Writer {
    Writer::new(Signal::Metrics, 1000 + number, Class::Burst, 50, Duration::ZERO)
}

/// Threads that run until they are stopped.
#[derive(Default)]
pub struct Running {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Running {
    /// Starts a thread that ends soon after the flag is set.
    pub fn spawn(
        &mut self,
        name: &str,
        work: impl FnOnce(&AtomicBool) + Send + 'static,
    ) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        let thread = std::thread::Builder::new().name(name.to_owned());
        self.threads.push(thread.spawn(move || work(&stop))?);
        Ok(())
    }

    /// Asks all to end and waits; an error when one panicked.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        let ended: Vec<bool> = self.threads.drain(..).map(|thread| thread.join().is_ok()).collect();
        anyhow::ensure!(ended.iter().all(|is_fine| *is_fine), "a thread of the harness panicked");
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Whoever drops it without a stop is failing already.
        let _ = self.stop();
    }
}

/// Sleeps in small steps; false when it was told to stop meanwhile.
fn sleep(duration: Duration, stop: &AtomicBool) -> bool {
    let until = Instant::now() + duration;
    while !stop.load(Ordering::Relaxed) {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
    false
}

/// The word for how an attempt ended.
fn result_of(answer: &io::Result<Answer>) -> String {
    match answer {
        Ok(answer) => answer.status.to_string(),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused".to_owned(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "timeout".to_owned(),
            kind => format!("{kind:?}"),
        },
    }
}

fn connections(nodes: &[SocketAddr], timeout: Duration) -> Vec<Connection> {
    nodes.iter().map(|addr| Connection::new(*addr, timeout)).collect()
}

/// Writes until it is told to stop.
pub fn write_until(common: &Common, writer: &Writer, stop: &AtomicBool) {
    let mut connections = connections(&common.nodes, ATTEMPT);
    let mut due = Instant::now();
    let mut turn = writer.client;
    let mut random =
        stream(common.seed, Stream::Clients, (writer.signal as u64) << 32 | writer.client as u64);
    while sleep(due.saturating_duration_since(Instant::now()), stop) {
        let from = writer.sent.load(Ordering::Relaxed);
        let to = from + writer.numbers;
        // Before it is sent: a reader may find it at once.
        writer.sent.store(to, Ordering::SeqCst);
        let op = deliver(common, writer, (from, to), &mut connections, &mut turn, stop);
        common.recorder.note(&Line::Write(op));
        // Not all at the same moment, and no faster after a time of waiting.
        let spread = writer.interval.mul_f64(random.random_range(0.8..1.2));
        due = Instant::now().max(due + spread);
    }
}

/// Sends one request until it is acknowledged or given up.
fn deliver(
    common: &Common,
    writer: &Writer,
    (from, to): (u64, u64),
    connections: &mut [Connection],
    turn: &mut usize,
    stop: &AtomicBool,
) -> WriteOp {
    let body = writer.body(common.start_ms, from, to);
    let now = || common.recorder.now();
    let t0 = now();
    let begun = Instant::now();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut pause = Duration::from_millis(20);
    let outcome = loop {
        if writer.class != Class::Exporter {
            *turn += 1;
        }
        let node = *turn % connections.len();
        let connection = &mut connections[node];
        let sent = now();
        connection.refresh();
        let answer = match writer.signal {
            Signal::Metrics => connection.post_write(&body),
            Signal::Logs => connection.post_logs(&body),
        };
        let result = result_of(&answer);
        attempts.push(Attempt { node, t0: sent, t1: now(), result });
        let is_final = match &answer {
            Ok(answer) if answer.is_success() => break Outcome::Ok,
            // The request is at fault, says the server: sending it again would not help.
            Ok(answer) => (400..500).contains(&answer.status) && ![408, 429].contains(&answer.status),
            Err(_) => false,
        };
        let gives_up = match writer.class {
            Class::Once => true,
            // An overload is over when it is over.
            Class::Burst => stop.load(Ordering::Relaxed),
            Class::Exporter | Class::OtherNode => begun.elapsed() > GIVE_UP,
        };
        if is_final || gives_up {
            let is_certain = attempts.iter().all(|attempt| attempt.result == "refused");
            break if is_certain { Outcome::Fail } else { Outcome::Info };
        }
        std::thread::sleep(pause);
        let longest = if writer.class == Class::Exporter { 2000 } else { 500 };
        pause = (pause * 2).min(Duration::from_millis(longest));
    };
    WriteOp {
        signal: writer.signal,
        client: writer.client,
        class: writer.class,
        from,
        to,
        items: (to - from) * writer.series() as u64,
        t0,
        t1: now(),
        outcome,
        attempts,
    }
}

/// The answer of the query API: its data, and whether it says that something is missing.
fn data_of(answer: io::Result<Answer>) -> Result<(Value, bool), String> {
    let result = result_of(&answer);
    let answer = answer.map_err(|_| result.clone())?;
    if answer.status != 200 {
        return Err(result);
    }
    let json: Value = serde_json::from_slice(&answer.body).map_err(|error| format!("no JSON: {error}"))?;
    if json["status"] != "success" {
        return Err(format!("200 without success: {}", answer.text()));
    }
    let is_partial = json["partial"] == true || json["data"]["partial"] == true;
    Ok((json["data"].clone(), is_partial))
}

/// A connection to one node, with the freshness that is asked for.
pub struct Reader<'a> {
    connection: &'a mut Connection,
    start_ms: i64,
    consistency: Option<&'a str>,
}

impl<'a> Reader<'a> {
    /// Reads linearizably, unless another `consistency` is given.
    pub fn new(connection: &'a mut Connection, start_ms: i64, consistency: Option<&'a str>) -> Self {
        Self { connection, start_ms, consistency }
    }

    fn get(&mut self, path: &str) -> Result<(Value, bool), String> {
        self.connection.refresh();
        let headers: Vec<(&str, &str)> =
            self.consistency.iter().map(|level| ("X-Pharos-Consistency", *level)).collect();
        data_of(self.connection.get_with(path, &headers))
    }

    fn instant(&mut self, expr: &str, at_ms: i64) -> Result<(Value, bool), String> {
        self.get(&format!("/api/v1/query?query={}&time={}", escape(expr), seconds(at_ms)))
    }

    /// The numbers `lo..hi` of one series of a client, or of all.
    pub fn read(
        &mut self,
        signal: Signal,
        client: usize,
        series: Range<usize>,
        (lo, hi): (u64, u64),
    ) -> Result<(Vec<Found>, bool), String> {
        let mut seen: Vec<Seen> = series.clone().map(|_| Seen::default()).collect();
        let mut is_partial = false;
        let window = WINDOW / series.len().max(1) as u64;
        for from in (lo..hi).step_by(window as usize) {
            let to = (from + window).min(hi);
            is_partial |= match signal {
                Signal::Metrics => self.read_samples(client, &series, (from, to), &mut seen)?,
                Signal::Logs => self.read_records(client, (from, to), &mut seen[0])?,
            };
        }
        Ok((seen.into_iter().map(Seen::found).collect(), is_partial))
    }

    fn read_samples(
        &mut self,
        client: usize,
        series: &Range<usize>,
        (from, to): (u64, u64),
        seen: &mut [Seen],
    ) -> Result<bool, String> {
        let one = if series.len() == 1 { format!(",series=\"{}\"", series.start) } else { String::new() };
        // A range is open on its left.
        let selector = format!("{METRIC}{{client=\"{client}\"{one}}}[{}ms]", to - from);
        let (data, is_partial) = self.instant(&selector, self.start_ms + to as i64 - 1)?;
        for row in data["result"].as_array().into_iter().flatten() {
            let number = row["metric"]["series"].as_str().and_then(|text| text.parse::<usize>().ok());
            let index = number.filter(|number| series.contains(number)).map(|number| number - series.start);
            let seen = index.and_then(|index| seen.get_mut(index));
            let seen = seen.ok_or_else(|| format!("a series that was not asked for: {}", row["metric"]))?;
            for point in row["values"].as_array().into_iter().flatten() {
                let at_ms = (point[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
                let value: f64 = point[1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN);
                match u64::try_from(at_ms - self.start_ms) {
                    Ok(number) if (from..to).contains(&number) => {
                        seen.note(number, value == number as f64, || format!("sample {number} is {value}"));
                    }
                    _ => seen.wrong.push(format!("a sample at {at_ms} ms, outside of what was asked for")),
                }
            }
        }
        Ok(is_partial)
    }

    fn read_records(
        &mut self,
        client: usize,
        (from, to): (u64, u64),
        seen: &mut Seen,
    ) -> Result<bool, String> {
        let start_ms = self.start_ms;
        let ns = |number: u64| (start_ms + number as i64) * 1_000_000;
        let question = format!(
            "/api/v1/logs/query?query={}&start={}&end={}&limit={PAGE}&direction=forward",
            escape(&format!("chaos_client:{client}")),
            ns(from),
            ns(to) - 1
        );
        let mut cursor: Option<String> = None;
        let mut is_partial = false;
        loop {
            let page = cursor.as_ref().map_or_else(String::new, |at| format!("&cursor={}", escape(at)));
            let (data, partial) = self.get(&format!("{question}{page}"))?;
            is_partial |= partial;
            for row in data["rows"].as_array().into_iter().flatten() {
                let body = row["body"].as_str().unwrap_or_default();
                match row["attributes"]["seq"].as_u64() {
                    Some(number) if (from..to).contains(&number) => {
                        let is_right = body == log_body(client, number)
                            && is_text(&row["timeUnixNano"], ns(number))
                            && is_text(&row["resource"]["chaos_client"], client);
                        seen.note(number, is_right, || format!("record {number} is {row}"));
                    }
                    _ => seen.wrong.push(format!("a record that was not asked for: {row}")),
                }
            }
            cursor = data["cursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Ok(is_partial);
            }
        }
    }

    /// How many of `lo..hi` there are over all series of a client.
    pub fn count(
        &mut self,
        signal: Signal,
        client: usize,
        (lo, hi): (u64, u64),
    ) -> Result<(u64, bool), String> {
        match signal {
            Signal::Metrics => {
                let expr = format!("sum(count_over_time({METRIC}{{client=\"{client}\"}}[{}ms]))", hi - lo);
                let (data, is_partial) = self.instant(&expr, self.start_ms + hi as i64 - 1)?;
                Ok((first_value(&data)?.unwrap_or_default() as u64, is_partial))
            }
            Signal::Logs => {
                let (data, is_partial) = self.stats(&format!("chaos_client:{client}"), (lo, hi))?;
                Ok((data["count"].as_u64().ok_or("stats without a count")?, is_partial))
            }
        }
    }

    fn stats(&mut self, query: &str, (lo, hi): (u64, u64)) -> Result<(Value, bool), String> {
        let ns = |number: u64| (self.start_ms + number as i64) * 1_000_000;
        let query = escape(query);
        self.get(&format!("/api/v1/logs/stats?query={query}&field=seq&start={}&end={}", ns(lo), ns(hi) - 1))
    }

    /// Count, sum and maximum of the numbers below `hi` of everything that the signal has.
    pub fn totals(&mut self, signal: Signal, hi: u64) -> Result<Vec<(&'static str, f64)>, String> {
        match signal {
            Signal::Metrics => ["count", "sum", "max"]
                .into_iter()
                .map(|what| {
                    let over = if what == "max" { "max" } else { "sum" };
                    let expr = format!("{over}({what}_over_time({METRIC}[{}ms]))", hi.max(1));
                    let (data, _) = self.instant(&expr, self.start_ms + hi.max(1) as i64 - 1)?;
                    Ok((what, first_value(&data)?.unwrap_or_default()))
                })
                .collect(),
            Signal::Logs => {
                let (data, _) = self.stats("service.name:chaos", (0, hi.max(1)))?;
                let number = |value: &Value| value.as_f64().unwrap_or_default();
                Ok(vec![
                    ("count", number(&data["count"])),
                    ("sum", number(&data["numbers"]["sum"])),
                    ("max", number(&data["numbers"]["max"])),
                ])
            }
        }
    }
}

/// Whether a value is the text of a number.
fn is_text<T: std::str::FromStr + PartialEq>(value: &Value, number: T) -> bool {
    value.as_str().and_then(|text| text.parse().ok()) == Some(number)
}

/// The value of the only row of an instant query; `None` where there is no row.
fn first_value(data: &Value) -> Result<Option<f64>, String> {
    match data["result"].as_array().map(Vec::as_slice) {
        Some([]) => Ok(None),
        Some([row]) => {
            let value = row["value"][1].as_str().and_then(|text| text.parse().ok());
            value.map(Some).ok_or_else(|| format!("no value in {row}"))
        }
        _ => Err(format!("one row was expected: {data}")),
    }
}

#[derive(Default)]
struct Seen {
    once: std::collections::BTreeSet<u64>,
    twice: Vec<u64>,
    wrong: Vec<String>,
}

impl Seen {
    fn note(&mut self, number: u64, is_right: bool, what: impl FnOnce() -> String) {
        if !self.once.insert(number) {
            self.twice.push(number);
        }
        if !is_right {
            self.wrong.push(what());
        }
    }

    fn found(mut self) -> Found {
        // A few tell all.
        self.wrong.truncate(20);
        Found { numbers: Runs::of(self.once), twice: Runs::of(self.twice), wrong: self.wrong }
    }
}

/// Asks until it is told to stop; `interval` from question to question.
pub fn read_until(common: &Common, number: usize, writers: &[Writer], interval: Duration, stop: &AtomicBool) {
    let mut random = stream(common.seed, Stream::Clients, 1 << 40 | number as u64);
    let mut connections = connections(&common.nodes, ATTEMPT);
    let mut node = number;
    let mut due = Instant::now();
    while sleep(due.saturating_duration_since(Instant::now()), stop) {
        due = Instant::now().max(due + interval);
        node = (node + 1) % connections.len();
        let writer = &writers[random.random_range(0..writers.len())];
        let hi = writer.sent.load(Ordering::SeqCst);
        if hi == 0 {
            continue;
        }
        common.recorder.note(&ask(common, writer, hi, node, &mut connections[node], &mut random));
    }
}

fn ask(
    common: &Common,
    writer: &Writer,
    hi: u64,
    node: usize,
    connection: &mut Connection,
    random: &mut SmallRng,
) -> Line {
    let hi = if random.random_range(0..8) == 0 { random.random_range(1..=hi) } else { hi };
    let lo = hi.saturating_sub(LOOK_BACK);
    let (signal, client) = (writer.signal, writer.client);
    let series = random.random_range(0..writer.series());
    let is_count = random.random_range(0..4) == 0;
    let now = || common.recorder.now();
    let t0 = now();
    let mut reader = Reader::new(connection, common.start_ms, None);
    if is_count {
        let answer = reader.count(signal, client, (lo, hi));
        let (outcome, result, (count, is_partial)) = match answer {
            Ok(counted) => (Outcome::Ok, "200".to_owned(), counted),
            Err(reason) => (Outcome::Info, reason, (0, false)),
        };
        let series = writer.series() as u64;
        let t1 = now();
        return Line::Count(CountOp {
            signal,
            client,
            series,
            lo,
            hi,
            t0,
            t1,
            node,
            outcome,
            result,
            is_partial,
            count,
        });
    }
    let answer = reader.read(signal, client, series..series + 1, (lo, hi));
    let (outcome, result, (found, is_partial)) = match answer {
        Ok((mut found, is_partial)) => {
            (Outcome::Ok, "200".to_owned(), (found.pop().unwrap_or_default(), is_partial))
        }
        Err(reason) => (Outcome::Info, reason, (Found::default(), false)),
    };
    let t1 = now();
    Line::Read(ReadOp { signal, client, series, lo, hi, t0, t1, node, outcome, result, is_partial, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_as_large_as_asked_for() {
        for (metrics, logs) in [(1500, 150), (20_000, 2000), (48, 10), (0, 30)] {
            let load = Load { metrics, logs, ..Load::default() };
            for (signal, rate) in [(Signal::Metrics, metrics), (Signal::Logs, logs)] {
                let of_signal: Vec<Writer> =
                    writers(&load).into_iter().filter(|w| w.signal == signal).collect();
                let items = |w: &Writer| w.numbers as f64 * w.series() as f64 / w.interval.as_secs_f64();
                let sum: f64 = of_signal.iter().map(items).sum();
                assert!((sum - f64::from(rate)).abs() < 0.01 * f64::from(rate) + 1e-9, "{sum} for {rate}");
            }
        }
    }

    #[test]
    fn what_is_read_twice_or_wrong_is_found() {
        let mut seen = Seen::default();
        for number in [3, 4, 4, 5] {
            seen.note(number, number != 5, || format!("{number} is off"));
        }
        let found = seen.found();
        assert_eq!(found.numbers.0, [(3, 6)]);
        assert_eq!(found.twice.0, [(4, 5)]);
        assert_eq!(found.wrong, ["5 is off"]);
    }
}
