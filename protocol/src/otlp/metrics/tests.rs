//! Requests in JSON, for people to read, and what becomes of them; then protobuf as clients and fuzzers write it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::{any, prop_assert_eq, proptest};
use prost::Message as _;

use super::*;
use crate::histogram::decode as decode_blob;
use crate::ids::ClusterSecret;
use crate::labels::Labels;
use crate::otlp::json::{self, Request};
use crate::sample::is_stale_nan;
use crate::write_batch::LabelLimits;

fn key() -> FingerprintKey {
    FingerprintKey::new(&ClusterSecret([4; 32]))
}

fn decode_with(translation: Translation, body: Vec<u8>) -> Result<Decoded, DecodeError> {
    decode(body, &key(), &Arc::new(translation), &Limits::default())
}

fn decode_json(translation: Translation, text: &str) -> Decoded {
    let body = json::to_protobuf(Request::Metrics, text.as_bytes()).expect("valid JSON");
    decode_with(translation, body).expect("a valid message")
}

/// A request of one resource and one scope around metrics.
fn request(resource: &str, metrics: &str) -> String {
    format!(
        r#"{{"resourceMetrics":[{{"resource":{{"attributes":[{resource}]}},
            "scopeMetrics":[{{"scope":{{"name":"lib","version":"1","attributes":[{{"key":"a.b","value":{{"intValue":"7"}}}}]}},
            "metrics":[{metrics}],"schemaUrl":"https://s"}}]}}]}}"#
    )
}

fn attribute(key: &str, value: &str) -> String {
    format!(r#"{{"key":"{key}","value":{{"stringValue":"{value}"}}}}"#)
}

/// What a batch says, a line for each row.
fn lines(decoded: &Decoded) -> Vec<String> {
    let batch = &decoded.batch;
    let mut lines = Vec::new();
    for index in 0..batch.series_len() {
        let series = batch.series(index);
        let labels = match series.labels() {
            Ok(labels) => labels.to_string(),
            Err(error) => format!("({error})"),
        };
        let starts = series.starts().iter().copied().chain(std::iter::repeat(0));
        for (sample, start) in series.samples().iter().zip(starts) {
            let value =
                if is_stale_nan(sample.value) { "stale".to_owned() } else { sample.value.to_string() };
            let start = if start == 0 { String::new() } else { format!(" from {start}") };
            lines.push(format!("{labels} {value} @{}{start}", sample.timestamp_ms));
        }
        for histogram in series.histograms() {
            let h = decode_blob(histogram.blob).expect("own blob");
            h.validate().expect("only valid ones are kept");
            let spans = |spans: &[crate::histogram::Span]| {
                spans.iter().map(|s| format!("{}+{}", s.offset, s.length)).collect::<Vec<_>>().join(",")
            };
            let sum = if is_stale_nan(h.sum) { "stale".to_owned() } else { h.sum.to_string() };
            lines.push(format!(
                "{labels} schema {} count {} sum {sum} zero {}<={:e} pos [{}] {:?} neg [{}] {:?} custom {:?} {:?} @{} from {}",
                h.schema,
                h.count,
                h.zero_count,
                h.zero_threshold,
                spans(&h.positive_spans),
                h.positive_buckets,
                spans(&h.negative_spans),
                h.negative_buckets,
                h.custom_values,
                h.counter_reset_hint,
                histogram.timestamp_ms,
                histogram.start_ms,
            ));
        }
        for exemplar in series.exemplars() {
            let labels = Labels::from_canonical(exemplar.label_bytes).expect("canonical");
            lines.push(format!("  exemplar {labels} {} @{}", exemplar.value, exemplar.timestamp_ms));
        }
    }
    lines
}

#[track_caller]
fn check(decoded: &Decoded, expected: &[&str]) {
    let found = lines(decoded);
    assert_eq!(found, expected, "rejected: {}", decoded.batch.rejections());
}

const SERVICE: &str = r#"{"key":"service.name","value":{"stringValue":"shop"}},
    {"key":"service.namespace","value":{"stringValue":"eu"}},
    {"key":"service.instance.id","value":{"stringValue":"i-1"}}"#;

#[test]
fn a_gauge_and_its_resource() {
    let resource = format!("{SERVICE},{}", attribute("host.name", "h1"));
    let metric = r#"{"name":"cpu.load","unit":"1","gauge":{"dataPoints":[
        {"timeUnixNano":"1700000000123456789","startTimeUnixNano":"1","asDouble":0.5,
         "attributes":[{"key":"cpu.id","value":{"intValue":3}}]}]}}"#;
    let decoded = decode_json(Translation::default(), &request(&resource, metric));
    check(
        &decoded,
        &[
            r#"cpu_load_ratio{cpu_id="3", instance="i-1", job="eu/shop"} 0.5 @1700000000123"#,
            r#"target_info{host_name="h1", instance="i-1", job="eu/shop"} 1 @1700000000123"#,
        ],
    );
    assert_eq!((decoded.points, decoded.batch.rejections().is_empty()), (1, true));
    let metadata: Vec<_> =
        decoded.batch.metadata().map(|(_, m)| (m.family, m.metric_type, m.help, m.unit)).collect();
    assert_eq!(
        metadata,
        [
            ("cpu_load_ratio", MetricType::Gauge, "", ""),
            ("target_info", MetricType::Gauge, "Target metadata", "")
        ]
    );
}

#[test]
fn a_sum_with_exemplars_and_start() {
    let point = |more: &str| {
        format!(
            r#"{{"startTimeUnixNano":"1000000000","timeUnixNano":"5000000000","asInt":"12","exemplars":[
              {{"timeUnixNano":"4000000000","asInt":"3","traceId":"0102030405060708090A0b0c0d0e0f10",
                "spanId":"0102030405060708","filteredAttributes":[{{"key":"user.id","value":{{"stringValue":"u"}}}}]}},
              {{"asDouble":1.5,"traceId":"00000000000000000000000000000000","filteredAttributes":[
                {{"key":"long","value":{{"stringValue":"{}"}}}}]}},
              {{"timeUnixNano":"4000000000"}}]{more}}}"#,
            "x".repeat(130)
        )
    };
    let sum = |is_monotonic, more: &str| {
        format!(
            r#"{{"name":"hits","description":"How often","unit":"{{hit}}/s","sum":{{"isMonotonic":{is_monotonic},
                "aggregationTemporality":2,"dataPoints":[{}]}}}}"#,
            point(more)
        )
    };
    let decoded = decode_json(Translation::default(), &request("", &sum(true, "")));
    check(
        &decoded,
        &[
            r#"hits_per_second_total 12 @5000 from 1000"#,
            r#"  exemplar {span_id="0102030405060708", trace_id="0102030405060708090a0b0c0d0e0f10", user.id="u"} 3 @4000"#,
            "  exemplar {} 1.5 @5000",
        ],
    );
    let rejections = decoded.batch.rejections();
    assert_eq!((rejections.exemplars, rejections.samples), (1, 0));
    let (_, metadata) = decoded.batch.metadata().next().expect("one family");
    assert_eq!(
        (metadata.metric_type, metadata.help, metadata.unit),
        (MetricType::Counter, "How often", "per_second")
    );

    let decoded = decode_json(Translation::default(), &request("", &sum(false, r#","flags":1"#)));
    assert_eq!(lines(&decoded)[0], r#"hits_per_second stale @5000 from 1000"#);
}

#[test]
fn a_histogram_becomes_classic_series() {
    let metric = r#"{"name":"latency","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
        {"startTimeUnixNano":"1000000000","timeUnixNano":"5000000000","count":"7","sum":3.5,
         "bucketCounts":["1","2","0","4"],"explicitBounds":[0.5,1,2.5],
         "exemplars":[{"asDouble":9},{"asDouble":0.7},{"asDouble":0.5}],
         "attributes":[{"key":"http.route","value":{"stringValue":"/"}}]},
        {"timeUnixNano":"6000000000","count":"2"}]}}"#;
    let decoded = decode_json(Translation::default(), &request("", metric));
    check(
        &decoded,
        &[
            r#"latency_seconds_sum{http_route="/"} 3.5 @5000 from 1000"#,
            r#"latency_seconds_count{http_route="/"} 7 @5000 from 1000"#,
            r#"latency_seconds_bucket{http_route="/", le="0.5"} 1 @5000 from 1000"#,
            "  exemplar {} 0.5 @5000",
            r#"latency_seconds_bucket{http_route="/", le="1"} 3 @5000 from 1000"#,
            "  exemplar {} 0.7 @5000",
            r#"latency_seconds_bucket{http_route="/", le="2.5"} 3 @5000 from 1000"#,
            r#"latency_seconds_bucket{http_route="/", le="+Inf"} 7 @5000 from 1000"#,
            "  exemplar {} 9 @5000",
            r#"latency_seconds_count 2 @6000"#,
            r#"latency_seconds_bucket{le="+Inf"} 2 @6000"#,
        ],
    );
    let custom = Translation { custom_buckets: true, ..Translation::default() };
    let found = lines(&decode_json(custom, &request("", metric)));
    assert_eq!(
        found[0],
        "latency_seconds{http_route=\"/\"} schema -53 count 7 sum 3.5 zero 0<=0e0 pos [0+4] [1.0, 2.0, 0.0, 4.0] \
         neg [] [] custom [0.5, 1.0, 2.5] Unknown @5000 from 1000"
    );
}

#[test]
fn an_exponential_histogram_becomes_native() {
    let point = |more: &str| {
        format!(
            r#"{{"name":"size","unit":"By","exponentialHistogram":{{"aggregationTemporality":2,"dataPoints":[
                {{"startTimeUnixNano":"1000000000","timeUnixNano":"5000000000","attributes":[],{more}}}]}}}}"#
        )
    };
    let found = |more: &str| lines(&decode_json(Translation::default(), &request("", &point(more))));
    assert_eq!(
        found(
            r#""count":"10","sum":30,"scale":3,"zeroCount":"1","positive":{"offset":-1,"bucketCounts":["2",0,0,0,"3"]},
               "negative":{"offset":4,"bucketCounts":[4]}"#
        ),
        ["size_bytes schema 3 count 10 sum 30 zero 1<=1e-128 pos [0+1,3+1] [2.0, 3.0] neg [5+1] [4.0] \
             custom [] Unknown @5000 from 1000"]
    );
    // Two scales finer than there is: four neighbours make one bucket, those below zero too.
    assert_eq!(
        found(
            r#""count":"15","scale":10,"zeroThreshold":0.25,"positive":{"offset":-5,"bucketCounts":["1","2","3","4","5"]}"#
        ),
        ["size_bytes schema 8 count 15 sum 0 zero 0<=2.5e-1 pos [-1+2] [1.0, 14.0] neg [] [] custom [] \
             Unknown @5000 from 1000"]
    );
    assert_eq!(
        found(r#""flags":1,"count":"0","scale":0"#),
        ["size_bytes schema 0 count 0 sum stale zero 0<=1e-128 pos [] [] neg [] [] custom [] Unknown @5000 \
             from 1000"]
    );
    for (more, offence) in [
        (r#""count":"1","scale":-5"#, "below -4"),
        (r#""count":"2","scale":0,"positive":{"bucketCounts":["1"]}"#, "the total says 2"),
        (r#""count":"1","scale":0,"positive":{"offset":2147483647,"bucketCounts":["1"]}"#, "any index"),
    ] {
        let decoded = decode_json(Translation::default(), &request("", &point(more)));
        let rejections = decoded.batch.rejections();
        assert_eq!((rejections.histograms, decoded.batch.series_len()), (1, 0));
        assert!(rejections.to_string().contains(offence), "{rejections}");
    }
}

#[test]
fn a_summary() {
    let metric = r#"{"name":"rpc","summary":{"dataPoints":[{"timeUnixNano":"5000000000","count":"4","sum":2.5,
        "quantileValues":[{"quantile":0.5,"value":0.1},{"quantile":1,"value":2}]}]}}"#;
    check(
        &decode_json(Translation::default(), &request("", metric)),
        &[
            r#"rpc_sum 2.5 @5000"#,
            r#"rpc_count 4 @5000"#,
            r#"rpc{quantile="0.5"} 0.1 @5000"#,
            r#"rpc{quantile="1"} 2 @5000"#,
        ],
    );
}

#[test]
fn deltas_are_refused_by_name_or_stored_as_they_are() {
    let delta = r#"{"name":"d","sum":{"isMonotonic":true,"aggregationTemporality":1,"dataPoints":[
            {"timeUnixNano":"5000000000","asInt":1},{"timeUnixNano":"6000000000","asInt":2}]}},
        {"name":"u","sum":{"isMonotonic":true,"dataPoints":[{"timeUnixNano":"5000000000","asInt":1}]}},
        {"name":"g","gauge":{"dataPoints":[{"timeUnixNano":"5000000000","asInt":1}]}}"#;
    let decoded = decode_json(Translation::default(), &request("", delta));
    check(&decoded, &[r#"g 1 @5000"#]);
    let rejections = decoded.batch.rejections();
    assert_eq!((rejections.samples, decoded.points), (3, 4));
    let text = rejections.to_string();
    assert!(text.contains("\"d\": delta temporality") && text.contains("\"u\": the temporality"), "{text}");

    let store = Translation { store_deltas: true, ..Translation::default() };
    let decoded = decode_json(store, &request("", delta));
    check(&decoded, &[r#"d_total 1 @5000"#, r#"d_total 2 @6000"#, r#"g 1 @5000"#]);
    assert_eq!(decoded.batch.metadata().next().map(|(_, m)| m.metric_type), Some(MetricType::Unknown));
}

#[test]
fn labels_of_points_resources_and_scopes() {
    let resource = format!(
        "{SERVICE},{},{},{}",
        attribute("k8s.pod.name", "p"),
        attribute("cloud.region", "r"),
        attribute("le_mot", "x")
    );
    let metric = format!(
        r#"{{"name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":"5000000000","asInt":1,"attributes":[{},{},{},{},{},
            {{"key":"list","value":{{"arrayValue":{{"values":[{{"intValue":1}},{{"boolValue":true}}]}}}}}}]}}]}}}}"#,
        attribute("http.path", "b"),
        attribute("http_path", "c"),
        attribute("http-path", "a"),
        attribute("cloud.region", "own"),
        attribute("__name__", "ignored"),
    );
    let promoted = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let translation = Translation {
        promoted: Promoted::These(promoted(&["k8s.pod.name", "cloud.region"])),
        promote_scope: true,
        keep_identifying_attributes: true,
        ..Translation::default()
    };
    let own = "http_path=\"a;b;c\", instance=\"i-1\", job=\"eu/shop\"";
    check(
        &decode_json(translation, &request(&resource, &metric)),
        &[
            &format!(
                "m{{cloud_region=\"own\", {own}, k8s_pod_name=\"p\", list=\"[1,true]\", otel_scope_a_b=\"7\", \
                 otel_scope_name=\"lib\", otel_scope_schema_url=\"https://s\", otel_scope_version=\"1\"}} 1 @5000"
            ),
            "target_info{cloud_region=\"r\", instance=\"i-1\", job=\"eu/shop\", k8s_pod_name=\"p\", \
             le_mot=\"x\", service_instance_id=\"i-1\", service_name=\"shop\", service_namespace=\"eu\"} 1 @5000",
        ],
    );
    let all = Translation {
        promoted: Promoted::AllBut(promoted(&["k8s.pod.name"])),
        strategy: Strategy::NoTranslation,
        ..Translation::default()
    };
    let found = lines(&decode_json(all, &request(&resource, &metric)));
    assert_eq!(
        found[0],
        "m{cloud.region=\"own\", http-path=\"a\", http.path=\"b\", http_path=\"c\", instance=\"i-1\", \
         job=\"eu/shop\", le_mot=\"x\", list=\"[1,true]\", service.instance.id=\"i-1\", service.name=\"shop\", \
         service.namespace=\"eu\"} 1 @5000"
    );
}

#[test]
fn target_info_spans_the_points_of_a_resource() {
    let resource = format!("{},{}", attribute("service.name", "s"), attribute("os", "linux"));
    let at = |seconds: &[u64]| {
        let points = seconds.iter().map(|s| format!(r#"{{"timeUnixNano":"{s}000000000","asInt":1}}"#));
        let points = points.collect::<Vec<_>>().join(",");
        let metric = format!(r#"{{"name":"m","gauge":{{"dataPoints":[{points}]}}}}"#);
        let decoded = decode_json(Translation::default(), &request(&resource, &metric));
        let last = decoded.batch.series(decoded.batch.series_len() - 1);
        last.samples().iter().map(|sample| sample.timestamp_ms).collect::<Vec<_>>()
    };
    assert_eq!(at(&[1000]), [1_000_000]);
    assert_eq!(at(&[1000, 1010]), [1_000_000, 1_010_000]);
    assert_eq!(at(&[1400, 1000, 1200]), [1_000_000, 1_150_000, 1_300_000, 1_400_000]);
    assert_eq!(at(&[1, 1_700_000_000]), [1000, 1_700_000_000_000]);
    // Nothing to say, or nobody to say it of.
    for resource in [SERVICE.to_owned(), attribute("os", "linux")] {
        let metric = r#"{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":"1","asInt":1}]}}"#;
        assert_eq!(decode_json(Translation::default(), &request(&resource, metric)).batch.series_len(), 1);
    }
}

#[test]
fn points_without_sense_are_left_out_and_named() {
    let many: Vec<String> = (0..300).map(|i| attribute(&format!("a{i}"), "x")).collect();
    for (metric, offence) in [
        (r#"{"name":"m","gauge":{"dataPoints":[{"asInt":1}]}}"#.to_owned(), "no time"),
        (r#"{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":1}]}}"#.to_owned(), "no value"),
        (
            r#"{"name":"@","gauge":{"dataPoints":[{"timeUnixNano":1,"asInt":1}]}}"#.to_owned(),
            "nothing remains of the name",
        ),
        (
            r#"{"name":"m","histogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":1,"count":1,
                "bucketCounts":[1],"explicitBounds":[1,2]}]}}"#
                .to_owned(),
            "1 buckets for 2 bounds",
        ),
    ] {
        let decoded = decode_json(Translation::default(), &request("", &metric));
        let rejections = decoded.batch.rejections();
        assert_eq!((rejections.samples, decoded.batch.series_len(), decoded.points), (1, 0, 1), "{metric}");
        assert!(rejections.to_string().contains(offence), "{rejections}");
    }
    // These are found when the labels are made.
    for (attributes, offence) in
        [(attribute("??", "x"), "nothing remains of attribute \"??\""), (many.join(","), "300 labels")]
    {
        let metric = format!(
            r#"{{"name":"m","gauge":{{"dataPoints":[{{"timeUnixNano":1,"asInt":1,"attributes":[{attributes}]}}]}}}}"#
        );
        let decoded = decode_json(Translation::default(), &request("", &metric));
        let series = decoded.batch.series(0);
        let error = series.labels().expect_err("no labels").to_string();
        assert!(error.contains(offence), "{error}");
        assert!(series.describe().starts_with("series {__name__=\"m\""), "{}", series.describe());
    }
    let metric = r#"{"name":"m","gauge":{"dataPoints":[{"timeUnixNano":1,"asInt":1}]}}"#;
    let decoded =
        decode_json(Translation::default(), &request(&format!("{SERVICE},{}", many.join(",")), metric));
    assert!(matches!(
        decoded.batch.series(0).labels(),
        Err(crate::write_batch::SeriesError::TooManyLabels { count: 303, limit: 128 })
    ));
}

/// The messages as prost derives them, as far as the tests below write them.
mod messages {
    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Request {
        #[prost(message, repeated, tag = "1")]
        pub resources: Vec<Resource>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Resource {
        #[prost(message, repeated, tag = "2")]
        pub scopes: Vec<Scope>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Scope {
        #[prost(message, repeated, tag = "2")]
        pub metrics: Vec<Metric>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Metric {
        #[prost(string, tag = "1")]
        pub name: String,
        #[prost(message, optional, tag = "5")]
        pub gauge: Option<Gauge>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Gauge {
        #[prost(message, repeated, tag = "1")]
        pub points: Vec<Point>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Point {
        #[prost(fixed64, tag = "3")]
        pub time: u64,
        #[prost(double, optional, tag = "4")]
        pub value: Option<f64>,
        #[prost(message, repeated, tag = "7")]
        pub attributes: Vec<Attribute>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Attribute {
        #[prost(string, tag = "1")]
        pub key: String,
        #[prost(message, optional, tag = "2")]
        pub value: Option<Text>,
    }

    #[derive(Clone, PartialEq, prost::Message)]
    pub struct Text {
        #[prost(string, optional, tag = "1")]
        pub text: Option<String>,
    }
}

fn gauge_request(metrics: Vec<messages::Metric>) -> messages::Request {
    messages::Request { resources: vec![messages::Resource { scopes: vec![messages::Scope { metrics }] }] }
}

fn gauge(name: &str, attributes: Vec<(String, String)>, time: u64, value: f64) -> messages::Metric {
    let attributes = attributes
        .into_iter()
        .map(|(key, text)| messages::Attribute { key, value: Some(messages::Text { text: Some(text) }) })
        .collect();
    let point = messages::Point { time, value: Some(value), attributes };
    messages::Metric { name: name.to_owned(), gauge: Some(messages::Gauge { points: vec![point] }) }
}

#[test]
fn attributes_that_are_scattered_are_gathered() {
    let at = |body: Vec<u8>| decode_with(Translation::default(), body).expect("a valid message");
    let two = vec![("a".to_owned(), "1".to_owned()), ("b".to_owned(), "2".to_owned())];
    let together = at(gauge_request(vec![gauge("m", two, 5_000_000, 1.0)]).encode_to_vec());
    // By hand: an attribute, the time, the other attribute, the value.
    let attribute = |key: u8, value: u8| [0x3a, 8, 0x0a, 1, key, 0x12, 3, 0x0a, 1, value];
    let mut point = attribute(b'a', b'1').to_vec();
    point.push(0x19);
    point.extend_from_slice(&5_000_000u64.to_le_bytes());
    point.extend_from_slice(&attribute(b'b', b'2'));
    point.push(0x21);
    point.extend_from_slice(&1f64.to_le_bytes());
    let wrap = |field: u8, inner: &[u8]| [&[field << 3 | 2, inner.len() as u8], inner].concat();
    let metric = [wrap(1, b"m"), wrap(5, &wrap(1, &point))].concat();
    let scattered = at(wrap(1, &wrap(2, &wrap(2, &metric))));
    assert_eq!(lines(&scattered), lines(&together));
    assert_eq!(scattered.batch.series(0).fingerprint(), together.batch.series(0).fingerprint());
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let mut body =
        gauge_request(vec![gauge("metric", vec![("key".into(), "value".into())], 1, 1.0)]).encode_to_vec();
    let at = body.windows(5).position(|window| window == b"value").expect("the value is in the body");
    body[at] = 0xff;
    let decoded = decode_with(Translation::default(), body.clone()).expect("a valid message");
    assert!(decoded.batch.series(0).labels().is_err());
    let at = body.windows(6).position(|window| window == b"metric").expect("the name is in the body");
    body[at] = 0xff;
    let decoded = decode_with(Translation::default(), body).expect("a valid message");
    assert_eq!((decoded.batch.series_len(), decoded.batch.rejections().samples), (0, 1));
}

#[test]
fn too_much_is_refused_as_a_whole() {
    let limits = Limits { max_body_bytes: 10, labels: LabelLimits::default() };
    let error = decode(vec![0; 11], &key(), &Arc::default(), &limits)
        .map(|decoded| decoded.points)
        .expect_err("too long");
    assert_eq!(error.kind(), crate::error::ErrorKind::LimitExceeded);
    // Arrays inside of arrays, by hand.
    let prefixed = |field: u8, inner: &[u8]| {
        let mut out = vec![field << 3 | 2];
        crate::varint::write_prefixed(&mut out, inner);
        out
    };
    let deep = (0..200).fold(Vec::new(), |inner: Vec<u8>, _| prefixed(5, &prefixed(1, &inner)));
    let point = prefixed(7, &prefixed(2, &deep));
    let metric = [prefixed(1, b"m"), prefixed(5, &prefixed(1, &point))].concat();
    let body = prefixed(1, &prefixed(2, &prefixed(2, &metric)));
    let error =
        decode_with(Translation::default(), body).map(|decoded| decoded.points).expect_err("too deep");
    assert!(error.to_string().contains("nested"), "{error}");
    let point: Vec<u8> = std::iter::repeat_n(prefixed(7, &[]), 70_000).flatten().collect();
    let metric = [prefixed(1, b"m"), prefixed(5, &prefixed(1, &point))].concat();
    let body = prefixed(1, &prefixed(2, &prefixed(2, &metric)));
    let error =
        decode_with(Translation::default(), body).map(|decoded| decoded.points).expect_err("too many");
    assert_eq!(error.kind(), crate::error::ErrorKind::LimitExceeded);
}

proptest! {
    #[test]
    fn gauges_are_read_as_prost_reads_them(
        metrics in proptest::collection::vec(
            (
                "[a-z]{1,5}",
                proptest::collection::btree_map("[a-z.]{0,3}[a-z]", "[a-zé]{1,4}", 0..4),
                1u64..1 << 62,
                any::<f64>(),
            ),
            0..6,
        )
    ) {
        let messages = metrics.iter().map(|(name, attributes, time, value)| {
            gauge(name, attributes.clone().into_iter().collect(), *time, *value)
        });
        let body = gauge_request(messages.collect()).encode_to_vec();
        let decoded = decode_with(Translation::default(), body).expect("a valid message");
        prop_assert_eq!(decoded.batch.series_len(), metrics.len());
        for (index, (name, attributes, time, value)) in metrics.iter().enumerate() {
            let series = decoded.batch.series(index);
            let mut expected: BTreeMap<String, Vec<&str>> = BTreeMap::new();
            for (key, value) in attributes {
                let mut key = key.replace('.', "_");
                if key.starts_with('_') && !key.starts_with("__") {
                    key = format!("key{key}");
                }
                expected.entry(key).or_default().push(value);
            }
            let mut pairs: Vec<(String, String)> =
                expected.into_iter().map(|(key, values)| (key, values.join(";"))).collect();
            pairs.push(("__name__".into(), name.clone()));
            prop_assert_eq!(series.labels().expect("valid labels"), Labels::from_pairs(pairs).expect("valid labels"));
            let samples: Vec<_> = series.samples().iter().map(|s| (s.timestamp_ms, s.value.to_bits())).collect();
            prop_assert_eq!(samples, [((time / 1_000_000) as i64, value.to_bits())]);
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(decoded) = decode_with(Translation::default(), body) {
            lines(&decoded);
        }
    }

    #[test]
    fn damaged_requests_are_taken_or_refused(at in any::<proptest::sample::Index>(), byte: u8, custom_buckets: bool) {
        let histogram = r#"{"name":"h","unit":"s","histogram":{"aggregationTemporality":2,"dataPoints":[
            {"timeUnixNano":"5000000000","count":"7","sum":3.5,"bucketCounts":["3","4"],"explicitBounds":[0.5],
             "exemplars":[{"asDouble":9,"filteredAttributes":[{"key":"k","value":{"boolValue":true}}]}]}]}},
            {"name":"e","exponentialHistogram":{"aggregationTemporality":2,"dataPoints":[{"timeUnixNano":"5",
             "count":"2","scale":12,"positive":{"offset":3,"bucketCounts":[1,0,1]}}]}},
            {"name":"s","summary":{"dataPoints":[{"timeUnixNano":"5","quantileValues":[{"quantile":0.5}]}]}}"#;
        let mut body =
            json::to_protobuf(Request::Metrics, request(SERVICE, histogram).as_bytes()).expect("valid JSON");
        let at = at.index(body.len());
        body[at] = byte;
        if let Ok(decoded) = decode_with(Translation { custom_buckets, ..Translation::default() }, body) {
            lines(&decoded);
        }
    }
}

/// Recorded bodies of a client that went to a path with this in its name; protobuf, or JSON made so.
fn recordings(client: &str) -> Option<Vec<Vec<u8>>> {
    let folder = PathBuf::from(std::env::var_os("PHAROS_TESTDATA")?).join("wire").join(client);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut bodies = Vec::new();
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if name.ends_with(".bin") && name.contains("metrics") {
            let body = std::fs::read(&path).expect("a readable file");
            bodies.push(match body.first() {
                Some(b'{') => json::to_protobuf(Request::Metrics, &body).expect("valid JSON"),
                _ => body,
            });
        }
    }
    Some(bodies)
}

#[test]
fn recordings_of_real_clients_are_taken() {
    for client in ["otlp_grpc_python_1.45", "otlp_http_python_1.45", "otlp_http_json_js_0.223"] {
        let Some(bodies) = recordings(client) else {
            #[allow(clippy::print_stderr, reason = "a test that skips says so")]
            {
                eprintln!("skipped recordings_of_real_clients_are_taken: PHAROS_TESTDATA is not set");
            }
            return;
        };
        assert!(!bodies.is_empty(), "{client}");
        let mut seen: Vec<String> = Vec::new();
        for body in bodies {
            let decoded = decode_with(Translation::default(), body).expect("a valid message");
            assert!(decoded.batch.rejections().is_empty(), "{client}: {}", decoded.batch.rejections());
            let found = lines(&decoded);
            assert!(decoded.points > 0 && found.iter().all(|line| !line.starts_with('(')), "{client}");
            seen.extend(found);
        }
    }
}
