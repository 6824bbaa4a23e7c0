//! What a run measured: availability second by second, gaps, latencies, rates, what nodes used.
//!
//! The *gap* of a fault is how long writes were not to be had at nodes that it did not strike: of each client the time from
//! the fault, or from the end of its last request to a struck node if that is later, until the end of its first success of
//! a request that it sent to another node after the fault; the longest of them. Where a fault strikes all nodes, all count.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::black_box::history::{Attempt, Class, FaultOp, History, Micros, Outcome, Signal, WriteOp};

/// Length of the parts in which "99 % ok" is looked for.
const HEAL_PART: Micros = 500_000;
/// Parts in a row that have to be so.
const HEAL_PARTS: usize = 3;

/// A second of the run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Attempts to write that ended in it and were acknowledged.
    pub ok: u64,
    /// Those that were not.
    pub failed: u64,
    /// Queries that were answered.
    pub reads_ok: u64,
    /// Those that were not.
    pub reads_failed: u64,
    /// Median of the time of acknowledged attempts, milliseconds.
    pub p50_ms: f64,
    /// 99th percentile.
    pub p99_ms: f64,
}

/// What a fault cost.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Gap {
    /// Its kind.
    pub fault: String,
    /// When it began, seconds.
    pub at_s: f64,
    /// How long writes were not to be had; none where they were not until the end.
    pub ms: Option<f64>,
}

/// Figures of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Figures {
    /// Seconds of load.
    pub seconds: f64,
    /// Samples that were acknowledged.
    pub samples_acked: u64,
    /// Log records that were acknowledged.
    pub records_acked: u64,
    /// Spans acknowledged.
    pub spans_acked: u64,
    /// Items whose fate their client never learned.
    pub unknown: u64,
    /// Attempts to write.
    pub attempts: u64,
    /// Part of them that succeeded.
    pub attempts_ok: f64,
    /// Queries, and those of them that were not answered.
    pub queries: (u64, u64),
    /// Failed for good, of clients that retry at other nodes: how many, of how many.
    pub failed_retried: (u64, u64),
    /// Failed, of clients that do not retry, at nodes that no fault struck: how many, of how many.
    pub failed_once: (u64, u64),
    /// What each fault cost.
    pub gaps: Vec<Gap>,
    /// Median of these.
    pub gap_p50_ms: Option<f64>,
    /// 99th percentile (of few: the longest).
    pub gap_p99_ms: Option<f64>,
    /// From the end of the last fault until 99 % of all attempts succeed.
    pub heal_ms: Option<f64>,
    /// Items acknowledged a second before the first fault.
    pub rate_before: f64,
    /// Items acknowledged a second during faults.
    pub rate_during: f64,
    /// Items acknowledged a second during faults once their gaps are over, as a part of those before.
    pub throughput_part: Option<f64>,
    /// Time of acknowledged writes before the first fault: median, 99th percentile.
    pub write_ms_before: (f64, f64),
    /// The same during faults.
    pub write_ms_during: (f64, f64),
    /// Second by second.
    pub timeline: Vec<Second>,
    /// Most memory of each node, MiB.
    pub peak_rss_mib: Vec<u64>,
}

fn ms(micros: Micros) -> f64 {
    micros as f64 / 1e3
}

/// A percentile of a sorted list; of few, the greatest.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    match sorted.len() {
        0 => 0.0,
        len => sorted[((len - 1) * percent).div_ceil(100)],
    }
}

fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    (percentile(&values, 50), percentile(&values, 99))
}

/// Measures a history.
pub fn figures(history: &History, nodes: usize) -> Figures {
    let faults = history.faults();
    // What only adds load strikes nobody.
    let writes: Vec<&WriteOp> = history.writes().filter(|op| op.class != Class::Burst).collect();
    let attempts: Vec<&Attempt> = writes.iter().flat_map(|op| &op.attempts).collect();
    let end = history.load_end();
    let mut figures = Figures { seconds: end as f64 / 1e6, ..Figures::default() };
    for op in history.writes() {
        match (op.outcome, op.signal) {
            (Outcome::Ok, Signal::Metrics) => figures.samples_acked += op.items,
            (Outcome::Ok, Signal::Logs) => figures.records_acked += op.items,
            (Outcome::Ok, Signal::Traces) => figures.spans_acked += op.items,
            (Outcome::Info, _) => figures.unknown += op.items,
            (Outcome::Fail, _) => {}
        }
    }
    figures.attempts = attempts.len() as u64;
    let ok = attempts.iter().filter(|attempt| attempt.is_ok()).count();
    figures.attempts_ok = ok as f64 / attempts.len().max(1) as f64;
    let answered = reads(history);
    figures.queries = (answered.len() as u64, answered.iter().filter(|(_, is_ok)| !is_ok).count() as u64);
    figures.failed_retried = failed(writes.iter().filter(|op| op.class == Class::OtherNode));
    let spared = writes.iter().filter(|op| op.class == Class::Once).filter(|op| {
        let reached_struck = |attempt: &Attempt| faults.iter().any(|fault| strikes(fault, attempt, nodes));
        !op.attempts.iter().any(reached_struck)
    });
    figures.failed_once = failed(spared);

    figures.gaps = faults.iter().map(|fault| gap(fault, &writes, nodes, end)).collect();
    let mut known: Vec<f64> =
        figures.gaps.iter().map(|gap| gap.ms.unwrap_or(ms(end) - gap.at_s * 1e3)).collect();
    known.sort_unstable_by(f64::total_cmp);
    if !known.is_empty() {
        figures.gap_p50_ms = Some(percentile(&known, 50));
        figures.gap_p99_ms = Some(percentile(&known, 99));
    }
    let last_end = faults.iter().map(|fault| fault.t1).max();
    figures.heal_ms = last_end.and_then(|since| heal(since, end, &attempts, &answered));

    let first = faults.first().map_or(end, |fault| fault.t0);
    // The first second is spent on connections.
    let warm = 1_000_000.min(first);
    let is_before = |t: Micros| (warm..first).contains(&t);
    let is_during = |t: Micros| faults.iter().any(|fault| (fault.t0..fault.t1).contains(&t));
    let items = |is_in: &dyn Fn(Micros) -> bool| -> f64 {
        writes.iter().filter(|op| op.outcome == Outcome::Ok && is_in(op.t1)).map(|op| op.items as f64).sum()
    };
    let spans: Vec<Span> = faults.iter().map(|fault| (fault.t0, fault.t1)).collect();
    let gaps: Vec<Span> = faults.iter().zip(&figures.gaps).map(|(fault, gap)| gap_of(fault, gap)).collect();
    let during = covered(&spans, end);
    figures.rate_before = items(&is_before) / (first.saturating_sub(warm).max(1) as f64 / 1e6);
    figures.rate_during = items(&is_during) / (during.max(1) as f64 / 1e6);
    let settled = during - covered(&gaps, end);
    if settled > 0 && figures.rate_before > 0.0 {
        let is_settled = |t: Micros| is_during(t) && !gaps.iter().any(|&(t0, t1)| (t0..t1).contains(&t));
        figures.throughput_part = Some(items(&is_settled) / (settled as f64 / 1e6) / figures.rate_before);
    }
    let times = |is_in: &dyn Fn(Micros) -> bool| {
        let ended = writes.iter().filter(|op| op.outcome == Outcome::Ok && is_in(op.t1));
        percentiles(ended.map(|op| ms(op.t1 - op.t0)).collect())
    };
    figures.write_ms_before = times(&is_before);
    figures.write_ms_during = times(&is_during);
    figures.timeline = timeline(end, &attempts, &answered);
    figures.peak_rss_mib = (0..nodes)
        .map(|node| {
            history.nodes().filter(|s| s.node == node).map(|s| s.rss_bytes >> 20).max().unwrap_or_default()
        })
        .collect();
    figures
}

/// End of every query, and whether it was answered.
fn reads(history: &History) -> Vec<(Micros, bool)> {
    let reads = history.reads().map(|op| (op.t1, op.outcome == Outcome::Ok));
    reads.chain(history.counts().map(|op| (op.t1, op.outcome == Outcome::Ok))).collect()
}

fn failed<'a>(ops: impl Iterator<Item = &'a &'a WriteOp>) -> (u64, u64) {
    ops.fold((0, 0), |(failed, all), op| (failed + u64::from(op.outcome != Outcome::Ok), all + 1))
}

/// Whether an attempt was at a node while a fault struck it.
fn strikes(fault: &FaultOp, attempt: &Attempt, nodes: usize) -> bool {
    let is_struck = fault.nodes.contains(&attempt.node) || fault.nodes.len() >= nodes;
    is_struck && attempt.t0 <= fault.t1 && attempt.t1 >= fault.t0
}

fn gap(fault: &FaultOp, writes: &[&WriteOp], nodes: usize, end: Micros) -> Gap {
    let strikes_all = fault.nodes.len() >= nodes;
    let mut clients: BTreeMap<(Signal, usize), Vec<&Attempt>> = BTreeMap::new();
    for op in writes {
        clients.entry((op.signal, op.client)).or_default().extend(&op.attempts);
    }
    let mut longest = Some(0.0_f64);
    for attempts in clients.values() {
        let is_struck = |attempt: &Attempt| !strikes_all && fault.nodes.contains(&attempt.node);
        // A client that does not ask (it waits before it asks again, say) misses nothing.
        let mut since = None;
        let mut first = None;
        let mut has_tried = false;
        for attempt in attempts.iter().filter(|attempt| attempt.t1 >= fault.t0) {
            if is_struck(attempt) {
                since = None;
                continue;
            }
            let since = *since.get_or_insert(attempt.t0.max(fault.t0));
            has_tried |= attempt.t0 >= fault.t0;
            if attempt.is_ok() && attempt.t0 >= fault.t0 {
                first = Some(ms(attempt.t1.saturating_sub(since)));
                break;
            }
        }
        // A client that asks struck nodes only says nothing of the others; one at rest neither.
        longest = match (longest, first) {
            (Some(longest), Some(first)) => Some(longest.max(first)),
            (longest, None) if !has_tried => longest,
            _ => None,
        };
    }
    let at_s = fault.t0 as f64 / 1e6;
    Gap { fault: fault.name.clone(), at_s, ms: longest.filter(|_| fault.t0 < end) }
}

fn heal(since: Micros, end: Micros, attempts: &[&Attempt], reads: &[(Micros, bool)]) -> Option<f64> {
    let parts = usize::try_from(end.saturating_sub(since) / HEAL_PART).unwrap_or_default();
    let mut counts = vec![(0_u64, 0_u64); parts];
    let ended = attempts.iter().map(|attempt| (attempt.t1, attempt.is_ok())).chain(reads.iter().copied());
    for (t, is_ok) in ended.filter(|(t, _)| *t >= since) {
        if let Some(count) = counts.get_mut(((t - since) / HEAL_PART) as usize) {
            *count = (count.0 + u64::from(is_ok), count.1 + 1);
        }
    }
    let is_fine = |&(ok, all): &(u64, u64)| all > 0 && ok * 100 >= all * 99;
    let first = counts.windows(HEAL_PARTS).position(|window| window.iter().all(is_fine))?;
    Some(ms(first as u64 * HEAL_PART))
}

/// From and to.
type Span = (Micros, Micros);

/// The part of a fault in which writes were not to be had.
fn gap_of(fault: &FaultOp, gap: &Gap) -> Span {
    let ended = gap.ms.map_or(fault.t1, |ms| fault.t0 + (ms * 1e3) as Micros);
    (fault.t0, ended.min(fault.t1))
}

/// Microseconds that lie in some of these, which are in order of their begin.
fn covered(spans: &[Span], end: Micros) -> Micros {
    let mut until = 0;
    let mut sum = 0;
    for &(t0, t1) in spans {
        let (from, to) = (t0.max(until), t1.min(end));
        sum += to.saturating_sub(from);
        until = until.max(to);
    }
    sum
}

fn timeline(end: Micros, attempts: &[&Attempt], reads: &[(Micros, bool)]) -> Vec<Second> {
    let seconds = usize::try_from(end / 1_000_000).unwrap_or_default() + 1;
    let mut timeline = vec![Second::default(); seconds];
    let mut times = vec![Vec::new(); seconds];
    for attempt in attempts {
        let at = (attempt.t1 / 1_000_000) as usize;
        let Some(second) = timeline.get_mut(at) else { continue };
        if attempt.is_ok() {
            second.ok += 1;
            times[at].push(ms(attempt.t1 - attempt.t0));
        } else {
            second.failed += 1;
        }
    }
    for (t, is_ok) in reads {
        if let Some(second) = timeline.get_mut((t / 1_000_000) as usize) {
            *(if *is_ok { &mut second.reads_ok } else { &mut second.reads_failed }) += 1;
        }
    }
    for (second, times) in timeline.iter_mut().zip(times) {
        (second.p50_ms, second.p99_ms) = percentiles(times);
    }
    timeline
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::black_box::history::Line;

    fn attempt(node: usize, t0: u64, t1: u64, result: &str) -> Attempt {
        Attempt { node, t0: t0 * 1000, t1: t1 * 1000, result: result.to_owned() }
    }

    fn write(client: usize, class: Class, attempts: Vec<Attempt>) -> Line {
        let (t0, t1) = (attempts[0].t0, attempts[attempts.len() - 1].t1);
        let outcome = if attempts[attempts.len() - 1].is_ok() { Outcome::Ok } else { Outcome::Info };
        let op = WriteOp {
            signal: Signal::Metrics,
            client,
            class,
            from: t0,
            to: t0 + 1,
            items: 10,
            t0,
            t1,
            outcome,
            attempts,
        };
        Line::Write(op)
    }

    fn kill(node: usize, t0: u64, t1: u64) -> Line {
        let (name, detail) = ("kill".to_owned(), String::new());
        Line::Fault(FaultOp { name, detail, nodes: vec![node], t0: t0 * 1000, t1: t1 * 1000 })
    }

    #[test]
    fn a_gap_is_that_of_the_client_that_waits_longest_at_whole_nodes() {
        let lines = vec![
            kill(0, 1000, 4000),
            // Under way when the fault struck, elsewhere: does not count.
            write(0, Class::OtherNode, vec![attempt(1, 990, 1010, "200")]),
            write(0, Class::OtherNode, vec![attempt(2, 1020, 1400, "200")]),
            // Lost 600 ms at the struck node, then 300 ms at another.
            write(
                1,
                Class::OtherNode,
                vec![attempt(0, 1100, 1700, "timeout"), attempt(1, 1720, 2000, "200")],
            ),
            // Only ever asks the struck node.
            write(2, Class::Exporter, vec![attempt(0, 1001, 1002, "refused"), attempt(0, 4100, 4200, "200")]),
            Line::LoadEnd { t: 9_000_000 },
        ];
        let figures = figures(&History { lines }, 3);
        assert_eq!(figures.gaps, [Gap { fault: "kill".to_owned(), at_s: 1.0, ms: Some(400.0) }]);
        assert_eq!(figures.gap_p99_ms, Some(400.0));
    }

    #[test]
    fn a_client_that_waits_because_of_an_earlier_fault_misses_nothing() {
        let lines = vec![
            kill(0, 1000, 4000),
            kill(1, 5000, 7000),
            // Its node was away: it asks again when the next one is, and is answered at once.
            write(0, Class::Exporter, vec![attempt(0, 4100, 4101, "refused"), attempt(0, 5900, 5950, "200")]),
            Line::LoadEnd { t: 9_000_000 },
        ];
        assert_eq!(figures(&History { lines }, 3).gaps[1].ms, Some(50.0));
    }

    #[test]
    fn a_gap_that_does_not_end_is_counted_until_the_end() {
        let lines = vec![
            kill(0, 1000, 4000),
            write(0, Class::OtherNode, vec![attempt(1, 1020, 6000, "503")]),
            Line::LoadEnd { t: 9_000_000 },
        ];
        let figures = figures(&History { lines }, 3);
        assert_eq!((figures.gaps[0].ms, figures.gap_p99_ms), (None, Some(8000.0)));
    }

    #[test]
    fn failures_at_struck_nodes_are_not_the_service_s() {
        let lines = vec![
            kill(0, 1000, 4000),
            write(0, Class::Once, vec![attempt(0, 2000, 2001, "refused")]),
            write(0, Class::Once, vec![attempt(1, 2100, 2200, "503")]),
            write(0, Class::Once, vec![attempt(0, 5000, 5001, "200")]),
            write(
                1,
                Class::OtherNode,
                vec![attempt(0, 2000, 2001, "refused"), attempt(1, 2010, 2100, "200")],
            ),
        ];
        let figures = figures(&History { lines }, 3);
        assert_eq!(figures.failed_once, (1, 2));
        assert_eq!(figures.failed_retried, (0, 1));
    }

    #[test]
    fn health_is_back_when_it_stays() {
        let mut lines = vec![kill(0, 1000, 2000), Line::LoadEnd { t: 10_000_000 }];
        for t in (2000..9900).step_by(100) {
            // Fails until 2.6 s, and once more at 3.3 s.
            let result = if t < 2600 || t == 3300 { "503" } else { "200" };
            lines.push(write(0, Class::OtherNode, vec![attempt(1, t, t + 10, result)]));
        }
        assert_eq!(figures(&History { lines }, 3).heal_ms, Some(1500.0));
    }

    #[test]
    fn throughput_counts_what_comes_after_the_gap() {
        let mut lines = vec![kill(0, 2000, 6000), Line::LoadEnd { t: 9_000_000 }];
        // One write every 100 ms before; none for a second; then one every 200 ms while the node is away.
        lines.push(write(0, Class::OtherNode, vec![attempt(1, 2000, 2990, "503")]));
        let times = (0..2000).step_by(100).chain((3000..6000).step_by(200));
        lines.extend(times.map(|t| write(0, Class::OtherNode, vec![attempt(1, t, t + 1, "200")])));
        let figures = figures(&History { lines }, 3);
        let part = figures.throughput_part.unwrap();
        assert!((0.49..0.54).contains(&part), "{part}");
        assert!(figures.rate_during < 0.4 * figures.rate_before);
    }

    #[test]
    fn overlapping_faults_are_covered_once() {
        assert_eq!(covered(&[(10, 30), (20, 40), (50, 90)], 80), 60);
    }
}
