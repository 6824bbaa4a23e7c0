//! What backups read of the node, and the settings that a restore sets.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cluster::node::Node;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::ids::ShardId;
use storage::manifest::FileRef;

use super::operations::answer;
use crate::api::backup::BackupSource;
use crate::backup::State;
use crate::error::ApiError;
use crate::runtime::TokioEnv;

/// How long a shard's flush may take.
const CAPTURE_TIMEOUT: Duration = Duration::from_secs(300);
/// How long a setting may look for the meta group's leader.
const SETTING_TIMEOUT: Duration = Duration::from_secs(15);

/// The node, as backups see it.
pub struct NodeBackup(pub Arc<Node<TokioEnv>>);

impl BackupSource for NodeBackup {
    fn state(&self) -> State {
        let meta = self.0.meta();
        State {
            cluster_id: meta.cluster_id.clone(),
            shards: meta.shards.keys().copied().collect(),
            settings: meta.settings.values.clone(),
            dashboards: meta.dashboards.clone(),
        }
    }

    fn capture(&self, shard: ShardId) -> BoxFuture<'_, Result<Bytes, ApiError>> {
        async move { answer(self.0.capture(shard, CAPTURE_TIMEOUT).await) }.boxed()
    }

    fn file_piece(
        &self,
        shard: ShardId,
        file: FileRef,
        offset: u64,
    ) -> BoxFuture<'_, Result<Option<Bytes>, ApiError>> {
        async move { answer(self.0.file_piece(shard, file, offset).await) }.boxed()
    }

    fn restore_settings(&self, values: BTreeMap<String, String>) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            for (key, value) in values {
                if self.0.setting(&key).is_none() {
                    answer(self.0.set_setting(&key, Some(value), SETTING_TIMEOUT).await)?;
                }
            }
            Ok(())
        }
        .boxed()
    }
}
