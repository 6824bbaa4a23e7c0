use super::*;

fn exponential(schema: i32, offset: i32, buckets: &[f64]) -> Histogram {
    let count = buckets.iter().sum();
    let spans = vec![Span { offset, length: buckets.len() as u32 }];
    Histogram {
        schema,
        count,
        sum: count,
        positive_spans: spans,
        positive_buckets: buckets.to_vec(),
        ..Default::default()
    }
}

fn custom(bounds: &[f64], buckets: &[f64]) -> Histogram {
    Histogram { custom_values: bounds.to_vec(), ..exponential(CUSTOM_BUCKETS_SCHEMA, 0, buckets) }
}

#[test]
fn bounds_double_at_schema_zero() {
    assert_eq!(exponential_bound(0, 0), 1.0);
    assert_eq!(exponential_bound(3, 0), 8.0);
    assert_eq!(exponential_bound(-1, 0), 0.5);
    assert_eq!(exponential_bound(1, -1), 4.0);
    assert_eq!(exponential_bound(2, 1), 2.0);
    assert_eq!(exponential_bound(1024, 0), f64::MAX);
    assert_eq!(exponential_bound(i32::MAX, 8), f64::INFINITY);
    assert_eq!(exponential_bound(i32::MIN, 8), 0.0);
    assert!((exponential_bound(1, 3) - 2f64.powf(0.125)).abs() < 1e-15);
}

#[test]
fn addition_takes_the_coarser_schema() {
    let mut a = exponential(1, 1, &[1.0, 2.0, 3.0, 4.0]);
    assert_eq!(a.add(&exponential(0, 1, &[10.0, 20.0])), Ok(Meeting::default()));
    assert_eq!(a.schema, 0);
    assert_eq!(a.positive_buckets, [13.0, 27.0]);
    assert_eq!(a.count, 40.0);
    assert_eq!(a.add(&custom(&[1.0], &[1.0])), Err(IncompatibleSchemas));
}

#[test]
fn a_wider_zero_bucket_swallows_buckets() {
    let mut a = exponential(0, 0, &[1.0, 2.0, 4.0]); // (0.5,1] (1,2] (2,4]
    let wide = Histogram { zero_threshold: 1.5, zero_count: 8.0, count: 8.0, ..Default::default() };
    a.add(&wide).expect("both exponential");
    // 1.5 cuts the populated (1,2], so the zero bucket grows to 2.
    assert_eq!((a.zero_threshold, a.zero_count), (2.0, 11.0));
    assert_eq!(a.positive_buckets, [4.0]);
}

#[test]
fn custom_bounds_meet_in_what_both_know() {
    let mut a = custom(&[1.0, 5.0, 10.0], &[1.0, 2.0, 3.0, 4.0]);
    let meeting = a.add(&custom(&[1.0, 10.0], &[10.0, 20.0, 30.0])).expect("both custom");
    assert!(meeting.bounds_reconciled);
    assert_eq!(a.custom_values, [1.0, 10.0]);
    assert_eq!(a.positive_buckets, [11.0, 25.0, 34.0]);
}

#[test]
fn compensated_sums_keep_small_counts() {
    let mut sum = exponential(0, 0, &[1.0]);
    let mut low = None;
    for count in [1e100, 1.0, -1e100] {
        sum.add_compensated(&mut low, &exponential(0, 0, &[count])).expect("both exponential");
    }
    sum.add(&low.expect("carried bits")).expect("both exponential");
    assert_eq!(sum.positive_buckets, [2.0]);
}

#[test]
fn resets_are_found() {
    let check = |now: &Histogram, before: &Histogram, expected: bool| {
        assert_eq!(now.is_reset_after(before), expected, "{} after {}", now.describe(), before.describe());
    };
    let h = exponential(0, 0, &[1.0, 2.0]);
    check(&exponential(0, 0, &[1.0, 3.0]), &h, false);
    check(&exponential(0, 0, &[0.0, 9.0]), &h, true);
    check(&exponential(0, 1, &[9.0]), &h, true);
    check(&exponential(-1, 0, &[9.0, 9.0]), &h, false);
    check(&exponential(1, 0, &[9.0, 9.0, 9.0, 9.0]), &h, true);
    check(&Histogram { counter_reset_hint: CounterResetHint::Reset, ..h.clone() }, &h, true);
    check(&custom(&[1.0], &[5.0]), &h, true);
    check(&custom(&[1.0, 5.0], &[2.0, 1.0]), &custom(&[1.0], &[1.0]), false);
    check(&custom(&[1.0, 5.0], &[0.0, 2.0]), &custom(&[1.0], &[1.0]), true);
}

#[test]
fn quantiles_interpolate() {
    let mut notes = crate::annotations::Annotations::default();
    let mut q = |q: f64, h: &Histogram| quantile(q, h, "", Default::default(), &mut notes);
    let h = exponential(0, 1, &[4.0]); // (1,2]
    assert!((q(0.5, &h) - 2f64.sqrt()).abs() < 1e-12);
    assert_eq!(q(0.5, &custom(&[5.0, 10.0], &[0.0, 4.0])), 7.5);
    assert!(q(f64::NAN, &h).is_nan());
    assert_eq!(q(-1.0, &h), f64::NEG_INFINITY);
    let bucket = |upper, count| ClassicBucket { upper, count };
    let found =
        classic_quantile(0.5, &mut vec![bucket(f64::INFINITY, 8.0), bucket(10.0, 5.0), bucket(1.0, 6.0)]);
    assert_eq!(found.forced, Some((10.0, 10.0, 1.0)));
}

#[test]
fn trimming_splits_buckets() {
    let h = custom(&[5.0, 10.0], &[2.0, 4.0, 6.0]);
    assert_eq!(trim(&h, 7.5, true).positive_buckets, [2.0, 2.0]);
    assert_eq!(trim(&h, 7.5, false).positive_buckets, [2.0, 6.0]);
    assert_eq!(trim(&exponential(0, 0, &[1.0, 2.0]), 1.0, true).count, 1.0);
}

#[test]
fn describes_like_prometheus() {
    let h = Histogram {
        count: 20.0,
        sum: 10.0,
        zero_threshold: 0.001,
        zero_count: 2.0,
        negative_spans: vec![Span { offset: 0, length: 2 }],
        negative_buckets: vec![1.0, 2.0],
        ..exponential(0, 0, &[1.0, 2.0])
    };
    let h = Histogram { count: 20.0, sum: 10.0, ..h };
    assert_eq!(
        h.describe(),
        "{count:20, sum:10, [-2,-1):2, [-1,-0.5):1, [-0.001,0.001]:2, (0.5,1]:1, (1,2]:2}"
    );
}
