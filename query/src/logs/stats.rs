//! Figures of a field: how many values, and of those that are numbers the extremes, sum and quantiles.
//!
//! ```text
//! shard: values ─► numbers sorted and counted, texts counted ─ValuesMessage─► merged over shards ─► FieldStats
//! ```
//!
//! Exact: each distinct value travels with its count. Numbers travel as numbers, since a field such as a duration may have
//! as many values as there are records; a value counts once however it was written: 7, 7.0 and "7" are one, their text.

use std::collections::BTreeMap;

use protocol::logs::messages::ValuesMessage;
use protocol::logs::value::number_in;
use protocol::logs::{FieldValues, LogValue};

use super::engine::{Counted, Top, largest};
use super::fragment::{Result, differences_of, sums_of};
use crate::error::QueryError;
use crate::exec::Budget;
use crate::value::Map;

/// Figures of a field.
#[derive(Clone, Debug, PartialEq)]
pub struct FieldStats {
    /// Records that have the field.
    pub count: u64,
    /// Matching records that do not have it.
    pub missing: u64,
    /// Different values.
    pub distinct: u64,
    /// Figures of the values that are numbers, if there are any.
    pub numbers: Option<NumberStats>,
}

/// Figures of numbers.
#[derive(Clone, Debug, PartialEq)]
pub struct NumberStats {
    /// How many.
    pub count: u64,
    /// Smallest.
    pub min: f64,
    /// Largest.
    pub max: f64,
    /// Sum.
    pub sum: f64,
    /// Quantiles that were asked for, each with its value, as Prometheus interpolates them.
    pub quantiles: Vec<(f64, f64)>,
}

/// Values of a field, while they are gathered at a shard.
pub(crate) struct Gathered<'b> {
    budget: &'b Budget,
    ints: Vec<i64>,
    floats: Vec<f64>,
    texts: Map<String, u64>,
    missing: u64,
}

impl<'b> Gathered<'b> {
    pub fn new(budget: &'b Budget) -> Self {
        Self { budget, ints: Vec::new(), floats: Vec::new(), texts: Map::default(), missing: 0 }
    }

    /// Takes values.
    pub fn add(&mut self, values: FieldValues<'_>) -> Result<()> {
        match values {
            FieldValues::Ints(values) => {
                self.budget.charge_samples(values.len() as u64)?;
                self.budget.hold(8 * values.len() as u64)?;
                self.ints.extend_from_slice(values);
            }
            FieldValues::Floats(values) => {
                self.budget.charge_samples(values.len() as u64)?;
                self.budget.hold(8 * values.len() as u64)?;
                self.floats.extend_from_slice(values);
            }
            FieldValues::Text(text, count) => {
                self.budget.charge_samples(1)?;
                if let Some(known) = self.texts.get_mut(text) {
                    *known += count;
                } else {
                    self.budget.hold(text.len() as u64 + 64)?;
                    self.texts.insert(text.to_owned(), count);
                }
            }
            FieldValues::Missing(count) => self.missing += count,
        }
        Ok(())
    }

    /// The values sorted and counted.
    pub fn finish(self) -> ValuesMessage {
        let (ints, int_counts) = counted(self.ints);
        let (floats, float_counts) = counted(self.floats.into_iter().map(order_of).collect());
        let floats = floats.into_iter().map(float_of).collect();
        let mut texts: Vec<(String, u64)> = self.texts.into_iter().collect();
        texts.sort_unstable();
        let (texts, text_counts) = texts.into_iter().unzip();
        ValuesMessage {
            missing: self.missing,
            ints: differences_of(&ints),
            int_counts,
            floats,
            float_counts,
            texts,
            text_counts,
        }
    }
}

/// Places for each value up to which counting by place takes less time and memory than sorting.
const MAX_GAP: usize = 2;

/// A whole number for each float, in the order of [`f64::total_cmp`].
fn order_of(float: f64) -> i64 {
    let bits = float.to_bits() as i64;
    bits ^ ((bits >> 63) & i64::MAX)
}

/// The float that [`order_of`] gave this number.
fn float_of(order: i64) -> f64 {
    f64::from_bits((order ^ ((order >> 63) & i64::MAX)) as u64)
}

/// Values, each once and ascending, with their counts.
fn counted(mut values: Vec<i64>) -> (Vec<i64>, Vec<u64>) {
    if let Some((least, mut counts)) = dense(values.iter().copied(), values.len(), 0u32) {
        values.iter().for_each(|value| counts[value.wrapping_sub(least) as usize] += 1);
        let there = counts.into_iter().enumerate().filter(|(_, count)| *count > 0);
        return there.map(|(at, count)| (least.wrapping_add(at as i64), u64::from(count))).unzip();
    }
    values.sort_unstable();
    values.chunk_by(|a, b| a == b).map(|run| (run[0], run.len() as u64)).unzip()
}

/// The least of so many values, and a place for each number up to the largest, where they lie close enough together.
fn dense<T: Clone>(values: impl Iterator<Item = i64>, len: usize, empty: T) -> Option<(i64, Vec<T>)> {
    let (least, largest) = values.fold((i64::MAX, i64::MIN), |(a, b), value| (a.min(value), b.max(value)));
    let width = usize::try_from(largest.checked_sub(least)?).ok()?.checked_add(1)?;
    let is_close = len <= u32::MAX as usize && width <= len.saturating_mul(MAX_GAP);
    is_close.then(|| (least, vec![empty; width]))
}

/// Values of all shards.
#[derive(Debug, Default)]
pub(crate) struct Merged {
    missing: u64,
    ints: Vec<(i64, u64)>,
    floats: Vec<(f64, u64)>,
    texts: Map<String, u64>,
}

impl Merged {
    /// Takes a shard's values.
    pub fn add(&mut self, values: ValuesMessage, budget: &Budget) -> Result<()> {
        let lens = [
            (values.ints.len(), values.int_counts.len()),
            (values.floats.len(), values.float_counts.len()),
            (values.texts.len(), values.text_counts.len()),
        ];
        if lens.iter().any(|(values, counts)| values != counts) {
            return Err(QueryError::Protocol("a log answer has more values than counts".to_owned()));
        }
        budget.hold(16 * (lens[0].0 + lens[1].0) as u64)?;
        self.missing = self.missing.saturating_add(values.missing);
        self.ints.extend(sums_of(&values.ints)?.into_iter().zip(values.int_counts));
        self.floats.extend(values.floats.into_iter().zip(values.float_counts));
        for (text, count) in values.texts.into_iter().zip(values.text_counts) {
            budget.hold(text.len() as u64 + 64)?;
            let known = self.texts.entry(text).or_default();
            *known = known.saturating_add(count);
        }
        Ok(())
    }

    /// The figures.
    pub fn finish(self, quantiles: &[f64]) -> FieldStats {
        let missing = self.missing;
        let Distinct { ints, floats, texts } = self.distinct();
        let counts = ints.iter().map(|(_, count)| count).chain(floats.iter().map(|(_, count)| count));
        let count = counts.chain(texts.values()).sum();
        let distinct = (ints.len() + floats.len() + texts.len()) as u64;
        let mut numbers: Vec<(f64, u64)> =
            ints.iter().map(|(value, count)| (*value as f64, *count)).collect();
        numbers.extend(floats.iter().filter(|(value, _)| value.is_finite()));
        numbers.extend(texts.iter().filter_map(|(text, count)| Some((number_in(text)?, *count))));
        FieldStats { count, missing, distinct, numbers: NumberStats::of(numbers, quantiles) }
    }

    /// The commonest values, equally common ones by their text. Records without the field have the empty text.
    pub fn top(self, limit: usize) -> Top {
        let missing = self.missing;
        let Distinct { ints, floats, texts } = self.distinct();
        let of_ints = ints.iter().map(|(_, count)| *count);
        let of_floats = floats.iter().map(|(_, count)| *count);
        let of_missing = (missing > 0).then_some(missing);
        let mut counts: Vec<u64> =
            of_ints.chain(of_floats).chain(texts.values().copied()).chain(of_missing).collect();
        let (distinct, total) = (counts.len(), counts.iter().sum());
        let least = match limit {
            0 => u64::MAX,
            limit if limit < counts.len() => *counts.select_nth_unstable_by(limit - 1, |a, b| b.cmp(a)).1,
            _ => 0,
        };
        let mut common: Vec<(String, u64)> = Vec::new();
        let mut note = |count: u64, text: &dyn Fn() -> String| {
            if count >= least {
                common.push((text(), count));
            }
        };
        ints.iter().for_each(|(value, count)| note(*count, &|| LogValue::Int(*value).text().into_owned()));
        floats
            .iter()
            .for_each(|(value, count)| note(*count, &|| LogValue::Float(*value).text().into_owned()));
        texts.iter().for_each(|(text, count)| note(*count, &|| text.clone()));
        of_missing.into_iter().for_each(|count| note(count, &String::new));
        let counted = common.into_iter().map(|(text, count)| Counted {
            values: vec![text],
            count,
            buckets: BTreeMap::from([(0, count)]),
        });
        Top { commonest: largest(counted.collect(), limit), distinct, total }
    }

    /// Each value once, in one form.
    fn distinct(self) -> Distinct {
        let Self { ints, floats, mut texts, .. } = self;
        let ints = united(ints);
        let floats = united(floats.into_iter().map(|(value, count)| (order_of(value), count)).collect());
        let floats: Vec<(f64, u64)> =
            floats.into_iter().map(|(order, count)| (float_of(order), count)).collect();
        let has_written = texts.keys().any(|text| number_in(text).is_some());
        let kinds = [!ints.is_empty(), !floats.is_empty(), has_written];
        let is_plain = kinds.into_iter().filter(|there| *there).count() <= 1
            && (texts.is_empty() || floats.iter().all(|(value, _)| value.is_finite()));
        if is_plain {
            return Distinct { ints, floats, texts };
        }
        // The same value may have come in several forms.
        let mut add = |value: LogValue<'_>, count: u64| {
            let known = texts.entry(value.text().into_owned()).or_default();
            *known = known.saturating_add(count);
        };
        ints.iter().for_each(|(value, count)| add(LogValue::Int(*value), *count));
        floats.iter().for_each(|(value, count)| add(LogValue::Float(*value), *count));
        Distinct { ints: Vec::new(), floats: Vec::new(), texts }
    }
}

/// Values and their counts, none of them twice: where numbers and texts might be equal, all are texts.
struct Distinct {
    ints: Vec<(i64, u64)>,
    floats: Vec<(f64, u64)>,
    texts: Map<String, u64>,
}

impl NumberStats {
    fn of(mut numbers: Vec<(f64, u64)>, quantiles: &[f64]) -> Option<Self> {
        numbers.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (min, max) = (numbers.first()?.0, numbers.last()?.0);
        let count = numbers.iter().map(|(_, count)| count).sum();
        let mut sum = crate::kahan::Sum::default();
        numbers.iter().for_each(|(number, count)| sum.add(number * *count as f64));
        Some(Self {
            count,
            min,
            max,
            sum: sum.total(),
            quantiles: quantiles.iter().map(|q| (*q, weighted_quantile(&numbers, count, *q))).collect(),
        })
    }
}

/// Each value once, ascending, with the sum of its counts.
fn united(mut values: Vec<(i64, u64)>) -> Vec<(i64, u64)> {
    if let Some((least, mut sums)) = dense(values.iter().map(|(value, _)| *value), values.len(), 0u64) {
        for (value, count) in values {
            let sum = &mut sums[value.wrapping_sub(least) as usize];
            *sum = sum.saturating_add(count);
        }
        let there = sums.into_iter().enumerate().filter(|(_, sum)| *sum > 0);
        return there.map(|(at, sum)| (least.wrapping_add(at as i64), sum)).collect();
    }
    // Shards send sorted runs, which a stable sort merges.
    values.sort_by_key(|(value, _)| *value);
    values.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = kept.1.saturating_add(next.1);
        }
        same
    });
    values
}

/// A quantile of sorted numbers with their counts, between two where it falls between them.
fn weighted_quantile(numbers: &[(f64, u64)], count: u64, q: f64) -> f64 {
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    let rank = q * (count.saturating_sub(1)) as f64;
    let at = |rank: u64| {
        let mut seen = 0;
        let found = numbers.iter().find(|(_, count)| {
            seen += count;
            rank < seen
        });
        found.or(numbers.last()).map_or(f64::NAN, |(number, _)| *number)
    };
    let low = rank.floor();
    let weight = rank - low;
    let (low, high) = (at(low as u64), at((low as u64 + 1).min(count.saturating_sub(1))));
    if weight == 0.0 { low } else { low * (1.0 - weight) + high * weight }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exec::{Control, Limits};

    fn value() -> impl Strategy<Value = LogValue<'static>> {
        prop_oneof![
            3 => (-3..4i64).prop_map(LogValue::Int),
            1 => any::<i64>().prop_map(LogValue::Int),
            3 => (-3..4i32).prop_map(|n| LogValue::Float(f64::from(n) / 2.0)),
            1 => any::<f64>().prop_map(LogValue::Float),
            2 => prop_oneof![Just("1"), Just("1.0"), Just("x"), Just("NaN"), Just("-2"), Just("")]
                .prop_map(|text| LogValue::String(text.into())),
        ]
    }

    /// The figures as texts of values give them.
    fn naive(values: &[(u8, LogValue<'static>)], quantiles: &[f64]) -> FieldStats {
        let (mut missing, mut texts) = (0, BTreeMap::<String, u64>::new());
        for (_, value) in values {
            match value.text() {
                text if text.is_empty() => missing += 1,
                text => *texts.entry(text.into_owned()).or_default() += 1,
            }
        }
        let numbers = texts.iter().filter_map(|(text, count)| Some((number_in(text)?, *count)));
        FieldStats {
            count: texts.values().sum(),
            missing,
            distinct: texts.len() as u64,
            numbers: NumberStats::of(numbers.collect(), quantiles),
        }
    }

    proptest! {
        #[test]
        fn numbers_travel_as_their_texts_would(
            values in proptest::collection::vec((0..3u8, value()), 0..40), only in 0..4u8,
        ) {
            // Also each kind alone, which goes the short way.
            let values: Vec<_> = values.into_iter().filter(|(_, value)| match only {
                1 => matches!(value, LogValue::Int(_)),
                2 => matches!(value, LogValue::Float(_)),
                3 => matches!(value, LogValue::String(_)),
                _ => true,
            }).collect();
            let budget = Budget::new(Limits::default(), Control::default());
            let mut merged = Merged::default();
            for shard in 0..3 {
                let mut gathered = Gathered::new(&budget);
                for (_, value) in values.iter().filter(|(own, _)| *own == shard) {
                    let taken = match value {
                        LogValue::Int(value) => FieldValues::Ints(&[*value]),
                        LogValue::Float(value) => FieldValues::Floats(&[*value]),
                        value if value.is_empty() => FieldValues::Missing(1),
                        value => FieldValues::Text(&value.text(), 1),
                    };
                    gathered.add(taken).expect("within the budget");
                }
                merged.add(gathered.finish(), &budget).expect("well formed");
            }
            let quantiles = [0.0, 0.5, 0.99, 1.0];
            let (mut found, mut expected) = (merged.finish(&quantiles), naive(&values, &quantiles));
            // Added up in another order.
            for stats in [&mut found, &mut expected] {
                if let Some(numbers) = &mut stats.numbers {
                    numbers.sum = (numbers.sum as f32).into();
                }
            }
            let same = format!("{found:?}") == format!("{expected:?}");
            prop_assert!(same, "{:?} for {:?}", found, expected);
        }
    }

    #[test]
    fn answers_that_do_not_fit_are_refused() {
        let budget = Budget::new(Limits::default(), Control::default());
        let short = ValuesMessage { ints: vec![1, 2], int_counts: vec![1], ..ValuesMessage::default() };
        assert!(Merged::default().add(short, &budget).is_err());
        let falling = ValuesMessage {
            ints: vec![5, 3u64.wrapping_neg()],
            int_counts: vec![1, 1],
            ..ValuesMessage::default()
        };
        assert!(Merged::default().add(falling, &budget).is_err());
        assert_eq!(
            sums_of(&differences_of(&[i64::MIN, -1, i64::MAX])).expect("ascending"),
            [i64::MIN, -1, i64::MAX]
        );
    }

    #[test]
    fn quantiles_of_counted_numbers() {
        let numbers = [(1.0, 2), (2.0, 1), (10.0, 1)];
        assert_eq!(weighted_quantile(&numbers, 4, 0.0), 1.0);
        assert_eq!(weighted_quantile(&numbers, 4, 0.5), 1.5);
        assert_eq!(weighted_quantile(&numbers, 4, 1.0), 10.0);
        assert_eq!(weighted_quantile(&numbers, 4, 2.0), f64::INFINITY);
        assert_eq!(weighted_quantile(&numbers[..1], 2, 0.99), 1.0);
    }
}
