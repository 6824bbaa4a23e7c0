//! Limits of a query and the ledger that keeps them: samples, bytes, time, cancellation, turns.
//!
//! Every evaluation holds one [`Budget`]. It is charged before memory is taken and checked between series, so that
//! a query over its limit ends soon, alone, with an error that names the limit. Where it is checked, the evaluation also
//! gives its place to others whose turn it is ([`Turn`]).
//!
//! The parts of one query that run on a node share an [`Account`], so that the limits are those of the query and not of
//! each part:
//!
//! ```text
//! coordinator: Budget ─ samples as the shards report them ────────────── limit of samples, exact, over all nodes
//!                     └─┐
//! fragments:   Budget ──┴► Account of the query on this node: bytes, samples of this round ── the same limits, early
//! ```

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use protocol::memory::{Charge, MemoryLedger, MemoryUse, Pressure};
use protocol::scan::FragmentStats;

use crate::error::QueryError;
use crate::value::Grid;

/// Limits of a query.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Samples that it may load.
    pub max_samples: u64,
    /// Points per series that a range query may ask for.
    pub max_points: u64,
    /// Bytes that it may hold at one place.
    pub max_bytes: u64,
    /// How long it may run.
    pub timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_samples: 50_000_000,
            max_points: 11_000,
            max_bytes: 512 << 20,
            timeout: Duration::from_secs(120),
        }
    }
}

impl Limits {
    /// These, and no more than what a request for a shard says is left of its query's.
    pub fn within(self, max_samples: u64, max_bytes: u64, timeout_ms: u64) -> Self {
        Self {
            max_samples: self.max_samples.min(max_samples),
            max_bytes: self.max_bytes.min(max_bytes),
            timeout: self.timeout.min(Duration::from_millis(timeout_ms)),
            ..self
        }
    }

    /// See [`Budget::check_grid`].
    pub fn check_grid(&self, grid: &Grid) -> Result<(), QueryError> {
        // Steps travel to the shards as 32 bits.
        let max_samples = self.max_samples.min(u64::from(u32::MAX));
        if grid.count as u64 > max_samples {
            return Err(QueryError::TooManySamples { limit: max_samples, asked: grid.count as u64 });
        }
        let asked = column_bytes(grid.count);
        if asked > self.max_bytes {
            return Err(QueryError::TooMuchMemory { limit: self.max_bytes, asked });
        }
        Ok(())
    }
}

/// Bytes of a column of floats.
pub fn column_bytes(steps: usize) -> u64 {
    (steps as u64).saturating_mul(8)
}

/// Bytes that are held as long as this lives.
#[must_use]
#[derive(Debug)]
pub struct Held<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Held<'_> {
    /// Holds more.
    pub fn grow(&mut self, bytes: u64) -> Result<(), QueryError> {
        self.bytes = self.bytes.saturating_add(bytes);
        self.budget.hold(bytes)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// Stops a query from outside: the client went away, or somebody killed it.
#[derive(Clone, Debug, Default)]
pub struct CancelFlag(Arc<AtomicBool>);

impl CancelFlag {
    /// Stops the query at its next check.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it is to stop.
    pub fn is_canceled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// A place on a node's threads for evaluations.
pub trait Turn: Send + Sync {
    /// Gives the place to others whose turn it is, and returns when it has one again, or when the flag is set. Called
    /// often, so it has to be cheap while nobody waits.
    fn pass(&self, cancel: &CancelFlag);
}

/// What all parts of a query use together on one node.
#[derive(Debug, Default)]
pub struct Account {
    samples: AtomicU64,
    bytes: AtomicU64,
    /// Number of the newest round of fragments, and the samples before it.
    round: Mutex<(u32, u64)>,
}

impl Account {
    /// Samples that were counted before a round began here.
    fn before(&self, round: u32) -> u64 {
        let mut newest = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        if round > newest.0 {
            *newest = (round, self.samples.load(Ordering::Relaxed));
        }
        newest.1
    }
}

/// Accounts that are remembered: more than queries run at once.
const ACCOUNTS: usize = 1024;

/// The accounts of a node. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Accounts(Arc<Mutex<VecDeque<(u64, Arc<Account>)>>>);

impl Accounts {
    /// The account of a query, by the number that its coordinator gave it.
    pub fn of(&self, query: u64) -> Arc<Account> {
        let mut accounts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, account)) = accounts.iter().rev().find(|(id, _)| *id == query) {
            return Arc::clone(account);
        }
        if accounts.len() == ACCOUNTS {
            accounts.pop_front();
        }
        let account = Arc::<Account>::default();
        accounts.push_back((query, Arc::clone(&account)));
        account
    }
}

/// What stops an evaluation, paces it, and counts it together with others.
#[derive(Clone, Default)]
pub struct Control {
    /// Stops it.
    pub cancel: CancelFlag,
    /// Its place, where places are scarce.
    pub turn: Option<Arc<dyn Turn>>,
    /// The query's account on this node.
    pub account: Option<Arc<Account>>,
}

impl From<CancelFlag> for Control {
    fn from(cancel: CancelFlag) -> Self {
        Self { cancel, ..Self::default() }
    }
}

/// An evaluation's part of an account.
#[derive(Debug)]
struct Joint {
    account: Arc<Account>,
    /// Samples of earlier rounds; `None` where samples are not counted together.
    before: Option<u64>,
    /// Samples that were counted there.
    counted: Cell<u64>,
    /// Of these, how many have not been read yet.
    prepaid: Cell<u64>,
    /// Whether what was read stays counted when the evaluation ends.
    keep: Cell<bool>,
}

impl Joint {
    fn new(account: Arc<Account>, before: Option<u64>) -> Self {
        Self { account, before, counted: Cell::new(0), prepaid: Cell::new(0), keep: Cell::new(false) }
    }

    /// Counts samples; returns what all have counted in this round.
    fn count(&self, samples: u64) -> u64 {
        let Some(before) = self.before else { return 0 };
        self.counted.set(self.counted.get().saturating_add(samples));
        let all = self.account.samples.fetch_add(samples, Ordering::Relaxed).saturating_add(samples);
        all.saturating_sub(before)
    }
}

impl Drop for Joint {
    fn drop(&mut self) {
        let gone = if self.keep.get() { self.prepaid.get() } else { self.counted.get() };
        self.account.samples.fetch_sub(gone, Ordering::Relaxed);
    }
}

/// What an evaluation has used and may still use.
pub struct Budget {
    limits: Limits,
    deadline: Option<Instant>,
    cancel: CancelFlag,
    turn: Option<Arc<dyn Turn>>,
    joint: Option<Joint>,
    /// Samples looked at since the last check.
    work: Cell<u64>,
    samples: Cell<u64>,
    series: Cell<u64>,
    held: Cell<u64>,
    peak: Cell<u64>,
    /// Its part of the node's memory.
    charge: Option<RefCell<Charge>>,
}

/// What is held is charged to the node in steps of this many bytes.
const CHARGE_STEP: u64 = 256 << 10;

/// Samples that are looked at between two checks, about.
const WORK_STEP: u64 = 1 << 17;

/// Series between two checks: reading a short one takes not much longer than looking at the clock.
const SERIES_STEP: u64 = 16;

const fn charged_for(held: u64) -> u64 {
    held.div_ceil(CHARGE_STEP).saturating_mul(CHARGE_STEP)
}

impl Budget {
    /// A budget that starts now.
    pub fn new(limits: Limits, control: impl Into<Control>) -> Self {
        let Control { cancel, turn, account } = control.into();
        Self {
            limits,
            deadline: Instant::now().checked_add(limits.timeout),
            cancel,
            turn,
            joint: account.map(|account| Joint::new(account, None)),
            work: Cell::new(0),
            samples: Cell::new(0),
            series: Cell::new(0),
            held: Cell::new(0),
            peak: Cell::new(0),
            charge: None,
        }
    }

    /// A budget that also draws on the memory of a node.
    pub fn within(mut self, memory: Option<&MemoryLedger>) -> Self {
        self.charge = memory.map(|memory| RefCell::new(memory.charge(MemoryUse::Queries)));
        self
    }

    /// A budget whose samples are counted together with those of the other fragments of a round. Rounds are numbered
    /// from 1 on; the limit of samples is what was left before the round.
    pub fn in_round(mut self, round: u32) -> Self {
        if let Some(joint) = &mut self.joint {
            joint.before = Some(joint.account.before(round));
        }
        self
    }

    /// Fails when the time is up or the query was cancelled. Lets others pass before.
    pub fn check(&self) -> Result<(), QueryError> {
        if let Some(turn) = &self.turn {
            turn.pass(&self.cancel);
        }
        if self.cancel.is_canceled() {
            return Err(QueryError::Canceled("expression evaluation".to_owned()));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Timeout("expression evaluation".to_owned()));
        }
        Ok(())
    }

    /// Notes that samples were looked at, and checks every now and then: one series may be work for minutes.
    #[inline]
    pub fn work(&self, samples: u64) -> Result<(), QueryError> {
        let work = self.work.get() + samples;
        if work < WORK_STEP {
            self.work.set(work);
            return Ok(());
        }
        self.work.set(0);
        self.check()
    }

    /// Counts samples that will certainly be read, before any is.
    pub fn prepay(&self, samples: u64) -> Result<(), QueryError> {
        let all = match &self.joint {
            Some(joint) if joint.before.is_some() => {
                joint.prepaid.set(joint.prepaid.get().saturating_add(samples));
                joint.count(samples)
            }
            _ => self.samples.get().saturating_add(samples),
        };
        self.within_samples(all)
    }

    fn within_samples(&self, asked: u64) -> Result<(), QueryError> {
        let limit = self.limits.max_samples;
        if asked > limit { Err(QueryError::TooManySamples { limit, asked }) } else { Ok(()) }
    }

    /// Counts samples that were read.
    pub fn charge_samples(&self, count: u64) -> Result<(), QueryError> {
        self.samples.set(self.samples.get().saturating_add(count));
        let together = self.joint.as_ref().map_or(0, |joint| {
            let prepaid = joint.prepaid.get().min(count);
            joint.prepaid.set(joint.prepaid.get() - prepaid);
            joint.count(count - prepaid)
        });
        self.within_samples(self.samples.get().max(together))
    }

    /// What was read stays counted after the end: the answer goes out.
    pub fn settle(&self) {
        if let Some(joint) = &self.joint {
            joint.keep.set(true);
        }
    }

    /// Counts a series that was read, and checks every now and then: what is read of it counts as work besides.
    pub fn charge_series(&self) -> Result<(), QueryError> {
        self.series.set(self.series.get() + 1);
        if self.series.get() % SERIES_STEP == 1 { self.check() } else { Ok(()) }
    }

    /// Counts series, and samples of theirs, that were read elsewhere, and looks at the clock.
    pub fn charge_read(&self, series: u64, samples: u64) -> Result<(), QueryError> {
        self.series.set(self.series.get().saturating_add(series));
        self.charge_samples(samples)?;
        self.check()
    }

    /// Counts bytes that are held from now on.
    pub fn hold(&self, bytes: u64) -> Result<(), QueryError> {
        self.held.set(self.held.get().saturating_add(bytes));
        self.peak.set(self.peak.get().max(self.held.get()));
        let together = self
            .joint
            .as_ref()
            .map_or(0, |joint| joint.account.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes));
        let (asked, limit) = (self.held.get().max(together), self.limits.max_bytes);
        if asked > limit {
            return Err(QueryError::TooMuchMemory { limit, asked });
        }
        let Some(charge) = &self.charge else { return Ok(()) };
        let mut charge = charge.borrow_mut();
        let due = charged_for(self.held.get());
        if due > charge.bytes() && !charge.try_set(due, Pressure::Queries) {
            return Err(QueryError::NodeMemory { budget: charge.ledger().budget(), asked });
        }
        Ok(())
    }

    /// Counts bytes that are held until the guard goes.
    pub fn hold_while(&self, bytes: u64) -> Result<Held<'_>, QueryError> {
        self.hold(bytes)?;
        Ok(Held { budget: self, bytes })
    }

    /// Counts columns of a float per step, before they are made; given back when the guard goes.
    pub fn columns(&self, columns: u64, steps: usize) -> Result<Held<'_>, QueryError> {
        self.hold_while(column_bytes(steps).saturating_mul(columns))
    }

    /// Refuses a grid on which no query could be evaluated: a single column over it is more than the query may hold,
    /// or a series with a sample at each step more than it may load. Grids are checked before anything is made for
    /// their steps, because a subquery's range and step, not the data, decide how many those are.
    pub fn check_grid(&self, grid: &Grid) -> Result<(), QueryError> {
        self.limits.check_grid(grid)
    }

    /// Gives bytes back.
    pub fn release(&self, bytes: u64) {
        let bytes = bytes.min(self.held.get());
        self.held.set(self.held.get() - bytes);
        if let Some(joint) = &self.joint {
            joint.account.bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        if let Some(charge) = &self.charge {
            let due = charged_for(self.held.get());
            let mut charge = charge.borrow_mut();
            // Not for every byte: a query takes and gives back all the time.
            if due + 4 * CHARGE_STEP <= charge.bytes() {
                charge.set(due);
            }
        }
    }

    /// Samples read so far.
    pub fn samples(&self) -> u64 {
        self.samples.get()
    }

    /// Series read so far.
    pub fn series(&self) -> u64 {
        self.series.get()
    }

    /// Most bytes held at once.
    pub fn peak_bytes(&self) -> u64 {
        self.peak.get()
    }

    /// What it has counted, as a shard tells with its answer.
    pub fn stats(&self) -> FragmentStats {
        FragmentStats {
            samples: self.samples(),
            series: self.series(),
            peak_samples: self.peak_bytes() / 16,
            ..FragmentStats::default()
        }
    }

    /// Time left.
    pub fn remaining(&self) -> Duration {
        match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => self.limits.timeout,
        }
    }

    /// Bytes that may still be held.
    pub fn free_bytes(&self) -> u64 {
        let together = self.joint.as_ref().map_or(0, |joint| joint.account.bytes.load(Ordering::Relaxed));
        self.limits.max_bytes.saturating_sub(self.held.get().max(together))
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }
}

impl std::fmt::Debug for Budget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Budget")
            .field("limits", &self.limits)
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        self.release(self.held.get());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_names_itself() {
        let limits = Limits { max_samples: 10, max_bytes: 100, ..Limits::default() };
        let budget = Budget::new(limits, CancelFlag::default());
        assert!(budget.charge_samples(10).is_ok());
        assert!(
            budget.charge_samples(1).unwrap_err().to_string().contains("limit of 10 (query.max_samples)")
        );
        assert!(budget.hold(100).is_ok());
        budget.release(50);
        assert!(budget.hold(50).is_ok());
        assert!(budget.hold(1).unwrap_err().to_string().contains("100 bytes (query.max_memory)"));
        assert_eq!(budget.peak_bytes(), 101);
    }

    #[test]
    fn guards_give_back_what_they_held() {
        let budget = Budget::new(
            Limits { max_bytes: 100, max_samples: 50, ..Limits::default() },
            CancelFlag::default(),
        );
        {
            let mut held = budget.columns(2, 5).unwrap();
            assert!(held.grow(20).is_ok());
            assert!(budget.hold_while(1).is_err());
        }
        assert!(budget.hold_while(99).is_ok());
        let grid = |count| Grid { start: 0, step: 1, count };
        assert!(budget.check_grid(&grid(12)).is_ok());
        assert!(matches!(
            budget.check_grid(&grid(13)),
            Err(QueryError::TooMuchMemory { limit: 100, asked: 104 })
        ));
        assert!(matches!(
            budget.check_grid(&grid(51)),
            Err(QueryError::TooManySamples { limit: 50, asked: 51 })
        ));
        let endless = Limits { max_bytes: u64::MAX, max_samples: u64::MAX, ..Limits::default() };
        assert!(endless.check_grid(&grid(usize::MAX)).is_err());
    }

    #[test]
    fn a_query_ends_alone_when_the_node_has_no_memory_left() {
        let memory = MemoryLedger::new(100 << 20);
        let budget = || Budget::new(Limits::default(), CancelFlag::default()).within(Some(&memory));
        let (large, small) = (budget(), budget());
        assert!(large.hold(70 << 20).is_ok());
        let error = large.hold(10 << 20).unwrap_err();
        assert!(error.to_string().contains("104857600 bytes (node.memory_budget)"), "{error}");
        assert!(small.hold(1 << 20).is_ok());
        large.release(75 << 20);
        assert!(memory.used() < 8 << 20, "{}", memory.used());
        drop((large, small));
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn fragments_of_a_round_share_what_is_left() {
        let accounts = Accounts::default();
        let limits = Limits { max_samples: 100, max_bytes: 1000, ..Limits::default() };
        let budget = |round| {
            let control = Control { account: Some(accounts.of(7)), ..Control::default() };
            Budget::new(limits, control).in_round(round)
        };
        let (a, b) = (budget(1), budget(1));
        assert!(a.charge_samples(60).is_ok() && b.charge_samples(40).is_ok());
        let error = b.charge_samples(1).unwrap_err();
        assert!(matches!(error, QueryError::TooManySamples { limit: 100, asked: 101 }), "{error}");
        assert!(a.hold(600).is_ok() && b.hold(400).is_ok());
        assert!(matches!(a.hold(1), Err(QueryError::TooMuchMemory { limit: 1000, asked: 1001 })));
        // What was not answered is not counted: it will be asked for again. Bytes are given back in any case.
        drop(b);
        let c = budget(1);
        assert!(c.charge_samples(40).is_ok() && c.hold(399).is_ok());
        a.settle();
        c.settle();
        drop((a, c));
        assert!(budget(1).charge_samples(1).is_err());
        // The next round has what its coordinator says is left, whatever the earlier ones read.
        assert!(budget(2).charge_samples(100).is_ok());
        assert_eq!(accounts.of(7).bytes.load(Ordering::Relaxed), 0);
        assert_eq!(accounts.of(7).samples.load(Ordering::Relaxed), 100);
        // Another query has an account of its own, and so has the coordinator its own count of samples.
        let control = Control { account: Some(accounts.of(8)), ..Control::default() };
        assert!(Budget::new(limits, control).charge_samples(100).is_ok());
        assert_eq!(accounts.of(8).samples.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn what_is_certain_to_be_read_is_counted_before() {
        let accounts = Accounts::default();
        let limits = Limits { max_samples: 100, ..Limits::default() };
        let budget = || {
            let control = Control { account: Some(accounts.of(1)), ..Control::default() };
            Budget::new(limits, control).in_round(1)
        };
        let (a, b) = (budget(), budget());
        assert!(a.prepay(80).is_ok());
        assert!(matches!(b.prepay(21), Err(QueryError::TooManySamples { limit: 100, asked: 101 })));
        drop(b);
        assert!(a.charge_samples(80).is_ok() && a.charge_samples(20).is_ok());
        assert!(a.charge_samples(1).is_err());
        // Less was there than was taken for certain.
        let (c, d) = (Accounts::default(), limits);
        let control = Control { account: Some(c.of(1)), ..Control::default() };
        let e = Budget::new(d, control).in_round(1);
        assert!(e.prepay(50).is_ok() && e.charge_samples(30).is_ok());
        e.settle();
        drop(e);
        assert_eq!(c.of(1).samples.load(Ordering::Relaxed), 30);
        assert!(Budget::new(limits, CancelFlag::default()).prepay(101).is_err());
    }

    #[test]
    fn accounts_are_kept_for_the_newest_queries() {
        let accounts = Accounts::default();
        let first = accounts.of(0);
        assert!(Arc::ptr_eq(&first, &accounts.of(0)));
        for query in 1..=ACCOUNTS as u64 {
            accounts.of(query);
        }
        assert!(!Arc::ptr_eq(&first, &accounts.of(0)));
        assert_eq!(accounts.0.lock().unwrap().len(), ACCOUNTS);
    }

    /// Counts how often others may pass.
    #[derive(Default)]
    struct Counted(AtomicU64);

    impl Turn for Counted {
        fn pass(&self, _: &CancelFlag) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn others_pass_between_series_and_inside_long_ones() {
        let turn = Arc::new(Counted::default());
        let control = Control { turn: Some(Arc::clone(&turn) as Arc<dyn Turn>), ..Control::default() };
        let budget = Budget::new(Limits::default(), control);
        budget.charge_series().unwrap();
        assert_eq!(turn.0.load(Ordering::Relaxed), 1);
        for _ in 0..10 {
            budget.work(WORK_STEP / 5 + 1).unwrap();
        }
        assert_eq!(turn.0.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn stops_when_cancelled_or_late() {
        let cancel = CancelFlag::default();
        let budget = Budget::new(Limits::default(), cancel.clone());
        assert!(budget.check().is_ok());
        cancel.cancel();
        assert!(matches!(budget.check(), Err(QueryError::Canceled(_))));
        let late =
            Budget::new(Limits { timeout: Duration::ZERO, ..Limits::default() }, CancelFlag::default());
        assert!(matches!(late.check(), Err(QueryError::Timeout(_))));
    }
}
