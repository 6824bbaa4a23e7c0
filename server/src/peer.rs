//! The network between nodes: `cluster`'s seam over TCP, optionally with mutual TLS.
//!
//! Each node keeps one connection to every peer for the calls it makes itself; answers come back on it. So two nodes
//! have two connections, one per direction of calls, and nobody has to decide which of them to keep. All Raft groups,
//! writes and query fragments to a peer share that connection: the task behind it takes what has queued up since its
//! last write and sends it with one system call ([`link`]). Format and checksums are in [`frame`].
//!
//! A connection that fell silent is the known trap: after a healed partition a stream may stay dead for ever while
//! both ends wait. So the caller pings every second and, when nothing at all arrived for three, drops the connection
//! and dials anew. No call is ever sent twice by this layer. A call that its caller drops, or whose time is over, is given
//! up at the peer too, where that is harmless: so the parts of a query end on every node when its client leaves.

mod connection;
mod frame;
mod link;
mod listener;
pub mod tls;

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cluster::env::{MAX_FRAME_BYTES, Net, NetError, PeerAddr, PeerHandler};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

use link::Link;
use tls::PeerTls;

/// Settings of the network.
#[derive(Clone, Debug)]
pub struct PeerOptions {
    /// Address to listen on.
    pub listen: SocketAddr,
    /// Certificates; without, frames travel in plain text.
    pub tls: Option<PeerTls>,
    /// Interval of pings.
    pub keep_alive: Duration,
    /// Silence after which a connection is dropped.
    pub dead_after: Duration,
    /// Bytes queued to a peer, and bytes of a peer's requests in work.
    pub max_in_flight_bytes: usize,
    /// Where to dial instead: by node id or by advertised address. Only for chaos proxies.
    pub dial_map: BTreeMap<String, String>,
}

/// Counters, for metrics.
#[derive(Debug, Default)]
pub struct PeerStats {
    pub(crate) sent_frames: AtomicU64,
    pub(crate) sent_bytes: AtomicU64,
    pub(crate) received_bytes: AtomicU64,
    pub(crate) writes: AtomicU64,
    pub(crate) failed_dials: AtomicU64,
    pub(crate) dropped_connections: AtomicU64,
    pub(crate) refused: AtomicU64,
}

struct Shared {
    io: Handle,
    options: PeerOptions,
    handler: OnceLock<Arc<dyn PeerHandler>>,
    links: Mutex<BTreeMap<String, Link>>,
    stats: Arc<PeerStats>,
    stop: CancellationToken,
}

/// A handle to the network of this node.
#[derive(Clone)]
pub struct PeerNet {
    shared: Arc<Shared>,
    local_addr: SocketAddr,
}

impl std::fmt::Debug for PeerNet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PeerNet").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl PeerNet {
    /// Binds the listener and accepts peers from now on. Requests are refused until [`Net::serve`].
    pub async fn start(io: Handle, options: PeerOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let local_addr = listener.local_addr()?;
        let shared = Arc::new(Shared {
            io,
            options,
            handler: OnceLock::new(),
            links: Mutex::new(BTreeMap::new()),
            stats: Arc::default(),
            stop: CancellationToken::new(),
        });
        shared.io.spawn(listener::accept(Arc::clone(&shared), listener));
        Ok(Self { shared, local_addr })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Counters.
    pub fn stats(&self) -> Arc<PeerStats> {
        Arc::clone(&self.shared.stats)
    }

    /// Closes all connections; calls fail from now on.
    pub fn close(&self) {
        self.shared.stop.cancel();
    }

    fn link(&self, to: &PeerAddr) -> Link {
        let map = &self.shared.options.dial_map;
        let dial = map.get(&to.id.to_string()).or_else(|| map.get(&to.addr)).unwrap_or(&to.addr);
        let key = format!("{dial}|{}", to.addr);
        let mut links = self.shared.links.lock().unwrap_or_else(PoisonError::into_inner);
        links
            .entry(key)
            .or_insert_with(|| Link::start(Arc::clone(&self.shared), &to.addr, dial.clone()))
            .clone()
    }
}

impl Net for PeerNet {
    fn call(
        &self,
        to: &PeerAddr,
        request: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, NetError>> + Send {
        let link = (request.len() <= MAX_FRAME_BYTES).then(|| self.link(to));
        async move {
            match link {
                Some(link) => link.call(request, timeout).await,
                None => Err(NetError::TooLarge { bytes: request.len() }),
            }
        }
    }

    fn serve(&self, handler: Arc<dyn PeerHandler>) {
        // A second handler would be a second node in this process; the first stays.
        let _ = self.shared.handler.set(handler);
    }
}

#[cfg(test)]
mod tests;
