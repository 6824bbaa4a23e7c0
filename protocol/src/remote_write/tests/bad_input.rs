//! What must be refused, and by which words.

use prost::Message;

use super::messages::{Count, Histogram, v1, v2};
use super::*;
use crate::varint::{write_prefixed, write_u64};
use crate::write_batch::SeriesError;

fn label(name: &str, value: &str) -> v1::Label {
    v1::Label { name: name.into(), value: value.into() }
}

fn one_series(labels: Vec<v1::Label>) -> WriteBatch {
    let samples = vec![v1::Sample { value: 1.0, timestamp: 1 }];
    let series = v1::TimeSeries { labels, samples, ..Default::default() };
    decoded(Version::V1, &v1::WriteRequest { timeseries: vec![series], metadata: vec![] })
}

fn labels_of(labels: Vec<v1::Label>) -> Result<Labels, SeriesError> {
    one_series(labels).series(0).labels()
}

fn check_labels(labels: Vec<v1::Label>, expected: &str) {
    let error = labels_of(labels).expect_err("bad labels");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn labels_are_checked_at_first_contact() {
    let name = || label("__name__", "up");
    check_labels(vec![name(), label("a", "1"), label("a", "2")], "label name \"a\" appears twice");
    check_labels(vec![name(), label("", "1")], "a label name is empty");
    check_labels(vec![label("a", "1")], "the series has no metric name");
    check_labels(vec![], "the series has no metric name");
    check_labels(vec![label("__name__", "")], "the series has no metric name");
    let not_utf8 = v1::Label { name: b"a".to_vec(), value: vec![0xff] };
    check_labels(vec![name(), not_utf8], "a label name or value is not valid UTF-8");
    let huge = label("a", &"x".repeat(10 << 20));
    check_labels(vec![name(), huge], "the value of label \"a\" has 10485760 bytes, allowed are 16384");
    let long = label(&"n".repeat(1025), "x");
    let expected = format!("label name {:?}... has 1025 bytes, allowed are 1024", "n".repeat(32));
    check_labels(vec![name(), long], &expected);
    let metric = label("__name__", &"m".repeat(1025));
    check_labels(vec![metric], "the value of label \"__name__\" has 1025 bytes, allowed are 1024");
    let many: Vec<_> = (0..128).map(|i| label(&format!("l{i}"), "x")).chain([name()]).collect();
    check_labels(many, "the series has 129 labels, allowed are 128");
}

#[test]
fn unsorted_labels_and_empty_values_are_taken() {
    let labels = labels_of(vec![label("b", "2"), label("a", ""), label("__name__", "up")]);
    assert_eq!(labels.expect("valid").to_string(), r#"up{b="2"}"#);
}

#[test]
fn a_bad_series_is_described_as_well_as_can_be() {
    let not_utf8 = v1::Label { name: b"a".to_vec(), value: vec![0xff, b'x'] };
    let batch = one_series(vec![label("__name__", "up"), not_utf8]);
    assert_eq!(batch.series(0).describe(), "series {__name__=\"up\", a=\"\u{fffd}x\"}");
    let huge = one_series(vec![label("a", &"x".repeat(1 << 18)); 50]);
    assert!(huge.series(0).describe().len() < 300);
}

fn check_snappy(bytes: &[u8], expected: &str) {
    let error = decompress(bytes, &Limits::default()).expect_err("no snappy");
    assert!(error.to_string().contains(expected), "{error} should say {expected:?}");
}

#[test]
fn snappy_that_lies_is_refused_before_anything_is_allocated() {
    let mut two_gigabytes = Vec::new();
    write_u64(&mut two_gigabytes, 2 << 30);
    check_snappy(&two_gigabytes, "2147483648 bytes long when decompressed, allowed are 33554432");
    let mut thirty_megabytes = Vec::new();
    write_u64(&mut thirty_megabytes, 30 << 20);
    thirty_megabytes.extend_from_slice(&[0; 100]);
    check_snappy(&thirty_megabytes, "104 bytes can not hold the 31457280 that they declare");
    check_snappy(&[0xff; 12], "header");
    check_snappy(&[], "empty");
    let compressed = snap::raw::Encoder::new().compress_vec(&[7; 1000]).expect("short");
    check_snappy(&compressed[..compressed.len() - 1], "snappy");
    // The framed format starts with a stream identifier.
    check_snappy(b"\xff\x06\x00\x00sNaPpY\x00\x00", "snappy");
}

#[test]
fn the_best_compressible_body_passes() {
    let body = vec![0u8; 32 << 20];
    let compressed = snap::raw::Encoder::new().compress_vec(&body).expect("short");
    assert_eq!(decompress(&compressed, &Limits::default()).map(|body| body.len()), Ok(32 << 20));
}

fn check_malformed(version: Version, body: &[u8], expected: &str) {
    let error = decode(version, body.to_vec(), &key(), &Limits::default()).expect_err("malformed");
    assert_eq!(error.to_string(), expected);
}

#[test]
fn corrupt_protobuf_is_named_with_its_place() {
    check_malformed(
        Version::V1,
        &[0x0a, 9, 1],
        "the body is not a valid WriteRequest at byte 2: a length of 9 bytes where 1 are left",
    );
    check_malformed(
        Version::V1,
        &[0x0a, 2, 0x12, 5],
        "the body is not a valid sample of TimeSeries 0 at byte 4: a length of 5 bytes where 0 are left",
    );
    check_malformed(
        Version::V1,
        &[0x0a, 4, 0x12, 2, 0x08, 1],
        "the body is not a valid sample of TimeSeries 0 at byte 5: unexpected wire type 0",
    );
    check_malformed(Version::V1, &[0x80], "the body is not a valid WriteRequest at byte 0: malformed varint");
    check_malformed(
        Version::V2,
        &[0x03],
        "the body is not a valid Request at byte 1: impossible field number",
    );
    check_malformed(Version::V2, &[0x22, 1, b'x'], "the first of the symbols must be empty, it is \"x\"");
}

#[test]
fn a_message_of_the_other_version_holds_nothing() {
    // Their field numbers do not meet, so that a mistaken sender is seen to have sent nothing.
    let series = v1::TimeSeries { labels: vec![label("__name__", "up")], ..Default::default() };
    let message = v1::WriteRequest { timeseries: vec![series], metadata: vec![] };
    let batch = decoded(Version::V2, &message);
    assert_eq!((batch.series_len(), batch.sample_count()), (0, 0));
}

#[test]
fn tiny_messages_can_not_make_a_large_batch() {
    let empty_series = [0x0a, 0].repeat(MAX_SERIES + 1);
    let error = decode(Version::V1, empty_series, &key(), &Limits::default()).expect_err("too many");
    assert_eq!(error, DecodeError::TooMany { what: "series", limit: MAX_SERIES });
    for (version, field, row) in [
        (Version::V1, 0x0a, 0x12),
        (Version::V1, 0x0a, 0x1a),
        (Version::V1, 0x0a, 0x22),
        (Version::V2, 0x2a, 0x22),
    ] {
        let mut body = vec![field];
        write_prefixed(&mut body, &[row, 0].repeat(MAX_ROWS + 1));
        let error = decode(version, body, &key(), &Limits::default()).expect_err("too many");
        assert_eq!(error, DecodeError::TooMany { what: "rows", limit: MAX_ROWS }, "row {row:#x}");
    }
    let symbols = [0x22, 0].repeat(MAX_SYMBOLS + 1);
    let error = decode(Version::V2, symbols, &key(), &Limits::default()).expect_err("too many");
    assert_eq!(error, DecodeError::TooMany { what: "symbols", limit: MAX_SYMBOLS });
}

#[test]
fn references_can_not_make_endless_exemplars_of_one_long_symbol() {
    let exemplar =
        v2::Exemplar { labels_refs: (1..=128).flat_map(|i| [i, 129]).collect(), ..Default::default() };
    let series = v2::TimeSeries { exemplars: vec![exemplar; 100], ..Default::default() };
    let names = (1..=128).map(|i| format!("l{i}").into_bytes());
    let symbols = [Vec::new()].into_iter().chain(names).chain([vec![b'x'; 16 << 10]]).collect();
    let message = v2::Request { symbols, timeseries: vec![series] };
    let error =
        decode(Version::V2, message.encode_to_vec(), &key(), &Limits::default()).expect_err("too long");
    assert_eq!(error.kind(), ErrorKind::LimitExceeded);
}

fn check_v2_rejection(series: v2::TimeSeries, expected: &str) {
    let good = v2::TimeSeries {
        labels_refs: vec![1, 2],
        samples: vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }],
        ..Default::default()
    };
    let symbols = ["", "__name__", "up"].map(|s| s.as_bytes().to_vec()).to_vec();
    let batch = decoded(Version::V2, &v2::Request { symbols, timeseries: vec![good.clone(), series, good] });
    assert_eq!(batch.rejections().to_string(), expected);
    // The others are there.
    assert_eq!((batch.series_len(), batch.sample_count()), (2, 2));
    assert_eq!(batch.series(0).samples(), batch.series(1).samples());
}

#[test]
fn a_bad_v2_series_is_left_out_and_named() {
    let sample = || vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 7 }];
    let refs = |labels_refs| v2::TimeSeries { labels_refs, samples: sample(), ..Default::default() };
    check_v2_rejection(
        refs(vec![1, 9]),
        "1 series, 1 samples rejected: series {__name__=\"?\"}: label reference 9 points outside the 3 symbols",
    );
    check_v2_rejection(
        refs(vec![1]),
        "1 series, 1 samples rejected: series {__name__=\"\"}: 1 label references, they must come in pairs",
    );
    check_v2_rejection(
        refs(vec![2; 600]),
        &format!(
            "1 series, 1 samples rejected: series {{{}, ...}}: the series has 129 labels, allowed are 128",
            ["up=\"up\""; 23].join(", ")
        ),
    );
    let mixed = v2::TimeSeries { histograms: vec![Histogram::default()], ..refs(vec![1, 2]) };
    check_v2_rejection(
        mixed,
        "1 series, 1 samples, 1 histograms rejected: series {__name__=\"up\"}: the series has both samples and histograms",
    );
}

fn check_histogram(histogram: Histogram, expected: &str) {
    let series = v1::TimeSeries {
        labels: vec![label("__name__", "h")],
        samples: vec![v1::Sample { value: 1.0, timestamp: 1 }],
        histograms: vec![histogram],
        ..Default::default()
    };
    let batch = decoded(Version::V1, &v1::WriteRequest { timeseries: vec![series], metadata: vec![] });
    let expected = format!("1 histograms rejected: histogram of series {{__name__=\"h\"}} at 5: {expected}");
    assert_eq!(batch.rejections().to_string(), expected);
    assert_eq!(batch.series(0).row_counts(), [1, 0, 0]);
}

#[test]
fn a_senseless_histogram_is_left_out_and_named() {
    let empty = || Histogram { timestamp: 5, count: Some(Count::Int(0)), ..Default::default() };
    check_histogram(Histogram { schema: 99, ..empty() }, "histogram schema 99 is not known");
    check_histogram(
        Histogram { count: Some(Count::Int(3)), ..empty() },
        "the buckets hold 0 observations, the total says 3",
    );
    check_histogram(
        Histogram { positive_deltas: vec![1], ..empty() },
        "spans describe 0 buckets, there are 1",
    );
    check_histogram(
        Histogram { positive_counts: vec![1.0], ..empty() },
        "an integer count beside float buckets",
    );
    check_histogram(
        Histogram { positive_deltas: vec![i64::MAX, 1], ..empty() },
        "a bucket's count overflows",
    );
    check_histogram(
        Histogram { positive_deltas: vec![0; MAX_BUCKETS + 1], ..empty() },
        "more than 16384 spans, buckets or bounds",
    );
}

#[test]
fn bad_metadata_and_exemplars_are_left_out_and_named() {
    let exemplar = v1::Exemplar { labels: vec![label("a", "1"), label("a", "2")], value: 1.0, timestamp: 1 };
    let series = v1::TimeSeries {
        labels: vec![label("__name__", "h")],
        exemplars: vec![exemplar],
        ..Default::default()
    };
    let metadata = v1::MetricMetadata { help: b"x".to_vec(), ..Default::default() };
    let batch =
        decoded(Version::V1, &v1::WriteRequest { timeseries: vec![series], metadata: vec![metadata] });
    assert_eq!(
        batch.rejections().to_string(),
        "1 exemplars, 1 metadata entries rejected: exemplar of series {__name__=\"h\"}: label name \"a\" appears twice; \
         metadata of family \"\": the name is empty"
    );
}
