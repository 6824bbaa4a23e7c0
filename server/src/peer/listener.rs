//! The incoming side: accepts peers, runs their requests concurrently, answers on the same connection.
//!
//! Requests of one peer are bounded in number and in bytes (their answers included, until written). Above the bound a
//! request is refused at once; the reader never stops reading, because then pings would stay unanswered and overload
//! would look like death.
//!
//! What its caller has given up, and what a caller asked for whose connection ended, is dropped where the handler says
//! that it may be.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Shared;
use super::connection::{LastSeen, MAX_BATCH, write_frames};
use super::frame::{self, Frame, FrameError, FrameReader, Kind};
use crate::tls::Stream;

/// Requests of one peer in work at once.
const MAX_REQUESTS: usize = 2048;
/// Connections at once: peers have one each; the rest is room for those that are dying.
const MAX_CONNECTIONS: usize = 1024;

/// Accepts until the network stops.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            biased;
            () = shared.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (tcp, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, most likely: they come back, and the listener must not spin until then.
                tracing::warn!(%error, "cannot accept a peer");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            tracing::warn!(%from, "too many peer connections, one was dropped");
            continue;
        };
        let shared = Arc::clone(&shared);
        let io = shared.io.clone();
        io.spawn(async move {
            let stop = shared.stop.clone();
            let end = tokio::select! {
                biased;
                () = stop.cancelled() => FrameError::Stopping,
                end = serve(&shared, tcp) => end,
            };
            match end {
                FrameError::Closed | FrameError::Stopping => tracing::debug!(%from, "a peer left"),
                end => tracing::info!(%from, reason = %end, "connection from a peer ended"),
            }
            drop(slot);
        });
    }
}

async fn welcome(shared: &Shared, tcp: TcpStream) -> Result<Stream, FrameError> {
    tcp.set_nodelay(true)?;
    let mut stream = match &shared.options.tls {
        Some(tls) => tls.accept(tcp).await?,
        None => Stream::Plain(tcp),
    };
    let (low, high) = frame::read_greeting(&mut stream).await?;
    let common = frame::common_version(low, high);
    let answer = common.unwrap_or_default();
    stream.write_all(&frame::greeting(answer, answer)).await?;
    stream.flush().await?;
    if common.is_none() { Err(FrameError::Version { low, high }) } else { Ok(stream) }
}

/// Bytes of a request in work; given back when it ends, however that comes about.
struct Held {
    bytes: usize,
    total: Arc<AtomicUsize>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.total.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Requests in work that may be dropped, by their ids. All are when the connection ends.
#[derive(Clone, Default)]
struct Droppable(Arc<Mutex<HashMap<u64, AbortHandle>>>);

impl Droppable {
    fn lock(&self) -> MutexGuard<'_, HashMap<u64, AbortHandle>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_one(&self, id: u64) {
        if let Some(task) = self.lock().remove(&id) {
            task.abort();
        }
    }
}

/// Drops everything when the connection ends.
struct DropAll(Droppable);

impl Drop for DropAll {
    fn drop(&mut self) {
        self.0.lock().drain().for_each(|(_, task)| task.abort());
    }
}

/// An answer on its way out, and the bytes it holds in the peer's budget.
struct Outgoing {
    frame: Frame,
    held_bytes: usize,
}

async fn serve(shared: &Arc<Shared>, tcp: TcpStream) -> FrameError {
    let limit = shared.options.dead_after;
    let stream = match timeout(limit, welcome(shared, tcp)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return error,
        Err(_) => return FrameError::Silent(limit),
    };
    let (mut input, mut output) = tokio::io::split(stream);
    let seen = LastSeen::now();
    let requests = Arc::new(Semaphore::new(MAX_REQUESTS));
    let held = Arc::new(AtomicUsize::new(0));
    let all = DropAll(Droppable::default());
    // Every request in work sends one answer, so that with the pongs the queue is never full.
    let (answers, mut queue) = mpsc::channel::<Outgoing>(MAX_REQUESTS * 2);

    let read = async {
        let mut reader = FrameReader::default();
        loop {
            let arrived = |bytes| {
                seen.touch();
                shared.stats.received_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            };
            let frame = match reader.next(&mut input, arrived).await {
                Ok(frame) => frame,
                Err(error) => return error,
            };
            let answer = match frame.kind {
                Kind::Ping => Some(Frame { kind: Kind::Pong, id: frame.id, body: Bytes::new() }),
                Kind::Request => start(shared, frame, &requests, &held, &all.0, &answers),
                Kind::GiveUp => {
                    all.0.drop_one(frame.id);
                    None
                }
                _ => return FrameError::Kind { code: 0 },
            };
            if let Some(frame) = answer {
                // A refusal or pong that does not fit is lost: the caller's timeout covers it.
                let _ = answers.try_send(Outgoing { frame, held_bytes: 0 });
            }
        }
    };
    let write = async {
        let mut batch: Vec<Outgoing> = Vec::new();
        loop {
            if queue.recv_many(&mut batch, MAX_BATCH).await == 0 {
                return FrameError::Stopping;
            }
            let bytes: usize = batch.iter().map(|out| out.held_bytes).sum();
            let frames: Vec<Frame> = batch.drain(..).map(|out| out.frame).collect();
            let written = write_frames(&mut output, &frames).await;
            held.fetch_sub(bytes, Ordering::Relaxed);
            match written {
                Ok(written) => {
                    shared.stats.sent_bytes.fetch_add(written as u64, Ordering::Relaxed);
                    shared.stats.sent_frames.fetch_add(frames.len() as u64, Ordering::Relaxed);
                    shared.stats.writes.fetch_add(1, Ordering::Relaxed);
                }
                Err(error) => return error,
            }
        }
    };
    // The caller pings every `keep_alive` and drops first; this side only cleans up after it.
    let silence = seen.silence(limit * 2, limit, || ());
    // What has arrived counts before the clock does: after a pause of this process both are due.
    tokio::select! {
        biased;
        end = read => end,
        end = write => end,
        end = silence => end,
    }
}

/// Starts a request, or says why not.
fn start(
    shared: &Arc<Shared>,
    frame: Frame,
    requests: &Arc<Semaphore>,
    held: &Arc<AtomicUsize>,
    droppable: &Droppable,
    answers: &mpsc::Sender<Outgoing>,
) -> Option<Frame> {
    let refuse = |reason: &'static str| {
        shared.stats.refused.fetch_add(1, Ordering::Relaxed);
        Some(Frame { kind: Kind::Refused, id: frame.id, body: Bytes::from_static(reason.as_bytes()) })
    };
    let Some(handler) = shared.handler.get().map(Arc::clone) else {
        return refuse("the node does not serve yet");
    };
    let Ok(slot) = Arc::clone(requests).try_acquire_owned() else {
        return refuse("too many requests are in work");
    };
    let bytes = frame.body.len();
    let before = held.fetch_add(bytes, Ordering::Relaxed);
    let request = Held { bytes, total: Arc::clone(held) };
    if before > shared.options.max_in_flight_bytes {
        return refuse("too many bytes are in work");
    }
    let (id, answers, held) = (frame.id, answers.clone(), Arc::clone(held));
    let may_be_dropped = handler.may_be_dropped(&frame.body);
    // Locked over the start: the task takes its entry out at its end, which must not come before it is in.
    let mut running = droppable.lock();
    let entry = may_be_dropped.then(|| droppable.clone());
    let task = shared.io.spawn(async move {
        let body = handler.handle(frame.body).await;
        if let Some(droppable) = entry {
            droppable.lock().remove(&id);
        }
        let held_bytes = body.len();
        held.fetch_add(held_bytes, Ordering::Relaxed);
        drop(request);
        // A closed queue is a caller that left.
        let _ = answers.send(Outgoing { frame: Frame { kind: Kind::Response, id, body }, held_bytes }).await;
        drop(slot);
    });
    if may_be_dropped {
        running.insert(id, task.abort_handle());
    }
    None
}
