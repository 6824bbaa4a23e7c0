//! How fresh a read must be, and the rounds that prove it.
//!
//! A linearizable read asks the shard's leader, which asks a quorum whether it still leads (ReadIndex: no clock is
//! trusted) and waits until it has applied what was committed then. One such round serves every reader that came before
//! it began: [`ReadGate`] keeps at most one round of a shard in flight, and those who come meanwhile share the next. A
//! leader that is known to be the only one that votes asks nobody (see [`crate::log_store::Alone`]).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use openraft_rt::{AsyncRuntime, Oneshot, OneshotSender};
use protocol::ids::ShardId;
use protocol::varint;

use crate::error::ReadError;

/// How fresh the data of a read must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Everything acknowledged before the read began. Asks the shard's leader, which asks a quorum.
    #[default]
    Linearizable,
    /// Everything that the session has seen: the index per shard from its commit token. Any replica that is so far.
    Session(BTreeMap<ShardId, u64>),
    /// Whatever the nearest replica has.
    Local,
}

impl Consistency {
    /// Index of a shard that the session has seen.
    pub fn seen(&self, shard: ShardId) -> u64 {
        match self {
            Self::Session(seen) => seen.get(&shard).copied().unwrap_or(0),
            Self::Linearizable | Self::Local => 0,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Linearizable => out.push(0),
            Self::Session(seen) => {
                out.push(1);
                varint::write_u64(out, seen.len() as u64);
                for (shard, index) in seen {
                    varint::write_u64(out, u64::from(shard.0));
                    varint::write_u64(out, *index);
                }
            }
            Self::Local => out.push(2),
        }
    }

    pub(crate) fn read(input: &mut &[u8]) -> Option<Self> {
        match varint::read_bytes(input, 1)?[0] {
            0 => Some(Self::Linearizable),
            1 => {
                let count = varint::read_len(input)?;
                let mut seen = BTreeMap::new();
                for _ in 0..count {
                    let shard = u16::try_from(varint::read_u64(input)?).ok()?;
                    seen.insert(ShardId(shard), varint::read_u64(input)?);
                }
                Some(Self::Session(seen))
            }
            2 => Some(Self::Local),
            _ => None,
        }
    }
}

type Sender<R, T> = <<R as AsyncRuntime>::Oneshot as Oneshot>::Sender<T>;
type Waiters<R> = Vec<Sender<R, Result<u64, ReadError>>>;

/// Lets readers of one shard share rounds.
pub(crate) struct ReadGate<R: AsyncRuntime> {
    /// Readers of the next round; none while no round is in flight.
    next: Mutex<Option<Waiters<R>>>,
}

impl<R: AsyncRuntime> Default for ReadGate<R> {
    fn default() -> Self {
        Self { next: Mutex::new(None) }
    }
}

impl<R: AsyncRuntime> ReadGate<R> {
    fn next(&self) -> std::sync::MutexGuard<'_, Option<Waiters<R>>> {
        self.next.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a reader. Gives where its answer comes, and whether the caller must start [`ReadGate::drive`].
    pub fn enter(&self) -> (<R::Oneshot as Oneshot>::Receiver<Result<u64, ReadError>>, bool) {
        let (sender, receiver) = R::Oneshot::channel();
        let mut next = self.next();
        let idle = next.is_none();
        next.get_or_insert_with(Vec::new).push(sender);
        (receiver, idle)
    }

    /// Runs rounds until nobody waits.
    pub async fn drive<F>(&self, mut round: impl FnMut() -> F)
    where
        F: Future<Output = Result<u64, ReadError>>,
    {
        loop {
            let waiters = {
                let mut next = self.next();
                match next.as_mut() {
                    Some(waiters) if !waiters.is_empty() => std::mem::take(waiters),
                    _ => {
                        *next = None;
                        return;
                    }
                }
            };
            let result = round().await;
            for waiter in waiters {
                // A reader that gave up is no matter.
                let _ = waiter.send(result.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use openraft::TokioRuntime;

    use super::*;

    #[tokio::test]
    async fn readers_share_rounds_but_never_one_that_began_before_them() {
        let gate = ReadGate::<TokioRuntime>::default();
        let rounds = AtomicU64::new(0);
        let (first, must_drive) = gate.enter();
        assert!(must_drive);
        let (second, must_drive) = gate.enter();
        assert!(!must_drive, "somebody drives already");
        let late = Mutex::new(None);
        gate.drive(|| {
            let n = rounds.fetch_add(1, Ordering::Relaxed) + 1;
            if n == 1 {
                // This one comes while the first round is in flight.
                *late.lock().unwrap() = Some(gate.enter().0);
            }
            async move { Ok(n) }
        })
        .await;
        assert_eq!((first.await.unwrap(), second.await.unwrap()), (Ok(1), Ok(1)));
        let late = late.lock().unwrap().take().unwrap();
        assert_eq!(late.await.unwrap(), Ok(2));
        assert!(gate.enter().1, "the gate is idle again");
    }

    #[test]
    fn consistency_round_trips() {
        let session = Consistency::Session(BTreeMap::from([(ShardId(1), 300), (ShardId(9), 0)]));
        for consistency in [Consistency::Linearizable, Consistency::Local, session] {
            let mut bytes = Vec::new();
            consistency.write(&mut bytes);
            assert_eq!(Consistency::read(&mut &bytes[..]), Some(consistency));
        }
        assert_eq!(Consistency::read(&mut &[1, 200][..]), None);
        assert_eq!(Consistency::read(&mut &[7][..]), None);
    }
}
