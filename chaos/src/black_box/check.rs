//! The judgement of a history: rules that always have to hold, and the goals of its scenario.
//!
//! | rule | |
//! |---|---|
//! | K1 | what was acknowledged is there in the end, on every node |
//! | K2 | nothing is there that was never sent |
//! | K3 | nothing is there twice, every value and body is as it was written |
//! | K4 | what a read has shown, later reads show too |
//! | K5 | a read sees what was acknowledged before it began, on any node |
//! | K6 | after healing all nodes answer alike from their own replicas |
//! | K7 | registers are linearizable: one save follows each version |
//! | K8 | all replicas show one digest, and no file is damaged |
//! | K9 | count, sum and maximum of everything are those of what is there |
//! | K10 | a count over all series is complete, or says that it is not |
//! | K11 | alerts fire: the workload has none |
//! | K12 | the service is there: figures, judged by the goals |
//! | K13 | no panic, no process that ends by itself, no refusal of what is right, no acceptance of what is wrong |
//! | K14 | memory and descriptors come back to what they were |
//!
//! A write whose outcome is unknown may be there or not. All rules are set algorithms over runs of numbers, linear in the
//! history but for sorting. Nothing but the history is used, so that an old one can be judged again.

mod registers;

use std::collections::{BTreeMap, BinaryHeap};

use anyhow::Context;
use serde::Serialize;

use crate::black_box::figures::{Figures, figures};
use crate::black_box::history::{FinalRead, Found, History, Line, Micros, Outcome, Runs, Signal};
use crate::scenario::{Scenario, Span};

/// Witnesses of a violation that are told.
const WITNESSES: usize = 10;
/// Descriptors that a node may have more in the end.
const MORE_DESCRIPTORS: u64 = 128;
/// Memory that a node may always have more in the end.
const MORE_BYTES: u64 = 512 << 20;

/// How a rule came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It holds.
    Pass,
    /// It does not.
    Fail,
    /// There was nothing that it is about.
    NotApplicable,
    /// The history does not say enough.
    Undecided,
}

/// A rule, judged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `K1` to `K14`.
    pub id: &'static str,
    /// What it demands.
    pub title: &'static str,
    /// How it came out.
    pub status: Status,
    /// What was looked at.
    pub evidence: String,
    /// The first violations.
    pub witnesses: Vec<String>,
}

/// A goal, compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GoalResult {
    /// Which.
    pub name: &'static str,
    /// At most, or at least.
    pub wanted: String,
    /// What came out.
    pub got: String,
    /// Whether it was met.
    pub is_met: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// All rules hold, all goals were met.
    Passed,
    /// A rule is broken.
    InvariantBroken,
    /// All rules hold, a goal was missed.
    GoalMissed,
    /// The run could not be judged.
    Undecided,
}

impl Verdict {
    /// Exit code of the command.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::InvariantBroken => 1,
            Self::GoalMissed => 2,
            Self::Undecided => 3,
        }
    }

    /// In words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::InvariantBroken => "an invariant is broken",
            Self::GoalMissed => "a goal was missed",
            Self::Undecided => "could not be judged",
        }
    }
}

/// A history, judged.
#[derive(Clone, Debug, Serialize)]
pub struct Judgement {
    /// How it ended.
    pub verdict: Verdict,
    /// All rules.
    pub checks: Vec<Check>,
    /// The goals of the scenario.
    pub goals: Vec<GoalResult>,
    /// What was measured.
    pub figures: Figures,
}

/// What became of the numbers of a client.
#[derive(Default)]
struct Track {
    /// `(from, to, begun)` in the order of numbers.
    sent: Vec<(u64, u64, Micros)>,
    /// `(from, to, acknowledged)` in the order of numbers.
    acked: Vec<(u64, u64, Micros)>,
    all_sent: Runs,
    all_acked: Runs,
}

impl Track {
    /// Numbers of `lo..hi` that were acknowledged before a moment.
    fn acked_before(&self, t: Micros, (lo, hi): (u64, u64)) -> Runs {
        Self::before(&self.acked, t, (lo, hi))
    }

    /// Numbers of `lo..hi` that were first sent before a moment.
    fn sent_before(&self, t: Micros, (lo, hi): (u64, u64)) -> Runs {
        Self::before(&self.sent, t, (lo, hi))
    }

    fn before(list: &[(u64, u64, Micros)], t: Micros, (lo, hi): (u64, u64)) -> Runs {
        let first = list.partition_point(|(_, to, _)| *to <= lo);
        let inside = list[first..].iter().take_while(|(from, ..)| *from < hi);
        Runs::merge(inside.filter(|(.., at)| *at < t).map(|&(from, to, _)| (from.max(lo), to.min(hi))))
    }
}

type Who = (Signal, usize);

fn tracks(history: &History) -> BTreeMap<Who, Track> {
    let mut tracks: BTreeMap<Who, Track> = BTreeMap::new();
    for op in history.writes() {
        let track = tracks.entry((op.signal, op.client)).or_default();
        track.sent.push((op.from, op.to, op.t0));
        if op.outcome == Outcome::Ok {
            track.acked.push((op.from, op.to, op.t1));
        }
    }
    for track in tracks.values_mut() {
        track.sent.sort_unstable();
        track.acked.sort_unstable();
        let runs = |list: &[(u64, u64, Micros)]| Runs::merge(list.iter().map(|&(from, to, _)| (from, to)));
        track.all_sent = runs(&track.sent);
        track.all_acked = runs(&track.acked);
    }
    tracks
}

/// Collects what a rule finds.
struct Rule {
    id: &'static str,
    title: &'static str,
    looked_at: u64,
    violations: u64,
    witnesses: Vec<String>,
}

impl Rule {
    const fn new(id: &'static str, title: &'static str) -> Self {
        Self { id, title, looked_at: 0, violations: 0, witnesses: Vec::new() }
    }

    fn violated(&mut self, count: u64, witness: impl FnOnce() -> String) {
        self.violations += count;
        if self.witnesses.len() < WITNESSES {
            self.witnesses.push(witness());
        }
    }

    /// `what` follows the number of what was looked at.
    fn close(self, what: &str) -> Check {
        let status = match (self.violations, self.looked_at) {
            (0, 0) => Status::NotApplicable,
            (0, _) => Status::Pass,
            _ => Status::Fail,
        };
        let violations = match self.violations {
            0 => "no violation".to_owned(),
            1 => "1 violation".to_owned(),
            many => format!("{many} violations"),
        };
        let evidence = format!("{} {what}: {violations}", self.looked_at);
        Check { id: self.id, title: self.title, status, evidence, witnesses: self.witnesses }
    }
}

fn absent(id: &'static str, title: &'static str, why: &str) -> Check {
    let status = Status::NotApplicable;
    Check { id, title, status, evidence: why.to_owned(), witnesses: Vec::new() }
}

/// A client and series, in words.
fn name((signal, client): Who, series: usize) -> String {
    match signal {
        Signal::Metrics => format!("metrics, client {client}, series {series}"),
        Signal::Logs | Signal::Traces => format!("{}, client {client}", signal.name()),
    }
}

fn at(t: Micros) -> String {
    format!("{:.3} s", t as f64 / 1e6)
}

/// Judges a history by its own scenario.
pub fn judge(history: &History) -> anyhow::Result<Judgement> {
    let Some(Line::Run { scenario, slack, nodes, .. }) = history.lines.first() else {
        anyhow::bail!("the first line does not say what was run");
    };
    let scenario = Scenario::parse(scenario).context("the history's scenario")?;
    let tracks = tracks(history);
    let figures = figures(history, *nodes);
    let checks = vec![
        acknowledged(history, &tracks, *nodes),
        invented(history, &tracks),
        as_written(history),
        monotonic(history),
        read_after_ack(history, &tracks),
        alike(history),
        registers::registers(history),
        replicas(history),
        totals(history),
        complete(history, &tracks),
        absent("K11", "alerts fire and none is lost", "the workload has no alerts"),
        available(&figures),
        clean(history),
        back_to_normal(history),
    ];
    let goals = goals(&scenario, *slack, &figures);
    let is = |status| checks.iter().any(|check| check.status == status);
    let verdict = if is(Status::Fail) {
        Verdict::InvariantBroken
    } else if is(Status::Undecided) || undecided(history).is_some() {
        Verdict::Undecided
    } else if goals.iter().any(|goal| !goal.is_met) {
        Verdict::GoalMissed
    } else {
        Verdict::Passed
    };
    Ok(Judgement { verdict, checks, goals, figures })
}

/// Why the run can not be judged, if it can not.
pub fn undecided(history: &History) -> Option<String> {
    let said = history.lines.iter().find_map(|line| match line {
        Line::Undecided { reason } => Some(reason.clone()),
        _ => None,
    });
    let has_end = matches!(history.lines.last(), Some(Line::End { .. }));
    said.or_else(|| (!has_end).then(|| "the history has no end: the run was cut short".to_owned()))
}

fn acknowledged(history: &History, tracks: &BTreeMap<Who, Track>, nodes: usize) -> Check {
    let mut rule = Rule::new("K1", "what was acknowledged is there in the end, on every node");
    let mut read: BTreeMap<Who, BTreeMap<usize, u64>> = BTreeMap::new();
    for last in history.finals() {
        let who = (last.signal, last.client);
        *read.entry(who).or_default().entry(last.node).or_default() += 1;
        let Some(track) = tracks.get(&who) else { continue };
        rule.looked_at += track.all_acked.count();
        let missing = track.all_acked.minus(&last.found.numbers);
        if !missing.is_empty() {
            rule.violated(missing.count(), || {
                let from = missing.0[0].0;
                let op = history.writes().find(|op| {
                    (op.signal, op.client) == who
                        && op.outcome == Outcome::Ok
                        && (op.from..op.to).contains(&from)
                });
                let acked = op.and_then(|op| op.attempts.last()).map_or_else(String::new, |attempt| {
                    format!("; node {} acknowledged {from} at {}", attempt.node + 1, at(attempt.t1))
                });
                let (whose, node) = (name(who, last.series), last.node + 1);
                format!("{whose}: {missing} missing when read from node {node} ({}){acked}", last.consistency)
            });
        }
    }
    let unread = tracks
        .iter()
        .filter(|(_, track)| !track.all_acked.is_empty())
        .find(|(who, _)| read.get(who).map_or(0, BTreeMap::len) < nodes);
    match unread {
        Some((who, _)) if rule.violations == 0 => Check {
            status: Status::Undecided,
            evidence: format!("{} was not read back from every node", name(*who, 0)),
            ..rule.close("")
        },
        _ => rule.close("acknowledged samples, records and spans looked for"),
    }
}

/// Everything that was ever read: where it comes from, by which time it had to be sent, and what was found.
fn all_found(history: &History) -> impl Iterator<Item = (String, Who, Option<Micros>, &Found)> {
    let reads = history.reads().filter(|op| op.outcome == Outcome::Ok).map(|op| {
        let who = (op.signal, op.client);
        let place = format!("{}, read from node {} at {}", name(who, op.series), op.node + 1, at(op.t0));
        (place, who, Some(op.t1), &op.found)
    });
    let finals = history.finals().map(|last: &FinalRead| {
        let who = (last.signal, last.client);
        (
            format!("{}, read from node {} in the end", name(who, last.series), last.node + 1),
            who,
            None,
            &last.found,
        )
    });
    reads.chain(finals)
}

fn invented(history: &History, tracks: &BTreeMap<Who, Track>) -> Check {
    let mut rule = Rule::new("K2", "nothing is there that was never sent");
    for (place, who, by, found) in all_found(history) {
        rule.looked_at += found.numbers.count();
        let everything = (0, u64::MAX);
        let sent = match (tracks.get(&who), by) {
            (None, _) => Runs::default(),
            (Some(track), Some(by)) => track.sent_before(by, everything),
            (Some(track), None) => track.all_sent.clone(),
        };
        let invented = found.numbers.minus(&sent);
        if !invented.is_empty() {
            rule.violated(invented.count(), || format!("{place}: {invented} was never sent"));
        }
    }
    rule.close("samples, records and spans seen")
}

fn as_written(history: &History) -> Check {
    let mut rule = Rule::new("K3", "nothing is there twice, every value and body is as it was written");
    for (place, _, _, found) in all_found(history) {
        rule.looked_at += found.numbers.count();
        if !found.twice.is_empty() {
            rule.violated(found.twice.count(), || format!("{place}: {} more than once", found.twice));
        }
        for wrong in &found.wrong {
            rule.violated(1, || format!("{place}: {wrong}"));
        }
    }
    rule.close("samples, records and spans compared")
}

fn monotonic(history: &History) -> Check {
    let mut rule = Rule::new("K4", "what a read has shown, later reads show too");
    let mut by_series: BTreeMap<(Signal, usize, usize), Vec<_>> = BTreeMap::new();
    for op in history.reads().filter(|op| op.outcome == Outcome::Ok && !op.is_partial) {
        by_series.entry((op.signal, op.client, op.series)).or_default().push(op);
    }
    for ((signal, client, series), mut ops) in by_series {
        ops.sort_by_key(|op| op.t0);
        let mut ended: BinaryHeap<std::cmp::Reverse<(Micros, usize)>> = BinaryHeap::new();
        let mut seen = Runs::default();
        let whose = name((signal, client), series);
        for (index, op) in ops.iter().enumerate() {
            while let Some(std::cmp::Reverse((t1, before))) = ended.peek().copied()
                && t1 < op.t0
            {
                seen = seen.union(&ops[before].found.numbers);
                ended.pop();
            }
            let expected = seen.within(op.lo, op.hi);
            rule.looked_at += expected.count();
            let lost = expected.minus(&op.found.numbers);
            if !lost.is_empty() {
                rule.violated(lost.count(), || {
                    format!(
                        "{whose}: {lost} was seen before, and not by node {} at {}",
                        op.node + 1,
                        at(op.t0)
                    )
                });
            }
            ended.push(std::cmp::Reverse((op.t1, index)));
        }
        let all = ops.iter().fold(Runs::default(), |all, op| all.union(&op.found.numbers));
        let is_same = |last: &&FinalRead| (last.signal, last.client, last.series) == (signal, client, series);
        for last in history.finals().filter(is_same) {
            let lost = all.minus(&last.found.numbers);
            if !lost.is_empty() {
                rule.violated(lost.count(), || {
                    format!("{whose}: {lost} was seen before, and not by node {} in the end", last.node + 1)
                });
            }
        }
    }
    rule.close("samples and records seen again")
}

fn read_after_ack(history: &History, tracks: &BTreeMap<Who, Track>) -> Check {
    let mut rule = Rule::new("K5", "a read sees what was acknowledged before it began, on any node");
    for op in history.reads().filter(|op| op.outcome == Outcome::Ok && !op.is_partial) {
        let who = (op.signal, op.client);
        let Some(track) = tracks.get(&who) else { continue };
        let expected = track.acked_before(op.t0, (op.lo, op.hi));
        rule.looked_at += expected.count();
        let stale = expected.minus(&op.found.numbers);
        if !stale.is_empty() {
            rule.violated(stale.count(), || {
                let acked = track.acked.iter().find(|(from, to, _)| (*from..*to).contains(&stale.0[0].0));
                let acked = acked.map_or_else(String::new, |(.., t)| format!(", acknowledged at {}", at(*t)));
                let (whose, node) = (name(who, op.series), op.node + 1);
                format!("{whose}: {stale}{acked}, not in the answer of node {node} begun at {}", at(op.t0))
            });
        }
    }
    rule.close("acknowledged samples, records and spans expected in answers")
}

fn alike(history: &History) -> Check {
    let mut rule = Rule::new("K6", "after healing all nodes answer alike from their own replicas");
    let mut first: BTreeMap<(Signal, usize, usize), &FinalRead> = BTreeMap::new();
    for last in history.finals() {
        rule.looked_at += 1;
        let one = *first.entry((last.signal, last.client, last.series)).or_insert(last);
        if one.found != last.found {
            let (left, right) = (&one.found.numbers, &last.found.numbers);
            rule.violated(1, || {
                format!(
                    "{}: node {} has {}, node {} has {} besides",
                    name((last.signal, last.client), last.series),
                    one.node + 1,
                    left.minus(right),
                    last.node + 1,
                    right.minus(left)
                )
            });
        }
    }
    rule.close("answers compared")
}

fn replicas(history: &History) -> Check {
    let mut rule = Rule::new("K8", "all replicas show one digest, and no file is damaged");
    for line in &history.lines {
        match line {
            Line::Digests { shards, different } => {
                rule.looked_at += shards;
                if let Some(different) = different {
                    rule.violated(1, || different.clone());
                }
            }
            Line::Verified { node, damage } => {
                rule.looked_at += 1;
                for place in damage {
                    rule.violated(1, || format!("node {}: {place}", node + 1));
                }
            }
            _ => {}
        }
    }
    rule.close("shards and data directories compared")
}

fn totals(history: &History) -> Check {
    let mut rule = Rule::new("K9", "count, sum and maximum of everything are those of what is there");
    for total in history.totals() {
        let of = history.finals().filter(|last| (last.signal, last.node) == (total.signal, total.node));
        let mut seen = std::collections::BTreeSet::new();
        let (mut count, mut sum, mut max) = (0_u64, 0_u128, 0_u64);
        for last in of.filter(|last| seen.insert((last.client, last.series))) {
            count += last.found.numbers.count();
            sum += last.found.numbers.sum();
            max = max.max(last.found.numbers.0.last().map_or(0, |(_, to)| to - 1));
        }
        let expected = match total.what.as_str() {
            "count" => count as f64,
            "sum" => sum as f64,
            "max" => max as f64,
            _ => continue,
        };
        rule.looked_at += 1;
        // The order in which a sum is made may cost the last bits of large ones.
        if (total.value - expected).abs() > expected.abs() * 1e-12 {
            let (what, signal, node) = (&total.what, total.signal.name(), total.node + 1);
            rule.violated(1, || {
                format!("{what} of all {signal} at node {node}: {}, not {expected}", total.value)
            });
        }
    }
    rule.close("figures compared")
}

fn complete(history: &History, tracks: &BTreeMap<Who, Track>) -> Check {
    let mut rule = Rule::new("K10", "a count over all series is complete, or says that it is not");
    let mut marked = 0;
    for op in history.counts().filter(|op| op.outcome == Outcome::Ok) {
        let who = (op.signal, op.client);
        let Some(track) = tracks.get(&who) else { continue };
        let least = track.acked_before(op.t0, (op.lo, op.hi)).count() * op.series;
        let most = track.sent_before(op.t1, (op.lo, op.hi)).count() * op.series;
        rule.looked_at += 1;
        marked += u64::from(op.is_partial);
        let is_short = op.count < least && !op.is_partial;
        if is_short || op.count > most {
            rule.violated(1, || {
                format!(
                    "{} of client {}: node {} counted {} at {}; acknowledged were {least}, sent {most}",
                    op.signal.name(),
                    op.client,
                    op.node + 1,
                    op.count,
                    at(op.t0)
                )
            });
        }
    }
    rule.close(&format!("counts over all series compared, {marked} marked as partial"))
}

fn available(figures: &Figures) -> Check {
    let second = |value: Option<f64>| value.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms"));
    let evidence = format!(
        "{:.2} % of {} attempts succeeded; longest gap {}; 99 % ok again {} after the last fault",
        figures.attempts_ok * 100.0,
        figures.attempts,
        figures
            .gaps
            .iter()
            .filter_map(|gap| gap.ms)
            .reduce(f64::max)
            .map_or("none".to_owned(), |ms| format!("{ms:.0} ms")),
        second(figures.heal_ms)
    );
    let status = if figures.attempts == 0 { Status::NotApplicable } else { Status::Pass };
    Check {
        id: "K12",
        title: "the service is there: judged by the goals",
        status,
        evidence,
        witnesses: Vec::new(),
    }
}

fn clean(history: &History) -> Check {
    let mut rule = Rule::new(
        "K13",
        "no panic, no process that ends by itself, no refusal of what is right, no acceptance of what is wrong",
    );
    for line in &history.lines {
        match line {
            Line::Printed { node, panics, .. } => {
                rule.looked_at += 1;
                for panic in panics {
                    rule.violated(1, || format!("node {}: {panic}", node + 1));
                }
            }
            Line::Ended { node, t, how } => {
                rule.looked_at += 1;
                rule.violated(1, || format!("node {} ended at {}: {how}", node + 1, at(*t)));
            }
            Line::Hostile { what, result, is_fine } => {
                rule.looked_at += 1;
                if !is_fine {
                    rule.violated(1, || format!("{what}: {result}"));
                }
            }
            Line::Write(op) => {
                rule.looked_at += 1;
                let is_refusal = |result: &str| {
                    result.len() == 3 && result.starts_with('4') && !["408", "429"].contains(&result)
                };
                for attempt in op.attempts.iter().filter(|attempt| is_refusal(&attempt.result)) {
                    let (whose, node) = (name((op.signal, op.client), 0), attempt.node + 1);
                    let (result, when) = (&attempt.result, at(attempt.t0));
                    rule.violated(1, || {
                        format!("{whose}: node {node} answered {result} to a valid write at {when}")
                    });
                }
            }
            _ => {}
        }
    }
    rule.close("requests and nodes' logs looked at")
}

fn back_to_normal(history: &History) -> Check {
    let mut rule = Rule::new("K14", "memory and descriptors come back to what they were");
    let end = history.load_end();
    let first_fault = history.faults().first().map_or(end, |fault| fault.t0.min(end));
    let mut by_node: BTreeMap<usize, Vec<_>> = BTreeMap::new();
    for sample in history.nodes().filter(|sample| sample.is_running && sample.rss_bytes > 0) {
        by_node.entry(sample.node).or_default().push(sample);
    }
    for (node, samples) in by_node {
        let before = samples.iter().filter(|sample| sample.t < first_fault);
        let after: Vec<_> = samples.iter().filter(|sample| sample.t >= end).collect();
        let usual = before.fold((0, 0), |(bytes, open), s| (s.rss_bytes.max(bytes), s.descriptors.max(open)));
        let Some(last) = after.last() else { continue };
        if usual.0 == 0 {
            continue;
        }
        rule.looked_at += 1;
        let most = (usual.0 * 2).max(usual.0 + MORE_BYTES);
        if last.rss_bytes > most {
            let mib = |bytes: u64| bytes >> 20;
            rule.violated(1, || {
                format!("node {}: {} MiB, at most {} before", node + 1, mib(last.rss_bytes), mib(usual.0))
            });
        }
        if last.descriptors > usual.1 + MORE_DESCRIPTORS {
            rule.violated(1, || {
                format!("node {}: {} descriptors, at most {} before", node + 1, last.descriptors, usual.1)
            });
        }
    }
    rule.close("nodes compared")
}

fn goals(scenario: &Scenario, slack: f64, figures: &Figures) -> Vec<GoalResult> {
    let mut goals = Vec::new();
    let scaled = |span: Span| Span(span.0.mul_f64(slack));
    let mut time = |name, wanted: Span, got: Option<f64>| {
        let wanted = scaled(wanted);
        goals.push(GoalResult {
            name,
            wanted: format!("at most {wanted}"),
            got: got.map_or_else(|| "never".to_owned(), |ms| format!("{ms:.0} ms")),
            is_met: got.is_some_and(|ms| ms <= wanted.0.as_secs_f64() * 1e3),
        });
    };
    if let Some(wanted) = scenario.goal.gap_p99 {
        time("gap_p99", wanted, figures.gap_p99_ms);
    }
    if !figures.gaps.is_empty() {
        time("heal.within", scenario.heal.within, figures.heal_ms);
    }
    let mut part = |name, wanted: f64, (failed, all): (u64, u64)| {
        let got = failed as f64 / all.max(1) as f64;
        goals.push(GoalResult {
            name,
            wanted: format!("at most {:.2} %", wanted * 100.0),
            got: format!("{:.2} % ({failed} of {all})", got * 100.0),
            is_met: got <= wanted,
        });
    };
    part("failed_retried_max", scenario.goal.failed_retried_max, figures.failed_retried);
    if let Some(wanted) = scenario.goal.failed_once_max {
        part("failed_once_max", wanted, figures.failed_once);
    }
    if let (Some(wanted), Some(got)) = (scenario.goal.throughput_min, figures.throughput_part) {
        goals.push(GoalResult {
            name: "throughput_min",
            wanted: format!("at least {:.0} %", wanted * 100.0),
            got: format!("{:.0} %", got * 100.0),
            is_met: got >= wanted,
        });
    }
    goals
}

#[cfg(test)]
mod tests;
