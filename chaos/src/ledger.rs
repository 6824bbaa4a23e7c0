//! Uniquely numbered samples over HTTP, and the judgement of what became of them.
//!
//! Each series belongs to one writer and counts up: sample `n` has timestamp `start + n` (milliseconds) and value `n`.
//! A 2xx makes a sample *acknowledged*; a refusal or a broken connection leaves it *unknown*: it may be there or not.
//! At the end every acknowledged sample must be readable with its value, and nothing may be readable that was never
//! sent. Both checks are set algorithms, linear in the number of samples.
//!
//! Writers behave like real exporters: a request that fails is sent again, the same bytes, to the next node, until it
//! is acknowledged or its time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::ensure;

use crate::client::{Client, Series, encode_write, escape};

/// Name of the metric that holds the numbered samples.
pub const METRIC: &str = "numbered";

/// How writers behave.
#[derive(Clone, Debug)]
pub struct WriterOptions {
    /// Number of writers, each a thread and a connection.
    pub writers: usize,
    /// Series of each writer; every request carries all of them.
    pub series: usize,
    /// Samples a series and request.
    pub samples: usize,
    /// Pause after each acknowledged request.
    pub think: Duration,
    /// How long a request is sent again before it counts as failed.
    pub give_up: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self { writers: 4, series: 1, samples: 20, think: Duration::ZERO, give_up: Duration::from_secs(30) }
    }
}

#[derive(Default)]
struct Fate {
    sent: BTreeSet<u64>,
    acked: BTreeSet<u64>,
}

/// What happened to the samples of all writers.
#[derive(Default)]
pub struct Ledger {
    start_ms: i64,
    fates: Mutex<BTreeMap<String, Fate>>,
    acked: AtomicU64,
    failed: AtomicU64,
    attempts_failed: AtomicU64,
}

/// Outcome of a judgement that found no violation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// Acknowledged samples, all of them found.
    pub acknowledged: u64,
    /// Samples found whose acknowledgement never arrived.
    pub unknown_present: u64,
    /// Samples sent without acknowledgement that are absent.
    pub unknown_absent: u64,
}

impl Ledger {
    fn fates(&self) -> MutexGuard<'_, BTreeMap<String, Fate>> {
        self.fates.lock().expect("no holder of the ledger panicked")
    }

    /// Number of acknowledged samples so far.
    pub fn acked(&self) -> u64 {
        self.acked.load(Ordering::Relaxed)
    }

    /// Requests that were given up.
    pub fn failed(&self) -> u64 {
        self.failed.load(Ordering::Relaxed)
    }

    /// Attempts that failed and were sent again or given up.
    pub fn attempts_failed(&self) -> u64 {
        self.attempts_failed.load(Ordering::Relaxed)
    }

    /// Reads everything back through one node and compares. An error names the first violation.
    pub fn judge(&self, client: &Client) -> anyhow::Result<Judgement> {
        let fates = self.fates();
        let mut judgement = Judgement::default();
        for (series, fate) in fates.iter() {
            let Some(&last) = fate.sent.last() else { continue };
            let found = read_series(client, series, self.start_ms, last)?;
            for (number, value) in &found {
                ensure!(fate.sent.contains(number), "{series}: sample {number} was never sent");
                ensure!(*value == *number as f64, "{series}: sample {number} has value {value}");
            }
            for number in &fate.sent {
                match (fate.acked.contains(number), found.contains_key(number)) {
                    (true, true) => judgement.acknowledged += 1,
                    (false, true) => judgement.unknown_present += 1,
                    (false, false) => judgement.unknown_absent += 1,
                    (true, false) => anyhow::bail!(
                        "{series}: acknowledged sample {number} is missing when read from {}",
                        client.base()
                    ),
                }
            }
        }
        Ok(judgement)
    }
}

/// All samples of a series by number, read raw: a range selector in an instant query answers samples as they are.
fn read_series(
    client: &Client,
    series: &str,
    start_ms: i64,
    last: u64,
) -> anyhow::Result<BTreeMap<u64, f64>> {
    const WINDOW: u64 = 10_000;
    let mut found = BTreeMap::new();
    for from in (0..=last).step_by(WINDOW as usize) {
        // The range is open on the left: (to - WINDOW, to].
        let to_ms = start_ms + (from + WINDOW) as i64 - 1;
        let selector = escape(&format!("{METRIC}{{series=\"{series}\"}}[{WINDOW}ms]"));
        let time = format!("{}.{:03}", to_ms.div_euclid(1000), to_ms.rem_euclid(1000));
        let data = client.api(&format!("/api/v1/query?query={selector}&time={time}"))?;
        for row in data["result"].as_array().into_iter().flatten() {
            for point in row["values"].as_array().into_iter().flatten() {
                let at_ms = (point[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
                let value = point[1].as_str().unwrap_or("NaN").parse()?;
                let number = u64::try_from(at_ms - start_ms);
                let number =
                    number.map_err(|_| anyhow::anyhow!("{series}: a sample at {at_ms} was never sent"))?;
                ensure!(found.insert(number, value).is_none(), "{series}: sample {number} is there twice");
            }
        }
    }
    Ok(found)
}

/// Writers that run until stopped or dropped.
pub struct Writers {
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts the writers. Each sends its requests to the servers at `urls` in turn.
    pub fn start(urls: &[String], options: &WriterOptions) -> Self {
        let ledger = Arc::new(Ledger { start_ms: now_ms() - 6 * 3_600_000, ..Ledger::default() });
        let stop = Arc::new(AtomicBool::new(false));
        let threads = (0..options.writers)
            .map(|number| {
                let mut writer = Writer {
                    number,
                    series: (0..options.series).map(|s| format!("{number}-{s}")).collect(),
                    clients: urls
                        .iter()
                        .map(|u| Client::with_timeout(u.clone(), Duration::from_secs(10)))
                        .collect(),
                    options: options.clone(),
                    ledger: ledger.clone(),
                    stop: stop.clone(),
                };
                std::thread::spawn(move || writer.run())
            })
            .collect();
        Self { ledger, stop, threads }
    }

    /// What was sent and acknowledged so far.
    pub fn ledger(&self) -> &Arc<Ledger> {
        &self.ledger
    }

    /// Stops the writers, each after the request that it has under way.
    pub fn stop(mut self) -> Arc<Ledger> {
        self.join();
        self.ledger.clone()
    }

    fn join(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let ended = thread.join();
            assert!(ended.is_ok() || std::thread::panicking(), "a writer panicked");
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.join();
    }
}

struct Writer {
    number: usize,
    series: Vec<String>,
    clients: Vec<Client>,
    options: WriterOptions,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
}

impl Writer {
    fn run(&mut self) {
        let mut next = 0;
        let mut turn = self.number;
        while !self.stop.load(Ordering::Relaxed) {
            let numbers: Vec<u64> = (next..next + self.options.samples as u64).collect();
            next += self.options.samples as u64;
            let samples: Vec<_> =
                numbers.iter().map(|&n| (self.ledger.start_ms + n as i64, n as f64)).collect();
            let series: Vec<_> =
                self.series.iter().map(|s| Series::new(METRIC, &[("series", s)], samples.clone())).collect();
            self.note(&numbers, |fate| &mut fate.sent);
            if self.send(&encode_write(&series), &mut turn) {
                self.note(&numbers, |fate| &mut fate.acked);
                let acked = (numbers.len() * self.series.len()) as u64;
                self.ledger.acked.fetch_add(acked, Ordering::Relaxed);
            } else {
                self.ledger.failed.fetch_add(1, Ordering::Relaxed);
            }
            std::thread::sleep(self.options.think);
        }
    }

    fn note(&self, numbers: &[u64], set: impl Fn(&mut Fate) -> &mut BTreeSet<u64>) {
        let mut fates = self.ledger.fates();
        for series in &self.series {
            set(fates.entry(series.clone()).or_default()).extend(numbers);
        }
    }

    /// Sends the same bytes to one node after the other until one acknowledges. False when it is given up.
    fn send(&self, body: &[u8], turn: &mut usize) -> bool {
        let sent = Instant::now();
        loop {
            let client = &self.clients[*turn % self.clients.len()];
            *turn += 1;
            match client.post_write(body) {
                Ok(answer) if answer.is_success() => return true,
                _ => self.ledger.attempts_failed.fetch_add(1, Ordering::Relaxed),
            };
            if sent.elapsed() > self.options.give_up {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock stands after 1970");
    i64::try_from(since.as_millis()).expect("milliseconds since 1970 fit 63 bits")
}
