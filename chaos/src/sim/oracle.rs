//! What clients were promised, and whether it is kept.
//!
//! Every sample has a unique value, and a place (series, time) that no other sample has. It is *open* from the moment
//! its batch is first sent; it becomes *owed* when a batch is acknowledged or when a linearizable read has shown it:
//! from then on every linearizable read that begins later must show it. What may never happen: an owed sample is
//! missing, a value that was never sent, one place twice, an open sample that was shown once and is gone later.
//!
//! A delete makes its range *free* as soon as it begins: what lies there may show or not. Once it has ended, what was owed
//! when it began is *gone*, and no read that begins later may show it. What was open then stays free: its batch may have
//! reached the log before the delete or after it.
//!
//! Time here is a counter of events, not the clock: a read is judged by what was owed when it began.
//!
//! Violations carry the number of the invariant in the list of `docs/reliability.md`.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::sim::executor;

/// Number of a series of the workload.
pub type SeriesNumber = u32;

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// Its number.
    pub invariant: u8,
    /// When it was found, since the start of the run.
    pub at: Duration,
    /// What was seen and what should have been.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invariant {} at {:.3} s: {}", self.invariant, self.at.as_secs_f64(), self.what)
    }
}

/// Numbers of the invariants that runs check, as the reliability notes list them.
pub mod invariant {
    /// At most one leader under each leader id, which is a term and a replica.
    pub const ONE_LEADER: u8 = 1;
    /// Logs agree where they have the same entry.
    pub const LOG_MATCHING: u8 = 2;
    /// Committed entries never change.
    pub const COMMITTED_IMMUTABLE: u8 = 5;
    /// Terms, votes, commit and applied positions never go back.
    pub const NEVER_BACK: u8 = 6;
    /// purged <= snapshot <= applied <= committed <= last.
    pub const ORDER: u8 = 7;
    /// Equal position, equal state and files.
    pub const SAME_STATE: u8 = 8;
    /// Every acknowledged sample is readable exactly once.
    pub const NOTHING_LOST: u8 = 9;
    /// No sample that was never sent.
    pub const NOTHING_INVENTED: u8 = 10;
    /// A sample of unknown fate is there once or not at all, and never vanishes later.
    pub const UNKNOWN_STAYS: u8 = 11;
    /// What was deleted does not come back.
    pub const DELETED_STAYS: u8 = 12;
    /// No panic.
    pub const NO_PANIC: u8 = 18;
    /// After healing the cluster works again within its time.
    pub const LIVENESS: u8 = 19;
}

#[derive(Clone, Debug)]
struct Sample {
    value: u64,
    fate: Fate,
}

/// What reads may show of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It may be there or not.
    Open,
    /// It is there since this event, and that came so.
    Owed(u64, Owed),
    /// A delete may have reached it.
    Free,
    /// It is deleted since this event.
    Gone(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    Acknowledged,
    Shown,
}

/// A delete that has begun.
#[derive(Clone, Debug)]
pub struct Delete {
    series: SeriesNumber,
    /// Times of what was owed.
    owed: Vec<i64>,
}

impl Sample {
    /// It must be there from now on, if nothing has deleted it. Whether that is new.
    fn owe(&mut self, event: u64, how: Owed) -> bool {
        let is_new = self.fate == Fate::Open;
        if is_new {
            self.fate = Fate::Owed(event, how);
        }
        is_new
    }
}

/// A sample on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its series.
    pub series: SeriesNumber,
    /// Its time in milliseconds.
    pub at_ms: i64,
    /// Its value: a whole number that no other sample has.
    pub value: u64,
}

/// Counts for the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Counts {
    /// Batches that were acknowledged.
    pub acked_batches: u64,
    /// Batches that were given up: their fate is unknown.
    pub unknown_batches: u64,
    /// Samples that were acknowledged.
    pub acked_samples: u64,
    /// Samples that were shown by a read though never acknowledged at that time.
    pub shown_early: u64,
    /// Samples whose delete was acknowledged.
    pub deleted_samples: u64,
    /// Reads that were judged.
    pub reads: u64,
    /// Reads that failed.
    pub failed_reads: u64,
}

#[derive(Default)]
struct State {
    events: u64,
    next_value: u64,
    series: BTreeMap<SeriesNumber, BTreeMap<i64, Sample>>,
    counts: Counts,
    violations: Vec<Violation>,
}

/// The oracle. Clones share it.
#[derive(Clone, Default)]
pub struct Oracle(Arc<Mutex<State>>);

/// A read that has begun.
#[derive(Clone, Copy, Debug)]
pub struct Read {
    began: u64,
}

/// Violations kept; after the first ones more say nothing new.
const MAX_VIOLATIONS: usize = 50;

impl Oracle {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a new sample; it may reach the log from now on.
    pub fn send(&self, series: SeriesNumber, at_ms: i64) -> Sent {
        let mut state = self.lock();
        state.next_value += 1;
        let value = state.next_value;
        let before =
            state.series.entry(series).or_default().insert(at_ms, Sample { value, fate: Fate::Open });
        assert!(before.is_none(), "the workload uses a place twice");
        Sent { series, at_ms, value }
    }

    /// A batch was acknowledged.
    pub fn acknowledge(&self, samples: &[Sent]) {
        let mut state = self.lock();
        state.events += 1;
        let event = state.events;
        state.counts.acked_batches += 1;
        state.counts.acked_samples += samples.len() as u64;
        for sent in samples {
            executor::note(sent.value);
            if let Some(sample) = state.series.get_mut(&sent.series).and_then(|s| s.get_mut(&sent.at_ms)) {
                sample.owe(event, Owed::Acknowledged);
            }
        }
    }

    /// A delete of a series' samples in `[from_ms, to_ms]` begins, to which none will be sent any more.
    pub fn begin_delete(&self, series: SeriesNumber, from_ms: i64, to_ms: i64) -> Delete {
        let mut state = self.lock();
        let mut owed = Vec::new();
        for (at_ms, sample) in state.series.entry(series).or_default().range_mut(from_ms..=to_ms) {
            match sample.fate {
                Fate::Owed(..) => owed.push(*at_ms),
                Fate::Open => {}
                Fate::Free | Fate::Gone(_) => continue,
            }
            sample.fate = Fate::Free;
        }
        Delete { series, owed }
    }

    /// A delete was acknowledged.
    pub fn end_delete(&self, delete: &Delete) {
        let mut state = self.lock();
        state.events += 1;
        let event = state.events;
        state.counts.deleted_samples += delete.owed.len() as u64;
        let samples = state.series.entry(delete.series).or_default();
        for at_ms in &delete.owed {
            if let Some(sample) = samples.get_mut(at_ms) {
                executor::note(sample.value);
                sample.fate = Fate::Gone(event);
            }
        }
    }

    /// A batch was given up.
    pub fn give_up(&self) {
        self.lock().counts.unknown_batches += 1;
    }

    /// A linearizable read begins.
    pub fn begin_read(&self) -> Read {
        let mut state = self.lock();
        state.events += 1;
        Read { began: state.events }
    }

    /// A read failed: it says nothing.
    pub fn fail_read(&self) {
        self.lock().counts.failed_reads += 1;
    }

    /// Judges what a read showed of a series in `[from_ms, to_ms]`, in the order in which it came.
    pub fn judge(
        &self,
        read: Read,
        series: SeriesNumber,
        from_ms: i64,
        to_ms: i64,
        found: &[(i64, f64)],
        by: &str,
    ) {
        let mut state = self.lock();
        state.events += 1;
        state.counts.reads += 1;
        let event = state.events;
        let mut violations = Vec::new();
        let mut early = 0;
        if let Some(pair) = found.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            let what = format!("{by}: series {series} shows time {} after {}", pair[1].0, pair[0].0);
            violations.push((invariant::NOTHING_LOST, what));
        }
        let empty = BTreeMap::new();
        for (at_ms, value) in found {
            let sent = state.series.get_mut(&series).and_then(|samples| samples.get_mut(at_ms));
            match sent {
                Some(sample) if sample.value as f64 == *value => match sample.fate {
                    Fate::Gone(since) if since < read.began => violations.push((
                        invariant::DELETED_STAYS,
                        format!("{by}: series {series} shows {value} at {at_ms}, which was deleted"),
                    )),
                    _ => early += u64::from(sample.owe(event, Owed::Shown)),
                },
                Some(sample) => violations.push((
                    invariant::NOTHING_INVENTED,
                    format!("{by}: series {series} at {at_ms} has value {value}, sent was {}", sample.value),
                )),
                None => violations.push((
                    invariant::NOTHING_INVENTED,
                    format!("{by}: series {series} shows {value} at {at_ms}, which was never sent"),
                )),
            }
        }
        state.counts.shown_early += early;
        let samples = state.series.get(&series).unwrap_or(&empty);
        let mut found_times = found.iter().map(|(at_ms, _)| *at_ms).peekable();
        for (at_ms, sample) in samples.range(from_ms..=to_ms) {
            while found_times.next_if(|time| time < at_ms).is_some() {}
            let is_found = found_times.peek() == Some(at_ms);
            match sample.fate {
                Fate::Owed(since, how) if since < read.began && !is_found => {
                    let (number, how) = match how {
                        Owed::Acknowledged => (invariant::NOTHING_LOST, "acknowledged"),
                        Owed::Shown => (invariant::UNKNOWN_STAYS, "shown before"),
                    };
                    let what = format!(
                        "{by}: series {series} lacks value {} at {at_ms}, which was {how}",
                        sample.value
                    );
                    violations.push((number, what));
                }
                _ => {}
            }
        }
        drop(state);
        for (number, what) in violations {
            self.violate(number, what);
        }
    }

    /// Notes a broken invariant.
    pub fn violate(&self, invariant: u8, what: String) {
        executor::say(|| format!("VIOLATION of invariant {invariant}: {what}"));
        let at = executor::elapsed();
        let mut state = self.lock();
        if state.violations.len() < MAX_VIOLATIONS {
            state.violations.push(Violation { invariant, at, what });
        }
    }

    /// Whether an invariant was broken.
    pub fn is_violated(&self) -> bool {
        !self.lock().violations.is_empty()
    }

    /// All broken invariants, in order of discovery.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// Counts so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Series that have samples.
    pub fn series(&self) -> Vec<SeriesNumber> {
        self.lock().series.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::runtime::SimRuntime;
    use openraft_rt::AsyncRuntime;

    /// Runs a check inside a world, which violations ask for the time; gives the numbers of what it broke.
    fn check(test: impl FnOnce(&Oracle)) -> Vec<u8> {
        SimRuntime::with_seed(1).block_on(async {
            let oracle = Oracle::default();
            test(&oracle);
            oracle.violations().iter().map(|v| v.invariant).collect()
        })
    }

    fn read(oracle: &Oracle, found: &[(i64, f64)]) {
        oracle.judge(oracle.begin_read(), 1, 0, 100, found, "test");
    }

    #[test]
    fn what_was_acknowledged_must_show() {
        let broken = check(|oracle| {
            let sent = oracle.send(1, 5);
            read(oracle, &[]);
            oracle.acknowledge(&[sent]);
            read(oracle, &[(5, 1.0)]);
            assert!(!oracle.is_violated());
            read(oracle, &[]);
        });
        assert_eq!(broken, [invariant::NOTHING_LOST]);
    }

    #[test]
    fn a_read_owes_what_was_acknowledged_before_it_began() {
        let broken = check(|oracle| {
            let sent = oracle.send(1, 5);
            let begun = oracle.begin_read();
            oracle.acknowledge(&[sent]);
            oracle.judge(begun, 1, 0, 100, &[], "test");
        });
        assert!(broken.is_empty(), "{broken:?}");
    }

    #[test]
    fn what_was_shown_once_must_stay() {
        let broken = check(|oracle| {
            oracle.send(1, 5);
            read(oracle, &[(5, 1.0)]);
            read(oracle, &[]);
        });
        assert_eq!(broken, [invariant::UNKNOWN_STAYS]);
    }

    #[test]
    fn inventions_and_doubles_are_found() {
        let broken = check(|oracle| {
            oracle.send(1, 5);
            read(oracle, &[(5, 2.0)]);
            read(oracle, &[(5, 1.0), (6, 9.0)]);
            read(oracle, &[(5, 1.0), (5, 1.0)]);
        });
        let (lost, invented) = (invariant::NOTHING_LOST, invariant::NOTHING_INVENTED);
        assert_eq!(broken, [invented, invented, lost]);
    }

    #[test]
    fn what_was_deleted_must_not_come_back() {
        let broken = check(|oracle| {
            let sent = [oracle.send(1, 5), oracle.send(1, 6), oracle.send(1, 7)];
            oracle.acknowledge(&sent[..1]);
            let begun = oracle.begin_read();
            let delete = oracle.begin_delete(1, 5, 6);
            read(oracle, &[(5, 1.0)]);
            read(oracle, &[]);
            oracle.end_delete(&delete);
            oracle.judge(begun, 1, 0, 100, &[(5, 1.0)], "test");
            // The second one's batch may come after the delete; the third is none of its concern.
            oracle.acknowledge(&sent[1..]);
            read(oracle, &[(6, 2.0), (7, 3.0)]);
            read(oracle, &[(7, 3.0)]);
            assert!(!oracle.is_violated());
            read(oracle, &[(5, 1.0), (7, 3.0)]);
            read(oracle, &[]);
        });
        assert_eq!(broken, [invariant::DELETED_STAYS, invariant::NOTHING_LOST]);
    }

    #[test]
    fn only_the_range_of_the_read_counts() {
        let broken = check(|oracle| {
            let sent = [oracle.send(1, 5), oracle.send(1, 200), oracle.send(2, 6)];
            oracle.acknowledge(&sent);
            read(oracle, &[(5, 1.0)]);
        });
        assert!(broken.is_empty(), "{broken:?}");
    }
}
