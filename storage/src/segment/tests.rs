//! Whole segments: round trips against a naive model, damage of every byte, truncation, determinism, the fixture.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use protocol::ids::TenantId;
use protocol::labels::Labels;
use protocol::matcher::{MatchOp, Matcher};
use protocol::sample::stale_nan;

use super::*;
use crate::encoding::Effort;
use crate::encoding::blobs::BlobColumn;
use crate::fs::Map;

/// All that a series has, owned.
#[derive(Clone, Debug, Default)]
struct Columns {
    float_times: Vec<i64>,
    float_values: Vec<f64>,
    histogram_times: Vec<i64>,
    histograms: Vec<Vec<u8>>,
    exemplars: Vec<Exemplar>,
    start_times: Vec<StartTime>,
}

/// Series by tenant and order, and metadata by tenant.
#[derive(Clone, Debug, Default)]
struct Model {
    series: Vec<(String, Labels, Columns)>,
    metadata: BTreeMap<String, Vec<MetricMetadata>>,
}

impl Model {
    fn new(mut series: Vec<(String, Labels, Columns)>) -> Self {
        series.sort_by(|a, b| a.0.cmp(&b.0).then_with(|| compare_series(&a.1, &b.1)));
        series.dedup_by(|b, a| a.0 == b.0 && a.1 == b.1);
        Self { series, metadata: BTreeMap::new() }
    }

    fn build(&self, header: SegmentHeader, effort: Effort) -> SealedSegment<Vec<u8>> {
        let mut builder = SegmentBuilder::new(header, effort);
        for (tenant, families) in &self.metadata {
            for metadata in families {
                builder.push_metadata(&TenantId::new(tenant).expect("valid"), metadata.clone());
            }
        }
        for (tenant, labels, columns) in &self.series {
            let histograms: Vec<&[u8]> = columns.histograms.iter().map(Vec::as_slice).collect();
            let input = SeriesInput {
                float_times: &columns.float_times,
                float_values: &columns.float_values,
                histogram_times: &columns.histogram_times,
                histograms: &histograms,
                exemplars: &columns.exemplars,
                start_times: &columns.start_times,
            };
            builder.push(&TenantId::new(tenant).expect("valid"), labels, &input).expect("in order");
        }
        builder.finish().expect("memory takes any bytes")
    }

    fn times(&self) -> impl Iterator<Item = i64> {
        self.series.iter().flat_map(|(_, _, columns)| {
            let exemplars = columns.exemplars.iter().map(|exemplar| exemplar.time_ms);
            columns.float_times.iter().chain(&columns.histogram_times).copied().chain(exemplars)
        })
    }
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied()).expect("valid labels")
}

fn open(bytes: Vec<u8>) -> Result<SegmentReader, SegmentError> {
    SegmentReader::open(Map::new(bytes), Path::new("test"))
}

/// Everything in a segment, as text: floats by their bits.
fn dump(reader: &SegmentReader, start_ms: i64, end_ms: i64) -> Result<String, SegmentError> {
    use std::fmt::Write;
    let mut text = format!("{:?} {:?}\n", reader.header(), reader.summary());
    let mut cursor = reader.cursor();
    for tenant in reader.metadata_tenants() {
        for metadata in reader.metadata(tenant) {
            writeln!(text, "{tenant} {metadata:?}").expect("text");
        }
    }
    for series in reader.all() {
        let tenant = cursor.tenant(series)?.to_owned();
        let labels = cursor.labels(series)?;
        let mut columns = Columns::default();
        let (mut values, mut blobs) = (vec![], BlobColumn::default());
        if let Some(times) = cursor.floats(series, start_ms, end_ms, &mut values)? {
            columns.float_times = times.to_vec();
        }
        let bits: Vec<u64> = values.iter().map(|v| v.to_bits()).collect();
        if let Some(times) = cursor.histograms(series, start_ms, end_ms, &mut blobs)? {
            columns.histogram_times = times.to_vec();
            columns.histograms = blobs.iter().map(<[u8]>::to_vec).collect();
        }
        cursor.exemplars(series, start_ms, end_ms, &mut columns.exemplars)?;
        cursor.start_times(series, &mut columns.start_times)?;
        writeln!(text, "{series} {tenant} {labels} {columns:?} {bits:x?}").expect("text");
    }
    Ok(text)
}

/// What [`dump`] must give.
fn dump_model(model: &Model, header: SegmentHeader, start_ms: i64, end_ms: i64) -> String {
    use std::fmt::Write;
    let within = |time: &i64| (start_ms..=end_ms).contains(time);
    let mut vectors = BTreeSet::new();
    let mut summary = Summary { series: model.series.len() as u32, ..Default::default() };
    for (_, _, columns) in &model.series {
        for times in [&columns.float_times, &columns.histogram_times] {
            if !times.is_empty() {
                vectors.insert(times.clone());
            }
        }
        summary.floats += columns.float_times.len() as u64;
        summary.histograms += columns.histogram_times.len() as u64;
        summary.exemplars += columns.exemplars.len() as u64;
    }
    summary.time_vectors = vectors.len() as u32;
    summary.min_time_ms = model.times().min().unwrap_or(i64::MAX);
    summary.max_time_ms = model.times().max().unwrap_or(i64::MIN);
    let mut text = format!("{header:?} {summary:?}\n");
    for (tenant, families) in &model.metadata {
        let families: BTreeMap<_, _> = families.iter().map(|m| (m.family.clone(), m)).collect();
        for metadata in families.values() {
            writeln!(text, "{tenant} {metadata:?}").expect("text");
        }
    }
    for (series, (tenant, labels, columns)) in model.series.iter().enumerate() {
        let mut seen = Columns::default();
        let mut bits = vec![];
        for (time, value) in columns.float_times.iter().zip(&columns.float_values) {
            if within(time) {
                seen.float_times.push(*time);
                bits.push(value.to_bits());
            }
        }
        for (time, blob) in columns.histogram_times.iter().zip(&columns.histograms) {
            if within(time) {
                seen.histogram_times.push(*time);
                seen.histograms.push(blob.clone());
            }
        }
        seen.exemplars = columns.exemplars.iter().filter(|e| within(&e.time_ms)).cloned().collect();
        seen.start_times = columns.start_times.clone();
        seen.start_times.dedup_by(|b, a| a.start_ms == b.start_ms);
        writeln!(text, "{series} {tenant} {labels} {seen:?} {bits:x?}").expect("text");
    }
    text
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1000i32..1000).prop_map(|v| f64::from(v) / 4.0),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => Just(stale_nan()),
    ]
}

fn some_labels() -> impl Strategy<Value = Labels> {
    let metric = prop_oneof![8 => "m[a-c]", 1 => Just(String::new())];
    let rest = proptest::collection::btree_map("[Zabz]", "[pqr]{0,2}", 0..4);
    (metric, rest).prop_map(|(metric, rest)| {
        Labels::from_pairs(rest).expect("distinct names").with("__name__", &metric)
    })
}

/// Times of one scrape, or any.
fn some_times() -> impl Strategy<Value = Vec<i64>> {
    let scrape = (0i64..3, 1usize..40).prop_map(|(k, n)| (0..n as i64).map(|i| k * 7 + i * 15_000).collect());
    let any = proptest::collection::btree_set(-1_000_000i64..1_000_000, 0..20);
    prop_oneof![3 => scrape, 1 => any.prop_map(|set| set.into_iter().collect())]
}

fn some_columns() -> impl Strategy<Value = Columns> {
    let exemplar = (-9i64..9, value(), some_labels());
    let floats = some_times().prop_flat_map(|times| {
        let count = times.len();
        (Just(times), proptest::collection::vec(value(), count))
    });
    let histograms = prop_oneof![3 => Just(vec![]), 1 => some_times()].prop_flat_map(|times| {
        let count = times.len();
        (Just(times), proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), count))
    });
    let exemplars = prop_oneof![3 => Just(vec![]), 1 => proptest::collection::vec(exemplar, 1..5)];
    let starts = prop_oneof![
        3 => Just(BTreeMap::new()),
        1 => proptest::collection::btree_map(-9i64..9, 0i64..3, 1..5),
    ];
    (floats, histograms, exemplars, starts).prop_map(|(floats, histograms, mut exemplars, starts)| {
        exemplars.sort_by_key(|(time_ms, _, _)| *time_ms);
        let exemplars = exemplars.into_iter();
        Columns {
            float_times: floats.0,
            float_values: floats.1,
            histogram_times: histograms.0,
            histograms: histograms.1,
            exemplars: exemplars
                .map(|(time_ms, value, labels)| Exemplar { time_ms, value, labels })
                .collect(),
            start_times: starts
                .into_iter()
                .map(|(time_ms, start_ms)| StartTime { time_ms, start_ms })
                .collect(),
        }
    })
}

fn some_model() -> impl Strategy<Value = Model> {
    let series = (prop_oneof![Just("default"), Just("t.2")], some_labels(), some_columns());
    let metadata = ("m[a-c]", any::<u8>(), "[a-z]{0,9}", "[a-z]{0,3}");
    let metadata = proptest::collection::vec((prop_oneof![Just("default"), Just("x")], metadata), 0..4);
    (proptest::collection::vec(series, 0..40), metadata).prop_map(|(series, metadata)| {
        let series = series.into_iter().map(|(tenant, labels, columns)| (tenant.to_owned(), labels, columns));
        let mut model = Model::new(series.collect());
        for (tenant, (family, kind, help, unit)) in metadata {
            let list = model.metadata.entry(tenant.to_owned()).or_default();
            list.push(MetricMetadata { family, kind, help, unit });
        }
        model
    })
}

fn some_matchers() -> impl Strategy<Value = Vec<Matcher>> {
    let op = prop_oneof![
        Just(MatchOp::Equal),
        Just(MatchOp::NotEqual),
        Just(MatchOp::Regex),
        Just(MatchOp::NotRegex),
    ];
    let patterns =
        prop::sample::select(vec!["", "ma", "p", "qr", "rr", "p|q", "p|", "p.*", ".+", "m[ab]", ".*q.*"]);
    let matcher = (prop_oneof![Just("__name__".to_owned()), "[Zabzn]"], op, patterns);
    let matcher = matcher.prop_map(|(name, op, value)| Matcher::new(name, op, value).expect("valid pattern"));
    proptest::collection::vec(matcher, 0..3)
}

fn some_header() -> SegmentHeader {
    SegmentHeader {
        partition: Partition {
            signal: Signal::Metrics,
            retention_class: 3,
            start_ms: -7,
            duration_ms: 86_400_000,
        },
        first_log_index: 17,
        last_log_index: 4711,
        encoder_epoch: 1,
    }
}

proptest! {
    #[test]
    fn segments_hold_what_was_pushed(model in some_model(), range in (-1_000_000i64..1_000_000, 0i64..2_000_000)) {
        for effort in [Effort::Fast, Effort::Thorough] {
            let sealed = model.build(some_header(), effort);
            prop_assert_eq!(&sealed.sink, &model.build(some_header(), effort).sink, "equal input, other bytes");
            let reader = open(sealed.sink).unwrap();
            reader.verify(sealed.name).unwrap();
            prop_assert_eq!(*reader.summary(), sealed.summary);
            for (start, end) in [(i64::MIN, i64::MAX), (range.0, range.0 + range.1)] {
                prop_assert_eq!(
                    dump(&reader, start, end).unwrap(),
                    dump_model(&model, some_header(), start, end)
                );
            }
        }
    }

    #[test]
    fn matchers_find_what_the_model_finds(model in some_model(), matchers in some_matchers()) {
        let reader = open(model.build(some_header(), Effort::Fast).sink).unwrap();
        let any_time = model.times().next().is_some();
        for tenant in ["default", "t.2", "nobody"] {
            let passes = |labels: &Labels| {
                any_time && matchers.iter().all(|m| m.matches(labels.get(m.name()).unwrap_or("")))
            };
            let found: Vec<(u32, &Labels)> = (0u32..)
                .zip(&model.series)
                .filter(|(_, (owner, labels, _))| owner == tenant && passes(labels))
                .map(|(series, (_, labels, _))| (series, labels))
                .collect();
            let numbers: Vec<u32> = found.iter().map(|(series, _)| *series).collect();
            let selection = reader.select(tenant, &matchers, i64::MIN, i64::MAX).unwrap();
            prop_assert_eq!(selection.len(), numbers.len());
            prop_assert_eq!(selection.is_empty(), numbers.is_empty());
            prop_assert_eq!(selection.iter().collect::<Vec<_>>(), numbers);
            let names: BTreeSet<String> =
                found.iter().flat_map(|(_, l)| l.iter()).map(|(name, _)| name.to_owned()).collect();
            prop_assert_eq!(reader.label_names(tenant, &matchers, i64::MIN, i64::MAX).unwrap(), names);
            for name in ["__name__", "Z", "a", "b", "n"] {
                let values: BTreeSet<String> =
                    found.iter().filter_map(|(_, l)| l.get(name)).map(str::to_owned).collect();
                prop_assert_eq!(
                    reader.label_values(tenant, name, &matchers, i64::MIN, i64::MAX).unwrap(),
                    values
                );
            }
            if matchers.is_empty() && any_time {
                let mut counts = BTreeMap::new();
                for (_, labels) in &found {
                    *counts.entry(labels.metric_name().to_owned()).or_default() += 1u64;
                }
                prop_assert_eq!(reader.series_per_metric(tenant).unwrap(), counts);
            }
        }
    }

    #[test]
    fn any_bytes_are_opened_or_refused(bytes: Vec<u8>, framed: bool) {
        let mut bytes = bytes;
        if framed {
            bytes.splice(0..0, some_header().encode());
            let len = (bytes.len() + header::TRAILER_LEN) as u64;
            bytes.extend_from_slice(&[0; 8]);
            bytes.extend_from_slice(&len.to_le_bytes());
            bytes.extend_from_slice(&header::END_MAGIC);
        }
        let _ = open(bytes);
    }
}

/// One of everything, small.
fn sample_model() -> Model {
    let scrape: Vec<i64> = (0..30).map(|i| 1_700_000_000_000 + i * 15_000 + i % 3).collect();
    let grid: Vec<i64> = (0..30).map(|i| 1_700_000_000_000 + i * 15_000).collect();
    let floats = |times: &[i64], value: &dyn Fn(f64) -> f64| Columns {
        float_times: times.to_vec(),
        float_values: (0..times.len()).map(|i| value(i as f64)).collect(),
        ..Default::default()
    };
    let node = |mode: &str| labels(&[("__name__", "cpu_seconds_total"), ("cpu", "0"), ("mode", mode)]);
    let mut request = floats(&grid, &|i| if i < 20.0 { i * 250.0 } else { (i - 20.0) * 250.0 });
    request.exemplars = vec![Exemplar {
        time_ms: grid[3],
        value: 0.25,
        labels: labels(&[("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736")]),
    }];
    request.start_times = vec![
        StartTime { time_ms: grid[0], start_ms: 1_699_999_999_000 },
        StartTime { time_ms: grid[20], start_ms: grid[19] },
    ];
    let mut histogram = floats(&[], &|_| 0.0);
    histogram.histogram_times = grid.clone();
    histogram.histograms = (0..30u8).map(|i| vec![1, 2, 3, i, i / 2, 9, 9, 9]).collect();
    let mut stale = floats(&scrape, &|i| 20.0 + (i * 7.0) % 11.0 / 100.0);
    stale.float_values[29] = stale_nan();
    let series = [
        ("default", node("idle"), floats(&scrape, &|i| 4000.0 + i * 14.97)),
        ("default", node("user"), floats(&scrape, &|i| (i * 0.37).sin())),
        ("default", labels(&[("__name__", "up"), ("job", "node")]), floats(&scrape, &|_| 1.0)),
        ("default", labels(&[("__name__", "temperature"), ("sensor", "größe")]), stale),
        ("default", labels(&[("__name__", "requests_total"), ("code", "200"), ("path", "/")]), request),
        ("team-b", labels(&[("__name__", "latency_seconds"), ("service", "api")]), histogram),
        ("team-b", labels(&[("only", "label")]), floats(&grid[..1], &|_| f64::NEG_INFINITY)),
    ];
    let mut model = Model::new(series.map(|(t, l, c)| (t.to_owned(), l, c)).to_vec());
    let metadata = MetricMetadata {
        family: "cpu_seconds_total".into(),
        kind: 1,
        help: "Seconds the CPUs spent in each mode.".into(),
        unit: "seconds".into(),
    };
    model.metadata.insert("default".into(), vec![metadata]);
    model
}

/// Reads all that can be read; what is wrong shows as an error or as other text.
fn read_all(bytes: Vec<u8>) -> Result<String, SegmentError> {
    let reader = open(bytes)?;
    let mut text = dump(&reader, i64::MIN, i64::MAX)?;
    for tenant in ["default", "team-b"] {
        let not_user = Matcher::new("mode", MatchOp::NotEqual, "user").expect("valid");
        for matchers in [&[][..], &[not_user]] {
            let selection = reader.select(tenant, matchers, i64::MIN, i64::MAX)?;
            let names = reader.label_names(tenant, matchers, i64::MIN, i64::MAX)?;
            let modes = reader.label_values(tenant, "mode", matchers, i64::MIN, i64::MAX)?;
            text += &format!("{selection:?} {names:?} {modes:?} {:?}\n", reader.series_per_metric(tenant)?);
        }
    }
    Ok(text)
}

#[test]
fn a_changed_byte_is_noticed_or_does_not_matter() {
    let bytes = sample_model().build(some_header(), Effort::Fast).sink;
    let whole = read_all(bytes.clone()).expect("own bytes");
    for at in 0..bytes.len() {
        for xor in [0x01, 0x80, 0xff] {
            let mut damaged = bytes.clone();
            damaged[at] ^= xor;
            match read_all(damaged) {
                Err(SegmentError::Corrupt { offset, .. }) => assert!(offset <= bytes.len() as u64),
                Err(other) => panic!("byte {at}: {other}"),
                Ok(text) => assert_eq!(text, whole, "byte {at}"),
            }
        }
    }
}

#[test]
fn a_cut_or_longer_file_is_refused() {
    let bytes = sample_model().build(some_header(), Effort::Fast).sink;
    for len in 0..bytes.len() {
        let cut = open(bytes[..len].to_vec());
        assert!(matches!(cut, Err(SegmentError::Corrupt { .. })), "{len} of {} bytes", bytes.len());
    }
    assert!(open([bytes.as_slice(), b"x"].concat()).is_err());
}

#[test]
fn a_later_version_is_named() {
    let mut bytes = sample_model().build(some_header(), Effort::Fast).sink;
    bytes[8] = 2;
    let crc = crc32c::crc32c(&bytes[..header::HEADER_LEN - 4]);
    bytes[header::HEADER_LEN - 4..header::HEADER_LEN].copy_from_slice(&crc.to_le_bytes());
    assert!(matches!(open(bytes), Err(SegmentError::UnsupportedVersion { version: 2, .. })));
}

/// The fixture of a version is what `sample_model().build(some_header(), Effort::Fast)` gave when it was current.
#[test]
fn version_1_files_stay_readable() {
    let bytes = include_bytes!("fixtures/v1.segment").to_vec();
    let text = dump(&open(bytes).expect("a version 1 file"), i64::MIN, i64::MAX).expect("a version 1 file");
    assert_eq!(text, dump_model(&sample_model(), some_header(), i64::MIN, i64::MAX));
}

#[test]
fn what_is_not_in_order_is_refused_and_leaves_no_trace() {
    let tenant = TenantId::default();
    let mut builder = SegmentBuilder::new(SegmentHeader::default(), Effort::Fast);
    let input = SeriesInput { float_times: &[1, 2], float_values: &[1.0, 2.0], ..Default::default() };
    let (a, b) = (labels(&[("__name__", "a")]), labels(&[("__name__", "b")]));
    builder.push(&tenant, &b, &input).expect("in order");
    for labels in [&a, &b] {
        assert!(matches!(builder.push(&tenant, labels, &input), Err(BuildError::OutOfOrder { .. })));
    }
    let wrong = [
        SeriesInput { float_times: &[2, 2], float_values: &[1.0, 2.0], ..Default::default() },
        SeriesInput { float_times: &[1], float_values: &[], ..Default::default() },
        SeriesInput { histogram_times: &[1], ..Default::default() },
    ];
    let c = labels(&[("__name__", "c")]);
    for input in &wrong {
        assert!(matches!(builder.push(&tenant, &c, input), Err(BuildError::Column { .. })));
    }
    let reader = open(builder.finish().expect("memory").sink).expect("own bytes");
    assert_eq!(reader.summary().series, 1);
}

#[test]
fn many_series_fill_many_blocks_and_parts() {
    let times: Vec<Vec<i64>> = (0..7).map(|k| (0..40).map(|i| k + i * 15_000).collect()).collect();
    let series = (0..40_000u32).map(|i| {
        let set = labels(&[
            ("__name__", if i < 36_000 { "many" } else { "more" }),
            ("pod", &format!("pod-{:05}", i.wrapping_mul(7919) % 40_000)),
            ("zone", ["a", "b", "c"][i as usize % 3]),
        ]);
        let times = &times[i as usize % 7][..if i % 1000 == 0 { 40 } else { 3 }];
        let values = times.iter().map(|t| f64::from(i) + (*t as f64) * 0.37).collect();
        (
            "default".to_owned(),
            set,
            Columns { float_times: times.to_vec(), float_values: values, ..Default::default() },
        )
    });
    let model = Model::new(series.collect());
    let sealed = model.build(some_header(), Effort::Fast);
    assert_eq!(sealed.summary.time_vectors, 14);
    let reader = open(sealed.sink).expect("own bytes");
    assert_eq!(
        dump(&reader, i64::MIN, i64::MAX).expect("own bytes"),
        dump_model(&model, some_header(), i64::MIN, i64::MAX)
    );
    let pod = [Matcher::equal("pod", "pod-00042"), Matcher::equal("__name__", "many")];
    let expected: Vec<u32> = (0u32..)
        .zip(&model.series)
        .filter(|(_, (_, l, _))| l.get("pod") == Some("pod-00042") && l.metric_name() == "many")
        .map(|(series, _)| series)
        .collect();
    let selection = reader.select("default", &pod, 0, 1).expect("own bytes");
    assert_eq!(selection.iter().collect::<Vec<_>>(), expected);
    assert_eq!(reader.label_values("default", "pod", &[], 0, 1).expect("own bytes").len(), 40_000);
    // Backwards and far apart, a cursor finds the same.
    let (mut forth, mut back) = (reader.cursor(), reader.cursor());
    let (mut a, mut b) = (vec![], vec![]);
    for series in (0..40_000).step_by(997) {
        let other = 39_999 - series;
        forth.floats(series, 0, i64::MAX, &mut a).expect("own bytes");
        back.floats(other, 0, i64::MAX, &mut b).expect("own bytes");
        assert_eq!(back.labels(other).expect("own bytes"), model.series[other as usize].1);
        assert_eq!(b, model.series[other as usize].2.float_values);
    }
    assert!(matches!(forth.labels(40_000), Err(SegmentError::NoSuchSeries { series: 40_000, .. })));
    assert!(matches!(forth.floats(40_000, 0, 1, &mut a), Err(SegmentError::NoSuchSeries { .. })));
}

#[test]
fn series_share_their_times() {
    let reader = open(sample_model().build(some_header(), Effort::Fast).sink).expect("own bytes");
    let (mut one, mut two) = (reader.cursor(), reader.cursor());
    let mut values = vec![];
    let a = one.floats(0, i64::MIN, i64::MAX, &mut values).expect("own bytes").expect("samples");
    let b = two.floats(1, 1_700_000_015_001, i64::MAX, &mut values).expect("own bytes").expect("samples");
    assert!(Arc::ptr_eq(a.vector(), b.vector()));
    assert!(a.is_whole() && !b.is_whole());
    assert_eq!(b.range(), 1..30);
    assert_eq!(one.floats(0, 5, 6, &mut values).expect("own bytes").map(|t| t.len()), None);
    assert!(values.is_empty());
}

#[test]
fn a_segment_without_samples_overlaps_nothing() {
    assert!(!Summary::default().overlaps(i64::MIN, i64::MAX));
    let model = Model::new(vec![("default".into(), labels(&[("a", "b")]), Columns::default())]);
    let reader = open(model.build(some_header(), Effort::Fast).sink).expect("own bytes");
    assert_eq!(reader.all().len(), 1);
    assert!(reader.select("default", &[], i64::MIN, i64::MAX).expect("own bytes").is_empty());
}

#[test]
fn names_are_hashes_in_hexadecimal() {
    let sealed = sample_model().build(some_header(), Effort::Fast);
    assert_eq!(SegmentName::of(&sealed.sink), sealed.name);
    assert_eq!(sealed.len_bytes, sealed.sink.len() as u64);
    let text = sealed.name.to_string();
    assert_eq!(SegmentName::parse(&text), Some(sealed.name));
    assert_eq!(SegmentName::parse(&text[1..]), None);
    assert_eq!(SegmentName::parse(&format!("+{}", &text[1..])), None);
}

#[test]
fn damage_under_an_open_reader_is_noticed() {
    let bytes = sample_model().build(some_header(), Effort::Fast).sink;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("x.seg");
    std::fs::write(&path, &bytes).expect("writable");
    let map = crate::fs::Fs::map(&crate::fs::real::RealFs, &path).expect("a file");
    let reader = SegmentReader::open(map, &path).expect("it is whole");
    let whole = dump(&reader, i64::MIN, i64::MAX).expect("it is whole");
    let file = std::fs::File::options().write(true).open(&path).expect("writable");
    let put = |at: usize, byte: u8| {
        std::os::unix::fs::FileExt::write_all_at(&file, &[byte], at as u64).expect("writable");
    };
    let mut noticed = 0;
    for at in (0..bytes.len()).step_by(61) {
        put(at, bytes[at] ^ 0x10);
        match dump(&reader, i64::MIN, i64::MAX) {
            // What was read when the file was opened is in memory.
            Ok(text) => assert_eq!(text, whole, "byte {at}"),
            Err(_) => noticed += 1,
        }
        put(at, bytes[at]);
    }
    assert!(noticed > 0);
    assert_eq!(dump(&reader, i64::MIN, i64::MAX).expect("it is whole again"), whole);
}
