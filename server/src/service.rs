//! One node as a process: start, serve, stop.
//!
//! ```text
//! settings ─► log, lock on the data directory ─► runtimes ─► HTTP listener (probes answer from here on)
//!   ─► peers ─► node (identity, log, meta group, shards) ─► query engine, router ─► everything answers
//! SIGTERM, SIGINT ─► not ready ─► hand leaderships over ─► close the port, finish requests ─► end
//! ```
//!
//! The listener comes first because everything after it may take long: a join waits for a cluster, a start replays a
//! log. A signal during the start ends the process at once: nothing was acknowledged yet.

pub(crate) mod lock;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chaos::hooks::CHAOS_MARKER;
use cluster::error::ClusterError;
use cluster::node::invite::JoinToken;
use cluster::node::{DataLimits, Node, NodeConfig};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use protocol::memory::MemoryLedger;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::api::active::{ActiveQueries, Settings as QuerySettings};
use crate::api::serve::{HttpServer, HttpVersion, ServeOptions};
use crate::api::{self, App};
use crate::config::units::Listen;
use crate::config::{Config, ConfigError};
use crate::ingest::syslog::{SyslogOptions, SyslogSockets};
use crate::peer::tls::PeerTls;
use crate::peer::{PeerNet, PeerOptions};
use crate::postgres::{PostgresOptions, PostgresServer};
use crate::runtime::faults::{self, Faults};
use crate::runtime::{Runtimes, TokioEnv};
use crate::telemetry::own_log::Lines;
use crate::telemetry::{self, Metrics};
use crate::tls::{ServerTls, TlsError};
use crate::wiring;
use lock::DirLock;

/// What is no setting.
#[derive(Clone, Debug, Default)]
pub struct ServiceOptions {
    /// Where to dial nodes instead, by id or address: a chaos hook.
    pub dial_map: BTreeMap<String, String>,
    /// Where to read faults of disk and clock: another.
    pub fault_file: Option<PathBuf>,
    /// Whether the end of standard input asks for a stop.
    pub stop_with_stdin: bool,
    /// Variables of the environment that look like settings and are none; they are named in the log.
    pub ignored_variables: Vec<String>,
}

/// Why a node does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The settings are wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The certificates are.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The data directory can not be used.
    #[error("cannot use the data directory {path}")]
    DataDir { path: PathBuf, source: io::Error },
    /// Another process uses it.
    #[error("another process uses the data directory {path}")]
    InUse { path: PathBuf },
    /// A chaos hook on a directory that is not for chaos.
    #[error("{flag} works only on a data directory that `pharos chaos` made; {path} is none")]
    NoChaos { flag: &'static str, path: PathBuf },
    /// An address can not be listened on.
    #[error("cannot listen on {addr} ({what})")]
    Listen { what: &'static str, addr: std::net::SocketAddr, source: io::Error },
    /// The system refuses threads or signals.
    #[error("cannot start")]
    System(#[from] io::Error),
    /// The node can not.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// Runs a node until it is told to stop.
pub fn run(config: Config, options: ServiceOptions) -> Result<(), ServiceError> {
    let lines = telemetry::start_log(&config.telemetry)
        .map_err(|reason| ConfigError::Invalid { key: "telemetry.log_level".to_owned(), reason })?;
    for name in &options.ignored_variables {
        tracing::warn!(name, "a variable with the prefix of settings is none and is ignored");
    }
    let lock = DirLock::take(&config.node.data_dir)?;
    let hooks =
        [("--dial-map", !options.dial_map.is_empty()), ("--fault-file", options.fault_file.is_some())];
    if let Some((flag, _)) = hooks.into_iter().find(|(_, is_used)| *is_used)
        && !config.node.data_dir.join(CHAOS_MARKER).exists()
    {
        return Err(ServiceError::NoChaos { flag, path: config.node.data_dir.clone() });
    }
    let runtimes = Runtimes::start()?;
    let outcome = runtimes.io.block_on(serve(Arc::new(config), options, lines, &runtimes));
    // What still runs on them has nothing to finish: requests and groups have ended.
    runtimes.query.shutdown_background();
    runtimes.io.shutdown_background();
    drop(lock);
    outcome
}

async fn serve(
    config: Arc<Config>,
    options: ServiceOptions,
    lines: Arc<Lines>,
    runtimes: &Runtimes,
) -> Result<(), ServiceError> {
    let stop = stop_signal(options.stop_with_stdin)?;
    let metrics = Arc::new(Metrics::new());
    let app = App::new(Arc::clone(&config), Arc::clone(&metrics));
    let serve_options = ServeOptions {
        version: HttpVersion::One,
        header_timeout: config.http.header_timeout.0,
        write_timeout: config.http.write_timeout.0,
        max_connections: config.http.max_connections as usize,
    };
    let listen = |what, addr| move |source| ServiceError::Listen { what, addr, source };
    let http = HttpServer::start(config.http.addr, api::router(Arc::clone(&app)), serve_options)
        .await
        .map_err(listen("http.addr", config.http.addr))?;
    let otlp = otlp_listeners(&config, &app, serve_options).await?;
    let syslog = syslog_sockets(&config).await?;
    let postgres = postgres_listener(&config, &app).await?;
    let faults = match &options.fault_file {
        Some(file) => faults::start(file, &config.node.data_dir)?,
        None => Faults::default(),
    };
    let net = PeerNet::start(runtimes.io.handle().clone(), peer_options(&config, options.dial_map)?)
        .await
        .map_err(listen("peer.addr", config.peer.addr))?;
    tracing::info!(
        http = %http.addr,
        peers = %net.local_addr(),
        data_dir = %config.node.data_dir.display(),
        version = env!("CARGO_PKG_VERSION"),
        "starting"
    );
    if !config.has_peer_tls() && config.node.insecure {
        tracing::warn!("peers talk in plain text");
    }
    let env = TokioEnv::new(net.clone(), metrics.log.clone(), faults);
    let memory = telemetry::memory::ledger(config.node.memory_budget);
    let active = ActiveQueries::open(
        &config.node.data_dir,
        QuerySettings { slow_after: config.query.log_slower_than.0, quarantine: config.query.quarantine.0 },
    )?;
    let fragments = Arc::new(wiring::Fragments::new(
        &config.query,
        memory.clone(),
        metrics.query.clone(),
        Arc::clone(&active),
        Arc::clone(&app.tracer),
    ));
    let node = tokio::select! {
        biased;
        () = stop.cancelled() => {
            tracing::info!("stopped before the node was up");
            return Ok(());
        }
        node = Node::start(env.clone(), node_config(&config, &memory), fragments.clone()) => node?,
    };
    tracing::info!(node = %node.id(), cluster = node.cluster_id(), "the node runs");
    let backend =
        wiring::connect(&config, &node, runtimes, &memory, &metrics, &fragments, Arc::clone(&active))?;
    telemetry::node::register(&metrics, &node, &env, &fragments, &backend.ingest);
    let writer = Arc::clone(backend.ingest.writer());
    let caches = move || writer.stats().cached_series * cluster::router::CACHED_SERIES_BYTES;
    telemetry::memory::start(runtimes.io.handle(), &memory, &metrics, caches, stop.clone());
    if config.telemetry.self_monitoring {
        telemetry::monitor::start(
            runtimes.io.handle(),
            &config,
            Arc::clone(&metrics),
            Arc::clone(backend.ingest.writer()),
            stop.clone(),
        );
        let writer = Arc::clone(backend.ingest.log_writer());
        telemetry::own_log::start(runtimes.io.handle(), &config, lines, Arc::clone(&writer), stop.clone());
        sql::trace_tasks(&telemetry::trace::Carrier);
        let writers = (Arc::clone(backend.ingest.span_writer()), writer);
        let tracer = Arc::clone(&app.tracer);
        telemetry::own_traces::start(runtimes.io.handle(), &config, tracer, writers, stop.clone());
    }
    telemetry::span_metrics::start(
        runtimes.io.handle(),
        Arc::clone(&node),
        Arc::clone(backend.ingest.writer()),
        stop.clone(),
    );
    let syslog = syslog.serve(&backend.ingest, &syslog_options(&config)?);
    app.connect(backend);

    stop.cancelled().await;
    tracing::info!("stopping");
    let limit = config.node.shutdown_timeout.0;
    let further = otlp.iter().map(|server| server.stop(limit / 3).boxed());
    let further = further.chain([syslog.stop(limit / 3).boxed()]);
    let further = further.chain(postgres.iter().map(|server| server.stop(limit / 3).boxed())).collect();
    wind_down(&app, &http, further, node.hand_over_leaderships(), limit).await;
    if tokio::time::timeout(limit / 3, node.stop()).await.is_err() {
        tracing::warn!("not every group ended in time");
    }
    net.close();
    active.close();
    tracing::info!("stopped");
    Ok(())
}

/// Ends the service for clients: probes learn of it first, and everything is still answered while leaderships are handed
/// over, so that nobody meets a closed port or a shard without leader who looks where to go. `further` are the stops of
/// the other listeners.
async fn wind_down(
    app: &App,
    http: &HttpServer,
    further: Vec<BoxFuture<'_, ()>>,
    hand_over: impl Future<Output = ()>,
    limit: Duration,
) {
    app.announce_stop();
    if tokio::time::timeout(limit / 3, hand_over).await.is_err() {
        tracing::warn!("not every leadership was handed over in time");
    }
    futures_util::future::join(http.stop(limit / 3), futures_util::future::join_all(further)).await;
}

/// The usual port of PostgreSQL.
const POSTGRES_PORT: u16 = 5432;

/// Starts the listener for PostgreSQL's clients.
async fn postgres_listener(config: &Config, app: &Arc<App>) -> Result<Option<PostgresServer>, ServiceError> {
    let what = "postgres.addr";
    let Some((addr, is_needed)) = config.postgres.addr.beside(config.http.addr, POSTGRES_PORT) else {
        return Ok(None);
    };
    let section = &config.postgres;
    let tls = match section.tls_cert.is_empty() {
        true => None,
        false => Some(ServerTls::load(
            "clients of PostgreSQL's protocol",
            section.tls_cert.as_ref(),
            section.tls_key.as_ref(),
        )?),
    };
    let options = PostgresOptions {
        tls,
        max_connections: config.postgres.max_connections as usize,
        idle_timeout: config.postgres.idle_timeout.0,
        write_timeout: config.http.write_timeout.0,
    };
    let started = PostgresServer::start(addr, Arc::clone(app), options).await;
    listening(what, addr, is_needed, started)
}

/// A listener that was started, or not: a usual port may be somebody else's, and nobody asked for it by name, so that is a
/// warning; an address that was is needed.
fn listening<T>(
    what: &'static str,
    addr: SocketAddr,
    is_needed: bool,
    started: io::Result<T>,
) -> Result<Option<T>, ServiceError> {
    match started {
        Ok(listener) => {
            tracing::info!(setting = what, %addr, "listening");
            Ok(Some(listener))
        }
        Err(source) if is_needed => Err(ServiceError::Listen { what, addr, source }),
        Err(error) => {
            tracing::warn!(setting = what, %addr, %error, "not listening: the usual port can not be had");
            Ok(None)
        }
    }
}

/// The usual ports of OTLP.
const OTLP_GRPC_PORT: u16 = 4317;
const OTLP_HTTP_PORT: u16 = 4318;

/// Starts the listeners that only OTLP has.
async fn otlp_listeners(
    config: &Config,
    app: &Arc<App>,
    options: ServeOptions,
) -> Result<Vec<HttpServer>, ServiceError> {
    let mut servers = Vec::new();
    let listeners: [(&'static str, Listen, u16, HttpVersion); 2] = [
        ("otlp.grpc_addr", config.otlp.grpc_addr, OTLP_GRPC_PORT, HttpVersion::Two),
        ("otlp.http_addr", config.otlp.http_addr, OTLP_HTTP_PORT, HttpVersion::One),
    ];
    for (what, listen, usual_port, version) in listeners {
        let Some((addr, is_needed)) = listen.beside(config.http.addr, usual_port) else { continue };
        let router = match version {
            HttpVersion::One => api::otlp_router(Arc::clone(app)),
            HttpVersion::Two => api::grpc_router(Arc::clone(app)),
        };
        let started = HttpServer::start(addr, router, ServeOptions { version, ..options }).await;
        servers.extend(listening(what, addr, is_needed, started)?);
    }
    Ok(servers)
}

/// The usual port of syslog.
const SYSLOG_PORT: u16 = 514;

/// Binds the listeners for syslog, if there are to be any.
async fn syslog_sockets(config: &Config) -> Result<SyslogSockets, ServiceError> {
    let mut sockets = SyslogSockets::default();
    for (what, listen, is_tcp) in [
        ("syslog.tcp_addr", config.syslog.tcp_addr, true),
        ("syslog.udp_addr", config.syslog.udp_addr, false),
    ] {
        let Some((addr, is_needed)) = listen.beside(config.http.addr, SYSLOG_PORT) else { continue };
        let bound = if is_tcp { sockets.bind_tcp(addr) } else { sockets.bind_udp(addr).await };
        listening(what, addr, is_needed, bound)?;
    }
    Ok(sockets)
}

fn syslog_options(config: &Config) -> Result<SyslogOptions, ServiceError> {
    let syslog = &config.syslog;
    let tenant = protocol::ids::TenantId::new(&syslog.tenant).map_err(|error| ConfigError::Invalid {
        key: "syslog.tenant".to_owned(),
        reason: error.to_string(),
    })?;
    Ok(SyslogOptions {
        tenant,
        max_connections: syslog.max_connections as usize,
        max_queue_bytes: syslog.max_queue.as_usize(),
    })
}

fn peer_options(config: &Config, dial_map: BTreeMap<String, String>) -> Result<PeerOptions, ServiceError> {
    let peer = &config.peer;
    let tls = if config.has_peer_tls() {
        Some(PeerTls::load(peer.tls_cert.as_ref(), peer.tls_key.as_ref(), peer.tls_ca.as_ref())?)
    } else {
        None
    };
    Ok(PeerOptions {
        listen: peer.addr,
        tls,
        keep_alive: peer.keep_alive.0,
        dead_after: peer.dead_after.0,
        max_in_flight_bytes: peer.max_in_flight.as_usize(),
        dial_map,
    })
}

fn node_config(config: &Config, memory: &MemoryLedger) -> NodeConfig {
    let mut node = NodeConfig::new(&config.node.data_dir, config.peer_advertise());
    node.join = config.cluster.join.clone();
    // Its form was checked with the rest of the settings.
    if let Ok(token) = config.cluster.join_token.parse::<JoinToken>() {
        node.join_secret = Some(token.secret);
        if node.join.is_empty() {
            node.join = token.addrs;
        }
    }
    node.shards = config.cluster.shards;
    node.replication_factor = u32::from(config.cluster.replication_factor);
    node.rebuild_after = config.cluster.rebuild_after.limit();
    node.newest_epoch = config.cluster.newest_epoch;
    node.memory = memory.clone();
    node.max_unflushed_bytes = config.storage.max_unflushed_log.0;
    node.flush.memtable_bytes = config.storage.memtable_size.as_usize();
    node.flush.max_age_ms = config.storage.flush_interval.as_ms();
    node.flush.retention = Arc::new(config.retention());
    let (max_data, share) = (config.storage.max_data.0, config.storage.max_disk_share);
    node.data_limits = DataLimits {
        max_bytes: (max_data > 0).then_some(max_data),
        max_disk_share: (share < 1.0).then_some(share),
        min_free_bytes: config.storage.min_free.0,
    };
    // Who starts a node before the one it joins is up means it to wait.
    node.join_timeout = Duration::from_secs(600);
    node
}

/// A token that is cancelled by SIGTERM, SIGINT or, if asked for, the end of standard input.
fn stop_signal(with_stdin: bool) -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let mut received = signal(kind)?;
        let stop = stop.clone();
        tokio::spawn(async move {
            received.recv().await;
            stop.cancel();
        });
    }
    if with_stdin {
        let stop = stop.clone();
        let watch = move || {
            let (mut stdin, mut bytes) = (io::stdin(), [0; 64]);
            // What a supervisor writes means nothing; an error is an end, too.
            while matches!(stdin.read(&mut bytes), Ok(1..)) {}
            stop.cancel();
        };
        std::thread::Builder::new().name("pharos-stdin".to_owned()).spawn(watch)?;
    }
    Ok(stop)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;

    use super::*;

    async fn get(addr: SocketAddr, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(addr).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn everything_but_readiness_is_served_while_leaderships_are_handed_over() {
        let app = App::new(Arc::new(Config::default()), Arc::new(Metrics::new()));
        let options = ServeOptions {
            version: HttpVersion::One,
            header_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_connections: 8,
        };
        let addr = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let http = HttpServer::start(addr, api::router(Arc::clone(&app)), options).await.unwrap();
        let addr = http.addr;
        let mut asked = false;
        let hand_over = async {
            let ready = get(addr, "/-/ready").await.unwrap();
            assert!(ready.starts_with("HTTP/1.1 503") && ready.contains("the node is stopping"), "{ready}");
            let other = get(addr, "/api/v1/status/buildinfo").await.unwrap();
            assert!(other.starts_with("HTTP/1.1 200"), "{other}");
            asked = true;
        };
        wind_down(&app, &http, Vec::new(), hand_over, Duration::from_secs(60)).await;
        assert!(asked);
        assert!(get(addr, "/-/healthy").await.is_err(), "the port is closed");
    }
}
