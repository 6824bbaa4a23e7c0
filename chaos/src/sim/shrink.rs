//! Makes a failure small: what of a seed's faults is needed for it to fail in the same way.
//!
//! ```text
//! everything ─► each kind of strike left out ─► halves, quarters, ... of the strikes left out (delta debugging)
//!   ─► each bad condition left out ─► the strikes once more
//! ```
//!
//! What still breaks the same invariant is kept. Leaving something out changes who wins every later race, so that a strike
//! that is kept may be there for luck only; what is printed fails, and is small, not smallest.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use crate::sim::run::SeedReport;
use crate::sim::schedule::{Condition, Kind, Schedule, Strike};

/// Runs the seed with a part of what it has in store.
pub type Run<'a> = &'a (dyn Fn(&Schedule) -> SeedReport + Sync);

/// A failure made small.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The smallest run that fails alike.
    pub report: SeedReport,
    /// Strikes of the whole run, up to its failure.
    pub strikes_before: usize,
    /// Runs that it took.
    pub runs: usize,
    /// Whether there was time to try everything.
    pub is_done: bool,
}

impl Shrunk {
    /// For people.
    pub fn to_text(&self) -> String {
        let report = &self.report;
        let mut out = format!(
            "seed {}: {} of {} strikes are left after {} runs{}\n",
            report.seed,
            report.struck.len(),
            self.strikes_before,
            self.runs,
            if self.is_done { "" } else { ", and the time is over" }
        );
        for (strike, at) in &report.struck {
            out.push_str(&format!("  {:>9.3} s  {strike}\n", at.as_secs_f64()));
        }
        let names = |list: &mut dyn Iterator<Item = Condition>| -> String {
            list.map(Condition::name).collect::<Vec<_>>().join(", ")
        };
        let without = &report.schedule.without;
        if !without.is_empty() {
            out.push_str(&format!("without {}\n", names(&mut without.iter().copied())));
        }
        for violation in report.violations.iter().take(3) {
            out.push_str(&format!("{violation}\n"));
        }
        out.push_str(&format!("again: {}\n", report.replay()));
        out
    }
}

/// Makes the failure of a seed small, for so long at most. `None` where the seed does not fail. `progress` hears what is
/// still needed whenever that becomes less.
pub fn shrink(run: Run<'_>, within: Duration, progress: &mut dyn FnMut(&str)) -> Option<Shrunk> {
    let deadline = Instant::now() + within;
    let whole = run(&Schedule::default());
    let invariant = whole.violations.first()?.invariant;
    let strikes_before = whole.struck.len();
    progress(&format!("{} strikes until {}", strikes_before, whole.violations[0]));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut search = Search { run, invariant, deadline, threads, runs: 1, best: whole, progress };
    for kind in Kind::ALL {
        let rest: BTreeSet<Strike> = search.strikes().into_iter().filter(|s| s.kind != kind).collect();
        if rest.len() < search.strikes().len() {
            search.try_first(vec![search.with_strikes(rest)]);
        }
    }
    search.fewer_strikes();
    for condition in Condition::ALL {
        let mut schedule = search.best.schedule.clone();
        if schedule.without.insert(condition) {
            search.try_first(vec![schedule]);
        }
    }
    search.fewer_strikes();
    let is_done = Instant::now() < deadline;
    Some(Shrunk { report: search.best, strikes_before, runs: search.runs, is_done })
}

struct Search<'a> {
    run: Run<'a>,
    invariant: u8,
    deadline: Instant,
    threads: usize,
    runs: usize,
    best: SeedReport,
    progress: &'a mut dyn FnMut(&str),
}

impl Search<'_> {
    /// Those that struck before the smallest run failed: later ones have nothing to do with it.
    fn strikes(&self) -> Vec<Strike> {
        self.best.struck.iter().map(|(strike, _)| *strike).collect()
    }

    fn with_strikes(&self, strikes: BTreeSet<Strike>) -> Schedule {
        Schedule { only: Some(strikes), without: self.best.schedule.without.clone() }
    }

    /// Tries schedules until one fails as the whole run did, and takes the first of them that does.
    fn try_first(&mut self, schedules: Vec<Schedule>) -> bool {
        for some in schedules.chunks(self.threads) {
            if Instant::now() >= self.deadline {
                return false;
            }
            self.runs += some.len();
            let run = self.run;
            let reports: Vec<SeedReport> = std::thread::scope(|scope| {
                let started: Vec<_> =
                    some.iter().map(|schedule| scope.spawn(move || run(schedule))).collect();
                started.into_iter().filter_map(|thread| thread.join().ok()).collect()
            });
            let fails_alike = |report: &SeedReport| {
                report.violations.iter().any(|violation| violation.invariant == self.invariant)
            };
            if let Some(report) = reports.into_iter().find(fails_alike) {
                let (left, without) = (report.struck.len(), report.schedule.without.len());
                (self.progress)(&format!("{left} strikes are left, {without} conditions mended"));
                self.best = report;
                return true;
            }
        }
        false
    }

    /// Leaves out parts of the strikes, smaller ones from round to round, until no single one can be left out.
    fn fewer_strikes(&mut self) {
        let mut parts = 2;
        loop {
            let strikes = self.strikes();
            if strikes.is_empty() {
                return;
            }
            let len = strikes.len().div_ceil(parts.min(strikes.len()));
            let without_one = strikes.chunks(len).map(|part| {
                self.with_strikes(strikes.iter().filter(|strike| !part.contains(strike)).copied().collect())
            });
            if self.try_first(without_one.collect()) {
                parts = parts.saturating_sub(1).max(2);
            } else if len == 1 {
                return;
            } else {
                parts *= 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::oracle::Violation;

    fn strikes(text: &str) -> BTreeSet<Strike> {
        Schedule::parse_only(text).expect("strikes")
    }

    /// A seed of forty strikes that fails where those that are needed strike, unless a condition is mended that is needed.
    fn failing(needed: &str, condition: Option<Condition>) -> impl Fn(&Schedule) -> SeedReport + Sync {
        let needed = strikes(needed);
        move |schedule| {
            let all = [Kind::Crash, Kind::Partition, Kind::Clock, Kind::Flush].into_iter();
            let all = all.flat_map(|kind| (1..=10).map(move |number| Strike { kind, number }));
            let struck: Vec<(Strike, Duration)> =
                all.filter(|strike| schedule.has(*strike)).map(|strike| (strike, Duration::ZERO)).collect();
            let is_bad = condition.is_none_or(|condition| !schedule.without.contains(&condition));
            let fails = is_bad && needed.iter().all(|strike| schedule.has(*strike));
            let violation = |invariant| Violation { invariant, at: Duration::ZERO, what: String::new() };
            // Another failure is no sign of the one that is looked for.
            let violations = vec![violation(if fails { 9 } else { 18 })];
            SeedReport {
                seed: 7,
                violations,
                trace_hash: 0,
                simulated: Duration::ZERO,
                counts: Default::default(),
                strikes: Vec::new(),
                struck,
                schedule: schedule.clone(),
                polls: 0,
            }
        }
    }

    #[test]
    fn what_is_needed_is_left() {
        let check = |needed: &str, condition: Option<Condition>| {
            let run = failing(needed, condition);
            let shrunk = shrink(&run, Duration::from_secs(60), &mut |_| ()).expect("it fails");
            assert!(shrunk.is_done && shrunk.strikes_before == 40);
            assert_eq!(shrunk.report.schedule.only, Some(strikes(needed)), "{needed}");
            let mended: BTreeSet<Condition> =
                Condition::ALL.into_iter().filter(|other| Some(*other) != condition).collect();
            assert_eq!(shrunk.report.schedule.without, mended);
            assert!(shrunk.to_text().contains(&format!("--seed 7 --only {needed} --without")), "{needed}");
        };
        check("none", None);
        check("crash:3", Some(Condition::Loss));
        check("crash:1,crash:10,partition:5", None);
        check("crash:4,partition:2,clock:9,flush:1,flush:2", Some(Condition::Resends));
    }

    #[test]
    fn a_seed_that_passes_has_nothing_to_shrink() {
        let run =
            |schedule: &Schedule| SeedReport { violations: Vec::new(), ..failing("none", None)(schedule) };
        assert!(shrink(&run, Duration::from_secs(60), &mut |_| ()).is_none());
    }

    #[test]
    fn without_time_the_whole_run_is_what_is_left() {
        let run = failing("crash:1", None);
        let shrunk = shrink(&run, Duration::ZERO, &mut |_| ()).expect("it fails");
        assert_eq!((shrunk.runs, shrunk.is_done, shrunk.report.struck.len()), (1, false, 40));
    }
}
