//! Dashboards of the HTTP surface, kept in the meta group.

use std::sync::Arc;
use std::time::Duration;

use cluster::error::ClusterError;
use cluster::meta::dashboards::{DashboardSave, Dashboards};
use cluster::meta::{MetaCommand, MetaOutcome};
use cluster::node::Node;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::ids::TenantId;

use crate::api::dashboards::{DashboardStore, stale};
use crate::error::ApiError;
use crate::runtime::TokioEnv;

use super::operations::answer;

/// How long a save may look for the meta group's leader.
const TIMEOUT: Duration = Duration::from_secs(15);

/// The dashboards that this node has.
pub struct NodeDashboards(pub Arc<Node<TokioEnv>>);

fn odd(outcome: MetaOutcome) -> ApiError {
    match outcome {
        MetaOutcome::Refused { reason } => ApiError::new(ErrorKind::LimitExceeded, reason),
        other => {
            let reason = format!("the meta group answered {other:?}");
            ApiError::internal(&ClusterError::Refused { reason })
        }
    }
}

impl DashboardStore for NodeDashboards {
    fn read(&self, look: &mut dyn FnMut(&Dashboards)) {
        look(&self.0.meta().dashboards);
    }

    fn save(&self, save: DashboardSave) -> BoxFuture<'_, Result<u64, ApiError>> {
        async move {
            let command = MetaCommand::SaveDashboard(save.clone());
            match answer(self.0.change_dashboard(command, TIMEOUT).await)? {
                MetaOutcome::Dashboard { version } => Ok(version),
                MetaOutcome::Stale { newest } => Err(stale(&save.uid, save.expected, newest)),
                other => Err(odd(other)),
            }
        }
        .boxed()
    }

    fn delete(&self, tenant: TenantId, uid: String, expected: u64) -> BoxFuture<'_, Result<(), ApiError>> {
        async move {
            let command = MetaCommand::DeleteDashboard { tenant, uid: uid.clone(), expected };
            match answer(self.0.change_dashboard(command, TIMEOUT).await)? {
                MetaOutcome::Done => Ok(()),
                // It may have been sent again because an answer was lost: it is gone, which is what was asked for.
                MetaOutcome::Stale { newest: 0 } => Ok(()),
                MetaOutcome::Stale { newest } => Err(stale(&uid, expected, newest)),
                other => Err(odd(other)),
            }
        }
        .boxed()
    }
}
