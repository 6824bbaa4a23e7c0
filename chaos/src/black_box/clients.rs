//! What clients do during a run: writers that number what they write, readers that ask for it.
//!
//! Writers behave as exporters do. A request that fails is sent again, the same bytes, until it is acknowledged or 30 s are
//! over: by some to the same node ([`Class::Exporter`]), by some to the next ([`Class::OtherNode`]); some never do
//! ([`Class::Once`]). Each waits for the end of one request before it makes the next, and none is faster than its rate.
//! Readers ask all nodes in turn for what was written last, now and then for something older, or for a count over all series
//! of a client. Everything is noted in the history; nothing is judged here.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rand::RngExt;
use rand::rngs::SmallRng;

use crate::black_box::history::{
    Attempt, Class, CountOp, Found, Line, Outcome, ReadOp, Recorder, Signal, WriteOp,
};
use crate::black_box::numbered;
use crate::black_box::reader::{Reader, result_of};
use crate::http::Connection;
use crate::scenario::{Load, Retry};
use crate::sim::random::{Stream, stream};

/// How long a request is sent again.
const GIVE_UP: Duration = Duration::from_secs(30);
/// How long one attempt may take. The servers themselves give a write up after five seconds.
pub const ATTEMPT: Duration = Duration::from_secs(6);
/// Numbers that a read looks back.
const LOOK_BACK: u64 = 200;

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
    /// Whose data it is; where it does not say, that of who names no tenant.
    pub tenant: Option<String>,
}

impl Common {
    /// A connection to a node.
    pub fn connect(&self, node: usize, timeout: Duration) -> Connection {
        Connection::new(self.nodes[node], timeout).of_tenant(self.tenant.clone())
    }

    fn connect_all(&self) -> Vec<Connection> {
        (0..self.nodes.len()).map(|node| self.connect(node, ATTEMPT)).collect()
    }
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
}

/// The writers of a load.
pub fn writers(load: &Load) -> Vec<Writer> {
    let class = |mixed: Class| match load.retry {
        Retry::Mixed => mixed,
        Retry::Exporter => Class::Exporter,
        Retry::OtherNode => Class::OtherNode,
        Retry::None => Class::Once,
    };
    let mut writers = Vec::new();
    let mut add = |signal: Signal, rate: u32, numbers: u64, classes: &[Class]| {
        if rate == 0 {
            return;
        }
        let items = numbers as usize * numbered::series(signal) * classes.len();
        let interval = Duration::from_secs_f64(items as f64 / f64::from(rate));
        let of =
            |(client, mixed): (usize, &Class)| Writer::new(signal, client, class(*mixed), numbers, interval);
        writers.extend(classes.iter().enumerate().map(of));
    };
    // At high rates requests grow, not their number.
    let metrics = [Class::OtherNode, Class::Exporter, Class::OtherNode, Class::Once];
    add(Signal::Metrics, load.metrics, u64::from(load.metrics.div_ceil(4000)) * 2, &metrics);
    let logs = [Class::OtherNode, Class::Once, Class::Exporter];
    add(Signal::Logs, load.logs, u64::from(load.logs.div_ceil(300)) * 10, &logs);
    let traces = [Class::Exporter, Class::OtherNode];
    add(Signal::Traces, load.traces, u64::from(load.traces.div_ceil(300)) * 10, &traces);
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
pub(super) fn sleep(duration: Duration, stop: &AtomicBool) -> bool {
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

/// Writes until it is told to stop.
pub fn write_until(common: &Common, writer: &Writer, stop: &AtomicBool) {
    let mut connections = common.connect_all();
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
    let body = numbered::encode(writer.signal, writer.client, common.start_ms, (from, to));
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
            Signal::Traces => connection.post_traces(&body),
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
        items: (to - from) * numbered::series(writer.signal) as u64,
        t0,
        t1: now(),
        outcome,
        attempts,
    }
}

/// Asks until it is told to stop; `interval` from question to question.
pub fn read_until(common: &Common, number: usize, writers: &[Writer], interval: Duration, stop: &AtomicBool) {
    let mut random = stream(common.seed, Stream::Clients, 1 << 40 | number as u64);
    let mut connections = common.connect_all();
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
    let series = random.random_range(0..numbered::series(writer.signal));
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
        let series = numbered::series(writer.signal) as u64;
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
        for (metrics, logs, traces) in [(1500, 150, 100), (20_000, 2000, 900), (48, 10, 0), (0, 30, 7)] {
            let load = Load { metrics, logs, traces, ..Load::default() };
            for (signal, rate) in [(Signal::Metrics, metrics), (Signal::Logs, logs), (Signal::Traces, traces)]
            {
                let of_signal: Vec<Writer> =
                    writers(&load).into_iter().filter(|w| w.signal == signal).collect();
                let items = |w: &Writer| {
                    w.numbers as f64 * numbered::series(w.signal) as f64 / w.interval.as_secs_f64()
                };
                let sum: f64 = of_signal.iter().map(items).sum();
                assert!((sum - f64::from(rate)).abs() < 0.01 * f64::from(rate) + 1e-9, "{sum} for {rate}");
            }
        }
    }
}
