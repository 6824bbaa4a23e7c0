//! `POST /api/v1/read`: Prometheus remote read, as samples or as a stream of XOR chunks.
//!
//! The client's list of response types decides, best first. Native histograms travel as chunks of histograms with float
//! counts, which every reader of histogram chunks takes. Bodies are taken apart on the threads of queries.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use prost::Message;
use protocol::error::ErrorKind;
use protocol::matcher::Matcher;
use protocol::remote_read::{
    ChunkedReadResponse, ChunkedSeries, HistogramMessage, ReadRequest, ReadResponse, ReadResult,
    ResponseType, Sample, TimeSeries, compress, frame, label_messages, next_chunk,
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
    let queries = &app.backend()?.queries;
    let request = queries.on_own_thread(move || parse(&compressed, &limits)).await??;
    let list = |(matchers, range): (Vec<Matcher>, TimeRange)| ListRequest {
        selectors: vec![matchers],
        range,
        consistency: freshness.0.clone(),
        timeout: app.config.query.timeout.0,
        ..ListRequest::all(auth.tenant.clone())
    };
    let Parsed { lists, text, accepted } = request;
    let lists: Vec<ListRequest> = lists.into_iter().map(list).collect();
    let asked = Asked::list(&auth.tenant, "remote read", text);
    let encoded = queries
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

/// A request, taken apart.
struct Parsed {
    lists: Vec<(Vec<Matcher>, TimeRange)>,
    /// The selectors, for the list of running queries.
    text: String,
    accepted: Vec<i32>,
}

fn parse(compressed: &[u8], limits: &Limits) -> Result<Parsed, ApiError> {
    let raw = decompress(compressed, limits).map_err(|error| ApiError::bad_data(error.to_string()))?;
    let request = ReadRequest::decode(raw.as_slice())
        .map_err(|error| ApiError::bad_data(format!("the body is no read request: {error}")))?;
    let mut lists = Vec::new();
    for query in &request.queries {
        let matchers = query.compiled().map_err(|error| ApiError::bad_data(error.to_string()))?;
        lists.push((matchers, TimeRange::new(query.start_timestamp_ms, query.end_timestamp_ms)));
    }
    let texts: Vec<String> = lists
        .iter()
        .map(|(matchers, _)| super::prometheus::selectors_text(std::slice::from_ref(matchers)))
        .collect();
    Ok(Parsed { lists, text: texts.join(", "), accepted: request.accepted_response_types })
}

fn encode(results: &[Vec<MatrixSeries>], accepted: &[i32]) -> Result<Encoded, QueryError> {
    let known = accepted.iter().find_map(|kind| ResponseType::try_from(*kind).ok());
    let kind = match (known, accepted.is_empty()) {
        (Some(kind), _) => kind,
        (None, true) => ResponseType::Samples,
        (None, false) => {
            let message = format!("none of the accepted response types {accepted:?} is known");
            return Err(QueryError::BadParameter(message));
        }
    };
    if kind == ResponseType::StreamedXorChunks {
        return Ok(Encoded::Frames(frames(results)));
    }
    let results =
        results.iter().map(|series| ReadResult { timeseries: series.iter().map(time_series).collect() });
    let raw = ReadResponse { results: results.collect() }.encode_to_vec();
    let compressed = compress(&raw).map_err(|error| {
        QueryError::Source(query::source::SourceError::new(ErrorKind::LimitExceeded, error.to_string()))
    })?;
    Ok(Encoded::Samples(compressed))
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
            let labels = series.labels.as_ref().map(label_messages).unwrap_or_default();
            let part = || ChunkedSeries { labels: labels.clone(), chunks: Vec::new() };
            let (mut floats, mut histograms) = (&series.floats[..], &series.histograms[..]);
            let mut open = part();
            while let Some(chunk) = next_chunk(&mut floats, &mut histograms) {
                bytes += chunk.encoded_len();
                open.chunks.push(chunk);
                if bytes >= FRAME_BYTES {
                    message.chunked_series.push(std::mem::replace(&mut open, part()));
                    send(&mut message);
                    bytes = 0;
                }
            }
            if !open.chunks.is_empty() {
                bytes += open.labels.iter().map(Message::encoded_len).sum::<usize>();
                message.chunked_series.push(open);
            }
        }
        send(&mut message);
    }
    out
}

#[cfg(test)]
mod tests {
    use protocol::histogram::Histogram;
    use protocol::labels::Labels;
    use protocol::remote_read::{FLOAT_HISTOGRAM, XOR};

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
        assert!(is_stream(&mixed, &[1, 0]).unwrap());
        assert!(!is_stream(&mixed, &[0, 1]).unwrap());
    }

    #[test]
    fn floats_and_histograms_take_turns() {
        let mut mixed = series("a", 10, false);
        let histogram = Arc::new(Histogram { count: 1.0, ..Histogram::default() });
        mixed.histograms = [2500, 2700, 8999, 20_000].map(|time| (time, Arc::clone(&histogram))).to_vec();
        let frames = frames(&[vec![mixed]]);
        let mut rest = &frames[0][..];
        protocol::varint::read_u64(&mut rest).unwrap();
        let message = ChunkedReadResponse::decode(&rest[4..]).unwrap();
        let chunks: Vec<(i32, i64, i64)> = message.chunked_series[0]
            .chunks
            .iter()
            .map(|chunk| (chunk.r#type, chunk.min_time_ms, chunk.max_time_ms))
            .collect();
        let expected = [
            (XOR, 0, 2000),
            (FLOAT_HISTOGRAM, 2500, 2700),
            (XOR, 3000, 8000),
            (FLOAT_HISTOGRAM, 8999, 8999),
            (XOR, 9000, 9000),
            (FLOAT_HISTOGRAM, 20_000, 20_000),
        ];
        assert_eq!(chunks, expected);
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
