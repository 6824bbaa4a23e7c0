//! The listener for clients: bounded connections, limits on the time for a head and for taking an answer, a clean end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::progress::WithProgress;

/// What a connection may buffer: bounds the head of a request, and the pieces in which a body is read.
const MAX_BUFFER_BYTES: usize = 256 << 10;

/// What is spoken on a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HttpVersion {
    /// HTTP/1.
    One,
    /// HTTP/2 from the first byte, as gRPC's clients speak it without TLS.
    Two,
}

/// Calls at once on a connection, and what it may have sent beyond what was taken.
const MAX_STREAMS: u32 = 128;
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 20;
const MAX_HEADER_BYTES: u32 = 32 << 10;

/// How often a silent client is asked whether it is there, and how long it may take to say so.
const PING_INTERVAL: Duration = Duration::from_secs(60);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// Limits of the listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
    /// What is spoken.
    pub version: HttpVersion,
    /// Time for a request's head; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
    /// Connections at once.
    pub max_connections: usize,
}

/// A running listener.
#[derive(Debug)]
pub struct HttpServer {
    /// The address that is listened on.
    pub addr: SocketAddr,
    stop: CancellationToken,
    connections: TaskTracker,
}

impl HttpServer {
    /// Binds and serves from now on.
    pub async fn start(addr: SocketAddr, router: Router, options: ServeOptions) -> std::io::Result<Self> {
        let listener = TcpListener::bind(addr).await?;
        let addr = listener.local_addr()?;
        let (stop, connections) = (CancellationToken::new(), TaskTracker::new());
        tokio::spawn(accept(listener, router, options, stop.clone(), connections.clone()));
        Ok(Self { addr, stop, connections })
    }

    /// Accepts no more, finishes the requests in work, and returns when they are done or the time is over.
    pub async fn stop(&self, limit: Duration) {
        self.stop.cancel();
        self.connections.close();
        if tokio::time::timeout(limit, self.connections.wait()).await.is_err() {
            tracing::warn!(connections = self.connections.len(), "requests were cut off by the stop");
        }
    }
}

/// Drives a connection to its end; a stop lets it finish what is in work. The versions' connections have no trait for
/// that.
macro_rules! until_stopped {
    ($connection:ident, $stop:ident) => {{
        tokio::pin!($connection);
        tokio::select! {
            ended = $connection.as_mut() => ended,
            () = $stop.cancelled() => {
                $connection.as_mut().graceful_shutdown();
                $connection.await
            }
        }
    }};
}

async fn accept(
    listener: TcpListener,
    router: Router,
    options: ServeOptions,
    stop: CancellationToken,
    connections: TaskTracker,
) {
    let slots = Arc::new(Semaphore::new(options.max_connections));
    loop {
        // Above the limit nothing is accepted: the rest waits in the kernel's queue, which is bounded too.
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a client");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // A connection without it works, only slower.
        let _ = stream.set_nodelay(true);
        let stream = WithProgress::new(stream, options.write_timeout);
        let service = TowerToHyperService::new(router.clone());
        let stop = stop.clone();
        connections.spawn(async move {
            let ended = match options.version {
                HttpVersion::One => {
                    let mut http = http1::Builder::new();
                    http.timer(TokioTimer::new())
                        .header_read_timeout(options.header_timeout)
                        .max_buf_size(MAX_BUFFER_BYTES);
                    // A connection may become a WebSocket, which then lives without it, in a place of its own.
                    let connection = http.serve_connection(TokioIo::new(stream), service).with_upgrades();
                    until_stopped!(connection, stop)
                }
                HttpVersion::Two => {
                    let mut http = http2::Builder::new(TokioExecutor::new());
                    http.timer(TokioTimer::new())
                        .max_concurrent_streams(MAX_STREAMS)
                        .initial_stream_window_size(STREAM_WINDOW_BYTES)
                        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                        .max_header_list_size(MAX_HEADER_BYTES)
                        .keep_alive_interval(PING_INTERVAL)
                        .keep_alive_timeout(PING_TIMEOUT);
                    let connection = http.serve_connection(TokioIo::new(stream), service);
                    until_stopped!(connection, stop)
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a client's connection ended early");
            }
            drop(slot);
        });
    }
}
