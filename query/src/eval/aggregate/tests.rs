use super::*;
use crate::exec::{CancelFlag, Limits};
use crate::promql::ast::ExprKind;
use crate::promql::parser::parse;
use proptest::prelude::*;

fn aggregate(text: &str) -> Aggregate {
    match parse(text).unwrap().kind {
        ExprKind::Aggregate(aggregate) => *aggregate,
        other => panic!("{other:?}"),
    }
}

fn series(i: usize, values: &[f64]) -> Series {
    let labels = Labels::from_pairs([("i", i.to_string())]).unwrap();
    Series { labels, drop_name: false, values: values.to_vec(), histograms: Vec::new() }
}

fn budget() -> Budget {
    Budget::new(Limits::default(), CancelFlag::default())
}

/// The output when the input is cut into parts.
fn in_parts(text: &str, input: &[f64], parts: usize) -> f64 {
    let aggregate = aggregate(text);
    let mut notes = Annotations::default();
    let budget = budget();
    let mut whole = Aggregator::new(&aggregate, 1);
    for part in 0..parts {
        let mut shard = Aggregator::new(&aggregate, 1);
        for (i, value) in input.iter().enumerate().filter(|(i, _)| i % parts == part) {
            shard.add(series(i, &[*value]), &mut notes, &budget).unwrap();
        }
        for group in shard.groups {
            whole.merge(group, &mut notes, &budget).unwrap();
        }
    }
    whole.finish(&[0.5], &mut notes, &budget).unwrap().first().map_or(ABSENT, |s| s.values[0])
}

fn directly(text: &str, input: &[f64]) -> f64 {
    let aggregate = aggregate(text);
    let mut notes = Annotations::default();
    let budget = budget();
    let mut whole = Aggregator::new(&aggregate, 1);
    for (i, value) in input.iter().enumerate() {
        whole.add(series(i, &[*value]), &mut notes, &budget).unwrap();
    }
    whole.finish(&[0.5], &mut notes, &budget).unwrap().first().map_or(ABSENT, |s| s.values[0])
}

#[test]
fn averages_survive_overflow_in_any_cut() {
    let big = 9.988465674311579e307;
    for parts in [1, 2, 3, 4] {
        assert_eq!(in_parts("avg(x)", &[big; 4], parts), big);
        assert_eq!(in_parts("avg(x)", &[-big, -big, big, big], parts).abs(), 0.0);
        assert_eq!(in_parts("sum(x)", &[2.0, 8.0, 1e100, -1e100], parts), 10.0);
        assert!(in_parts("avg(x)", &[f64::INFINITY, f64::NEG_INFINITY, 1.0], parts).is_nan());
        assert_eq!(in_parts("avg(x)", &[f64::INFINITY, 2.0, 3.0], parts), f64::INFINITY);
        assert!(in_parts("stddev(x)", &[f64::INFINITY], parts).is_nan());
        assert_eq!(in_parts("stdvar(x)", &[1.33, 1.33, 1.33], parts), 0.0);
    }
}

proptest! {
    #[test]
    fn parts_merge_to_the_whole(
        input in proptest::collection::vec(prop_oneof![
            -1e6..1e6f64, Just(0.0), Just(1e15), Just(-1e15), Just(f64::NAN), Just(f64::INFINITY),
        ], 1..40),
        parts in 1usize..17,
    ) {
        for op in ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"] {
            let text = format!("{op}(x)");
            let (whole, cut) = (directly(&text, &input), in_parts(&text, &input, parts));
            let close = (whole - cut).abs() <= 1e-12 * whole.abs().max(cut.abs())
                // What is left of large values that cancel is rounding on either way.
                || (op == "sum" || op == "avg") && (whole - cut).abs() <= 1e-12 * 1e15 * 1e-12;
            let same = whole.to_bits() == cut.to_bits() || (whole.is_nan() && cut.is_nan());
            prop_assert!(same || close, "{} of {:?} in {}: {} and {}", op, input, parts, whole, cut);
        }
        let cut = in_parts("quantile(0.5, x)", &input, parts);
        let whole = directly("quantile(0.5, x)", &input);
        prop_assert!(cut.to_bits() == whole.to_bits() || (cut.is_nan() && whole.is_nan()));
        prop_assert_eq!(in_parts("sum(x)", &input, 1).to_bits(), directly("sum(x)", &input).to_bits());
    }
}
