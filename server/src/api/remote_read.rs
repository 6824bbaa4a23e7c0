//! `POST /api/v1/read`: Prometheus remote read, as samples or as a stream of XOR chunks.
//!
//! The client's list of response types decides, best first. Chunks are for floats: where a native histogram is among
//! the series, a client that takes samples too gets samples, and one that does not is told so.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prost::Message;
use protocol::error::ErrorKind;
use protocol::labels::Labels;
use protocol::remote_read::{
    ChunkedReadResponse, ChunkedSeries, HistogramMessage, ReadRequest, ReadResponse, ReadResult,
    ResponseType, Sample, TimeSeries, chunked_series, compress, frame, label_messages,
};
use protocol::remote_write::{Limits, decompress};
use query::engine::ListRequest;
use query::result::MatrixSeries;
use query::source::TimeRange;
use query::{CancelFlag, QueryError};

use super::active::Asked;
use super::read::Freshness;
use super::{App, body};
use crate::auth::AuthContext;
use crate::error::ApiError;

/// Bytes after which a frame of the stream ends, as in Prometheus.
const FRAME_BYTES: usize = 1 << 20;

/// The body of an answer, encoded.
enum Encoded {
    Samples(Vec<u8>),
    Frames(Vec<Bytes>),
}

/// `/api/v1/read`
pub async fn read(
    State(app): State<Arc<App>>,
    auth: AuthContext,
    freshness: Freshness,
    headers: axum::http::HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let encoding = headers.get(header::CONTENT_ENCODING);
    if encoding.is_some_and(|encoding| encoding.as_bytes() != b"snappy") {
        return Err(ApiError::bad_data("content encoding is not supported; send snappy (block format)")
            .with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE));
    }
    let http = &app.config.http;
    let limits = Limits { max_body_bytes: http.max_form_body.as_usize(), ..Limits::default() };
    let compressed = body::collect(body, limits.max_body_bytes, http.body_timeout.0).await?;
    let raw = decompress(&compressed, &limits).map_err(|error| ApiError::bad_data(error.to_string()))?;
    let request = ReadRequest::decode(raw.as_slice())
        .map_err(|error| ApiError::bad_data(format!("the body is no read request: {error}")))?;
    let mut lists = Vec::new();
    for query in &request.queries {
        let matchers = query.compiled().map_err(|error| ApiError::bad_data(error.to_string()))?;
        lists.push(ListRequest {
            selectors: vec![matchers],
            range: TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms),
            consistency: freshness.0.clone(),
            timeout: app.config.query.timeout.0,
            ..ListRequest::all(auth.tenant.clone())
        });
    }
    let accepted = request.accepted_response_types;
    let text =
        lists.iter().map(|list| super::prometheus::selectors_text(&list.selectors)).collect::<Vec<_>>();
    let asked = Asked::list(&auth.tenant, "remote read", text.join(", "));
    let encoded = app
        .backend()?
        .queries
        .run(asked, CancelFlag::default(), move |engine, notes| async move {
            let mut results = Vec::with_capacity(lists.len());
            for list in &lists {
                let series = engine.samples(list, false).await?;
                notes.count(series.iter().map(|s| (s.floats.len() + s.histograms.len()) as u64).sum());
                results.push(series);
            }
            encode(&results, &accepted)
        })
        .await?;
    Ok(match encoded {
        Encoded::Samples(body) => (
            [
                (header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
                (header::CONTENT_ENCODING, HeaderValue::from_static("snappy")),
            ],
            body,
        )
            .into_response(),
        Encoded::Frames(frames) => {
            let kind = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";
            let frames = frames.into_iter().map(Ok::<_, std::convert::Infallible>);
            let body = Body::from_stream(futures_util::stream::iter(frames));
            ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], body).into_response()
        }
    })
}

fn encode(results: &[Vec<MatrixSeries>], accepted: &[i32]) -> Result<Encoded, QueryError> {
    let takes = |kind: ResponseType| accepted.contains(&(kind as i32));
    let known = accepted.iter().find_map(|kind| ResponseType::try_from(*kind).ok());
    let kind = match (known, accepted.is_empty()) {
        (Some(kind), _) => kind,
        (None, true) => ResponseType::Samples,
        (None, false) => {
            let message = format!("none of the accepted response types {accepted:?} is known");
            return Err(QueryError::BadParameter(message));
        }
    };
    let has_histograms = results.iter().flatten().any(|series| !series.histograms.is_empty());
    match kind {
        ResponseType::StreamedXorChunks if !has_histograms => Ok(Encoded::Frames(frames(results))),
        ResponseType::StreamedXorChunks if !takes(ResponseType::Samples) => {
            let message = "native histograms are among the series; they are answered as SAMPLES only";
            Err(QueryError::BadParameter(message.to_owned()))
        }
        _ => {
            let results = results
                .iter()
                .map(|series| ReadResult { timeseries: series.iter().map(time_series).collect() });
            let raw = ReadResponse { results: results.collect() }.encode_to_vec();
            let compressed = compress(&raw).map_err(|error| {
                QueryError::Source(query::source::SourceError::new(
                    ErrorKind::LimitExceeded,
                    error.to_string(),
                ))
            })?;
            Ok(Encoded::Samples(compressed))
        }
    }
}

fn time_series(series: &MatrixSeries) -> TimeSeries {
    TimeSeries {
        labels: series.labels.as_ref().map(label_messages).unwrap_or_default(),
        samples: series.floats.iter().map(|&(timestamp, value)| Sample { value, timestamp }).collect(),
        histograms: series.histograms.iter().map(|(time, h)| HistogramMessage::new(*time, h)).collect(),
    }
}

/// Frames of about [`FRAME_BYTES`]; a long series goes on in the next.
fn frames(results: &[Vec<MatrixSeries>]) -> Vec<Bytes> {
    /// Samples of one message: chunks of them stay far below a frame.
    const PIECE: usize = 240 * protocol::xor_chunk::MAX_SAMPLES;
    let empty = Labels::empty();
    let mut out = Vec::new();
    for (query_index, series) in results.iter().enumerate() {
        let mut message = ChunkedReadResponse { query_index: query_index as i64, ..Default::default() };
        let mut bytes = 0;
        let mut send = |message: &mut ChunkedReadResponse| {
            if !message.chunked_series.is_empty() {
                out.push(Bytes::from(frame(message, crc32c::crc32c)));
                message.chunked_series.clear();
            }
        };
        for series in series {
            let labels = series.labels.as_ref().unwrap_or(&empty);
            for piece in series.floats.chunks(PIECE) {
                let piece: ChunkedSeries = chunked_series(labels, piece);
                bytes += piece.encoded_len();
                message.chunked_series.push(piece);
                if bytes >= FRAME_BYTES {
                    send(&mut message);
                    bytes = 0;
                }
            }
        }
        send(&mut message);
    }
    out
}

#[cfg(test)]
mod tests {
    use protocol::histogram::Histogram;

    use super::*;

    fn series(name: &str, len: usize, histogram: bool) -> MatrixSeries {
        MatrixSeries {
            labels: Some(Labels::from_pairs([("__name__", name)]).unwrap()),
            floats: (0..len as i64).map(|i| (i * 1000, i as f64 * 1.1)).collect(),
            histograms: if histogram { vec![(5, Arc::new(Histogram::default()))] } else { Vec::new() },
        }
    }

    #[test]
    fn the_first_known_type_is_taken() {
        let floats = [vec![series("a", 3, false)]];
        let mixed = [vec![series("a", 3, true)]];
        let is_stream = |results: &[Vec<MatrixSeries>], accepted: &[i32]| {
            encode(results, accepted).map(|encoded| matches!(encoded, Encoded::Frames(_)))
        };
        assert!(!is_stream(&floats, &[]).unwrap());
        assert!(!is_stream(&floats, &[0, 1]).unwrap());
        assert!(is_stream(&floats, &[1]).unwrap());
        assert!(is_stream(&floats, &[7, 1, 0]).unwrap());
        assert!(is_stream(&floats, &[7]).is_err());
        assert!(!is_stream(&mixed, &[1, 0]).unwrap());
        assert!(is_stream(&mixed, &[1]).unwrap_err().to_string().contains("SAMPLES"));
    }

    #[test]
    fn frames_are_bounded_and_complete() {
        let results =
            [vec![series("a", 200_000, false), series("b", 10, false)], vec![series("c", 1, false)]];
        let frames = frames(&results);
        assert!(frames.len() > 2, "{}", frames.len());
        let mut samples = std::collections::BTreeMap::new();
        for frame in &frames {
            assert!(frame.len() < FRAME_BYTES * 2, "{}", frame.len());
            let mut rest = &frame[..];
            let len = protocol::varint::read_u64(&mut rest).unwrap() as usize;
            assert_eq!(rest[..4], crc32c::crc32c(&rest[4..]).to_be_bytes());
            assert_eq!(rest.len(), len + 4);
            let message = ChunkedReadResponse::decode(&rest[4..]).unwrap();
            for series in message.chunked_series {
                let count: usize = series
                    .chunks
                    .iter()
                    .map(|c| usize::from(u16::from_be_bytes([c.data[0], c.data[1]])))
                    .sum();
                *samples.entry((message.query_index, series.labels[0].value.clone())).or_insert(0) += count;
            }
        }
        let expected = [((0, "a".to_owned()), 200_000), ((0, "b".to_owned()), 10), ((1, "c".to_owned()), 1)];
        assert_eq!(samples.into_iter().collect::<Vec<_>>(), expected);
    }
}
