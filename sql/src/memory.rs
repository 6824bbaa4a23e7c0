//! The memory of a statement: DataFusion's pool over the query's budget and the node's ledger.
//!
//! Operators that can write what they hold to disk do so when the budget is used up, others fail with an error that
//! names it. What is held is charged to the node, so that a node short of memory refuses, too.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::memory_pool::{MemoryLimit, MemoryPool, MemoryReservation};
use protocol::memory::{Charge, MemoryLedger, MemoryUse, Pressure};
use query::QueryError;

/// What is held is charged to the node in steps of this many bytes.
const CHARGE_STEP: u64 = 256 << 10;

#[derive(Debug)]
struct Held {
    bytes: u64,
    peak: u64,
    charge: Charge,
}

/// See the module.
#[derive(Debug)]
pub struct StatementPool {
    limit: u64,
    held: Mutex<Held>,
}

impl StatementPool {
    /// A pool of so many bytes that draws on a node's memory.
    pub fn new(limit_bytes: u64, memory: &MemoryLedger) -> Self {
        let charge = memory.charge(MemoryUse::Queries);
        Self { limit: limit_bytes, held: Mutex::new(Held { bytes: 0, peak: 0, charge }) }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Most bytes held at once.
    pub fn peak_bytes(&self) -> u64 {
        self.lock().peak
    }
}

fn charged_for(bytes: u64) -> u64 {
    bytes.div_ceil(CHARGE_STEP).saturating_mul(CHARGE_STEP)
}

impl fmt::Display for StatementPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StatementPool({} of {} bytes)", self.lock().bytes, self.limit)
    }
}

impl MemoryPool for StatementPool {
    fn name(&self) -> &str {
        "statement"
    }

    fn grow(&self, _: &MemoryReservation, additional: usize) {
        let mut held = self.lock();
        held.bytes = held.bytes.saturating_add(additional as u64);
        held.peak = held.peak.max(held.bytes);
        let due = charged_for(held.bytes);
        held.charge.set(due);
    }

    fn shrink(&self, _: &MemoryReservation, shrink: usize) {
        let mut held = self.lock();
        held.bytes = held.bytes.saturating_sub(shrink as u64);
        let due = charged_for(held.bytes);
        if due < held.charge.bytes() {
            held.charge.set(due);
        }
    }

    fn try_grow(&self, _: &MemoryReservation, additional: usize) -> Result<()> {
        let mut held = self.lock();
        let bytes = held.bytes.saturating_add(additional as u64);
        if bytes > self.limit {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "the query needs more memory than its budget of {} bytes (query.max_memory)",
                self.limit
            )));
        }
        let due = charged_for(bytes);
        if due > held.charge.bytes() && !held.charge.try_set(due, Pressure::Queries) {
            let budget = held.charge.ledger().budget();
            return Err(DataFusionError::External(Box::new(QueryError::NodeMemory { budget, asked: bytes })));
        }
        held.bytes = bytes;
        held.peak = held.peak.max(bytes);
        Ok(())
    }

    fn reserved(&self) -> usize {
        usize::try_from(self.lock().bytes).unwrap_or(usize::MAX)
    }

    fn memory_limit(&self) -> MemoryLimit {
        MemoryLimit::Finite(usize::try_from(self.limit).unwrap_or(usize::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use datafusion::execution::memory_pool::MemoryConsumer;

    use super::*;

    #[test]
    fn the_budget_and_the_node_have_their_say() {
        let memory = MemoryLedger::new(100 << 20);
        let pool: Arc<dyn MemoryPool> = Arc::new(StatementPool::new(10 << 20, &memory));
        let reservation = MemoryConsumer::new("a").register(&pool);
        assert!(reservation.try_grow(8 << 20).is_ok());
        assert_eq!(memory.used(), 8 << 20);
        let error = reservation.try_grow(3 << 20).expect_err("over the budget").to_string();
        assert!(error.contains("budget of 10485760 bytes (query.max_memory)"), "{error}");
        let mut others = memory.charge(MemoryUse::Memtables);
        others.set(70 << 20);
        let error = reservation.try_grow(1 << 20).expect_err("the node is full").to_string();
        assert!(error.contains("node.memory_budget"), "{error}");
        drop(reservation);
        assert_eq!(memory.used(), 70 << 20);
    }
}
