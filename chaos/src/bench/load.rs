//! The load of a benchmark, encoded before the clock starts, and its sending.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::http::{Answer, Connection};
use crate::ledger::now_ms;
use crate::process::Usage;
use crate::workload::{Request, Shape, Workload};

/// When a load begins whose last scrape lies just before now: neither retention nor "too far ahead" has a say.
pub(super) fn start_ms(shape: Shape) -> i64 {
    (now_ms() - shape.span_ms()) / shape.interval_ms * shape.interval_ms
}

/// All requests, dealt to connections so that the requests of one group of hosts stay on one connection, in order.
pub(super) fn encode(shape: Shape, seed: u64, start_ms: i64, connections: usize) -> Vec<Vec<Request>> {
    let mut lanes: Vec<Vec<Request>> = (0..connections.max(1)).map(|_| Vec::new()).collect();
    let mut workload = Workload::new(shape, seed, start_ms);
    while let Some(requests) = workload.next_scrape() {
        for request in requests {
            let lane = request.group % lanes.len();
            lanes[lane].push(request);
        }
    }
    lanes
}

/// How a request is sent.
pub(super) type Post = fn(&mut Connection, &[u8]) -> std::io::Result<Answer>;

/// What sending took.
#[derive(Default)]
pub(super) struct Sent {
    pub samples: u64,
    pub retries: u64,
    /// From the first byte sent to the last acknowledgement.
    pub seconds: f64,
    /// Microseconds of each acknowledgement, sorted.
    pub latencies: Vec<u32>,
}

impl Sent {
    /// A quantile of the acknowledgements, in milliseconds.
    pub fn quantile_ms(&self, q: f64) -> f64 {
        let at = ((self.latencies.len() as f64 * q) as usize).min(self.latencies.len().saturating_sub(1));
        self.latencies.get(at).map_or(0.0, |micros| f64::from(*micros) / 1e3)
    }
}

/// Sends all lanes at once, a connection each, dealt over the addresses.
pub(super) fn send(addrs: &[SocketAddr], lanes: &[Vec<Request>], post: Post) -> anyhow::Result<Sent> {
    let started = Instant::now();
    let mut all = Sent::default();
    std::thread::scope(|scope| {
        let lanes: Vec<_> = lanes
            .iter()
            .enumerate()
            .map(|(at, lane)| {
                let addr = addrs[at % addrs.len()];
                scope.spawn(move || send_lane(addr, lane, post))
            })
            .collect();
        for lane in lanes {
            let Ok(sent) = lane.join() else { bail!("a sender panicked") };
            let sent = sent?;
            all.samples += sent.samples;
            all.retries += sent.retries;
            all.latencies.extend(sent.latencies);
        }
        Ok(())
    })?;
    all.seconds = started.elapsed().as_secs_f64();
    all.latencies.sort_unstable();
    Ok(all)
}

/// How often a request is sent again before the benchmark gives up.
const MAX_RETRIES: u32 = 200;

fn send_lane(addr: SocketAddr, lane: &[Request], post: Post) -> anyhow::Result<Sent> {
    let mut connection = Connection::new(addr, Duration::from_secs(60));
    let mut sent = Sent { latencies: Vec::with_capacity(lane.len()), ..Sent::default() };
    for request in lane {
        let started = Instant::now();
        let mut tries = 0;
        loop {
            let answer =
                post(&mut connection, &request.body).with_context(|| format!("no answer from {addr}"))?;
            if answer.is_success() {
                break;
            }
            tries += 1;
            let retryable = matches!(answer.status, 429 | 500..=599);
            if !retryable || tries > MAX_RETRIES {
                bail!("{addr} answered {}: {}", answer.status, answer.text());
            }
            sent.retries += 1;
            std::thread::sleep(Duration::from_millis(20));
        }
        sent.samples += u64::from(request.samples);
        sent.latencies.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX));
    }
    Ok(sent)
}

/// Processor seconds of this program so far.
pub(super) fn own_cpu_seconds() -> anyhow::Result<f64> {
    Ok(Usage::of(std::process::id())?.cpu_seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_a_group_share_a_connection_in_order() {
        let shape = Shape { hosts: 12, scrapes: 2, interval_ms: 15_000, samples_per_request: 2_000 };
        let lanes = encode(shape, 1, 0, 2);
        let groups: Vec<Vec<usize>> = lanes.iter().map(|l| l.iter().map(|r| r.group).collect()).collect();
        assert_eq!(groups, [vec![0, 2, 0, 2], vec![1, 1]]);
        assert_eq!(lanes.iter().flatten().map(|r| u64::from(r.samples)).sum::<u64>(), shape.samples());
    }
}
