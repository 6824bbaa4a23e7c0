//! Bodies from outside, bounded in bytes and in time, and bodies of answers that hold on to something.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use hyper::body::{Frame, SizeHint};
use protocol::error::ErrorKind;
use tokio::time::timeout;

use crate::error::ApiError;

/// Reads a whole body of at most `limit_bytes` that arrives within `limit`.
///
/// A length that is announced and too long is refused before a byte is read; one that is not announced, once too much
/// has come. A body that trickles is cut off by the clock, whatever its pace.
pub async fn collect(body: Body, limit_bytes: usize, limit: Duration) -> Result<Bytes, ApiError> {
    collect_with(body, limit_bytes, limit, |_| Ok(())).await
}

/// As [`collect`], asking `admit` for every length that has come before it is held. What is only announced costs nothing,
/// so a client that promises much and sends nothing takes nothing from others.
pub async fn collect_with(
    body: Body,
    limit_bytes: usize,
    limit: Duration,
    mut admit: impl FnMut(usize) -> Result<(), ApiError>,
) -> Result<Bytes, ApiError> {
    let too_long = || {
        ApiError::new(ErrorKind::LimitExceeded, format!("the body is longer than {limit_bytes} bytes"))
            .with_status(StatusCode::PAYLOAD_TOO_LARGE)
    };
    let hint = body.size_hint();
    if hint.lower() > limit_bytes as u64 {
        return Err(too_long());
    }
    let read = async {
        let mut stream = body.into_data_stream();
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        let mut len = 0;
        while let Some(piece) = futures_util::StreamExt::next(&mut stream).await {
            let piece = piece.map_err(|error| ApiError::bad_data(format!("the body is cut off: {error}")))?;
            len += piece.len();
            if len > limit_bytes {
                return Err(too_long());
            }
            admit(len)?;
            // Most bodies come in one piece, which then needs no copy.
            match first.take() {
                None if rest.is_empty() => first = Some(piece),
                None => rest.extend_from_slice(&piece),
                Some(before) => {
                    rest.reserve((before.len() + piece.len()).max(hint.lower() as usize));
                    rest.extend_from_slice(&before);
                    rest.extend_from_slice(&piece);
                }
            }
        }
        Ok(first.unwrap_or_else(|| rest.freeze()))
    };
    timeout(limit, read).await.unwrap_or_else(|_| {
        Err(ApiError::bad_data(format!("the body did not arrive within {limit:?}"))
            .with_status(StatusCode::REQUEST_TIMEOUT))
    })
}

/// A body that keeps something until it has left or is given up.
pub fn with_guard<G: Send + Unpin + 'static>(body: Body, guard: G) -> Body {
    if body.is_end_stream() { body } else { Body::new(Guarded { body, _guard: guard }) }
}

struct Guarded<G> {
    body: Body,
    _guard: G,
}

impl<G: Unpin> HttpBody for Guarded<G> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn pieces(pieces: &[&'static str]) -> Body {
        let pieces: Vec<Result<Bytes, std::io::Error>> =
            pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        Body::from_stream(futures_util::stream::iter(pieces))
    }

    #[tokio::test]
    async fn pieces_are_joined_up_to_the_limit() {
        for parts in [&[][..], &["a"], &["ab", "cd"], &["a", "b", "c", "d"]] {
            assert_eq!(collect(pieces(parts), 4, LONG).await.unwrap(), parts.concat());
        }
        let error = collect(pieces(&["abc", "de"]), 4, LONG).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let error = collect(Body::from("abcde"), 4, LONG).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }

    #[tokio::test]
    async fn a_body_that_never_comes_is_given_up() {
        let body = Body::from_stream(futures_util::stream::pending::<Result<Bytes, std::io::Error>>());
        let error = collect(body, 4, Duration::from_millis(10)).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::REQUEST_TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_that_breaks_is_the_clients_fault() {
        let broken =
            futures_util::stream::iter([Ok(Bytes::from_static(b"a")), Err(std::io::Error::other("reset"))]);
        let error = collect(Body::from_stream(broken), 4, LONG).await.unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_REQUEST);
    }
}
