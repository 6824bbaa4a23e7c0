//! The order of series inside a tenant: metric name, then the list of label names, then the values.
//!
//! It differs from the order of [`Labels`] where series of a metric have different names: grouping by names makes
//! each family a contiguous range whose values are plain columns.

use std::cmp::Ordering;

use protocol::labels::{Labels, METRIC_NAME};

/// Compares two series of one tenant as segments order them.
pub fn compare_series(a: &Labels, b: &Labels) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    a.metric_name()
        .cmp(b.metric_name())
        .then_with(|| plain(a).map(|(name, _)| name).cmp(plain(b).map(|(name, _)| name)))
        .then_with(|| plain(a).map(|(_, value)| value).cmp(plain(b).map(|(_, value)| value)))
}

/// Bytes whose order is that of [`compare_series`]: for sorting many series by plain comparison of bytes.
pub fn order_key(labels: &Labels, out: &mut Vec<u8>) {
    out.clear();
    push_escaped(labels.metric_name(), out);
    for (name, _) in plain(labels) {
        push_escaped(name, out);
    }
    // A name is never empty, so this end sorts before any further name.
    out.extend_from_slice(&[0, 0]);
    for (_, value) in plain(labels) {
        push_escaped(value, out);
    }
}

/// Appends a text and an end that sorts before any continuation of it.
fn push_escaped(text: &str, out: &mut Vec<u8>) {
    for part in text.as_bytes().split_inclusive(|byte| *byte == 0) {
        out.extend_from_slice(part);
        if part.ends_with(&[0]) {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// The labels without the metric's name.
pub(super) fn plain(labels: &Labels) -> impl Iterator<Item = (&str, &str)> {
    labels.iter().filter(|(name, _)| *name != METRIC_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn labels() -> impl Strategy<Value = Labels> {
        let name = prop_oneof![Just("__name__".to_owned()), "[Aa\0b]{1,2}"];
        proptest::collection::btree_map(name, "[a\0b]{0,3}", 0..4)
            .prop_map(|pairs| Labels::from_pairs(pairs).expect("names are unique and not empty"))
    }

    proptest! {
        #[test]
        fn keys_order_as_the_comparison_does(a in labels(), b in labels()) {
            let (mut x, mut y) = (vec![], vec![]);
            order_key(&a, &mut x);
            order_key(&b, &mut y);
            prop_assert_eq!(compare_series(&a, &b), x.cmp(&y));
            prop_assert_eq!(compare_series(&a, &b) == Ordering::Equal, a == b);
        }
    }
}
