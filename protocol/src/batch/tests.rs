use proptest::prelude::*;

use super::*;
use crate::histogram::{self, Histogram};
use crate::ids::{SeriesId, TenantId};
use crate::labels::Labels;
use crate::varint::write_u64;

/// What a batch is made of, as plain lists.
#[derive(Clone, Debug, Default)]
struct Model {
    new: Vec<(u128, Vec<(String, String)>)>,
    floats: Vec<(SeriesRef, i64, u64, i64)>,
    histograms: Vec<(SeriesRef, i64, f64, i64)>,
    exemplars: Vec<(SeriesRef, i64, u64, String)>,
    metadata: Vec<(String, u8, String, String)>,
}

fn labels(pairs: &[(String, String)]) -> Labels {
    Labels::from_pairs(pairs.iter().map(|(n, v)| (n, v))).expect("distinct names")
}

fn exemplar_labels(trace: &str) -> Labels {
    Labels::from_pairs([("trace_id", trace)]).expect("one name")
}

fn histogram_blob(sum: f64) -> Vec<u8> {
    let mut blob = Vec::new();
    histogram::encode(&Histogram { sum, ..Histogram::default() }, &mut blob).expect("no buckets");
    blob
}

fn build(model: &Model) -> bytes::Bytes {
    let mut builder = SubBatchBuilder::new(TenantId::default(), 7);
    for (id, pairs) in &model.new {
        builder.push_new_series(SeriesId(*id), &labels(pairs));
    }
    for &(series, timestamp, value, start) in &model.floats {
        builder.push_float(series, timestamp, f64::from_bits(value), start);
    }
    for &(series, timestamp, sum, start) in &model.histograms {
        builder.push_histogram(series, timestamp, &histogram_blob(sum), start);
    }
    for (series, timestamp, value, trace) in &model.exemplars {
        let labels = exemplar_labels(trace);
        builder.push_exemplar(*series, *timestamp, f64::from_bits(*value), labels.as_bytes());
    }
    for (family, code, help, unit) in &model.metadata {
        let metric_type = MetricType::from_code(*code).expect("a type's code");
        builder.push_metadata(&Metadata { family, metric_type, help, unit });
    }
    let bound = builder.len_bound();
    let bytes = builder.finish();
    assert!(bytes.len() <= bound, "{} bytes, bound {bound}", bytes.len());
    bytes
}

fn times() -> impl Strategy<Value = i64> {
    prop_oneof![Just(1_700_000_000_000), 0i64..3, any::<i64>()]
}

fn models() -> impl Strategy<Value = Model> {
    let pairs = proptest::collection::btree_map("[a-z]{1,3}", ".{0,4}", 0..4);
    let new =
        proptest::collection::vec((any::<u128>(), pairs.prop_map(|map| map.into_iter().collect())), 0..4);
    new.prop_flat_map(|new: Vec<(u128, Vec<(String, String)>)>| {
        let known = prop_oneof![0u32..100, any::<u32>()].prop_map(|o| SeriesRef::Known(Ordinal(o)));
        let series = match new.len() as u32 {
            0 => known.boxed(),
            count => prop_oneof![known, (0..count).prop_map(SeriesRef::New)].boxed(),
        };
        let start = || prop_oneof![4 => Just(0i64), 1 => any::<i64>()];
        let sums = -1e9f64..1e9;
        (
            Just(new),
            proptest::collection::vec((series.clone(), times(), any::<u64>(), start()), 0..20),
            proptest::collection::vec((series.clone(), times(), sums, start()), 0..4),
            proptest::collection::vec((series, times(), any::<u64>(), "[a-z]{0,5}"), 0..4),
            proptest::collection::vec(("[a-z]{1,5}", 0u8..8, ".{0,5}", "[a-z]{0,3}"), 0..4),
        )
            .prop_map(|(new, floats, histograms, exemplars, metadata)| Model {
                new,
                floats,
                histograms,
                exemplars,
                metadata,
            })
    })
}

proptest! {
    #[test]
    fn what_was_put_in_comes_out(model in models()) {
        let bytes = build(&model);
        let view = SubBatchView::parse(&bytes).expect("own bytes");
        prop_assert_eq!(view.tenant(), &TenantId::default());
        let new: Vec<_> = view.new_series().map(|series| (series.id.0, series.labels())).collect();
        let expected: Vec<_> = model.new.iter().map(|(id, pairs)| (*id, labels(pairs))).collect();
        prop_assert_eq!(new, expected);
        prop_assert_eq!(view.new_series_len(), model.new.len());

        let floats: Vec<_> =
            view.floats().iter().map(|r| (r.series, r.timestamp_ms, r.value.to_bits(), r.start_ms)).collect();
        prop_assert_eq!(&floats, &model.floats);
        prop_assert_eq!(view.floats().rows().len(), floats.len());
        prop_assert_eq!(view.floats().rows().time_runs().map(|(_, rows)| rows).sum::<usize>(), floats.len());
        prop_assert_eq!(view.floats().rows().has_starts(), floats.iter().any(|row| row.3 != 0));

        let histograms: Vec<_> = view
            .histograms()
            .iter()
            .map(|r| (r.series, r.timestamp_ms, histogram::decode(r.blob).expect("checked").sum, r.start_ms))
            .collect();
        prop_assert_eq!(histograms, model.histograms);

        let exemplars: Vec<_> = view
            .exemplars()
            .iter()
            .map(|r| (r.series, r.timestamp_ms, r.value.to_bits(), r.labels()))
            .collect();
        let expected: Vec<_> = model.exemplars.iter().map(|e| (e.0, e.1, e.2, exemplar_labels(&e.3))).collect();
        prop_assert_eq!(exemplars, expected);

        let metadata: Vec<_> = view
            .metadata()
            .map(|m| (m.family.to_owned(), m.metric_type as u8, m.help.to_owned(), m.unit.to_owned()))
            .collect();
        prop_assert_eq!(metadata, model.metadata);

        let refs: Vec<SeriesRef> = floats.iter().map(|row| row.0).chain(view.histograms().rows().refs())
            .chain(view.exemplars().rows().refs()).collect();
        let ordinals = refs.iter().filter_map(|r| match r { SeriesRef::Known(o) => Some(*o), SeriesRef::New(_) => None });
        prop_assert_eq!(view.max_ordinal(), ordinals.max());
        prop_assert_eq!(view.uses_ordinals(), view.max_ordinal().is_some());
        prop_assert_eq!(view.generation(), if view.uses_ordinals() { 7 } else { 0 });
    }

    #[test]
    fn a_cut_is_refused(model in models(), at: prop::sample::Index) {
        let bytes = build(&model);
        prop_assert!(SubBatchView::parse(&bytes[..at.index(bytes.len())]).is_err());
    }

    #[test]
    fn a_changed_byte_is_taken_or_refused(model in models(), at: prop::sample::Index, byte: u8) {
        let mut bytes = build(&model).to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        walk(&bytes);
    }

    #[test]
    fn any_bytes_are_taken_or_refused(tail: Vec<u8>) {
        let mut bytes = vec![VERSION, 1, b't'];
        bytes.extend_from_slice(&tail);
        walk(&bytes);
    }

    #[test]
    fn outcomes_round_trip(outcome in outcomes(), tail: Vec<u8>) {
        let mut bytes = Vec::new();
        outcome.encode(&mut bytes);
        for cut in 0..bytes.len() {
            prop_assert!(SubBatchOutcome::decode(&mut &bytes[..cut]).is_err());
        }
        bytes.extend_from_slice(&tail);
        let mut input = bytes.as_slice();
        prop_assert_eq!(SubBatchOutcome::decode(&mut input), Ok(outcome));
        prop_assert_eq!(input, tail.as_slice());
    }

    #[test]
    fn any_bytes_are_an_outcome_or_refused(tail: Vec<u8>, kind in 0u8..4) {
        let mut bytes = vec![1, kind];
        bytes.extend_from_slice(&tail);
        let _ = SubBatchOutcome::decode(&mut bytes.as_slice());
    }
}

/// Iterates everything that parses; a panic fails the test.
fn walk(bytes: &[u8]) {
    if let Ok(view) = SubBatchView::parse(bytes) {
        let rows =
            view.floats().iter().count() + view.histograms().iter().count() + view.exemplars().iter().count();
        let counts =
            view.floats().rows().len() + view.histograms().rows().len() + view.exemplars().rows().len();
        assert_eq!(rows, counts);
        view.new_series().for_each(|series| drop(series.labels()));
        view.exemplars().iter().for_each(|exemplar| drop(exemplar.labels()));
        view.metadata().for_each(|metadata| assert!(!metadata.family.is_empty()));
    }
}

fn outcomes() -> impl Strategy<Value = SubBatchOutcome> {
    let ordinals = proptest::collection::vec(proptest::option::of(any::<u32>().prop_map(Ordinal)), 0..5);
    prop_oneof![
        (any::<u64>(), ordinals, any::<[u64; 4]>()).prop_map(|(generation, new_ordinals, numbers)| {
            let [series_limit, samples, histograms, exemplars] = numbers;
            SubBatchOutcome::Applied {
                generation,
                new_ordinals,
                series_limit,
                samples,
                histograms,
                exemplars,
            }
        }),
        any::<u64>().prop_map(|generation| SubBatchOutcome::StaleRegistry { generation }),
        ".{0,9}".prop_map(|text| SubBatchOutcome::Rejected { reason: RejectReason::Malformed(text) }),
    ]
}

#[test]
fn lies_are_named() {
    let mut bytes = vec![VERSION, 1, b't', 0, 0];
    write_u64(&mut bytes, u64::MAX);
    assert_eq!(SubBatchView::parse(&bytes).unwrap_err(), BatchError::Malformed("floats"));

    // Two rows, one new reference to a series that is not there.
    let bytes = [VERSION, 1, b't', 0, 0, 1, 1, 1, 2, 2, 1, 0];
    let error = BatchError::UnknownNewSeries { section: "floats", index: 0, count: 0 };
    assert_eq!(SubBatchView::parse(&bytes).unwrap_err(), error);

    // One row, a time run of two.
    let bytes = [VERSION, 1, b't', 0, 0, 1, 1, 0, 2, 2, 2, 0];
    let error = BatchError::RunMismatch { section: "floats", covered: 2, rows: 1 };
    assert_eq!(SubBatchView::parse(&bytes).unwrap_err(), error);

    assert_eq!(SubBatchView::parse(&[9]).unwrap_err(), BatchError::UnknownVersion(9));
    assert_eq!(
        SubBatchView::parse(&vec![VERSION; MAX_BYTES + 1]).unwrap_err(),
        BatchError::TooLong(MAX_BYTES + 1)
    );
}

#[test]
fn a_steady_sample_costs_a_reference_and_a_value() {
    let mut builder = SubBatchBuilder::new(TenantId::default(), 1);
    for ordinal in 0..1000 {
        builder.push_float(SeriesRef::Known(Ordinal(ordinal)), 1_700_000_000_000, 1.5, 0);
    }
    assert!(builder.finish().len() < 1000 * 9 + 64);
}
