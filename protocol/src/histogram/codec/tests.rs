use proptest::prelude::*;

use super::*;
use crate::histogram::CUSTOM_BUCKETS_SCHEMA;

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|value| value.to_bits()).collect()
}

/// Equality of bits, where `==` would take -0.0 for 0.0 and no NaN for itself.
fn assert_same(a: &Histogram, b: &Histogram) {
    let scalars = |h: &Histogram| bits(&[h.zero_threshold, h.zero_count, h.count, h.sum]);
    assert_eq!(scalars(a), scalars(b));
    assert_eq!(
        (a.counter_reset_hint, a.is_integer, a.schema),
        (b.counter_reset_hint, b.is_integer, b.schema)
    );
    assert_eq!((&a.positive_spans, &a.negative_spans), (&b.positive_spans, &b.negative_spans));
    assert_eq!(bits(&a.positive_buckets), bits(&b.positive_buckets));
    assert_eq!(bits(&a.negative_buckets), bits(&b.negative_buckets));
    assert_eq!(bits(&a.custom_values), bits(&b.custom_values));
}

fn count(packed: bool) -> BoxedStrategy<f64> {
    match packed {
        true => prop_oneof![0u64..100, Just(0), Just(MAX_PACKED)].prop_map(|count| count as f64).boxed(),
        false => any::<u64>().prop_map(f64::from_bits).boxed(),
    }
}

fn buckets(packed: bool) -> impl Strategy<Value = (Vec<Span>, Vec<f64>)> {
    let first = (-1000i32..1000, 0u32..5);
    let others = proptest::collection::vec((0i32..5, 0u32..5), 0..4);
    (first, others).prop_flat_map(move |(first, others)| {
        let spans: Vec<Span> =
            [first].into_iter().chain(others).map(|(offset, length)| Span { offset, length }).collect();
        let len = spans.iter().map(|span| span.length as usize).sum::<usize>();
        (Just(spans), proptest::collection::vec(count(packed), len))
    })
}

fn histograms() -> impl Strategy<Value = Histogram> {
    any::<bool>().prop_flat_map(|packed| {
        let f64s = || any::<u64>().prop_map(f64::from_bits);
        let threshold = prop_oneof![Just(0.0), Just(USUAL_THRESHOLD), f64s()];
        let scalars =
            (0usize..4, any::<bool>(), any::<i32>(), threshold, count(packed), count(packed), f64s());
        let custom = proptest::collection::vec(f64s(), 0..4);
        let negative = prop_oneof![Just((Vec::new(), Vec::new())), buckets(packed)];
        (scalars, buckets(packed), negative, custom).prop_map(
            |(scalars, positive, negative, custom_values)| {
                let hints = [
                    CounterResetHint::Unknown,
                    CounterResetHint::Reset,
                    CounterResetHint::NotReset,
                    CounterResetHint::Gauge,
                ];
                Histogram {
                    counter_reset_hint: hints[scalars.0],
                    is_integer: scalars.1,
                    schema: scalars.2,
                    zero_threshold: scalars.3,
                    zero_count: scalars.4,
                    count: scalars.5,
                    sum: scalars.6,
                    positive_spans: positive.0,
                    positive_buckets: positive.1,
                    negative_spans: negative.0,
                    negative_buckets: negative.1,
                    custom_values,
                }
            },
        )
    })
}

proptest! {
    #[test]
    fn round_trips_bit_for_bit(histogram in histograms()) {
        let mut blob = Vec::new();
        encode(&histogram, &mut blob).expect("spans describe the buckets");
        prop_assert_eq!(check(&blob), Ok(()));
        assert_same(&decode(&blob).expect("own blob"), &histogram);
        for cut in 0..blob.len() {
            prop_assert!(decode(&blob[..cut]).is_err(), "cut at {} of {}", cut, blob.len());
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused(bytes: Vec<u8>) {
        prop_assert_eq!(decode(&bytes).map(|_| ()), check(&bytes));
    }
}

fn valid() -> Histogram {
    Histogram {
        is_integer: true,
        schema: 3,
        zero_threshold: USUAL_THRESHOLD,
        zero_count: 1.0,
        count: 7.0,
        sum: 12.5,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        positive_buckets: vec![1.0, 2.0, 3.0],
        ..Histogram::default()
    }
}

fn check_invalid(change: impl FnOnce(&mut Histogram), expected: HistogramError) {
    let mut histogram = valid();
    change(&mut histogram);
    assert_eq!(histogram.validate(), Err(expected));
}

#[test]
fn a_usual_histogram_is_valid_and_small() {
    assert_eq!(valid().validate(), Ok(()));
    let mut blob = Vec::new();
    encode(&valid(), &mut blob).expect("valid");
    assert_eq!(blob.len(), 21);
}

#[test]
fn validation_names_the_offence() {
    check_invalid(|h| h.schema = 9, HistogramError::UnknownSchema(9));
    check_invalid(|h| h.count = 8.0, HistogramError::CountMismatch { count: 8.0, in_buckets: 7.0 });
    check_invalid(|h| h.positive_spans[1].offset = -1, HistogramError::NegativeOffset(1));
    check_invalid(
        |h| h.positive_spans[1].length = 9,
        HistogramError::SpanMismatch { in_spans: 11, buckets: 3 },
    );
    check_invalid(|h| h.positive_spans[1].offset = i32::MAX, HistogramError::IndexOverflow(1));
    check_invalid(|h| h.positive_buckets[0] = -1.0, HistogramError::NegativeCount(-1.0));
    check_invalid(|h| h.custom_values = vec![1.0], HistogramError::UnexpectedCustomBounds(3));
}

#[test]
fn a_stale_histogram_is_valid() {
    let stale = Histogram { sum: crate::sample::stale_nan(), is_integer: true, ..Histogram::default() };
    assert_eq!(stale.validate(), Ok(()));
}

#[test]
fn custom_bounds_have_their_own_rules() {
    let custom = |bounds: &[f64]| Histogram {
        is_integer: true,
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3.0,
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![1.0, 2.0],
        custom_values: bounds.to_vec(),
        ..Histogram::default()
    };
    assert_eq!(custom(&[0.5, 1.0]).validate(), Ok(()));
    assert_eq!(custom(&[0.5]).validate(), Ok(()));
    assert_eq!(custom(&[]).validate(), Err(HistogramError::CustomBoundsCount { buckets: 2, bounds: 0 }));
    assert_eq!(custom(&[1.0, 0.5]).validate(), Err(HistogramError::CustomBoundsOrder));
    assert_eq!(custom(&[1.0, f64::NAN]).validate(), Err(HistogramError::CustomBoundsOrder));
    assert_eq!(custom(&[1.0, f64::INFINITY]).validate(), Err(HistogramError::CustomBoundsOrder));
    let with_zero = Histogram { zero_count: 1.0, ..custom(&[0.5]) };
    assert_eq!(with_zero.validate(), Err(HistogramError::CustomWithOthers("a zero bucket")));
}
