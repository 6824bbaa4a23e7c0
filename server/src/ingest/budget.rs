//! One budget of bytes for all requests in work.

use std::sync::Arc;

use protocol::memory::{Charge, MemoryLedger, MemoryUse, Pressure};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// A permit stands for so many bytes, because a semaphore counts in 32 bits.
const UNIT: usize = 1 << 10;

/// Bytes that requests in work may hold together.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    free: Arc<Semaphore>,
    units: usize,
    memory: MemoryLedger,
}

impl Budget {
    /// A budget that is a part of the node's memory.
    pub fn new(bytes: usize, memory: MemoryLedger) -> Self {
        let units = bytes.div_ceil(UNIT).clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        Self { free: Arc::new(Semaphore::new(units)), units, memory }
    }

    /// A share that holds nothing yet.
    pub fn share(&self) -> Share {
        let charge = self.memory.charge(MemoryUse::Requests);
        Share { free: Arc::clone(&self.free), held: None, charge }
    }

    pub fn used_bytes(&self) -> usize {
        (self.units - self.free.available_permits()) * UNIT
    }
}

/// One request's share; given back when dropped.
#[derive(Debug)]
pub(super) struct Share {
    free: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
    charge: Charge,
}

impl Share {
    /// Grows the share to so many bytes. `false` where they are not there: the request is not to be taken.
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let held = self.held.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let Some(more) = bytes.div_ceil(UNIT).checked_sub(held).filter(|&more| more > 0) else { return true };
        let Ok(more) = u32::try_from(more) else { return false };
        if !self.charge.try_set(bytes as u64, Pressure::Writes) {
            return false;
        }
        match (Arc::clone(&self.free).try_acquire_many_owned(more), &mut self.held) {
            (Ok(permit), Some(held)) => held.merge(permit),
            (Ok(permit), empty) => *empty = Some(permit),
            (Err(_), _) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_until_the_budget_is_used_and_come_back() {
        let memory = MemoryLedger::new(100 * UNIT as u64);
        let budget = Budget::new(10 * UNIT, memory.clone());
        let (mut a, mut b) = (budget.share(), budget.share());
        assert!(a.grow_to(1) && a.grow_to(6 * UNIT) && a.grow_to(100));
        assert!(b.grow_to(4 * UNIT));
        assert!(!b.grow_to(4 * UNIT + 1));
        assert_eq!(budget.used_bytes(), 10 * UNIT);
        drop(a);
        assert!(b.grow_to(10 * UNIT) && !b.grow_to(usize::MAX));
        drop(b);
        assert_eq!((budget.used_bytes(), memory.used()), (0, 0));
        // Memory that others hold is not there for requests.
        let mut others = memory.charge(MemoryUse::Queries);
        others.set(85 * UNIT as u64);
        let mut share = budget.share();
        assert!(share.grow_to(4 * UNIT) && !share.grow_to(6 * UNIT));
        assert_eq!(memory.used_for(MemoryUse::Requests), 4 * UNIT as u64);
    }
}
