//! What is left of a request's body when the answer is there already.
//!
//! Many errors are found in a request's head: an unknown path, a content type, a node that is full. The body then comes
//! after the answer, and on a connection that is kept it would stand where the next request is expected, so hyper closes
//! the connection without having said so, and the client's next request dies with it. This layer stands around all
//! others: it reads a short rest of the body before it lets the answer out, and says `Connection: close` where that is
//! not worth the wait.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::{HeaderValue, header};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};
use tokio::time::timeout;

/// The longest rest that is read. More costs a client less as a new connection.
const MAX_REST_BYTES: usize = 64 << 10;

/// How long the rest may take.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// What became of a body.
enum Fate {
    /// The handler has it.
    InWork,
    /// It was read to its end.
    Read,
    /// The handler let go of it before its end.
    Left(Body),
    /// It broke off.
    Broken,
}

type Slot = Arc<Mutex<Fate>>;

fn lock(slot: &Slot) -> MutexGuard<'_, Fate> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A body that tells what became of it.
struct Tracked {
    body: Option<Body>,
    slot: Slot,
}

impl Tracked {
    fn end(&mut self, fate: Fate) {
        self.body = None;
        *lock(&self.slot) = fate;
    }
}

impl HttpBody for Tracked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        match &frame {
            Some(Ok(_)) => {}
            Some(Err(_)) => self.end(Fate::Broken),
            None => self.end(Fate::Read),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Tracked {
    fn drop(&mut self) {
        if let Some(body) = self.body.take() {
            *lock(&self.slot) = if body.is_end_stream() { Fate::Read } else { Fate::Left(body) };
        }
    }
}

/// The layer.
pub async fn layer(request: Request, next: Next) -> Response {
    if request.body().is_end_stream() {
        return next.run(request).await;
    }
    // Reading would ask the client to send what it holds back so far.
    let holds_back = request.headers().contains_key(header::EXPECT);
    let slot: Slot = Arc::new(Mutex::new(Fate::InWork));
    let request = request.map(|body| Body::new(Tracked { body: Some(body), slot: Arc::clone(&slot) }));
    let mut response = next.run(request).await;
    let fate = std::mem::replace(&mut *lock(&slot), Fate::InWork);
    let is_read = match fate {
        Fate::Read => true,
        Fate::Left(body) if !holds_back => timeout(MAX_WAIT, read_rest(body)).await.unwrap_or(false),
        Fate::Left(_) | Fate::InWork | Fate::Broken => false,
    };
    if !is_read {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Reads a rest to its end; false when it is too long or breaks off.
async fn read_rest(body: Body) -> bool {
    if body.size_hint().lower() > MAX_REST_BYTES as u64 {
        return false;
    }
    let mut left = MAX_REST_BYTES;
    let mut stream = body.into_data_stream();
    while let Some(piece) = stream.next().await {
        let Some(rest) = piece.ok().and_then(|piece| left.checked_sub(piece.len())) else { return false };
        left = rest;
    }
    true
}
