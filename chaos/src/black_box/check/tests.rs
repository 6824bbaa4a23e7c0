//! Each rule against histories that keep it and histories that break it: a judge that finds nothing proves nothing.

use super::*;
use crate::black_box::history::{
    Attempt, Class, CountOp, FaultOp, NodeSample, ReadOp, SCHEMA, TotalRead, WriteOp,
};

const SCENARIO: &str = "name = \"t\"\nduration = \"20s\"\n";

fn run(nodes: usize, scenario: &str) -> Line {
    Line::Run {
        schema: SCHEMA,
        scenario: scenario.to_owned(),
        seed: 1,
        slack: 1.0,
        nodes,
        version: "0".to_owned(),
        started_ms: 0,
        machine: "m".to_owned(),
    }
}

fn write(signal: Signal, numbers: (u64, u64), times: (u64, u64), outcome: Outcome) -> Line {
    let result = if outcome == Outcome::Ok { "200" } else { "503" };
    let attempts = vec![Attempt { node: 0, t0: times.0, t1: times.1, result: result.to_owned() }];
    Line::Write(WriteOp {
        signal,
        client: 0,
        // Who retries elsewhere gets through: a goal of every scenario.
        class: if outcome == Outcome::Ok { Class::OtherNode } else { Class::Once },
        from: numbers.0,
        to: numbers.1,
        items: numbers.1 - numbers.0,
        t0: times.0,
        t1: times.1,
        outcome,
        attempts,
    })
}

fn found(numbers: impl IntoIterator<Item = u64>) -> Found {
    Found { numbers: Runs::of(numbers), ..Found::default() }
}

fn read(node: usize, times: (u64, u64), (lo, hi): (u64, u64), found: Found) -> Line {
    Line::Read(ReadOp {
        signal: Signal::Metrics,
        client: 0,
        series: 0,
        lo,
        hi,
        t0: times.0,
        t1: times.1,
        node,
        outcome: Outcome::Ok,
        result: "200".to_owned(),
        is_partial: false,
        found,
    })
}

fn last(signal: Signal, node: usize, found: Found) -> Line {
    let consistency = "local".to_owned();
    Line::Final(FinalRead { signal, client: 0, series: 0, node, consistency, found })
}

/// A healthy run of one node: 0 to 9 acknowledged, 10 to 11 of unknown fate and not there, everything read twice.
fn healthy() -> Vec<Line> {
    vec![
        run(1, SCENARIO),
        write(Signal::Metrics, (0, 5), (100, 200), Outcome::Ok),
        write(Signal::Metrics, (5, 10), (300, 400), Outcome::Ok),
        write(Signal::Metrics, (10, 12), (500, 900), Outcome::Info),
        read(0, (250, 290), (0, 10), found(0..5)),
        read(0, (450, 490), (0, 10), found(0..10)),
        Line::Count(count(450, 10, false)),
        last(Signal::Metrics, 0, found(0..10)),
        Line::Total(TotalRead { signal: Signal::Metrics, node: 0, what: "count".to_owned(), value: 10.0 }),
        Line::Total(TotalRead { signal: Signal::Metrics, node: 0, what: "sum".to_owned(), value: 45.0 }),
        Line::Total(TotalRead { signal: Signal::Metrics, node: 0, what: "max".to_owned(), value: 9.0 }),
        Line::Digests { shards: 4, different: None },
        Line::Verified { node: 0, damage: Vec::new() },
        Line::Printed { node: 0, panics: Vec::new(), errors: Vec::new() },
        Line::LoadEnd { t: 1000 },
        Line::End { t: 2000 },
    ]
}

fn count(t0: Micros, count: u64, is_partial: bool) -> CountOp {
    let (signal, outcome, result) = (Signal::Metrics, Outcome::Ok, "200".to_owned());
    let (series, lo, hi, node, t1) = (1, 0, 10, 0, t0 + 10);
    CountOp { signal, client: 0, series, lo, hi, t0, t1, node, outcome, result, is_partial, count }
}

fn verdict(lines: Vec<Line>) -> Judgement {
    judge(&History { lines }).expect("a history that can be judged")
}

/// Rules that a history breaks.
fn broken(lines: Vec<Line>) -> Vec<&'static str> {
    let judgement = verdict(lines);
    let failed: Vec<_> = judgement.checks.iter().filter(|check| check.status == Status::Fail).collect();
    assert!(failed.iter().all(|check| !check.witnesses.is_empty()), "a violation has a witness: {failed:?}");
    assert_eq!(judgement.verdict == Verdict::InvariantBroken, !failed.is_empty());
    failed.iter().map(|check| check.id).collect()
}

/// The healthy history with lines put in front of its end.
fn with(more: impl IntoIterator<Item = Line>) -> Vec<Line> {
    let mut lines = healthy();
    let end = lines.len() - 1;
    lines.splice(end..end, more);
    lines
}

/// The healthy history with each line changed, or left as it is.
fn changed(change: impl Fn(&mut Line)) -> Vec<Line> {
    let mut lines = healthy();
    lines.iter_mut().for_each(change);
    lines
}

fn change_last(line: &mut Line, numbers: Runs) {
    if let Line::Final(last) = line {
        last.found.numbers = numbers;
    }
}

#[test]
fn a_healthy_history_passes() {
    let judgement = verdict(healthy());
    assert_eq!(judgement.verdict, Verdict::Passed, "{:#?}", judgement.checks);
    let open: Vec<&str> = judgement
        .checks
        .iter()
        .filter(|check| check.status == Status::NotApplicable)
        .map(|check| check.id)
        .collect();
    // No memory was sampled, and there are neither registers nor alerts in it.
    assert_eq!(open, ["K7", "K11", "K14"]);
}

#[test]
fn a_lost_acknowledged_sample_is_found() {
    let lines = changed(|line| change_last(line, Runs::of((0..10).filter(|n| *n != 7))));
    // Reads and figures knew better, too.
    assert_eq!(broken(lines), ["K1", "K4", "K9"]);
    // Nobody had read it, and the figures agree with the loss.
    let lines: Vec<Line> = changed(|line| change_last(line, Runs::of(0..9)))
        .into_iter()
        .filter(|line| !matches!(line, Line::Read(_) | Line::Total(_)))
        .collect();
    assert_eq!(broken(lines), ["K1"]);
}

#[test]
fn a_loss_of_one_replica_is_found() {
    let mut lines = with([last(Signal::Metrics, 1, found(0..9))]);
    lines[0] = run(2, SCENARIO);
    assert_eq!(broken(lines), ["K1", "K4", "K6"]);
}

#[test]
fn what_was_not_read_back_is_not_judged() {
    let mut lines = healthy();
    lines[0] = run(2, SCENARIO);
    assert_eq!(verdict(lines).verdict, Verdict::Undecided);
}

#[test]
fn an_unknown_item_may_be_there_or_not_but_an_invented_one_may_not() {
    let totals =
        |lines: Vec<Line>| lines.into_iter().filter(|line| !matches!(line, Line::Total(_))).collect();
    let kept: Vec<Line> = totals(changed(|line| change_last(line, Runs::of(0..12))));
    assert_eq!(broken(kept), Vec::<&str>::new());
    let invented: Vec<Line> = totals(changed(|line| change_last(line, Runs::of(0..13))));
    assert_eq!(broken(invented), ["K2"]);
    // Sent, but not yet when the read had ended.
    assert_eq!(broken(with([read(0, (280, 295), (0, 10), found(0..6))])), ["K2"]);
}

#[test]
fn a_duplicate_is_found() {
    let lines = changed(|line| {
        if let Line::Final(last) = line {
            last.found.twice = Runs::of([3]);
        }
    });
    assert_eq!(broken(lines), ["K3"]);
    let twice = Found { twice: Runs::of([1]), ..found(0..5) };
    assert_eq!(broken(with([read(0, (250, 290), (0, 5), twice)])), ["K3"]);
}

#[test]
fn a_wrong_value_is_found() {
    let wrong = Found { wrong: vec!["sample 4 is 5".to_owned()], ..found(0..10) };
    assert_eq!(broken(with([last(Signal::Metrics, 0, wrong.clone())])), ["K3", "K6"]);
    assert_eq!(broken(with([read(0, (950, 960), (0, 10), wrong)])), ["K3"]);
}

#[test]
fn what_was_seen_may_not_vanish() {
    // 10 and 11 are of unknown fate: once seen, they are there.
    let seen = [read(0, (950, 960), (0, 12), found(0..12)), read(1, (970, 980), (0, 12), found(0..10))];
    let lines = changed(|line| change_last(line, Runs::of(0..12)))
        .into_iter()
        .filter(|line| !matches!(line, Line::Total(_)))
        .collect::<Vec<_>>();
    let end = lines.len() - 1;
    let mut both = lines.clone();
    both.splice(end..end, seen.clone());
    assert_eq!(broken(both), ["K4"]);
    // Reads at the same time may differ.
    let mut overlapping = lines;
    let later = read(1, (955, 980), (0, 12), found(0..10));
    overlapping.splice(end..end, [seen[0].clone(), later]);
    assert_eq!(broken(overlapping), Vec::<&str>::new());
    // Seen in a read, gone in the end.
    assert_eq!(broken(with([seen[0].clone()])), ["K4"]);
}

#[test]
fn a_stale_read_is_found() {
    assert_eq!(broken(with([read(2, (410, 420), (0, 10), found(0..5))])), ["K5"]);
    // Begun before the acknowledgement: it may miss the sample.
    assert_eq!(broken(with([read(2, (390, 420), (0, 10), found(0..5))])), Vec::<&str>::new());
    // An error is no answer.
    let mut refused = read(2, (410, 420), (0, 10), Found::default());
    if let Line::Read(op) = &mut refused {
        op.outcome = Outcome::Info;
    }
    assert_eq!(broken(with([refused])), Vec::<&str>::new());
    // Nor is one that says that it is partial.
    let mut partial = read(2, (410, 420), (0, 10), found(0..2));
    if let Line::Read(op) = &mut partial {
        op.is_partial = true;
    }
    assert_eq!(broken(with([partial])), Vec::<&str>::new());
}

#[test]
fn different_answers_of_nodes_are_found() {
    let mut lines = with([last(Signal::Metrics, 1, found(0..11))]);
    lines[0] = run(2, SCENARIO);
    assert_eq!(broken(lines), ["K6"]);
}

#[test]
fn different_replicas_and_damaged_files_are_found() {
    let different = Line::Digests { shards: 4, different: Some("shard 3: a, b".to_owned()) };
    assert_eq!(broken(with([different])), ["K8"]);
    let damaged = Line::Verified { node: 0, damage: vec!["1.seg".to_owned()] };
    assert_eq!(broken(with([damaged])), ["K8"]);
}

#[test]
fn wrong_figures_are_found() {
    for what in ["count", "sum", "max"] {
        let lines = changed(|line| {
            if let Line::Total(total) = line
                && total.what == what
            {
                total.value += 1.0;
            }
        });
        assert_eq!(broken(lines), ["K9"], "{what}");
    }
}

#[test]
fn a_count_that_is_silently_short_is_found() {
    assert_eq!(broken(with([Line::Count(count(450, 9, false))])), ["K10"]);
    assert_eq!(broken(with([Line::Count(count(450, 9, true))])), Vec::<&str>::new());
    assert_eq!(broken(with([Line::Count(count(450, 11, true))])), ["K10"]);
    // Nothing was sent yet that it could have counted.
    assert_eq!(broken(with([Line::Count(count(250, 6, false))])), ["K10"]);
}

#[test]
fn panics_deaths_and_wrong_answers_are_found() {
    let panic = Line::Printed { node: 1, panics: vec!["panicked at x".to_owned()], errors: Vec::new() };
    assert_eq!(broken(with([panic])), ["K13"]);
    assert_eq!(broken(with([Line::Ended { node: 1, t: 5, how: "exit status: 70".to_owned() }])), ["K13"]);
    let bomb =
        |result: &str, is_fine| Line::Hostile { what: "bomb".to_owned(), result: result.to_owned(), is_fine };
    assert_eq!(broken(with([bomb("200", false)])), ["K13"]);
    assert_eq!(broken(with([bomb("413", true)])), Vec::<&str>::new());
    let refused = changed(|line| {
        if let Line::Write(op) = line
            && op.outcome == Outcome::Info
        {
            op.attempts[0].result = "400".to_owned();
        }
    });
    assert_eq!(broken(refused), ["K13"]);
}

#[test]
fn what_is_never_given_back_is_found() {
    let sample = |t: Micros, rss_mib: u64, descriptors: u64| {
        let (is_running, is_ready, rss_bytes) = (true, true, rss_mib << 20);
        Line::Node(NodeSample { node: 0, t, is_running, is_ready, rss_bytes, descriptors })
    };
    assert_eq!(broken(with([sample(10, 300, 60), sample(1500, 500, 80)])), Vec::<&str>::new());
    assert_eq!(broken(with([sample(10, 300, 60), sample(1500, 900, 80)])), ["K14"]);
    assert_eq!(broken(with([sample(10, 300, 60), sample(1500, 300, 200)])), ["K14"]);
}

#[test]
fn a_history_that_is_cut_short_or_says_so_is_not_judged() {
    let mut cut = healthy();
    cut.pop();
    assert_eq!(verdict(cut).verdict, Verdict::Undecided);
    let said = verdict(with([Line::Undecided { reason: "no port".to_owned() }]));
    assert_eq!(said.verdict, Verdict::Undecided);
    // What is broken is broken, however the rest went.
    let mut lost = changed(|line| change_last(line, Runs::of(0..9)));
    lost.pop();
    assert_eq!(verdict(lost).verdict, Verdict::InvariantBroken);
}

#[test]
fn missed_goals_are_told_from_broken_rules() {
    let scenario = "name = \"t\"\nduration = \"20s\"\n[goal]\ngap_p99 = \"100ms\"\n";
    let fault = |t1: Micros| {
        let (name, detail) = ("kill".to_owned(), String::new());
        Line::Fault(FaultOp { name, detail, nodes: vec![1], t0: 450, t1 })
    };
    let run_with = |acked: Micros| {
        let mut lines = with([fault(480)]);
        lines[0] = run(3, scenario);
        for node in [1, 2] {
            let at = lines.len() - 1;
            lines.insert(at, last(Signal::Metrics, node, found(0..13)));
        }
        let mut lines: Vec<Line> = lines.into_iter().filter(|line| !matches!(line, Line::Total(_))).collect();
        lines.iter_mut().for_each(|line| change_last(line, Runs::of(0..13)));
        let at = lines.len() - 1;
        lines.insert(at, write(Signal::Metrics, (12, 13), (460, acked), Outcome::Ok));
        for t in (0..8_000_000).step_by(100_000) {
            lines.insert(at, read(0, (1_000_000 + t, 1_000_001 + t), (0, 10), found(0..10)));
        }
        lines.iter_mut().for_each(|line| {
            if let Line::LoadEnd { t } = line {
                *t = 9_000_000;
            }
        });
        verdict(lines)
    };
    let quick = run_with(50_000);
    let goal = |judgement: &Judgement, name| judgement.goals.iter().any(|g| g.name == name && g.is_met);
    assert!(goal(&quick, "gap_p99"), "{:?}", quick.goals);
    let slow = run_with(200_000);
    assert!(!goal(&slow, "gap_p99"), "{:?}", slow.goals);
    assert_eq!(slow.verdict, Verdict::GoalMissed, "{:#?}", slow.checks);
}
