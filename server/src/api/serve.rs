//! The listener for clients: bounded connections, limits on the time for a head and for taking an answer, a clean end.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::progress::WithProgress;

/// What a connection may buffer: bounds the head of a request, and the pieces in which a body is read.
const MAX_BUFFER_BYTES: usize = 256 << 10;

/// Limits of the listener.
#[derive(Clone, Copy, Debug)]
pub struct ServeOptions {
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
            let mut http = http1::Builder::new();
            http.timer(TokioTimer::new())
                .header_read_timeout(options.header_timeout)
                .max_buf_size(MAX_BUFFER_BYTES);
            let connection = http.serve_connection(TokioIo::new(stream), service);
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a client's connection ended early");
            }
            drop(slot);
        });
    }
}
