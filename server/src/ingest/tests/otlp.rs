//! Exports of metrics: over HTTP in both encodings, and over gRPC as another implementation's client makes calls.

use protocol::otlp::response::Signal;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
    number_data_point,
};
use prost::Message;
use tonic::codec::CompressionEncoding;

use super::*;
use crate::api::serve::{HttpServer, HttpVersion, ServeOptions};
use crate::ingest::grpc;

const PROTOBUF: (&str, &str) = ("content-type", "application/x-protobuf");
const JSON: (&str, &str) = ("content-type", "application/json");

/// Sums of these names and temporalities, one point each.
fn request(sums: &[(&str, AggregationTemporality)]) -> ExportMetricsServiceRequest {
    let metrics = sums.iter().map(|(name, temporality)| Metric {
        name: (*name).to_owned(),
        data: Some(metric::Data::Sum(Sum {
            data_points: vec![NumberDataPoint {
                time_unix_nano: NOW as u64 * 1_000_000,
                value: Some(number_data_point::Value::AsInt(1)),
                ..NumberDataPoint::default()
            }],
            aggregation_temporality: *temporality as i32,
            is_monotonic: true,
        })),
        ..Metric::default()
    });
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            scope_metrics: vec![ScopeMetrics { metrics: metrics.collect(), ..ScopeMetrics::default() }],
            ..ResourceMetrics::default()
        }],
    }
}

fn cumulative() -> ExportMetricsServiceRequest {
    request(&[("a", AggregationTemporality::Cumulative), ("b", AggregationTemporality::Cumulative)])
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(body).unwrap();
    encoder.finish().unwrap()
}

impl Setup {
    async fn export(&self, headers: &[(&str, &str)], body: impl Into<Body>) -> (u16, HeaderMap, Bytes) {
        let headers = headers.iter().map(|(name, value)| {
            (HeaderName::try_from(*name).unwrap(), axum::http::HeaderValue::from_str(value).unwrap())
        });
        let answer =
            self.ingest.otlp(Signal::Metrics, &TenantId::default(), &headers.collect(), body.into()).await;
        let (parts, body) = answer.into_parts();
        (parts.status.as_u16(), parts.headers, to_bytes(body, 1 << 20).await.unwrap())
    }
}

#[tokio::test]
async fn protobuf_is_written_and_answered_in_kind() {
    let body = cumulative().encode_to_vec();
    let zstd = zstd::encode_all(body.as_slice(), 3).unwrap();
    for (coding, body) in [("", body.clone()), ("gzip", gzip(&body)), ("zstd", zstd)] {
        let t = setup();
        let mut headers = vec![PROTOBUF];
        if !coding.is_empty() {
            headers.push(("content-encoding", coding));
        }
        let (status, headers, answer) = t.export(&headers, body).await;
        assert_eq!((status, answer.len(), t.stored()), (200, 0, 2), "{coding}");
        assert_eq!(headers["content-type"], "application/x-protobuf");
        assert!(headers.contains_key(remote_write::COMMIT_TOKEN_HEADER));
        assert!(
            t.metrics
                .text()
                .unwrap()
                .contains(r#"pharos_ingest_rows_total{kind="samples",protocol="otlp_metrics"} 2"#)
        );
    }
    // Nothing at all is a success, too.
    let (status, _, answer) = setup().export(&[PROTOBUF], Vec::new()).await;
    assert_eq!((status, answer.len()), (200, 0));
}

#[tokio::test]
async fn json_is_written_in_pieces_without_a_length() {
    let t = setup();
    let text = format!(
        r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"name":"page.views","sum":{{"isMonotonic":true,
            "aggregationTemporality":2,"dataPoints":[{{"timeUnixNano":"{NOW}000000","asInt":"3"}}]}}}}]}}]}}]}}"#
    );
    let body = pieces(text.as_bytes().chunks(7).map(Bytes::copy_from_slice).collect());
    let (status, headers, answer) = t.export(&[JSON], Body::from_stream(body)).await;
    assert_eq!((status, &answer[..]), (200, &b"{}"[..]));
    assert_eq!(headers["content-type"], "application/json");
    let rows = t.shards.rows.lock().unwrap().clone();
    assert_eq!(
        rows.into_iter().collect::<Vec<_>>(),
        [(("default".into(), "page_views_total".into(), NOW), 3.0)]
    );
}

#[tokio::test]
async fn what_is_refused_is_a_partial_success() {
    use AggregationTemporality::{Cumulative, Delta};
    let t = setup();
    let body = request(&[("good", Cumulative), ("bad", Delta)]).encode_to_vec();
    let (status, _, answer) = t.export(&[PROTOBUF], body).await;
    let partial = ExportMetricsServiceResponse::decode(answer).unwrap().partial_success.unwrap();
    assert_eq!((status, t.stored(), partial.rejected_data_points), (200, 1, 1));
    assert!(partial.error_message.contains("\"bad\": delta"), "{}", partial.error_message);

    let old = r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"name":"m","histogram":{"aggregationTemporality":2,
        "dataPoints":[{"timeUnixNano":"1000000","count":1,"bucketCounts":[1,0],"explicitBounds":[1]}]}}]}]}]}"#;
    let (status, _, answer) = t.export(&[JSON], old).await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    // One point was refused, whatever the number of its series.
    assert_eq!((status, &answer["partialSuccess"]["rejectedDataPoints"]), (200, &"1".into()));
}

#[tokio::test]
async fn failures_are_a_status_in_the_encoding_of_the_request() {
    let t = setup();
    let (status, headers, answer) = t.export(&[PROTOBUF], &b"\xff"[..]).await;
    assert_eq!((status, &headers["content-type"]), (400, &"application/x-protobuf".parse().unwrap()));
    assert_eq!(answer[..2], [8, 3]);
    let (status, _, answer) = t.export(&[JSON], "{\"resourceMetrics\":1}").await;
    let answer: serde_json::Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!((status, &answer["code"]), (400, &3.into()));
    assert!(answer["message"].as_str().unwrap().contains("resourceMetrics"), "{answer}");
    for headers in [&[][..], &[("content-type", "text/plain")], &[PROTOBUF, ("content-encoding", "br")]] {
        assert_eq!(t.export(headers, Vec::new()).await.0, 415);
    }
    let (status, _, _) = t.export(&[PROTOBUF, ("content-encoding", "gzip")], &b"no gzip"[..]).await;
    assert_eq!(status, 400);

    *t.shards.uncertain.lock().unwrap() = true;
    let (status, headers, _) = t.export(&[PROTOBUF], cumulative().encode_to_vec()).await;
    assert_eq!((status, &headers["retry-after"]), (503, &"1".parse().unwrap()));
}

#[tokio::test]
async fn bombs_and_long_bodies_cost_a_413() {
    let small = setup_with(RouterConfig::default(), |settings| settings.otlp_max_body_bytes = 1 << 20);
    let zeros = vec![0; 32 << 20];
    let bomb = zstd::encode_all(zeros.as_slice(), 3).unwrap();
    for (coding, bomb) in [("gzip", gzip(&zeros)), ("zstd", bomb)] {
        let (status, _, _) = small.export(&[PROTOBUF, ("content-encoding", coding)], bomb.clone()).await;
        assert_eq!(status, 413, "{coding}");
        // Within the limit, but denser than anything honest, and more than the node has room for.
        let (status, _, _) = setup().export(&[PROTOBUF, ("content-encoding", coding)], bomb.clone()).await;
        assert_eq!(status, 413, "{coding}");
        let full = setup_with(RouterConfig::default(), |settings| settings.max_in_flight_bytes = 1 << 20);
        let (status, _, _) = full.export(&[PROTOBUF, ("content-encoding", coding)], bomb).await;
        assert_eq!(status, 503, "{coding}");
        assert_eq!(full.ingest.budget.used_bytes(), 0);
    }
    let long = pieces(zeros.chunks(1 << 16).map(Bytes::copy_from_slice).collect());
    assert_eq!(small.export(&[PROTOBUF], Body::from_stream(long)).await.0, 413);
}

/// The gRPC listener before an ingest.
async fn serve(ingest: Arc<Ingest>) -> HttpServer {
    let export = move |headers: HeaderMap, body: Body| {
        let ingest = Arc::clone(&ingest);
        async move { ingest.grpc_export(Signal::Metrics, &TenantId::default(), &headers, body).await }
    };
    let router = axum::Router::new()
        .route(grpc::EXPORT_METRICS, axum::routing::post(export))
        .fallback(|uri: axum::http::Uri| async move { grpc::unimplemented(uri.path()) });
    let options = ServeOptions {
        version: HttpVersion::Two,
        header_timeout: Duration::from_secs(30),
        write_timeout: Duration::from_secs(30),
        max_connections: 8,
    };
    HttpServer::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), router, options).await.unwrap()
}

#[tokio::test]
async fn a_grpc_client_is_answered() {
    for coding in [None, Some(CompressionEncoding::Gzip), Some(CompressionEncoding::Zstd)] {
        let t = setup();
        let server = serve(Arc::clone(&t.ingest)).await;
        let mut client = MetricsServiceClient::connect(format!("http://{}", server.addr)).await.unwrap();
        if let Some(coding) = coding {
            client = client.send_compressed(coding);
        }
        let answer = client.export(cumulative()).await.unwrap();
        assert!(answer.metadata().contains_key(remote_write::COMMIT_TOKEN_HEADER));
        assert_eq!(answer.into_inner().partial_success, None);
        assert_eq!(t.stored(), 2);
        let delta = request(&[("d", AggregationTemporality::Delta)]);
        let partial = client.export(delta).await.unwrap().into_inner().partial_success.unwrap();
        assert_eq!(partial.rejected_data_points, 1);
        drop(client);
        server.stop(Duration::from_secs(30)).await;
    }
}

#[tokio::test]
async fn failures_over_grpc_have_codes() {
    let t = setup_with(
        RouterConfig { deadline: Duration::from_millis(50), ..RouterConfig::default() },
        |settings| settings.otlp_max_body_bytes = 1 << 10,
    );
    let server = serve(Arc::clone(&t.ingest)).await;
    let mut client = MetricsServiceClient::connect(format!("http://{}", server.addr)).await.unwrap();
    let names: Vec<String> = (0..100).map(|i| format!("metric_number_{i}")).collect();
    let sums: Vec<_> = names.iter().map(|name| (name.as_str(), AggregationTemporality::Cumulative)).collect();
    let error = client.clone().export(request(&sums)).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::ResourceExhausted, "{error}");
    let error = client.clone().send_compressed(CompressionEncoding::Zstd).export(request(&sums)).await;
    assert_eq!(error.unwrap_err().code(), tonic::Code::ResourceExhausted);
    *t.shards.uncertain.lock().unwrap() = true;
    let error = client.export(cumulative()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
    assert!(error.message().contains("not confirmed"), "{error}");

    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
    let mut traces = TraceServiceClient::connect(format!("http://{}", server.addr)).await.unwrap();
    let error = traces.export(ExportTraceServiceRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unimplemented);
    drop(traces);
    server.stop(Duration::from_secs(30)).await;
}
