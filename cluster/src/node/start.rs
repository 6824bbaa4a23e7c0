//! From a data directory to a running node.
//!
//! Order matters: the identity is durable before anything else is written; peers are served before anything is waited
//! for (they may wait for us); the node is handed out once the meta state is here, so that nobody routes with a secret
//! or a shard map that is not the cluster's.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::Raft;
use openraft_rt::{AsyncRuntime, Instant, WatchReceiver};
use protocol::error::ErrorKind;
use protocol::ids::{ClusterSecret, META_GROUP, NodeId};
use storage::fs::Fs;
use storage::wal::Wal;

use crate::clock::ClusterClock;
use crate::env::{Env, Net, PeerAddr, StepKind, detach};
use crate::error::ClusterError;
use crate::log_store::{Alone, LogStore};
use crate::meta::machine::MetaMachine;
use crate::meta::{MetaCommand, MetaOutcome, ReplicaId};
use crate::network::rpc::{self, Header, Join, Joined, Refusal, Request, RpcError};
use crate::network::{GroupNetworkFactory, Peers, cluster_tag};
use crate::node::context::{Context, Pulses};
use crate::node::identity::{Bootstrap, Identity, META_FILE, SHARDS_DIR, WAL_DIR};
use crate::node::{FragmentHandler, Node, NodeConfig, lock};
use crate::shard::{Group, Wake, raft_config};
use crate::shard_map::ShardMap;
use crate::state_machine::Machine;
use crate::types;

/// Pause between two attempts to join.
const JOIN_PAUSE: Duration = Duration::from_millis(300);

impl<E: Env> Node<E> {
    /// Starts a node on its data directory: makes a cluster, joins one, or goes on in the one it belongs to.
    pub async fn start(
        env: E,
        config: NodeConfig,
        fragments: Arc<dyn FragmentHandler>,
    ) -> Result<Arc<Self>, ClusterError> {
        let io = |source| ClusterError::Io { path: config.data_dir.clone(), source };
        env.fs().create_dir_all(&config.data_dir).map_err(io)?;
        if let Some(parent) = config.data_dir.parent().filter(|p| !p.as_os_str().is_empty()) {
            env.fs().sync_dir(parent).map_err(io)?;
        }
        let identity = Self::identify(&env, &config).await?;
        let (Some(me), Some(cluster_id)) = (identity.node, identity.cluster_id.clone()) else {
            return Err(ClusterError::Refused { reason: "the identity is not complete".to_owned() });
        };
        let node = Self::open(env, config, fragments, &identity, me, cluster_id).await?;
        node.context.env.net().serve(Arc::new(super::handler::Handler::new(&node)));
        node.spawn_tasks();
        if let Some(bootstrap) = &identity.bootstrap {
            node.bootstrap(&identity, bootstrap).await?;
        }
        node.wait_for_meta().await?;
        Ok(node)
    }

    /// The identity of the data directory, made or asked for if it has none yet.
    async fn identify(env: &E, config: &NodeConfig) -> Result<Identity, ClusterError> {
        let (fs, dir) = (env.fs(), &config.data_dir);
        let mut identity = match Identity::load(fs, dir)? {
            Some(identity) if identity.node.is_some() => return Ok(identity),
            Some(identity) => identity,
            None => Identity {
                incarnation: env.random_u64(),
                cluster_id: None,
                node: None,
                bootstrap: None,
                peers: Vec::new(),
            },
        };
        if config.join.is_empty() {
            let mut secret = [0; 32];
            for part in secret.chunks_exact_mut(8) {
                part.copy_from_slice(&env.random_u64().to_le_bytes());
            }
            identity.cluster_id = Some(format!("{:016x}", env.random_u64()));
            identity.node = Some(NodeId(1));
            identity.bootstrap = Some(Bootstrap {
                secret: ClusterSecret(secret),
                shards: config.shards,
                replication_factor: config.replication_factor,
            });
        } else {
            // The same incarnation in every attempt: an answer that got lost does not cost a second id.
            identity.save(fs, dir)?;
            let joined = Self::join(env, config, identity.incarnation).await?;
            identity.cluster_id = Some(joined.cluster_id);
            identity.node = Some(joined.node);
            identity.peers = joined.peers;
        }
        identity.save(fs, dir)?;
        Ok(identity)
    }

    async fn join(env: &E, config: &NodeConfig, incarnation: u64) -> Result<Joined, ClusterError> {
        let now = <E::Runtime as AsyncRuntime>::Instant::now;
        let deadline = now() + config.join_timeout;
        let (addr, epoch) = (config.advertise.clone(), config.newest_epoch);
        let request = Request::Join(Join { addr, incarnation, epoch, secret: config.join_secret.clone() });
        let frame = request.encode(Header { cluster: 0, from: NodeId(0), to: NodeId(0) });
        loop {
            let mut reason = String::new();
            for addr in config.join.iter().filter(|addr| **addr != config.advertise) {
                let to = PeerAddr { id: NodeId(0), addr: addr.clone() };
                match env.net().call(&to, frame.clone(), Duration::from_secs(5)).await {
                    Ok(answer) => match rpc::decode_answer::<Joined>(&answer) {
                        Ok(joined) => {
                            tracing::info!(node = %joined.node, cluster = joined.cluster_id, via = addr, "joined");
                            return Ok(joined);
                        }
                        Err(RpcError::Refused(Refusal::Failed {
                            kind: ErrorKind::PermissionDenied,
                            message: reason,
                        })) => {
                            return Err(ClusterError::JoinFailed { addrs: vec![addr.clone()], reason });
                        }
                        Err(e) => reason = e.to_string(),
                    },
                    Err(e) => reason = e.to_string(),
                }
            }
            if now() >= deadline {
                return Err(ClusterError::JoinFailed { addrs: config.join.clone(), reason });
            }
            E::Runtime::sleep(JOIN_PAUSE).await;
        }
    }

    /// Opens log, meta group and node. Nothing runs yet but the log's writer and the meta group.
    async fn open(
        env: E,
        config: NodeConfig,
        fragments: Arc<dyn FragmentHandler>,
        identity: &Identity,
        me: NodeId,
        cluster_id: String,
    ) -> Result<Arc<Self>, ClusterError> {
        let (fs, dir, mut options) = (env.fs().clone(), config.data_dir.join(WAL_DIR), config.wal.clone());
        if options.salt == 0 {
            options.salt = env.random_u64();
        }
        let (wal, writer) = env.run_step(StepKind::Open, move || Wal::open(fs, &dir, options)).await?;
        env.start_log_writer(writer);
        let shards_dir = config.data_dir.join(SHARDS_DIR);
        let io = |source| ClusterError::Io { path: shards_dir.clone(), source };
        env.fs().create_dir_all(&shards_dir).map_err(io)?;
        env.fs().sync_dir(&config.data_dir).map_err(io)?;

        let (fs, at) = (env.fs().clone(), shards_dir.clone());
        let dirs = env.run_step(StepKind::Open, move || super::shard_dirs::ShardDirs::read(&fs, &at)).await;
        let dirs = dirs.map_err(io)?;

        let machine = MetaMachine::open(env.clone(), config.data_dir.join(META_FILE), config.newest_epoch)?;
        let meta = machine.view();
        let peers = Arc::new(Peers::new(env.clone(), me, cluster_tag(&cluster_id)));
        peers.set(identity.peers.iter().cloned());
        let context = Arc::new(Context {
            env,
            me,
            cluster_id,
            incarnation: identity.incarnation,
            config,
            clock: Arc::new(ClusterClock::default()),
            meta,
            peers,
            wal,
            pulses: Pulses::default(),
            pulse_now: Wake::default(),
            leader_news: Wake::default(),
            stopping: AtomicBool::new(false),
            closing: AtomicBool::new(false),
            disk_full: AtomicBool::new(false),
            evict_before_ms: AtomicI64::new(i64::MIN),
            relieving: AtomicBool::new(false),
        });
        let shards = context.meta.get().shards.len().max(usize::from(context.config.shards)) as u16;
        let map = ShardMap::even(shards).map_err(|e| ClusterError::Refused { reason: e.to_string() })?;
        let node = Arc::new(Self {
            context: context.clone(),
            fragments,
            groups: Mutex::new(BTreeMap::new()),
            broken: Mutex::new(BTreeMap::new()),
            dirs: Mutex::new(dirs),
            offers: super::offer::Offers::default(),
            answers: super::fragment::LongAnswers::default(),
            map: Mutex::new((0, Arc::new(map))),
        });
        let group = node.open_group(
            META_GROUP,
            ReplicaId::meta(me),
            Machine::Meta(Box::new(machine)),
            None,
            Arc::default(),
        );
        let group = group.await?;
        node.run_group(group);
        Ok(node)
    }

    /// Starts openraft for a group. Its driver is not started yet.
    pub(super) async fn open_group(
        &self,
        id: protocol::ids::ShardId,
        replica: ReplicaId,
        machine: Machine<E>,
        shard: Option<crate::shard::ShardParts<E>>,
        wake: Arc<Wake<E::Runtime>>,
    ) -> Result<Arc<Group<E>>, ClusterError> {
        let context = &self.context;
        let raft_error = |reason: String| ClusterError::Raft { group: id, reason };
        let config = raft_config(context.config.raft, id, replica).map_err(|e| raft_error(e.to_string()))?;
        let alone = Arc::new(Alone::new(replica));
        let log = LogStore::new(context.env.clone(), context.wal.clone(), id, Arc::clone(&alone));
        let network = GroupNetworkFactory::new(context.peers.clone(), id);
        let raft = Raft::new(replica.0, config, network, log, machine)
            .await
            .map_err(|e| raft_error(e.to_string()))?;
        Ok(Arc::new(Group::new(context.clone(), id, replica, raft, alone, shard, wake)))
    }

    /// Makes a group known and starts its driver.
    pub(super) fn run_group(self: &Arc<Self>, group: Arc<Group<E>>) {
        lock(&self.groups).insert(group.id, group.clone());
        let node = Arc::downgrade(self);
        detach::<E>(super::driver::drive(node, group));
    }

    fn spawn_tasks(self: &Arc<Self>) {
        detach::<E>(super::duties::pulses(Arc::downgrade(self)));
        detach::<E>(super::groups::follow_meta(Arc::downgrade(self)));
        detach::<E>(super::duties::housekeeping(Arc::downgrade(self)));
        detach::<E>(super::duties::placement(Arc::downgrade(self)));
    }

    /// Makes the cluster. Every step may have been done by an earlier start that was cut short.
    async fn bootstrap(self: &Arc<Self>, identity: &Identity, plan: &Bootstrap) -> Result<(), ClusterError> {
        let group =
            self.meta_group().ok_or(ClusterError::Refused { reason: "the node is stopping".to_owned() })?;
        let raft_error = |reason: String| ClusterError::Raft { group: META_GROUP, reason };
        let known = group.raft.is_initialized().await.map_err(|e| raft_error(e.to_string()))?;
        if !known {
            let addr = self.context.config.advertise.clone();
            let members = BTreeMap::from([(group.replica.0, types::Node { addr })]);
            group.raft.initialize(members).await.map_err(|e| raft_error(e.to_string()))?;
        }
        let command = MetaCommand::Bootstrap {
            cluster_id: self.context.cluster_id.clone(),
            secret: plan.secret,
            shards: plan.shards,
            replication_factor: plan.replication_factor,
            addr: self.context.config.advertise.clone(),
            incarnation: identity.incarnation,
            epoch: self.context.config.newest_epoch,
        };
        if !self.meta().is_bootstrapped() {
            match self.propose_meta(command, Duration::from_secs(30)).await? {
                MetaOutcome::Refused { reason } if !self.meta().is_bootstrapped() => {
                    return Err(ClusterError::Refused { reason });
                }
                _ => {}
            }
        }
        let done = Identity { bootstrap: None, ..identity.clone() };
        done.save(self.context.env.fs(), &self.context.config.data_dir)
    }

    /// Waits until the meta state is here. After the first start it comes from this node's own disk.
    async fn wait_for_meta(&self) -> Result<(), ClusterError> {
        let mut meta = self.context.meta.subscribe();
        let here = async {
            while !meta.borrow_watched().is_bootstrapped() {
                if meta.changed().await.is_err() {
                    return;
                }
            }
        };
        let timeout = self.context.config.join_timeout;
        if E::Runtime::timeout(timeout, here).await.is_err() {
            let reason = "the meta group's leader has not sent its state".to_owned();
            return Err(ClusterError::Timeout { what: "learning the cluster's state", reason });
        }
        let theirs = self.meta().cluster_id.clone();
        if theirs != self.context.cluster_id {
            return Err(ClusterError::ForeignCluster { ours: self.context.cluster_id.clone(), theirs });
        }
        Ok(())
    }
}
