//! The outgoing side: one task per peer that dials on demand, sends calls and matches answers.
//!
//! States of a link: idle (no connection; the next call dials), connecting (calls queue up), connected, and resting
//! after a failed dial, when calls fail at once instead of queueing behind a peer that is not there. The rest doubles
//! from 25 to 100 ms: short, because a restarted peer is needed back in its Raft groups.
//!
//! When a connection ends, every call that waits on it fails as `Broken`: it may have been carried out. Calls that were
//! still queued are kept for the next connection. A call whose caller stops waiting is given up: the peer is told at
//! once, so that it works on nothing that nobody wants.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use cluster::env::NetError;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::connection::{LastSeen, MAX_BATCH, write_frames};
use super::frame::{self, Frame, FrameError, FrameReader, GIVE_UP_VERSION, Kind, OLDEST_VERSION, VERSION};
use super::{PeerOptions, PeerStats, Shared};
use crate::tls::Stream;

/// Calls that may wait for the connection, whatever their length.
const MAX_QUEUED: usize = 8192;
const REST_MIN: Duration = Duration::from_millis(25);
const REST_MAX: Duration = Duration::from_millis(100);

type Reply = oneshot::Sender<Result<Bytes, NetError>>;

struct Call {
    body: Bytes,
    reply: Reply,
    queued: Queued,
}

/// Bytes that count as queued until they are written or given up, however that comes about.
struct Queued {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Queued {
    fn new(bytes: usize, total: &Arc<AtomicUsize>) -> Self {
        total.fetch_add(bytes, Ordering::Relaxed);
        Self { bytes, total: Arc::clone(total) }
    }
}

impl Drop for Queued {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A handle to the task of one peer.
#[derive(Clone)]
pub(super) struct Link {
    addr: Arc<str>,
    queue: mpsc::Sender<Call>,
    queued_bytes: Arc<AtomicUsize>,
    max_bytes: usize,
    given_up: Arc<Notify>,
}

/// Wakes the task when a caller stops waiting for its answer.
struct GiveUp<'a> {
    given_up: &'a Notify,
    is_answered: bool,
}

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        if !self.is_answered {
            self.given_up.notify_one();
        }
    }
}

impl Link {
    /// Starts the task. `dial` is where to connect to, `addr` the peer's advertised address.
    pub fn start(shared: Arc<Shared>, addr: &str, dial: String) -> Self {
        let (queue, calls) = mpsc::channel(MAX_QUEUED);
        let link = Self {
            addr: addr.into(),
            queue,
            queued_bytes: Arc::default(),
            max_bytes: shared.options.max_in_flight_bytes,
            given_up: Arc::default(),
        };
        let task = Task {
            addr: addr.into(),
            dial,
            shared: Arc::clone(&shared),
            rest: Duration::ZERO,
            given_up: Arc::clone(&link.given_up),
        };
        let stop = shared.stop.clone();
        shared.io.spawn(async move {
            tokio::select! {
                biased;
                () = stop.cancelled() => (),
                () = task.run(calls) => (),
            }
        });
        link
    }

    /// Sends a call and waits for its answer.
    pub async fn call(&self, body: Bytes, limit: Duration) -> Result<Bytes, NetError> {
        if self.queued_bytes.load(Ordering::Relaxed) > self.max_bytes {
            return Err(self.unreachable("too much is queued for it"));
        }
        let queued = Queued::new(body.len(), &self.queued_bytes);
        let (reply, answer) = oneshot::channel();
        if let Err(error) = self.queue.try_send(Call { body, reply, queued }) {
            return Err(match error {
                mpsc::error::TrySendError::Full(_) => self.unreachable("too many calls are queued for it"),
                mpsc::error::TrySendError::Closed(_) => NetError::Closed,
            });
        }
        // Dropped after the receiver, in every case.
        let mut give_up = GiveUp { given_up: &self.given_up, is_answered: false };
        let answer = timeout(limit, answer).await;
        give_up.is_answered = answer.is_ok();
        match answer {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(NetError::Closed),
            Err(_) => Err(NetError::Timeout { addr: self.addr.to_string(), timeout: limit }),
        }
    }

    fn unreachable(&self, reason: &str) -> NetError {
        NetError::Unreachable { addr: self.addr.to_string(), reason: reason.to_owned() }
    }
}

struct Task {
    addr: Arc<str>,
    dial: String,
    shared: Arc<Shared>,
    rest: Duration,
    given_up: Arc<Notify>,
}

impl Task {
    async fn run(mut self, mut calls: mpsc::Receiver<Call>) {
        while let Some(first) = calls.recv().await {
            if first.reply.is_closed() {
                continue;
            }
            match self.connect().await {
                Ok((stream, version)) => {
                    self.rest = Duration::ZERO;
                    let end = self.converse(stream, version, first, &mut calls).await;
                    self.stats().dropped_connections.fetch_add(1, Ordering::Relaxed);
                    tracing::info!(peer = %self.addr, reason = %end, "connection to a peer ended");
                }
                Err(error) => {
                    tracing::debug!(peer = %self.addr, %error, "cannot connect to a peer");
                    self.stats().failed_dials.fetch_add(1, Ordering::Relaxed);
                    self.refuse_for_a_while(first, &mut calls, &error).await;
                }
            }
        }
    }

    fn options(&self) -> &PeerOptions {
        &self.shared.options
    }

    fn stats(&self) -> &PeerStats {
        &self.shared.stats
    }

    /// Fails what is queued and what comes until the rest is over.
    async fn refuse_for_a_while(
        &mut self,
        first: Call,
        calls: &mut mpsc::Receiver<Call>,
        error: &FrameError,
    ) {
        self.rest = (self.rest * 2).clamp(REST_MIN, REST_MAX);
        let over = Instant::now() + self.rest;
        let mut next = Some(first);
        while let Some(call) = next {
            let reason = error.to_string();
            let _ = call.reply.send(Err(NetError::Unreachable { addr: self.addr.to_string(), reason }));
            next = tokio::time::timeout_at(over, calls.recv()).await.unwrap_or(None);
        }
    }

    /// A connection, and the version that is spoken on it.
    async fn connect(&self) -> Result<(Stream, u16), FrameError> {
        let attempt = async {
            let tcp = TcpStream::connect(&self.dial).await?;
            tcp.set_nodelay(true)?;
            let mut stream = match &self.options().tls {
                // The certificate must name the advertised host, also when a chaos proxy is dialled.
                Some(tls) => tls.connect(&self.addr, tcp).await?,
                None => Stream::Plain(tcp),
            };
            stream.write_all(&frame::greeting(OLDEST_VERSION, VERSION)).await?;
            stream.flush().await?;
            let (low, high) = frame::read_greeting(&mut stream).await?;
            match frame::common_version(low, high) {
                Some(version) if low == high => Ok((stream, version)),
                _ => Err(FrameError::Version { low, high }),
            }
        };
        let limit = self.options().dead_after;
        timeout(limit, attempt).await.unwrap_or(Err(FrameError::Silent(limit)))
    }

    /// Sends calls and takes answers until the connection ends.
    async fn converse(
        &self,
        stream: Stream,
        version: u16,
        first: Call,
        calls: &mut mpsc::Receiver<Call>,
    ) -> FrameError {
        let (mut input, mut output) = tokio::io::split(stream);
        let waiting = Waiting::default();
        let mut outgoing = Outgoing::default();
        // Before anything is read: where the connection ends at once, it hears of that like every other call.
        outgoing.take(first, &waiting);
        let seen = LastSeen::now();
        let ping = Notify::new();

        let read = async {
            let mut reader = FrameReader::default();
            loop {
                let arrived = |bytes| {
                    seen.touch();
                    self.stats().received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
                };
                let frame = match reader.next(&mut input, arrived).await {
                    Ok(frame) => frame,
                    Err(error) => return error,
                };
                let answer = match frame.kind {
                    Kind::Response => Ok(frame.body),
                    Kind::Refused => Err(NetError::Unreachable {
                        addr: self.addr.to_string(),
                        reason: String::from_utf8_lossy(&frame.body).into_owned(),
                    }),
                    Kind::Pong => continue,
                    Kind::Request | Kind::Ping | Kind::GiveUp => return FrameError::Kind { code: 0 },
                };
                waiting.answer(frame.id, answer);
            }
        };
        let write = async {
            let mut batch = Vec::new();
            loop {
                batch.drain(..).for_each(|call| outgoing.take(call, &waiting));
                let written = write_frames(&mut output, &outgoing.frames).await;
                outgoing.queued.clear();
                match written {
                    Ok(written) => {
                        self.stats().sent_bytes.fetch_add(written as u64, Ordering::Relaxed);
                        self.stats().sent_frames.fetch_add(outgoing.frames.len() as u64, Ordering::Relaxed);
                        self.stats().writes.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(error) => return error,
                }
                outgoing.frames.clear();
                tokio::select! {
                    biased;
                    count = calls.recv_many(&mut batch, MAX_BATCH) => if count == 0 {
                        return FrameError::Stopping;
                    },
                    () = ping.notified() => {
                        outgoing.frames.push(Frame { kind: Kind::Ping, id: 0, body: Bytes::new() });
                    }
                    () = self.given_up.notified() => {
                        let left = waiting.sweep();
                        if version >= GIVE_UP_VERSION {
                            let give_up = |id| Frame { kind: Kind::GiveUp, id, body: Bytes::new() };
                            outgoing.frames.extend(left.into_iter().map(give_up));
                        }
                    }
                }
            }
        };
        let silence =
            seen.silence(self.options().dead_after, self.options().keep_alive, || ping.notify_one());
        // What has arrived counts before the clock does: after a pause of this process both are due.
        let end = tokio::select! {
            biased;
            end = read => end,
            end = write => end,
            end = silence => end,
        };
        // What it holds of the queue's room is free by the time that callers hear of the end.
        drop(outgoing);
        waiting.fail(|| NetError::Broken { addr: self.addr.to_string(), reason: end.to_string() });
        end
    }
}

/// What is written next.
struct Outgoing {
    frames: Vec<Frame>,
    /// What the calls among them take of the queue's room.
    queued: Vec<Queued>,
    next_id: u64,
}

impl Default for Outgoing {
    fn default() -> Self {
        Self { frames: Vec::new(), queued: Vec::new(), next_id: 1 }
    }
}

impl Outgoing {
    fn take(&mut self, call: Call, waiting: &Waiting) {
        // Whoever gave up already gets no request sent on its behalf.
        if !call.reply.is_closed() {
            waiting.add(self.next_id, call.reply);
            self.frames.push(Frame { kind: Kind::Request, id: self.next_id, body: call.body });
            self.queued.push(call.queued);
            self.next_id += 1;
        }
    }
}

/// Calls that were sent and have no answer yet.
#[derive(Default)]
struct Waiting(Mutex<HashMap<u64, Reply>>);

impl Waiting {
    fn with<T>(&self, change: impl FnOnce(&mut HashMap<u64, Reply>) -> T) -> T {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, id: u64, reply: Reply) {
        self.with(|map| map.insert(id, reply));
    }

    fn answer(&self, id: u64, answer: Result<Bytes, NetError>) {
        if let Some(reply) = self.with(|map| map.remove(&id)) {
            let _ = reply.send(answer);
        }
    }

    /// Forgets calls whose caller gave up, and tells which.
    fn sweep(&self) -> Vec<u64> {
        self.with(|map| map.extract_if(|_, reply| reply.is_closed()).map(|(id, _)| id).collect())
    }

    fn fail(&self, error: impl Fn() -> NetError) {
        for (_, reply) in self.with(std::mem::take) {
            let _ = reply.send(Err(error()));
        }
    }
}
