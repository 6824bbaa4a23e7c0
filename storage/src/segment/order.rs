//! The order of series inside a tenant: metric name, then the list of label names, then the values.
//!
//! It differs from the order of [`Labels`] where series of a metric have different names: grouping by names makes
//! each family a contiguous range whose values are plain columns.

use std::cmp::Ordering;

use protocol::labels::{Labels, METRIC_NAME};
use protocol::varint;

/// Compares two series of one tenant as segments order them.
pub fn compare_series(a: &Labels, b: &Labels) -> Ordering {
    if a == b {
        return Ordering::Equal;
    }
    metric(a)
        .cmp(metric(b))
        .then_with(|| plain(a).map(|(name, _)| name).cmp(plain(b).map(|(name, _)| name)))
        .then_with(|| plain(a).map(|(_, value)| value).cmp(plain(b).map(|(_, value)| value)))
}

/// Bytes whose order is that of [`compare_series`]: for sorting many series by plain comparison of bytes.
pub fn order_key(labels: &Labels, out: &mut Vec<u8>) {
    out.clear();
    push_escaped(metric(labels), out);
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
fn push_escaped(text: &[u8], out: &mut Vec<u8>) {
    for part in text.split_inclusive(|byte| *byte == 0) {
        out.extend_from_slice(part);
        if part.ends_with(&[0]) {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

/// Names and values as bytes: in an order by bytes there is no need to look at their UTF-8.
pub(super) fn pairs(canonical: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    let mut input = canonical;
    std::iter::from_fn(move || {
        let name = varint::read_prefixed(&mut input)?;
        Some((name, varint::read_prefixed(&mut input)?))
    })
}

/// The labels without the metric's name.
fn plain(labels: &Labels) -> impl Iterator<Item = (&[u8], &[u8])> {
    pairs(labels.as_bytes()).filter(|(name, _)| *name != METRIC_NAME.as_bytes())
}

fn metric(labels: &Labels) -> &[u8] {
    pairs(labels.as_bytes()).find(|(name, _)| *name == METRIC_NAME.as_bytes()).map_or(b"", |(_, value)| value)
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
