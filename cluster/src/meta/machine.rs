//! The meta group's state machine.
//!
//! State lives in memory and is published through a watch after every batch of entries, so that the node's tasks see
//! each change as soon as this replica has applied it. What survives a restart is the export file; entries behind it are
//! replayed from the log.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::{AsyncRuntime, Watch, WatchReceiver, WatchSender};
use storage::fs::Fs;

use crate::env::{Env, StepKind};
use crate::error::ClusterError;
use crate::meta::export::Export;
use crate::meta::state::too_old;
use crate::meta::{MetaCommand, MetaOutcome, MetaState};
use crate::snapshot::{Snapshot, SnapshotData, SnapshotMeta};
use crate::types::{CommandResult, Entry, Payload};

type Sender<R, T> = <<R as AsyncRuntime>::Watch as Watch>::Sender<T>;
type Receiver<R, T> = <<R as AsyncRuntime>::Watch as Watch>::Receiver<T>;

/// The meta state as this node has applied it: readable at any time, and waitable.
pub struct MetaView<R: AsyncRuntime> {
    /// Senders need not be shareable between threads.
    sender: Mutex<Sender<R, Arc<MetaState>>>,
    receiver: Receiver<R, Arc<MetaState>>,
}

impl<R: AsyncRuntime> MetaView<R> {
    fn new(state: MetaState) -> Self {
        let (sender, receiver) = R::Watch::channel(Arc::new(state));
        Self { sender: Mutex::new(sender), receiver }
    }

    /// The state now.
    pub fn get(&self) -> Arc<MetaState> {
        self.receiver.borrow_watched().clone()
    }

    /// Tells of changes.
    pub fn subscribe(&self) -> Receiver<R, Arc<MetaState>> {
        self.receiver.clone()
    }

    fn publish(&self, state: &MetaState) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).send_if_modified(|known| {
            let news = known.version != state.version || known.cluster_id != state.cluster_id;
            if news {
                *known = Arc::new(state.clone());
            }
            news
        });
    }
}

/// The state machine of group 0.
pub struct MetaMachine<E: Env> {
    env: E,
    path: PathBuf,
    now: Export,
    view: Arc<MetaView<E::Runtime>>,
    newest_epoch: u16,
    /// The newest file on disk, as a snapshot. Shared with builders, which only ever move it forward.
    on_disk: Arc<Mutex<Option<Snapshot>>>,
}

fn lock(on_disk: &Mutex<Option<Snapshot>>) -> std::sync::MutexGuard<'_, Option<Snapshot>> {
    on_disk.lock().unwrap_or_else(PoisonError::into_inner)
}

fn snapshot_of(export: &Export, bytes: Bytes) -> Snapshot {
    let meta = SnapshotMeta { last_log_id: export.last, last_membership: export.membership.clone() };
    Snapshot { meta, snapshot: SnapshotData::unpinned(bytes) }
}

impl<E: Env> MetaMachine<E> {
    /// Opens the state of the export file; entries after it come from the log. A state of a newer epoch than `newest_epoch`
    /// is refused, here and from then on.
    pub fn open(env: E, path: PathBuf, newest_epoch: u16) -> Result<Self, ClusterError> {
        let now = Export::load(env.fs(), &path)?;
        if now.state.settings.encoder_epoch > newest_epoch {
            return Err(ClusterError::Refused {
                reason: too_old(newest_epoch, now.state.settings.encoder_epoch),
            });
        }
        let on_disk = now.last.is_some().then(|| snapshot_of(&now, now.encode()));
        let view = Arc::new(MetaView::new(now.state.clone()));
        Ok(Self { env, path, now, view, newest_epoch, on_disk: Arc::new(Mutex::new(on_disk)) })
    }

    /// Where the applied state can be read.
    pub fn view(&self) -> Arc<MetaView<E::Runtime>> {
        self.view.clone()
    }

    /// Last entry applied, and the membership then.
    pub fn applied(&self) -> (Option<crate::types::LogId>, crate::types::StoredMembership) {
        (self.now.last, self.now.membership.clone())
    }

    /// Applies one entry. The state is published by [`MetaMachine::publish`] after a batch. An error leaves the state as it
    /// was: what comes next may be of a newer epoch.
    pub fn apply(&mut self, entry: &Entry) -> std::io::Result<CommandResult> {
        let outcome = match &entry.payload {
            Payload::Blank => None,
            Payload::Membership(membership) => {
                self.now.membership =
                    crate::types::StoredMembership::new(Some(entry.log_id), membership.clone());
                None
            }
            Payload::Normal(command) => Some(match serde_json::from_slice::<MetaCommand>(&command.0) {
                Ok(MetaCommand::SetEncoderEpoch { epoch }) if epoch > self.newest_epoch => {
                    return Err(unknown_epoch(self.newest_epoch, epoch));
                }
                Ok(command) => self.now.state.apply(&command),
                // None that is proposed at an epoch known here.
                Err(e) => MetaOutcome::Refused { reason: format!("not a command known here: {e}") },
            }),
        };
        self.now.last = Some(entry.log_id);
        let outcome = outcome.map(|o| serde_json::to_vec(&o).expect("outcomes have no failing serializers"));
        Ok(CommandResult(outcome.unwrap_or_default().into()))
    }

    /// Shows the applied state to everybody.
    pub fn publish(&self) {
        self.view.publish(&self.now.state);
    }

    /// A view of the state now, to be written by [`MetaBuilder::build`].
    pub fn builder(&self) -> MetaBuilder<E> {
        MetaBuilder {
            env: self.env.clone(),
            path: self.path.clone(),
            export: self.now.clone(),
            on_disk: self.on_disk.clone(),
        }
    }

    /// The newest snapshot on disk.
    pub fn current(&self) -> Option<Snapshot> {
        lock(&self.on_disk).clone()
    }

    /// Replaces everything by a snapshot of the leader.
    pub async fn install(&mut self, meta: &SnapshotMeta, data: SnapshotData) -> std::io::Result<()> {
        let invalid = |reason: String| std::io::Error::new(std::io::ErrorKind::InvalidData, reason);
        let export = Export::decode(&data.manifest).map_err(invalid)?;
        if export.last != meta.last_log_id {
            return Err(invalid("the snapshot's position is not the one in its file".into()));
        }
        let epoch = export.state.settings.encoder_epoch;
        if epoch > self.newest_epoch {
            return Err(unknown_epoch(self.newest_epoch, epoch));
        }
        self.now = export;
        // openraft installs what is on disk already when it starts: no need to write that again.
        if lock(&self.on_disk).as_ref().is_none_or(|known| known.meta.last_log_id < meta.last_log_id) {
            // Unlike an export, this must be on disk before anything builds on it: a full disk is waited for.
            while let Err(e) = self.builder().write().await {
                if e.kind() != std::io::ErrorKind::StorageFull {
                    return Err(e);
                }
                tracing::warn!(error = %e, "the meta state can not be stored");
                E::Runtime::sleep(NO_SPACE_PAUSE).await;
            }
        }
        self.publish();
        Ok(())
    }
}

/// Why nothing more is applied.
pub(crate) fn unknown_epoch(known: u16, in_use: u16) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Unsupported, too_old(known, in_use))
}

/// Pause before a full disk is tried again.
const NO_SPACE_PAUSE: Duration = Duration::from_secs(1);

/// Writes one view of the meta state.
pub struct MetaBuilder<E: Env> {
    env: E,
    path: PathBuf,
    export: Export,
    on_disk: Arc<Mutex<Option<Snapshot>>>,
}

impl<E: Env> MetaBuilder<E> {
    /// Writes the export file. An older view never replaces a newer file.
    ///
    /// A full disk is no reason to end the node: until there is room the log is kept from the newest file on, or, if there
    /// is none, this waits.
    pub async fn build(&mut self) -> std::io::Result<Snapshot> {
        loop {
            match self.write().await {
                Err(e) if e.kind() == std::io::ErrorKind::StorageFull => {
                    tracing::warn!(error = %e, "the meta state can not be exported");
                    let newest = lock(&self.on_disk).clone();
                    if let Some(newest) = newest {
                        return Ok(newest);
                    }
                    E::Runtime::sleep(NO_SPACE_PAUSE).await;
                }
                other => return other,
            }
        }
    }

    async fn write(&self) -> std::io::Result<Snapshot> {
        let bytes = self.export.encode();
        let snapshot = snapshot_of(&self.export, bytes.clone());
        let (fs, path, on_disk) = (self.env.fs().clone(), self.path.clone(), self.on_disk.clone());
        self.env
            .run_step(StepKind::Flush, move || {
                // Held over the write, so that two builders can not rename in the wrong order.
                let mut known = lock(&on_disk);
                if let Some(newer) =
                    known.as_ref().filter(|k| k.meta.last_log_id >= snapshot.meta.last_log_id)
                {
                    return Ok(newer.clone());
                }
                fs.write_atomic(&path, &bytes)?;
                *known = Some(snapshot.clone());
                Ok(snapshot)
            })
            .await
    }
}
