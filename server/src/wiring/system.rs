//! What `system.*` tells of the node and its cluster: `sql`'s trait over `cluster`, the list of queries and the settings.

use std::sync::Arc;
use std::time::Duration;

use cluster::node::Node;
use cluster::status::ClusterStatus;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::ids::{META_GROUP, TenantId};
use query::source::SourceError;
use serde::Serialize;
use serde_json::Value;
use sql::system::{Cell, System, SystemTable};

use crate::api::active::ActiveQueries;
use crate::config::Config;
use crate::runtime::TokioEnv;

/// How long nodes that do not answer are waited for.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// The tables that the node knows.
pub struct NodeSystem {
    node: Arc<Node<TokioEnv>>,
    active: Arc<ActiveQueries>,
    settings: Vec<(String, String)>,
}

impl NodeSystem {
    /// The tables of a node with these settings.
    pub fn new(node: Arc<Node<TokioEnv>>, active: Arc<ActiveQueries>, config: &Config) -> Self {
        Self { node, active, settings: config.flat() }
    }
}

impl System for NodeSystem {
    fn rows<'a>(
        &'a self,
        table: SystemTable,
        tenant: &'a TenantId,
    ) -> BoxFuture<'a, Result<Vec<Vec<Cell>>, SourceError>> {
        async move {
            Ok(match table {
                SystemTable::Nodes => nodes(&self.node.status(STATUS_TIMEOUT).await),
                SystemTable::Shards => shards(&self.node.status(STATUS_TIMEOUT).await),
                SystemTable::Replicas => replicas(&self.node.status(STATUS_TIMEOUT).await),
                SystemTable::Queries => self
                    .active
                    .running_of(tenant)
                    .into_iter()
                    .map(|query| {
                        vec![
                            Cell::count(query.id),
                            Cell::text(query.what),
                            Cell::Text(query.text),
                            Cell::Time(query.since_ms),
                            Cell::Float(query.seconds),
                        ]
                    })
                    .collect(),
                SystemTable::Settings => {
                    let row = |(key, value): &(String, String)| vec![Cell::text(key), Cell::text(value)];
                    self.settings.iter().map(row).collect()
                }
                // The shards are asked for these.
                SystemTable::Segments | SystemTable::SeriesCardinality => Vec::new(),
            })
        }
        .boxed()
    }
}

/// The name that a unit variant has in JSON.
fn name_of(value: &impl Serialize) -> Cell {
    match serde_json::to_value(value) {
        Ok(Value::String(name)) => Cell::Text(name),
        Ok(other) => Cell::Text(other.to_string()),
        Err(_) => Cell::Null,
    }
}

fn nodes(status: &ClusterStatus) -> Vec<Vec<Cell>> {
    let members = status.nodes.iter();
    members
        .map(|member| {
            let own = member.status.as_ref();
            vec![
                Cell::count(member.id.0),
                Cell::text(&member.addr),
                name_of(&member.state),
                Cell::Bool(member.reachable),
                own.map_or(Cell::Null, |own| Cell::Bool(own.ready)),
                own.map_or(Cell::Null, |own| Cell::text(&own.version)),
                own.map_or(Cell::Null, |own| Cell::Int(own.clock_offset_ms)),
                own.map_or(Cell::Null, |own| Cell::count(own.log.disk_bytes)),
            ]
        })
        .collect()
}

fn shards(status: &ClusterStatus) -> Vec<Vec<Cell>> {
    let shards = status.shards.iter().filter(|shard| shard.id != META_GROUP);
    shards
        .map(|shard| {
            let applied = shard.replicas.iter().map(|replica| replica.applied).max();
            vec![
                Cell::Int(i64::from(shard.id.0)),
                shard.leader.map_or(Cell::Null, |leader| Cell::count(leader.0)),
                Cell::count(shard.term),
                Cell::Int(shard.voters.len() as i64),
                applied.map_or(Cell::Null, Cell::count),
            ]
        })
        .collect()
}

fn replicas(status: &ClusterStatus) -> Vec<Vec<Cell>> {
    let mut rows = Vec::new();
    for member in &status.nodes {
        let groups = member.status.iter().flat_map(|own| &own.groups);
        for group in groups.filter(|group| group.pulse.group != META_GROUP) {
            let data = group.data.as_ref();
            let count = |get: fn(&cluster::status::DataStatus) -> u64| {
                data.map_or(Cell::Null, |data| Cell::count(get(data)))
            };
            rows.push(vec![
                Cell::Int(i64::from(group.pulse.group.0)),
                Cell::count(member.id.0),
                name_of(&group.pulse.role),
                Cell::count(group.pulse.applied),
                count(|data| data.series),
                count(|data| data.segments),
                count(|data| data.segment_bytes),
                count(|data| data.memtable_bytes),
                count(|data| data.log_bytes),
                count(|data| data.digest_index),
                data.map_or(Cell::Null, |data| Cell::text(&data.digest)),
                group.error.as_ref().map_or(Cell::Null, Cell::text),
            ]);
        }
    }
    rows.sort_by_key(|row| match row.as_slice() {
        [Cell::Int(shard), Cell::Int(node), ..] => (*shard, *node),
        _ => (0, 0),
    });
    rows
}
