//! Syslog: listeners for TCP and UDP, which take RFC 5424 and RFC 3164. They are off unless an address is set.
//!
//! ```text
//! tcp   connection -> framer ─┐ waits for room
//!                             ├─► queue, bounded in bytes ─► what has gathered is one request ─► durable on a quorum
//! udp   datagram ─────────────┘ dropped and counted where there is no room
//! ```
//!
//! **Nobody is answered.** Syslog has no acknowledgements, so a connection is read only as fast as its messages are
//! written: what does not fit waits in the sender, whose own queue is made for that. Datagrams can not wait. What a node
//! had read but not written is lost with it when it is killed.
//!
//! **Once.** A request that a shard refused, or whose outcome is not known, is sent again under the key that it had,
//! until it is written: shards know it for ten minutes.
//!
//! **Bounds.** Connections, the queue and a message have limits, all memory is taken from the budget of requests, and a
//! message that stays half sent does not hold more than a few pages of it for long. What is refused is counted by its
//! reason in `pharos_syslog_refused_total`.
//!
//! **Stop.** No connection is accepted any more, each is read until it is silent, and what was read is written.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use cluster::router::logs::PreparedLogs;
use prometheus::{IntCounterVec, IntGauge};
use protocol::ids::TenantId;
use protocol::logs::{LogSink, LogStream, TimestampNs};
use protocol::shippers::syslog::{Framer, TooLong, parse};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream, UdpSocket};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Ingest;
use super::budget::Share;
use super::logs::DECODED_FACTOR;
use super::request::{Failure, is_short};
use crate::runtime::now_ns;
use crate::telemetry::metrics::registered;

const PROTOCOL: &str = "syslog";
/// What is read of a connection at once. A message that is longer and half sent has to go on within the time for bodies.
const READ_BYTES: usize = 32 << 10;
/// Longest datagram.
const DATAGRAM_BYTES: usize = 64 << 10;
/// A request takes no more once it is so long.
const REQUEST_BYTES: usize = 4 << 20;
/// How long messages gather for a request. Each request is remembered by its shard for minutes: it should not be a
/// message each.
const LINGER: Duration = Duration::from_millis(10);
/// Requests at once.
const WRITERS: usize = 4;
/// Pause before a request is sent again, and how far it grows.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long a connection is silent that has sent all it had when the node stops, and how much more is read of it.
const SILENCE: Duration = Duration::from_millis(100);
const LAST_BYTES: usize = 4 << 20;
/// Connections that wait to be accepted.
const BACKLOG: u32 = 256;

/// Limits of the listeners, and whose messages they take.
#[derive(Clone, Debug)]
pub struct SyslogOptions {
    /// Whose the messages are.
    pub tenant: TenantId,
    /// Connections at once.
    pub max_connections: usize,
    /// Bytes of messages that wait to be written.
    pub max_queue_bytes: usize,
}

/// Addresses that are listened on; what arrives waits in the kernel until [`SyslogSockets::serve`].
#[derive(Debug, Default)]
pub struct SyslogSockets {
    tcp: Option<TcpListener>,
    udp: Option<UdpSocket>,
}

impl SyslogSockets {
    /// Binds for TCP.
    pub fn bind_tcp(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        let socket = if addr.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        // Inherited by connections. Senders are silent for hours, and some are gone without a word.
        socket.set_keepalive(true)?;
        socket.bind(addr)?;
        let listener = self.tcp.insert(socket.listen(BACKLOG)?);
        listener.local_addr()
    }

    /// Binds for UDP.
    pub async fn bind_udp(&mut self, addr: SocketAddr) -> io::Result<SocketAddr> {
        self.udp.insert(UdpSocket::bind(addr).await?).local_addr()
    }

    /// Takes messages from now on.
    pub fn serve(self, ingest: &Arc<Ingest>, options: &SyslogOptions) -> SyslogServer {
        let server = SyslogServer::default();
        if self.tcp.is_none() && self.udp.is_none() {
            return server;
        }
        let (sender, queue) = mpsc::unbounded_channel();
        let inlet = Inlet {
            ingest: Arc::clone(ingest),
            queue: sender,
            room: Arc::new(Semaphore::new(options.max_queue_bytes.min(Semaphore::MAX_PERMITS))),
            capacity: options.max_queue_bytes,
        };
        if let Some(listener) = self.tcp {
            let accepting = accept(listener, inlet.clone(), options.max_connections, server.clone());
            server.spawn(accepting);
        }
        if let Some(socket) = self.udp {
            server.spawn(datagrams(socket, inlet, server.stop.clone()));
        }
        server.spawn(write_all(queue, Arc::clone(ingest), options.tenant.clone(), server.clone()));
        server
    }
}

/// Running listeners.
#[derive(Clone, Debug, Default)]
pub struct SyslogServer {
    stop: CancellationToken,
    abandon: CancellationToken,
    tasks: TaskTracker,
}

impl SyslogServer {
    /// Accepts no more, reads what was sent and writes it; returns when that is done or the time is over.
    pub async fn stop(&self, limit: Duration) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            tracing::warn!("syslog messages that were read are lost: they could not be written in time");
        }
        self.abandon.cancel();
    }

    /// Runs a task that ends with the server at the latest.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let abandon = self.abandon.clone();
        self.tasks.spawn(async move {
            abandon.run_until_cancelled(task).await;
        });
    }
}

/// What was refused, and what is connected.
#[derive(Clone, Debug)]
pub(super) struct SyslogMetrics {
    refused: IntCounterVec,
    connections: IntGauge,
}

impl SyslogMetrics {
    pub(super) fn new(registry: &prometheus::Registry) -> Self {
        Self {
            refused: registered(
                registry,
                IntCounterVec::new(
                    prometheus::Opts::new(
                        "pharos_syslog_refused_total",
                        "What syslog's listeners did not take: connections over their limit (connections) or the node's \
                         (memory), streams that are no syslog (too_long) or stay half sent (stalled), datagrams without \
                         room (queue), messages that can not be written (unwritable).",
                    ),
                    &["reason"],
                ),
            ),
            connections: registered(
                registry,
                IntGauge::new("pharos_syslog_connections", "Open connections of syslog's senders."),
            ),
        }
    }

    fn refused(&self, reason: &str, count: usize) {
        self.refused.with_label_values(&[reason]).inc_by(count as u64);
    }
}

/// Messages that arrived together.
#[derive(Debug, Default)]
struct Chunk {
    bytes: Vec<u8>,
    /// Where each message ends.
    ends: Vec<usize>,
    arrived_ns: TimestampNs,
}

impl Chunk {
    fn push(&mut self, message: &[u8]) {
        self.bytes.extend_from_slice(message);
        self.ends.push(self.bytes.len());
    }

    fn messages(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| &self.bytes[start..*end])
    }
}

/// A chunk in the queue, with the memory that it holds.
#[derive(Debug)]
struct Waiting {
    chunk: Chunk,
    _room: OwnedSemaphorePermit,
    _share: Share,
}

/// The way into the queue.
#[derive(Clone)]
struct Inlet {
    ingest: Arc<Ingest>,
    queue: mpsc::UnboundedSender<Waiting>,
    room: Arc<Semaphore>,
    capacity: usize,
}

impl Inlet {
    /// A single message may be longer than a queue that is set very short.
    fn permits(&self, chunk: &Chunk) -> u32 {
        u32::try_from(chunk.bytes.len().min(self.capacity)).unwrap_or(u32::MAX)
    }

    /// Takes so much more of the node's memory as soon as it is there.
    async fn grow(share: &mut Share, bytes: usize) {
        let mut pause = FIRST_PAUSE;
        while !share.grow_to(bytes) {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Queues a chunk when there is room for it.
    async fn put(&self, chunk: Chunk) {
        if chunk.ends.is_empty() {
            return;
        }
        // Memory last: who waits for room must not hold what a writer needs. Neither is the semaphore ever closed, nor the
        // queue while there is an inlet.
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(self.permits(&chunk)).await else { return };
        let mut share = self.ingest.budget.share();
        Self::grow(&mut share, chunk.bytes.len()).await;
        let _ = self.queue.send(Waiting { chunk, _room: room, _share: share });
    }

    /// Queues a chunk if there is room for it now, and drops it otherwise.
    fn put_or_drop(&self, chunk: Chunk) {
        let (mut share, count) = (self.ingest.budget.share(), chunk.ends.len());
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.permits(&chunk));
        match room {
            Ok(room) if share.grow_to(chunk.bytes.len()) => {
                let _ = self.queue.send(Waiting { chunk, _room: room, _share: share });
            }
            _ => self.ingest.syslog.refused("queue", count),
        }
    }
}

async fn accept(listener: TcpListener, inlet: Inlet, max_connections: usize, server: SyslogServer) {
    let slots = Arc::new(Semaphore::new(max_connections));
    loop {
        let accepted = tokio::select! {
            biased;
            () = server.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a syslog sender");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // Closed at once, so that the sender knows: a connection that waits in the kernel looks like one that is read.
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            inlet.ingest.syslog.refused("connections", 1);
            continue;
        };
        let mut share = inlet.ingest.budget.share();
        if !share.grow_to(READ_BYTES) {
            inlet.ingest.syslog.refused("memory", 1);
            continue;
        }
        let (inlet, stop) = (inlet.clone(), server.stop.clone());
        server.spawn(async move {
            let open = Open(inlet.ingest.syslog.connections.clone());
            open.0.inc();
            connection(stream, &inlet, &stop).await;
            drop((open, slot, share));
        });
    }
}

/// A connection in the gauge of those, however it ends.
struct Open(IntGauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}

async fn connection(mut stream: TcpStream, inlet: &Inlet, stop: &CancellationToken) {
    let mut framer = Framer::default();
    let mut buffer = vec![0; READ_BYTES];
    let mut half_sent = inlet.ingest.budget.share();
    let mut last_bytes = 0;
    loop {
        let is_last = stop.is_cancelled();
        let patience = match framer.pending_bytes() > READ_BYTES {
            true => inlet.ingest.settings.body_timeout,
            false => Duration::MAX,
        };
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read,
            () = tokio::time::sleep(SILENCE), if is_last => break,
            () = stop.cancelled(), if !is_last => continue,
            () = tokio::time::sleep(patience), if patience != Duration::MAX => {
                inlet.ingest.syslog.refused("stalled", 1);
                return;
            }
        };
        let bytes = match read {
            Ok(0) => break,
            Ok(len) => &buffer[..len],
            Err(error) => {
                tracing::debug!(%error, "a syslog sender's connection broke");
                break;
            }
        };
        let mut chunk = Chunk { arrived_ns: now_ns(), ..Chunk::default() };
        let outcome = framer.push(bytes, |message| chunk.push(message));
        if framer.pending_bytes() <= READ_BYTES {
            half_sent = inlet.ingest.budget.share();
        }
        inlet.put(chunk).await;
        if let Err(TooLong) = outcome {
            inlet.ingest.syslog.refused("too_long", 1);
            return;
        }
        if framer.pending_bytes() > READ_BYTES {
            // Connections that wait for each other's memory would wait for ever.
            let grown = Inlet::grow(&mut half_sent, framer.pending_bytes());
            if tokio::time::timeout(inlet.ingest.settings.body_timeout, grown).await.is_err() {
                inlet.ingest.syslog.refused("memory", 1);
                return;
            }
        }
        if is_last {
            last_bytes += bytes.len();
            if last_bytes > LAST_BYTES {
                break;
            }
        }
    }
    let mut chunk = Chunk { arrived_ns: now_ns(), ..Chunk::default() };
    framer.finish(|message| chunk.push(message));
    inlet.put(chunk).await;
}

async fn datagrams(socket: UdpSocket, inlet: Inlet, stop: CancellationToken) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            received = socket.recv(&mut buffer) => received,
        };
        let mut len = match received {
            Ok(len) => len,
            Err(error) => {
                tracing::warn!(%error, "cannot receive syslog datagrams");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let mut chunk = Chunk { arrived_ns: now_ns(), ..Chunk::default() };
        // Those that are there already go together.
        loop {
            let message = buffer[..len].trim_ascii_end();
            if !message.is_empty() {
                chunk.push(message);
            }
            if chunk.bytes.len() >= READ_BYTES {
                break;
            }
            match socket.try_recv(&mut buffer) {
                Ok(more) => len = more,
                Err(_) => break,
            }
        }
        if !chunk.ends.is_empty() {
            inlet.put_or_drop(chunk);
        }
    }
}

/// Writes what is queued until nobody can queue any more.
async fn write_all(
    mut queue: mpsc::UnboundedReceiver<Waiting>,
    ingest: Arc<Ingest>,
    tenant: TenantId,
    server: SyslogServer,
) {
    let slots = Arc::new(Semaphore::new(WRITERS));
    while let Some(first) = queue.recv().await {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        tokio::time::sleep(LINGER).await;
        let mut len = first.chunk.bytes.len();
        let mut gathered = vec![first];
        while len < REQUEST_BYTES
            && let Ok(next) = queue.try_recv()
        {
            len += next.chunk.bytes.len();
            gathered.push(next);
        }
        let (ingest, tenant) = (Arc::clone(&ingest), tenant.clone());
        server.spawn(async move {
            ingest.write_messages(&tenant, gathered, len).await;
            drop(slot);
        });
    }
}

impl Ingest {
    /// Writes messages, however long it takes.
    async fn write_messages(&self, tenant: &TenantId, gathered: Vec<Waiting>, len: usize) {
        self.metrics.received(PROTOCOL, len);
        let gathered = Arc::new(gathered);
        let count = gathered.iter().map(|waiting| waiting.chunk.ends.len()).sum();
        let mut again = Again::new();
        let (prepared, rejected, _share) = loop {
            match self.pack_messages(tenant, &gathered, len).await {
                Ok(packed) => break packed,
                Err(failure) if failure.is_retryable() => again.pause(&failure.message).await,
                Err(failure) => {
                    tracing::error!(reason = failure.message, messages = count, "syslog messages are lost");
                    return self.syslog.refused("unwritable", count);
                }
            }
        };
        loop {
            match self.logs.deliver_logs(prepared.clone()).await.map_err(Failure::from) {
                Ok(receipt) => return self.metrics.logs(PROTOCOL, receipt.records, rejected),
                Err(failure) if failure.is_retryable() => again.pause(&failure.message).await,
                Err(failure) => {
                    tracing::error!(reason = failure.message, messages = count, "syslog messages are lost");
                    return self.syslog.refused("unwritable", count);
                }
            }
        }
    }

    /// A request of the messages, with the number of those that it leaves out.
    async fn pack_messages(
        &self,
        tenant: &TenantId,
        gathered: &Arc<Vec<Waiting>>,
        len: usize,
    ) -> Result<(PreparedLogs, u64, Share), Failure> {
        let mut share = self.budget.share();
        if !share.grow_to(len.saturating_mul(DECODED_FACTOR)) {
            return Err(Failure::full());
        }
        let (writer, tenant, gathered) = (Arc::clone(&self.logs), tenant.clone(), Arc::clone(gathered));
        let work = move || {
            let mut batch = writer.log_batch(&tenant)?;
            let mut current: Option<LogStream<'_>> = None;
            for Waiting { chunk, .. } in gathered.iter() {
                for message in chunk.messages() {
                    let message = parse(message, chunk.arrived_ns);
                    if current.as_ref() != Some(&message.stream) {
                        batch.stream(&message.stream);
                        current = Some(message.stream);
                    }
                    batch.record(&message.record);
                }
            }
            let rejected = batch.outside().len() + batch.too_deep();
            Ok((writer.prepare_logs(&tenant, batch, None)?, rejected, share))
        };
        self.decode_with(is_short(len), work).await
    }
}

/// The pauses between attempts.
struct Again {
    pause: Duration,
    is_told: bool,
}

impl Again {
    fn new() -> Self {
        Self { pause: FIRST_PAUSE, is_told: false }
    }

    async fn pause(&mut self, reason: &str) {
        if !std::mem::replace(&mut self.is_told, true) {
            tracing::warn!(reason, "syslog messages wait to be written");
        }
        tokio::time::sleep(self.pause).await;
        self.pause = (self.pause * 2).min(LONGEST_PAUSE);
    }
}
