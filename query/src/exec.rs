//! Limits of a query and the ledger that keeps them: samples, bytes, time, cancellation.
//!
//! Every evaluation holds one [`Budget`]. It is charged before memory is taken and checked between series, so that
//! a query over its limit ends soon, alone, with an error that names the limit.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::error::QueryError;

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
        }
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
        Ok(())
    }

    /// Gives bytes back.
    pub fn release(&self, bytes: u64) {
        self.held.set(self.held.get().saturating_sub(bytes));
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
