//! The walkers against message structs that prost derives: same content from the same bytes, same bytes refused.

mod bad_input;
mod messages;
mod recorded;

use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::batch::MetricType;
use crate::histogram::{CounterResetHint, Histogram, Span, decode as decode_blob};
use crate::ids::ClusterSecret;
use crate::labels::Labels;
use messages::{v1, v2};

fn key() -> FingerprintKey {
    FingerprintKey::new(&ClusterSecret([3; 32]))
}

/// What a batch says, in plain lists.
#[derive(Clone, Debug, Default, PartialEq)]
struct Content {
    series: Vec<SeriesContent>,
    metadata: Vec<(String, MetricType, String, String)>,
}

#[derive(Clone, Debug, Default, PartialEq)]
struct SeriesContent {
    labels: Option<Labels>,
    samples: Vec<(i64, u64, i64)>,
    histograms: Vec<(i64, i64, Histogram)>,
    exemplars: Vec<(i64, u64, Labels)>,
}

fn content(batch: &WriteBatch) -> Content {
    let series = (0..batch.series_len()).map(|index| {
        let series = batch.series(index);
        let starts = series.starts().iter().copied().chain(std::iter::repeat(0));
        let samples = series.samples().iter().zip(starts);
        SeriesContent {
            labels: series.labels().ok(),
            samples: samples.map(|(s, start)| (s.timestamp_ms, s.value.to_bits(), start)).collect(),
            histograms: series
                .histograms()
                .map(|h| (h.timestamp_ms, h.start_ms, decode_blob(h.blob).expect("own blob")))
                .collect(),
            exemplars: series
                .exemplars()
                .map(|e| {
                    let labels = Labels::from_canonical(e.label_bytes).expect("canonical");
                    (e.timestamp_ms, e.value.to_bits(), labels)
                })
                .collect(),
        }
    });
    let metadata = batch
        .metadata()
        .map(|(_, m)| (m.family.to_owned(), m.metric_type, m.help.to_owned(), m.unit.to_owned()));
    Content { series: series.collect(), metadata: metadata.collect() }
}

fn decoded(version: Version, message: &impl Message) -> WriteBatch {
    decode(version, message.encode_to_vec(), &key(), &Limits::default()).expect("a valid message")
}

/// A valid histogram: layout, counts that add up, and what the message must say for it.
fn histogram() -> impl Strategy<Value = Histogram> {
    let buckets = || proptest::collection::vec((0i32..4, proptest::collection::vec(0u32..1000, 1..4)), 0..3);
    let hint = prop_oneof![
        Just(CounterResetHint::Unknown),
        Just(CounterResetHint::Reset),
        Just(CounterResetHint::NotReset),
        Just(CounterResetHint::Gauge)
    ];
    (buckets(), buckets(), 0u32..5, -4i32..=8, any::<bool>(), -10i32..10, hint).prop_map(
        |(mut positive, negative, zero, schema, is_integer, first, hint)| {
            if let Some(span) = positive.first_mut() {
                span.0 = first;
            }
            let flat = |parts: &[(i32, Vec<u32>)]| {
                let spans: Vec<Span> = parts
                    .iter()
                    .map(|(offset, b)| Span { offset: *offset, length: b.len() as u32 })
                    .collect();
                let buckets: Vec<f64> =
                    parts.iter().flat_map(|(_, b)| b).map(|&count| f64::from(count)).collect();
                (spans, buckets)
            };
            let (positive_spans, positive_buckets) = flat(&positive);
            let (negative_spans, negative_buckets) = flat(&negative);
            let zero_count = f64::from(zero);
            let count = zero_count + positive_buckets.iter().chain(&negative_buckets).sum::<f64>();
            Histogram {
                counter_reset_hint: hint,
                is_integer,
                schema,
                zero_threshold: 0.001,
                zero_count,
                count,
                sum: 12.5,
                positive_spans,
                negative_spans,
                positive_buckets,
                negative_buckets,
                custom_values: Vec::new(),
            }
        },
    )
}

fn names() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    proptest::collection::btree_map("[a-z]{1,4}", "[a-z]{1,6}", 0..5)
}

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![Just(0), Just(1_700_000_000_000), any::<i64>()]
}

fn rows() -> impl Strategy<Value = Vec<(i64, u64, i64)>> {
    let start = prop_oneof![3 => Just(0i64), 1 => 1i64..100];
    proptest::collection::vec((times(), any::<u64>(), start), 0..4)
}

/// One series: labels by name without the metric's, samples, histograms, exemplars.
fn series() -> impl Strategy<Value = SeriesContent> {
    let histograms = proptest::collection::vec((times(), 0i64..3, histogram()), 0..3);
    let exemplars = proptest::collection::vec((times(), any::<u64>(), names()), 0..3);
    (names(), rows(), histograms, exemplars).prop_map(|(mut names, samples, histograms, exemplars)| {
        names.insert("__name__".into(), "metric".into());
        let labels = |names| Labels::from_pairs::<String, String>(names).expect("distinct names");
        // A time of 0 is "not said", and comes back as another; that has a test of its own.
        let said = |time: i64| if time == 0 { 1 } else { time };
        let exemplars =
            exemplars.into_iter().map(|(time, value, names)| (said(time), value, labels(names))).collect();
        SeriesContent { labels: Some(labels(names)), samples, histograms, exemplars }
    })
}

fn to_v1(content: &Content) -> v1::WriteRequest {
    let label = |(name, value): (&str, &str)| v1::Label { name: name.into(), value: value.into() };
    let series = content.series.iter().map(|series| v1::TimeSeries {
        // Backwards: clients must sort, we do not rely on it.
        labels: {
            let mut labels: Vec<_> = series.labels.iter().flat_map(Labels::iter).map(label).collect();
            labels.reverse();
            labels
        },
        samples: series
            .samples
            .iter()
            .map(|&(timestamp, value, _)| v1::Sample { value: f64::from_bits(value), timestamp })
            .collect(),
        exemplars: series
            .exemplars
            .iter()
            .map(|(timestamp, value, labels)| v1::Exemplar {
                labels: labels.iter().map(label).collect(),
                value: f64::from_bits(*value),
                timestamp: *timestamp,
            })
            .collect(),
        histograms: series.histograms.iter().map(|(time, _, h)| messages::histogram(*time, 0, h)).collect(),
    });
    let metadata = content.metadata.iter().map(|(family, metric_type, help, unit)| v1::MetricMetadata {
        r#type: *metric_type as i32,
        metric_family_name: family.clone().into_bytes(),
        help: help.clone().into_bytes(),
        unit: unit.clone().into_bytes(),
    });
    v1::WriteRequest { timeseries: series.collect(), metadata: metadata.collect() }
}

fn without_starts(mut content: Content) -> Content {
    for series in &mut content.series {
        series.samples.iter_mut().for_each(|sample| sample.2 = 0);
        series.histograms.iter_mut().for_each(|histogram| histogram.1 = 0);
    }
    content
}

fn to_v2(content: &Content) -> v2::Request {
    let mut symbols = vec![Vec::new()];
    let mut intern = |text: &str| match symbols.iter().position(|symbol| symbol == text.as_bytes()) {
        Some(index) => index as u32,
        None => {
            symbols.push(text.as_bytes().to_vec());
            symbols.len() as u32 - 1
        }
    };
    let mut refs = |labels: &Labels| {
        let mut pairs: Vec<[u32; 2]> =
            labels.iter().map(|(name, value)| [intern(name), intern(value)]).collect();
        pairs.reverse();
        pairs.concat()
    };
    let timeseries = content
        .series
        .iter()
        .map(|series| v2::TimeSeries {
            labels_refs: series.labels.as_ref().map(&mut refs).unwrap_or_default(),
            samples: series
                .samples
                .iter()
                .map(|&(timestamp, value, start_timestamp)| v2::Sample {
                    value: f64::from_bits(value),
                    timestamp,
                    start_timestamp,
                })
                .collect(),
            histograms: series
                .histograms
                .iter()
                .map(|(time, start, h)| messages::histogram(*time, *start, h))
                .collect(),
            exemplars: series
                .exemplars
                .iter()
                .map(|(timestamp, value, labels)| v2::Exemplar {
                    labels_refs: refs(labels),
                    value: f64::from_bits(*value),
                    timestamp: *timestamp,
                })
                .collect(),
            metadata: None,
            created_timestamp: 0,
        })
        .collect();
    v2::Request { symbols, timeseries }
}

fn contents(mixed: bool) -> impl Strategy<Value = Content> {
    let metadata = ("[a-z]{1,5}", 0u8..8, ".{0,9}", "[a-z]{0,3}").prop_map(|(family, code, help, unit)| {
        (family, MetricType::from_code(code).expect("a type's code"), help, unit)
    });
    let series = series().prop_map(move |mut series| {
        if !mixed && !series.samples.is_empty() {
            series.histograms.clear();
        }
        series
    });
    (proptest::collection::vec(series, 0..5), proptest::collection::vec(metadata, 0..3))
        .prop_map(|(series, metadata)| Content { series, metadata })
}

proptest! {
    #[test]
    fn v1_says_what_the_message_says(expected in contents(true)) {
        let expected = without_starts(expected);
        let batch = decoded(Version::V1, &to_v1(&expected));
        prop_assert_eq!(content(&batch), expected);
        prop_assert!(batch.rejections().is_empty());
    }

    #[test]
    fn v2_says_what_the_message_says(mut expected in contents(false)) {
        expected.metadata.clear();
        let batch = decoded(Version::V2, &to_v2(&expected));
        prop_assert!(batch.rejections().is_empty(), "{}", batch.rejections());
        prop_assert_eq!(content(&batch), expected);
    }

    #[test]
    fn v1_takes_and_refuses_what_prost_does(message in contents(true), at: prop::sample::Index, byte: u8, cut: bool) {
        let bytes = mutated(to_v1(&message).encode_to_vec(), at, byte, cut);
        let theirs = v1::WriteRequest::decode(bytes.as_slice());
        check_agreement(decode(Version::V1, bytes, &key(), &Limits::default()), theirs.map(drop));
    }

    #[test]
    fn v2_takes_and_refuses_what_prost_does(message in contents(true), at: prop::sample::Index, byte: u8, cut: bool) {
        let bytes = mutated(to_v2(&message).encode_to_vec(), at, byte, cut);
        let theirs = v2::Request::decode(bytes.as_slice());
        check_agreement(decode(Version::V2, bytes, &key(), &Limits::default()), theirs.map(drop));
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes: Vec<u8>, v2: bool) {
        let version = if v2 { Version::V2 } else { Version::V1 };
        if let Ok(body) = decompress(&bytes, &Limits::default()) {
            let _ = decode(version, body, &key(), &Limits::default());
        }
        if let Ok(batch) = decode(version, bytes, &key(), &Limits::default()) {
            content(&batch);
        }
    }

    #[test]
    fn v2_fingerprints_do_not_depend_on_the_symbols_order(message in contents(false)) {
        let plain = to_v2(&message);
        let mut shifted = plain.clone();
        shifted.symbols.insert(1, b"something else".to_vec());
        let refs = shifted.timeseries.iter_mut().flat_map(|series| &mut series.labels_refs);
        refs.filter(|reference| **reference > 0).for_each(|reference| *reference += 1);
        shifted.timeseries.iter_mut().for_each(|series| series.exemplars.clear());
        let (plain, shifted) = (decoded(Version::V2, &plain), decoded(Version::V2, &shifted));
        for index in 0..plain.series_len() {
            prop_assert_eq!(plain.series(index).fingerprint(), shifted.series(index).fingerprint());
            prop_assert_eq!(plain.series(index).labels(), shifted.series(index).labels());
        }
    }
}

fn mutated(mut bytes: Vec<u8>, at: prop::sample::Index, byte: u8, cut: bool) -> Vec<u8> {
    if !bytes.is_empty() {
        let at = at.index(bytes.len());
        bytes[at] = byte;
        if cut {
            bytes.truncate(at);
        }
    }
    bytes
}

/// Both take the bytes or both refuse them, except where the walker is stricter by design: groups, limits and the first
/// symbol.
fn check_agreement(ours: Result<WriteBatch, DecodeError>, theirs: Result<(), prost::DecodeError>) {
    match (&ours, &theirs) {
        (Ok(batch), Ok(())) => drop(content(batch)),
        (Err(DecodeError::Malformed { problem: Problem::WireType { found: 3 | 4 }, .. }), _) => {}
        (Err(DecodeError::FirstSymbol(_)), _) => {}
        (Err(_), Err(_)) => {}
        (Ok(_), Err(error)) => panic!("taken, though {error}"),
        (Err(error), Ok(())) => panic!("refused: {error}"),
    }
}

#[test]
fn equal_labels_have_equal_fingerprints_and_others_differ() {
    let label = |name: &str, value: &str| v1::Label { name: name.into(), value: value.into() };
    let series = |value: &str| v1::TimeSeries {
        labels: vec![label("__name__", "up"), label("job", value)],
        ..Default::default()
    };
    let message =
        v1::WriteRequest { timeseries: vec![series("a"), series("b"), series("a")], metadata: vec![] };
    let batch = decoded(Version::V1, &message);
    let fingerprint = |index| batch.series(index).fingerprint();
    assert_eq!(fingerprint(0), fingerprint(2));
    assert_ne!(fingerprint(0), fingerprint(1));

    let other = FingerprintKey::new(&ClusterSecret([4; 32]));
    let batch = decode(Version::V1, message.encode_to_vec(), &other, &Limits::default()).expect("valid");
    assert_ne!(batch.series(0).fingerprint(), fingerprint(0));
}

#[test]
fn scattered_labels_are_gathered() {
    let label = |name: &str| v1::Label { name: name.into(), value: b"x".to_vec() };
    let part = |name| v1::TimeSeries {
        labels: vec![label(name)],
        samples: vec![v1::Sample { value: 1.0, timestamp: 2 }],
        ..Default::default()
    };
    // Messages one after the other are one message.
    let mut series = part("__name__").encode_to_vec();
    series.extend(part("job").encode_to_vec());
    let mut body = vec![0x0a];
    crate::varint::write_prefixed(&mut body, &series);
    let batch = decode(Version::V1, body, &key(), &Limits::default()).expect("valid");
    assert_eq!(batch.series(0).labels().expect("valid").to_string(), r#"x{job="x"}"#);
    assert_eq!(batch.series(0).samples().len(), 2);
}

#[test]
fn v2_references_may_be_unpacked_or_in_pieces() {
    // labels_refs 1 as single varints, then the rest packed.
    let series = [0x08, 1, 0x08, 2, 0x0a, 2, 3, 4, 0x12, 2, 0x10, 5];
    let mut body = Vec::new();
    for symbol in ["", "__name__", "up", "job", "x"] {
        body.push(0x22);
        crate::varint::write_prefixed(&mut body, symbol.as_bytes());
    }
    body.push(0x2a);
    crate::varint::write_prefixed(&mut body, &series);
    let batch = decode(Version::V2, body, &key(), &Limits::default()).expect("valid");
    assert_eq!(batch.series(0).labels().expect("valid").to_string(), r#"up{job="x"}"#);
    assert_eq!(batch.series(0).samples()[0].timestamp_ms, 5);
}

#[test]
fn v2_metadata_belongs_to_the_family() {
    let series = |metric: u32, metric_type: i32| v2::TimeSeries {
        labels_refs: vec![1, metric],
        samples: vec![v2::Sample { value: 1.0, timestamp: 1, start_timestamp: 0 }],
        metadata: Some(v2::Metadata { r#type: metric_type, help_ref: 5, unit_ref: 0 }),
        ..Default::default()
    };
    let symbols = ["", "__name__", "h_bucket", "h_sum", "c_total", "Help."].map(|s| s.as_bytes().to_vec());
    let timeseries = vec![series(2, 3), series(2, 3), series(3, 3), series(4, 1), series(4, 99)];
    let batch = decoded(Version::V2, &v2::Request { symbols: symbols.into(), timeseries });
    let said: Vec<_> = content(&batch).metadata.into_iter().map(|m| (m.0, m.1, m.2)).collect();
    let family = |name: &str, metric_type| (name.to_owned(), metric_type, "Help.".to_owned());
    assert_eq!(
        said,
        [
            family("h", MetricType::Histogram),
            family("c_total", MetricType::Counter),
            family("c_total", MetricType::Unknown)
        ]
    );
}

#[test]
fn a_created_timestamp_of_an_old_sender_fills_what_is_unset() {
    let sample = |timestamp, start_timestamp| v2::Sample { value: 1.0, timestamp, start_timestamp };
    let series = |samples, created_timestamp| v2::TimeSeries {
        labels_refs: vec![1, 2],
        samples,
        created_timestamp,
        ..Default::default()
    };
    let symbols = ["", "__name__", "up"].map(|s| s.as_bytes().to_vec());
    let timeseries = vec![series(vec![sample(1, 0)], 0), series(vec![sample(2, 0), sample(3, 7)], 9)];
    let batch = decoded(Version::V2, &v2::Request { symbols: symbols.into(), timeseries });
    assert_eq!(batch.series(0).starts(), [0]);
    assert_eq!(batch.series(1).starts(), [9, 7]);
}

#[test]
fn an_exemplar_without_a_time_has_that_of_its_sample() {
    let series = v2::TimeSeries {
        labels_refs: vec![1, 2],
        samples: vec![v2::Sample { value: 1.0, timestamp: 7, start_timestamp: 0 }],
        exemplars: vec![v2::Exemplar::default(), v2::Exemplar { timestamp: 5, ..Default::default() }],
        ..Default::default()
    };
    let symbols = ["", "__name__", "up"].map(|s| s.as_bytes().to_vec());
    let batch = decoded(Version::V2, &v2::Request { symbols: symbols.into(), timeseries: vec![series] });
    let times: Vec<i64> = batch.series(0).exemplars().map(|exemplar| exemplar.timestamp_ms).collect();
    assert_eq!(times, [7, 5]);
}
