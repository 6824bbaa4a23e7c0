//! Limits of a query and the ledger that keeps them: samples, bytes, time, cancellation.
//!
//! Every evaluation holds one [`Budget`]. It is charged before memory is taken and checked between series, so that
//! a query over its limit ends soon, alone, with an error that names the limit.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use protocol::memory::{Charge, MemoryLedger, MemoryUse, Pressure};

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
    /// See [`Budget::check_grid`].
    pub fn check_grid(&self, grid: &Grid) -> Result<(), QueryError> {
        // Steps travel to the shards as 32 bits.
        let max_samples = self.max_samples.min(u64::from(u32::MAX));
        if grid.count as u64 > max_samples {
            return Err(QueryError::TooManySamples { limit: max_samples });
        }
        if column_bytes(grid.count) > self.max_bytes {
            return Err(QueryError::TooMuchMemory { limit: self.max_bytes });
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

/// What an evaluation has used and may still use.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    deadline: Option<Instant>,
    cancel: CancelFlag,
    samples: Cell<u64>,
    series: Cell<u64>,
    held: Cell<u64>,
    peak: Cell<u64>,
    /// Its part of the node's memory.
    charge: Option<RefCell<Charge>>,
}

/// What is held is charged to the node in steps of this many bytes.
const CHARGE_STEP: u64 = 256 << 10;

const fn charged_for(held: u64) -> u64 {
    held.div_ceil(CHARGE_STEP).saturating_mul(CHARGE_STEP)
}

impl Budget {
    /// A budget that starts now.
    pub fn new(limits: Limits, cancel: CancelFlag) -> Self {
        Self {
            limits,
            deadline: Instant::now().checked_add(limits.timeout),
            cancel,
            samples: Cell::new(0),
            series: Cell::new(0),
            held: Cell::new(0),
            peak: Cell::new(0),
            charge: None,
        }
    }

    /// A budget that also draws on the memory of a node.
    pub fn within(self, memory: Option<&MemoryLedger>) -> Self {
        Self { charge: memory.map(|memory| RefCell::new(memory.charge(MemoryUse::Queries))), ..self }
    }

    /// Fails when the time is up or the query was cancelled.
    pub fn check(&self) -> Result<(), QueryError> {
        if self.cancel.is_canceled() {
            return Err(QueryError::Canceled("expression evaluation".to_owned()));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(QueryError::Timeout("expression evaluation".to_owned()));
        }
        Ok(())
    }

    /// Counts samples that were read.
    pub fn charge_samples(&self, count: u64) -> Result<(), QueryError> {
        self.samples.set(self.samples.get().saturating_add(count));
        if self.samples.get() > self.limits.max_samples {
            return Err(QueryError::TooManySamples { limit: self.limits.max_samples });
        }
        Ok(())
    }

    /// Counts a series that was read, and looks at the clock.
    pub fn charge_series(&self) -> Result<(), QueryError> {
        self.series.set(self.series.get() + 1);
        self.check()
    }

    /// Counts bytes that are held from now on.
    pub fn hold(&self, bytes: u64) -> Result<(), QueryError> {
        self.held.set(self.held.get().saturating_add(bytes));
        self.peak.set(self.peak.get().max(self.held.get()));
        if self.held.get() > self.limits.max_bytes {
            return Err(QueryError::TooMuchMemory { limit: self.limits.max_bytes });
        }
        let Some(charge) = &self.charge else { return Ok(()) };
        let mut charge = charge.borrow_mut();
        let due = charged_for(self.held.get());
        if due > charge.bytes() && !charge.try_set(due, Pressure::Queries) {
            return Err(QueryError::NodeMemory { budget: charge.ledger().budget() });
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
        self.held.set(self.held.get().saturating_sub(bytes));
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

    /// Time left.
    pub fn remaining(&self) -> Duration {
        match self.deadline {
            Some(deadline) => deadline.saturating_duration_since(Instant::now()),
            None => self.limits.timeout,
        }
    }

    /// The limits.
    pub fn limits(&self) -> &Limits {
        &self.limits
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
        assert!(matches!(budget.check_grid(&grid(13)), Err(QueryError::TooMuchMemory { limit: 100 })));
        assert!(matches!(budget.check_grid(&grid(51)), Err(QueryError::TooManySamples { limit: 50 })));
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
