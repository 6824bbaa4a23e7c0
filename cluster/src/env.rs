//! The seams of the node: runtime, network, file system, clock, randomness and the places where work runs.
//!
//! `cluster` is generic over [`Env`] from top to bottom. Production gives it tokio, real disks and TCP
//! (`server::runtime`, `server::peer`); the simulator gives it one thread, one seed and a network that loses, delays and
//! cuts (`chaos::sim`). The same code runs on both, which is the only reason to believe what the simulator proves.
//!
//! Rules that keep it so: no timer, task, channel or lock that waits but through [`Env::Runtime`]; selects are biased
//! (`AsyncRuntime::select2`); wall time only from [`Env::now_ms`], randomness only from [`Env::random_u64`].

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use openraft_rt::AsyncRuntime;
use protocol::ids::NodeId;
use storage::fs::Fs;
use storage::wal::LogWriter;

/// Everything a node needs from the world. Cloning is cheap and gives a handle to the same node's world.
pub trait Env: Clone + Send + Sync + 'static {
    /// Tasks, timers and channels; openraft runs on the same one.
    type Runtime: AsyncRuntime + Send + Sync;
    /// Disks.
    type Fs: Fs;
    /// Peers.
    type Net: Net;

    /// The file system of this node.
    fn fs(&self) -> &Self::Fs;
    /// The network as seen from this node.
    fn net(&self) -> &Self::Net;
    /// Wall clock of this node in milliseconds since 1970. It may jump either way.
    fn now_ms(&self) -> i64;
    /// A random number: seeded in the simulator, from the system in production.
    fn random_u64(&self) -> u64;

    /// Runs CPU or disk work off the reactor: a thread pool per kind in production; in the simulator in line, after a
    /// simulated delay. A step never waits for another step.
    fn run_step<T: Send + 'static>(
        &self,
        kind: StepKind,
        step: impl FnOnce() -> T + Send + 'static,
    ) -> impl Future<Output = T> + Send;

    /// Starts the one writer of the node's log, until the log is closed: a thread around [`LogWriter::wait`] and
    /// [`LogWriter::write_pending`] in production, a task woken through [`LogWriter::set_waker`] in the simulator. After
    /// `WalError::NoSpace` it tries again a little later; any other error ends it, and the groups stop the node.
    fn start_log_writer(&self, writer: LogWriter<Self::Fs>);

    /// Stops the node for good, because a log sync failed or an invariant broke. Production exits the process, the
    /// simulator crashes the node. It may return (the caller is then to stop by itself), and it may be called twice.
    fn abort(&self, reason: &str);
}

/// What a step is for, so that the pool can keep a long merge from delaying an apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StepKind {
    /// Opening stores at start.
    Open,
    /// Applying committed entries: short, latency matters.
    Apply,
    /// Turning a memtable into segments.
    Flush,
    /// Rewriting segments into larger ones.
    Merge,
    /// Answering a fragment of a query.
    Scan,
    /// Reading or writing pieces of segment files that move between nodes.
    Transfer,
}

impl StepKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Open, Self::Apply, Self::Flush, Self::Merge, Self::Scan, Self::Transfer];

    /// Name for metrics and thread names.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Apply => "apply",
            Self::Flush => "flush",
            Self::Merge => "merge",
            Self::Scan => "scan",
            Self::Transfer => "transfer",
        }
    }
}

/// The network. One request, one answer; a frame is at most [`MAX_FRAME_BYTES`] long.
///
/// The implementation coalesces all calls to a peer on one stream, reconnects, and never sends a request twice on its
/// own: after an error the request may or may not have been carried out, and only the caller knows whether that matters.
/// When the future of a call is dropped, or its time is over, the implementation may tell the peer, which then drops what
/// [`PeerHandler::may_be_dropped`].
pub trait Net: Clone + Send + Sync + 'static {
    /// Sends a request and waits for the answer, at most for `timeout`.
    fn call(
        &self,
        to: &PeerAddr,
        request: Bytes,
        timeout: Duration,
    ) -> impl Future<Output = Result<Bytes, NetError>> + Send;

    /// Hands incoming requests to `handler` from now on. Requests that came before wait or fail.
    fn serve(&self, handler: Arc<dyn PeerHandler>);
}

/// Longest request or answer. Senders keep below it, receivers refuse what is above.
pub const MAX_FRAME_BYTES: usize = 8 << 20;

/// Answers requests of peers.
pub trait PeerHandler: Send + Sync {
    /// Answers one request. Never fails: errors are part of the answer's bytes.
    fn handle(&self, request: Bytes) -> BoxFuture<'static, Bytes>;

    /// Whether the answering of this request may end half done when its caller does not wait any more.
    fn may_be_dropped(&self, _request: &Bytes) -> bool {
        false
    }
}

/// Where a peer is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerAddr {
    /// The peer's id; 0 while it is not known (a join knows addresses only).
    pub id: NodeId,
    /// `host:port` as the peer advertises it.
    pub addr: String,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NetError {
    /// No connection: the request was certainly not carried out.
    #[error("peer {addr} is unreachable: {reason}")]
    Unreachable {
        /// Where the peer should be.
        addr: String,
        /// What the transport said.
        reason: String,
    },
    /// No answer in time: the request may have been carried out.
    #[error("peer {addr} did not answer within {timeout:?}")]
    Timeout {
        /// Where the peer is.
        addr: String,
        /// How long we waited.
        timeout: Duration,
    },
    /// The connection broke after the request was sent: it may have been carried out.
    #[error("connection to peer {addr} broke: {reason}")]
    Broken {
        /// Where the peer is.
        addr: String,
        /// What the transport said.
        reason: String,
    },
    /// The request is longer than [`MAX_FRAME_BYTES`].
    #[error("request of {bytes} bytes is longer than a frame may be")]
    TooLarge {
        /// Length of the request.
        bytes: usize,
    },
    /// This node's side of the network is closed.
    #[error("the network is closed")]
    Closed,
}

impl NetError {
    /// Whether the request was certainly not carried out, so that sending it again can not do it twice.
    pub const fn is_certainly_unsent(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::TooLarge { .. } | Self::Closed)
    }
}

/// Starts a task that ends by itself; nobody waits for it.
pub(crate) fn detach<E: Env>(task: impl Future<Output = ()> + Send + 'static) {
    drop(E::Runtime::spawn(task));
}
