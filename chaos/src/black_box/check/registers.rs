//! K7: registers that clients change by comparing.
//!
//! Each version has one writer, so that the order of versions is the order in which saves took effect, and no search for an
//! order is needed. It has to be possible in time: a save that ended before another began has the lower version. Reads are of
//! a node's own copy and may be old, but never of what was not written, nor of what had not begun to be written.

use std::collections::BTreeMap;

use super::{Check, Rule, at};
use crate::black_box::history::{History, Line, Outcome, RegisterOp};

pub(super) fn registers(history: &History) -> Check {
    let mut rule = Rule::new("K7", "registers are linearizable: one save follows each version");
    let mut by_register: BTreeMap<usize, Vec<&RegisterOp>> = BTreeMap::new();
    for line in &history.lines {
        if let Line::Register(op) = line {
            by_register.entry(op.register).or_default().push(op);
        }
    }
    for ops in by_register.values() {
        judge(&mut rule, ops);
    }
    rule.close("saves and reads")
}

fn say(op: &RegisterOp) -> String {
    let RegisterOp { register, node, value, version, t0, t1, .. } = op;
    let what = if op.follows.is_some() { "saved" } else { "read" };
    let (from, to) = (at(*t0), at(*t1));
    format!(
        "register {register}: {what} value {value} as version {version} at node {} from {from} to {to}",
        node + 1
    )
}

fn judge(rule: &mut Rule, ops: &[&RegisterOp]) {
    let saved = |outcome: Outcome| {
        ops.iter().copied().filter(move |op| op.follows.is_some() && op.outcome == outcome)
    };
    let mut versions: BTreeMap<u64, &RegisterOp> = BTreeMap::new();
    for op in saved(Outcome::Ok) {
        rule.looked_at += 1;
        if op.follows != op.version.checked_sub(1) {
            rule.violated(1, || format!("{}, which follows {:?}", say(op), op.follows));
        }
        if let Some(other) = versions.insert(op.version, op) {
            rule.violated(1, || format!("{}; and {}", say(other), say(op)));
        }
    }
    // The latest beginning among lower versions.
    let mut latest: Option<&RegisterOp> = None;
    for op in versions.values() {
        if let Some(lower) = latest.filter(|lower| lower.t0 > op.t1) {
            rule.violated(1, || format!("{}; only afterwards {}", say(op), say(lower)));
        }
        if latest.is_none_or(|lower| lower.t0 < op.t0) {
            latest = Some(op);
        }
    }
    let unknown: BTreeMap<(u64, u64), &RegisterOp> =
        saved(Outcome::Info).filter_map(|op| Some(((op.follows? + 1, op.value), op))).collect();
    let reads = ops.iter().filter(|op| op.follows.is_none() && op.outcome == Outcome::Ok);
    // What an unknown save has become, once somebody read it.
    let mut seen: BTreeMap<u64, u64> = BTreeMap::new();
    for read in reads.clone().filter(|read| read.version > 0) {
        rule.looked_at += 1;
        let writer = match versions.get(&read.version) {
            Some(op) => Some(*op).filter(|op| op.value == read.value),
            None => unknown.get(&(read.version, read.value)).copied(),
        };
        match writer {
            None => rule.violated(1, || format!("{}, which nobody saved", say(read))),
            Some(op) if op.t0 > read.t1 => {
                rule.violated(1, || format!("{}; only afterwards {}", say(read), say(op)))
            }
            Some(_) => {}
        }
        if *seen.entry(read.version).or_insert(read.value) != read.value {
            rule.violated(1, || format!("{}, where another read showed another value", say(read)));
        }
    }
    let newest = versions.keys().max().copied().unwrap_or(0);
    for last in reads.filter(|read| read.is_last && read.version < newest) {
        rule.violated(1, || format!("{} in the end, although version {newest} was acknowledged", say(last)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::Status;
    use super::*;

    fn op(follows: Option<u64>, (version, value): (u64, u64), (t0, t1): (u64, u64)) -> RegisterOp {
        let (outcome, result) = (Outcome::Ok, "200".to_owned());
        RegisterOp {
            register: 0,
            client: 0,
            node: 0,
            t0,
            t1,
            follows,
            version,
            value,
            outcome,
            result,
            is_last: false,
        }
    }

    fn save(version: u64, value: u64, time: (u64, u64)) -> RegisterOp {
        op(Some(version - 1), (version, value), time)
    }

    fn holds(ops: Vec<RegisterOp>) -> bool {
        let history = History { lines: ops.into_iter().map(Line::Register).collect() };
        let check = registers(&history);
        assert_eq!(check.status == Status::Fail, !check.witnesses.is_empty());
        check.status != Status::Fail
    }

    #[test]
    fn saves_in_the_order_of_their_versions_are_right() {
        let unknown = RegisterOp { outcome: Outcome::Info, version: 0, ..save(3, 30, (40, 90)) };
        let last = RegisterOp { is_last: true, ..op(None, (4, 40), (200, 200)) };
        assert!(holds(vec![
            // It took its time, and others were faster to hear of theirs.
            save(1, 10, (0, 50)),
            save(2, 20, (20, 30)),
            unknown.clone(),
            op(None, (3, 30), (60, 70)),
            save(4, 40, (95, 99)),
            // An old copy.
            op(None, (1, 10), (100, 110)),
            op(None, (0, 0), (100, 110)),
            last,
        ]));
        assert!(holds(vec![save(1, 10, (0, 50)), unknown]), "it may never have taken effect");
    }

    #[test]
    fn what_no_order_explains_is_found() {
        assert!(!holds(vec![save(1, 10, (0, 10)), save(1, 11, (5, 15))]), "two saves of one version");
        assert!(!holds(vec![op(Some(1), (3, 10), (0, 10))]), "a version that it does not follow");
        assert!(!holds(vec![save(2, 20, (0, 10)), save(1, 10, (11, 20))]), "the lower version came later");
        assert!(!holds(vec![save(1, 10, (0, 10)), op(None, (1, 11), (20, 30))]), "another value");
        assert!(!holds(vec![op(None, (1, 11), (20, 30))]), "never saved");
        assert!(!holds(vec![save(1, 10, (50, 60)), op(None, (1, 10), (20, 30))]), "not yet saved");
        let lost = RegisterOp { is_last: true, ..op(None, (1, 10), (99, 99)) };
        assert!(
            !holds(vec![save(1, 10, (0, 10)), save(2, 20, (20, 30)), lost]),
            "an acknowledged save is lost"
        );
        let unknown = |value| RegisterOp { outcome: Outcome::Info, version: 0, ..save(1, value, (0, 10)) };
        let both = vec![unknown(10), unknown(11), op(None, (1, 10), (20, 30)), op(None, (1, 11), (20, 30))];
        assert!(!holds(both), "two values of one version");
    }
}
