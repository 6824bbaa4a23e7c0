//! OTLP over gRPC: unary calls, framed here.
//!
//! ```text
//! POST /opentelemetry.proto.collector.metrics.v1.MetricsService/Export   content-type: application/grpc
//!   body      compressed? u8 | length u32 (big endian) | message        once
//!   answer    200, the same frame, and trailers grpc-status, grpc-message; a failure is the trailers alone, as headers
//! ```
//!
//! The frame is five bytes, and this way a call's body is taken piece by piece from the same budget, and its message
//! undone under the same limits, as those that come over HTTP: a message is never held before it is admitted.
//! Answers are short and go out uncompressed, which every client must take.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use protocol::otlp::response::Signal;

use super::Ingest;
use super::decompress::Coding;
use super::otlp::{Encoding, Exported};
use super::remote_write::COMMIT_TOKEN_HEADER;
use super::request::{Failure, code};

/// The method that exports metrics.
pub const EXPORT_METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";
/// The method that exports logs.
pub const EXPORT_LOGS: &str = "/opentelemetry.proto.collector.logs.v1.LogsService/Export";
/// The method that exports traces.
pub const EXPORT_TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("application/grpc");
const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const GRPC_ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
const GRPC_ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");

/// Encodings of messages that are understood.
const ACCEPTED: HeaderValue = HeaderValue::from_static("identity,gzip,deflate,zstd,snappy");

/// What stands before a message.
const FRAME_BYTES: usize = 5;

impl Ingest {
    /// Answers one call that exports.
    pub async fn grpc_export(
        &self,
        signal: Signal,
        tenant: &TenantId,
        headers: &HeaderMap,
        body: Body,
    ) -> Response {
        match self.exported(signal, tenant, headers, body).await {
            Ok(exported) => succeeded(&exported),
            Err(failure) => failed(&failure),
        }
    }

    async fn exported(
        &self,
        signal: Signal,
        tenant: &TenantId,
        headers: &HeaderMap,
        body: Body,
    ) -> Result<Exported, Failure> {
        let named = headers.get(GRPC_ENCODING).map_or("", |value| value.to_str().unwrap_or("?"));
        let Some(coding) = Coding::from_name(named) else {
            let message = format!(
                "message encoding {named:?} is not supported; send gzip, zstd, deflate, snappy or none"
            );
            return Err(Failure {
                code: code::UNIMPLEMENTED,
                ..Failure::new(ErrorKind::InvalidInput, message)
            });
        };
        let mut share = self.budget.share();
        let limit = self.settings.otlp_max_body_bytes.saturating_add(FRAME_BYTES);
        let body = self.receive(body, &mut share, limit).await?;
        let (message, is_compressed) = unframe(body)?;
        let coding = if is_compressed { coding } else { Coding::Identity };
        match signal {
            Signal::Metrics => self.export_metrics(tenant, Encoding::Protobuf, coding, message, share).await,
            Signal::Logs => {
                self.export_logs(tenant, headers, Encoding::Protobuf, coding, message, share).await
            }
            Signal::Traces => {
                self.export_traces(tenant, headers, Encoding::Protobuf, coding, message, share).await
            }
        }
    }
}

/// The message of a body that is one frame, and whether it is compressed.
fn unframe(body: Bytes) -> Result<(Bytes, bool), Failure> {
    let invalid = |message: String| Failure::new(ErrorKind::InvalidInput, message);
    let Some((&[flag, a, b, c, d], message)) = body.split_first_chunk::<FRAME_BYTES>() else {
        return Err(invalid(format!("a call's body of {} bytes is no message", body.len())));
    };
    let announced = u32::from_be_bytes([a, b, c, d]) as usize;
    if announced != message.len() {
        let found = message.len();
        return Err(invalid(format!("the call is one message of {announced} bytes, but {found} came")));
    }
    if flag > 1 {
        return Err(invalid(format!("a message's flag is 0 or 1, this is {flag}")));
    }
    Ok((body.slice(FRAME_BYTES..), flag == 1))
}

fn succeeded(exported: &Exported) -> Response {
    let message = exported.partial.to_protobuf();
    let mut frame = Vec::with_capacity(FRAME_BYTES + message.len());
    frame.push(0);
    frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
    frame.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert(GRPC_STATUS, HeaderValue::from_static("0"));
    let frames = VecDeque::from([Frame::data(Bytes::from(frame)), Frame::trailers(trailers)]);
    let mut response = Response::new(Body::new(Frames(frames)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
    if let Some(token) = &exported.token {
        headers.insert(HeaderName::from_static(COMMIT_TOKEN_HEADER), token.clone());
    }
    response
}

/// A failure before there is an answer.
pub fn failed(failure: &Failure) -> Response {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, CONTENT_TYPE);
    headers.insert(GRPC_STATUS, failure.code.into());
    headers.insert(GRPC_ACCEPT_ENCODING, ACCEPTED);
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(&failure.message)) {
        headers.insert(GRPC_MESSAGE, message);
    }
    response
}

/// Answers a call of a method that does not exist.
pub fn unimplemented(method: &str) -> Response {
    let message = format!("there is no method {method}");
    failed(&Failure { code: code::UNIMPLEMENTED, ..Failure::new(ErrorKind::NotFound, message) })
}

/// A message as a header carries it.
fn percent_encoded(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// A body that is there already, trailers included.
struct Frames(VecDeque<Frame<Bytes>>);

impl HttpBody for Frames {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        let data = self.0.iter().filter_map(Frame::data_ref).map(|data| data.len() as u64).sum();
        SizeHint::with_exact(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_one_message() {
        let unframed =
            |bytes: &'static [u8]| unframe(Bytes::from_static(bytes)).map_err(|failure| failure.message);
        assert_eq!(unframed(b"\0\0\0\0\0"), Ok((Bytes::new(), false)));
        assert_eq!(unframed(b"\x01\0\0\0\x02ab"), Ok((Bytes::from_static(b"ab"), true)));
        for (body, offence) in [
            (&b""[..], "0 bytes"),
            (b"\0\0\0\0", "4 bytes"),
            (b"\0\0\0\0\x02a", "one message of 2 bytes, but 1 came"),
            (b"\0\0\0\0\0\0\0\0\0\0", "one message of 0 bytes, but 5 came"),
            (b"\x02\0\0\0\0", "flag"),
        ] {
            let message = unframed(body).unwrap_err();
            assert!(message.contains(offence), "{message}");
        }
    }

    #[test]
    fn messages_fit_a_header() {
        assert_eq!(percent_encoded("50% of\n\"ö\""), "50%25 of%0A\"%C3%B6\"");
        let failure = Failure::new(ErrorKind::Unavailable, "später".to_owned());
        let response = failed(&failure);
        assert_eq!(response.headers()[GRPC_STATUS], "14");
        assert_eq!(response.headers()[GRPC_MESSAGE], "sp%C3%A4ter");
    }
}
