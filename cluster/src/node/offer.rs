//! The receiving side of snapshots: fetches the files it lacks from whoever offers, then installs.
//!
//! An offer starts a transfer (one per group) and says how far it is; the sender repeats the offer until the transfer is
//! done. The same leader's next offer for the same position joins the transfer under way; any other one replaces it:
//! files that both name need not be fetched twice. Another leader's offer must not join, even for the same position:
//! what was fetched for the first may have been refused when it was installed, and the answer "done" would make the
//! second believe that it has been. A transfer that was replaced stops fetching; the offer of a leader that is older than
//! the one under way is refused.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use openraft_rt::AsyncRuntime;
use protocol::error::ErrorKind;
use protocol::ids::{NodeId, ShardId};
use storage::engine::SnapshotManifest;

use crate::env::{Env, StepKind, detach};
use crate::meta::ReplicaId;
use crate::network::fetch;
use crate::network::rpc::{FILE_CHUNK_BYTES, Offer, OfferAnswer, Refusal};
use crate::node::{Node, lock};
use crate::shard::Group;
use crate::snapshot::{Snapshot, SnapshotData, SnapshotMeta};
use crate::types::{LogId, Vote};

/// Attempts at one piece of a file.
const ATTEMPTS: usize = 5;

struct Transfer {
    replica: ReplicaId,
    vote: Vote,
    position: Option<LogId>,
    received: AtomicU64,
    /// Another offer took its place.
    replaced: AtomicBool,
    /// The result, once there is one.
    result: Mutex<Option<Result<Vote, String>>>,
}

/// Why a file was not fetched.
pub(super) struct PullError {
    pub reason: String,
    /// The peer says that it has no such file.
    pub is_missing: bool,
}

/// Transfers under way.
pub(crate) struct Offers<E: Env> {
    running: Mutex<BTreeMap<ShardId, Arc<Transfer>>>,
    env: std::marker::PhantomData<fn() -> E>,
}

impl<E: Env> Default for Offers<E> {
    fn default() -> Self {
        Self { running: Mutex::new(BTreeMap::new()), env: std::marker::PhantomData }
    }
}

impl<E: Env> Node<E> {
    /// Takes an offer: starts the transfer or says how far it is.
    pub(super) fn take_offer(
        self: &Arc<Self>,
        from: NodeId,
        group: &Arc<Group<E>>,
        offer: Offer,
    ) -> Result<OfferAnswer, Refusal> {
        let mut running = lock(&self.offers.running);
        let is_same =
            |t: &&Arc<Transfer>| t.replica == offer.to && t.vote == offer.vote && t.position == offer.last;
        if let Some(transfer) = running.get(&offer.group).filter(is_same) {
            let result = lock(&transfer.result).clone();
            return match result {
                None => Ok(OfferAnswer::Working { received: transfer.received.load(Ordering::Relaxed) }),
                Some(result) => {
                    running.remove(&offer.group);
                    match result {
                        Ok(vote) => Ok(OfferAnswer::Done { vote }),
                        Err(message) => Err(Refusal::Failed { kind: ErrorKind::Unavailable, message }),
                    }
                }
            };
        }
        if let Some(other) = running.get(&offer.group) {
            if offer.vote < other.vote && other.replica == offer.to {
                let message = format!("a snapshot of a newer leader than {} is on its way", offer.vote);
                return Err(Refusal::Failed { kind: ErrorKind::Conflict, message });
            }
            other.replaced.store(true, Ordering::Release);
        }
        let transfer = Arc::new(Transfer {
            replica: offer.to,
            vote: offer.vote,
            position: offer.last,
            received: AtomicU64::new(0),
            replaced: AtomicBool::new(false),
            result: Mutex::new(None),
        });
        running.insert(offer.group, transfer.clone());
        drop(running);
        let (node, group) = (self.clone(), group.clone());
        detach::<E>(async move {
            let result = node.receive(from, &group, offer, &transfer).await;
            if let Err(reason) = &result {
                tracing::warn!(group = %group.id, from = %from, reason, "snapshot was not received");
            }
            *lock(&transfer.result) = Some(result);
        });
        Ok(OfferAnswer::Working { received: 0 })
    }

    async fn receive(
        &self,
        from: NodeId,
        group: &Arc<Group<E>>,
        offer: Offer,
        transfer: &Transfer,
    ) -> Result<Vote, String> {
        if let Some(shard) = &group.shard {
            let manifest = SnapshotManifest::decode(offer.manifest.clone()).map_err(|e| e.to_string())?;
            for file in shard.store.missing(&manifest) {
                let go_on = |bytes| {
                    transfer.received.fetch_add(bytes as u64, Ordering::Relaxed);
                    !transfer.replaced.load(Ordering::Acquire)
                };
                self.pull_file(from, group, &file, go_on).await.map_err(|e| e.reason)?;
            }
        }
        if transfer.replaced.load(Ordering::Acquire) {
            return Err("another offer took its place".to_owned());
        }
        let meta = SnapshotMeta { last_log_id: offer.last, last_membership: offer.membership };
        let snapshot = Snapshot { meta, snapshot: SnapshotData::unpinned(offer.manifest) };
        let response =
            group.raft.install_full_snapshot(offer.vote, snapshot).await.map_err(|e| e.to_string())?;
        Ok(response.vote)
    }

    /// Whether a transfer for a group is under way.
    pub(super) fn is_receiving(&self, group: ShardId) -> bool {
        lock(&self.offers.running).get(&group).is_some_and(|transfer| lock(&transfer.result).is_none())
    }

    /// Fetches a file that the store lacks, from a peer that has it. Goes on where an earlier attempt ended. `go_on` hears
    /// of the bytes that arrived and says whether the file is still wanted.
    pub(super) async fn pull_file(
        &self,
        from: NodeId,
        group: &Arc<Group<E>>,
        file: &storage::manifest::FileRef,
        go_on: impl Fn(usize) -> bool,
    ) -> Result<(), PullError> {
        let failed = |reason: &str| PullError { reason: reason.to_owned(), is_missing: false };
        let Some(shard) = &group.shard else { return Err(failed("the meta group has no files")) };
        let (mut offset, mut failures) = (0, 0);
        while offset < file.len_bytes {
            if group.is_stopping() || self.context.is_stopping() {
                return Err(failed("the replica is stopping"));
            }
            if !go_on(0) {
                return Err(failed("another offer took its place"));
            }
            let len = u64::from(FILE_CHUNK_BYTES).min(file.len_bytes - offset) as u32;
            match fetch(&self.context.peers, from, group.id, *file, offset, len).await {
                Ok(piece) if piece.is_empty() => return Err(failed("the sender's file ends early")),
                Ok(piece) => {
                    failures = 0;
                    let (store, file, bytes) = (shard.store.clone(), *file, piece.len());
                    // Before the look: whoever stops the replica waits for steps that have entered.
                    let running = shard.running.enter();
                    if group.is_stopping() {
                        return Err(failed("the replica is stopping"));
                    }
                    // Where the store wants to go on: it may hold the beginning from an earlier attempt.
                    let write = move || {
                        let _running = running;
                        store.receive_file(&file, offset, &piece)
                    };
                    offset = self
                        .context
                        .env
                        .run_step(StepKind::Transfer, write)
                        .await
                        .map_err(|e| failed(&e.to_string()))?;
                    go_on(bytes);
                }
                Err(e) => {
                    failures += 1;
                    if failures >= ATTEMPTS || e.refusal().is_some() {
                        let missing =
                            matches!(e.refusal(), Some(Refusal::Failed { kind: ErrorKind::NotFound, .. }));
                        return Err(PullError { reason: e.to_string(), is_missing: missing });
                    }
                    E::Runtime::sleep(super::POLL * failures as u32).await;
                }
            }
        }
        Ok(())
    }
}
