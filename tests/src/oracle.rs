//! Uniquely numbered samples, and the judgement of what became of them.
//!
//! Each writer owns its series and counts up: sample `n` of a series has timestamp `start + n` (milliseconds) and
//! value `n`. A 2xx makes a sample *acknowledged*; a refusal or a broken connection leaves it *unknown*: it may be
//! there or not. At the end every acknowledged sample must be readable with its value, and nothing may be readable
//! that was never sent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::client::{Client, Series, encode_write};

/// Samples per request of a writer.
const BATCH: usize = 20;

/// What happened to the samples of all writers.
#[derive(Default)]
pub struct Ledger {
    acked: Mutex<BTreeMap<String, BTreeSet<u64>>>,
    sent: Mutex<BTreeMap<String, BTreeSet<u64>>>,
    acked_count: AtomicU64,
}

impl Ledger {
    fn note_sent(&self, series: &str, numbers: &[u64]) {
        self.sent.lock().expect("no writer panicked").entry(series.into()).or_default().extend(numbers);
    }

    fn note_acked(&self, series: &str, numbers: &[u64]) {
        self.acked.lock().expect("no writer panicked").entry(series.into()).or_default().extend(numbers);
        self.acked_count.fetch_add(numbers.len() as u64, Ordering::Relaxed);
    }

    /// Number of acknowledged samples.
    pub fn acked(&self) -> u64 {
        self.acked_count.load(Ordering::Relaxed)
    }

    /// Reads everything back through one node and compares. Returns the number of samples that were judged.
    pub fn judge(&self, client: &Client, start_ms: i64) -> anyhow::Result<u64> {
        let acked = self.acked.lock().expect("no writer panicked");
        let sent = self.sent.lock().expect("no writer panicked");
        let mut judged = 0;
        for (series, sent) in sent.iter() {
            let last = *sent.last().expect("a series in the ledger has samples");
            let found = read_series(client, series, start_ms, last)?;
            for (number, value) in &found {
                anyhow::ensure!(sent.contains(number), "{series}: sample {number} was never sent");
                anyhow::ensure!(*value == *number as f64, "{series}: sample {number} has value {value}");
            }
            for number in acked.get(series).into_iter().flatten() {
                anyhow::ensure!(
                    found.contains_key(number),
                    "{series}: acknowledged sample {number} is missing on {}",
                    client.base()
                );
                judged += 1;
            }
        }
        Ok(judged)
    }
}

/// All samples of a series, by number, read raw through range selectors.
fn read_series(client: &Client, series: &str, start_ms: i64, last: u64) -> anyhow::Result<BTreeMap<u64, f64>> {
    let mut found = BTreeMap::new();
    // A range selector returns raw samples: windows of 10 s hold at most 10,000 of them.
    let window = 10_000;
    let mut from = 0;
    while from <= last {
        let to_ms = start_ms + (from + window) as i64 - 1;
        let expr = format!("numbered{{writer=\"{series}\"}}[{window}ms]");
        let path = format!(
            "/api/v1/query?query={}&time={}.{:03}",
            crate::client::escape(&expr),
            to_ms / 1000,
            to_ms % 1000
        );
        let data = client.api(&path)?;
        for row in data["result"].as_array().into_iter().flatten() {
            for point in row["values"].as_array().into_iter().flatten() {
                let at_ms = (point[0].as_f64().unwrap_or(f64::NAN) * 1000.0).round() as i64;
                let value = point[1].as_str().unwrap_or("NaN").parse()?;
                anyhow::ensure!(
                    found.insert((at_ms - start_ms) as u64, value).is_none(),
                    "{series}: time {at_ms} appears twice"
                );
            }
        }
        from += window;
    }
    Ok(found)
}

/// Writers that run until stopped.
pub struct Writers {
    /// What they sent and what was acknowledged.
    pub ledger: Arc<Ledger>,
    /// Requests that did not end in a 2xx within the retries.
    pub failed: Arc<AtomicU64>,
    start_ms: i64,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts `count` writers. Each sends every request to the next of `urls`, and on failure the same bytes to the
    /// one after it, up to `retries` times.
    pub fn start(urls: &[String], count: usize, retries: usize) -> Self {
        let start_ms = now_ms() - 3_600_000;
        let ledger = Arc::new(Ledger::default());
        let (stop, failed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let threads = (0..count)
            .map(|writer| {
                let (ledger, stop, failed) = (ledger.clone(), stop.clone(), failed.clone());
                let clients: Vec<Client> =
                    urls.iter().map(|u| Client::with_timeout(u.clone(), Duration::from_secs(10))).collect();
                std::thread::spawn(move || {
                    run_writer(&format!("w{writer}"), writer, start_ms, &clients, retries, &ledger, &stop, &failed)
                })
            })
            .collect();
        Self { ledger, failed, start_ms, stop, threads }
    }

    /// Time of sample 0 in milliseconds.
    pub fn start_ms(&self) -> i64 {
        self.start_ms
    }

    /// Stops the writers and returns the ledger.
    pub fn stop(mut self) -> Arc<Ledger> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().expect("a writer does not panic");
        }
        self.ledger.clone()
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "the body of a thread: everything it owns is handed in")]
fn run_writer(
    series: &str,
    offset: usize,
    start_ms: i64,
    clients: &[Client],
    retries: usize,
    ledger: &Ledger,
    stop: &AtomicBool,
    failed: &AtomicU64,
) {
    let mut next = 0u64;
    let mut turn = offset;
    while !stop.load(Ordering::Relaxed) {
        let numbers: Vec<u64> = (next..next + BATCH as u64).collect();
        next += BATCH as u64;
        let samples = numbers.iter().map(|&n| (start_ms + n as i64, n as f64)).collect();
        let body = encode_write(&[Series::new("numbered", &[("writer", series)], samples)]);
        ledger.note_sent(series, &numbers);
        let mut acked = false;
        for attempt in 0..=retries {
            let client = &clients[turn % clients.len()];
            turn += 1;
            if client.post_write(&body).is_ok_and(|a| (200..300).contains(&a.status)) {
                acked = true;
                break;
            }
            std::thread::sleep(Duration::from_millis(20 * (attempt as u64 + 1)));
        }
        if acked {
            ledger.note_acked(series, &numbers);
        } else {
            failed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .expect("the clock stands after 1970")
        .as_millis() as i64
}
