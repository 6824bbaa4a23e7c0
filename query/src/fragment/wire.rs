//! Between the evaluator's columns and the messages of `protocol::scan`. Decoding takes nothing for granted: lengths
//! that do not fit the grid are errors.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use protocol::histogram::{CounterResetHint, Histogram, Span};
use protocol::labels::Labels;
use protocol::scan::{
    HistogramMessage, PartialHistogram, PartialMessage, RawSeries, SeriesMessage, StepHistogram,
};

use crate::error::QueryError;
use crate::eval::aggregate::{
    FLAG_HISTOGRAM_MEAN, FLAG_INCOMPATIBLE, FLAG_NOT_RESET, FLAG_RECONCILED, FLAG_RESET, Group,
    HistogramState,
};
use crate::promql::functions::over_time::HistogramTotal;
use crate::source::SeriesColumns;
use crate::value::{ABSENT, Series, is_absent};

type Result<T> = std::result::Result<T, QueryError>;

fn malformed(what: &str) -> QueryError {
    QueryError::Protocol(format!("malformed answer: {what}"))
}

/// f64 little-endian; a rest of less than eight bytes is ignored (and shows in the count).
pub fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.chunks_exact(8).map(|c| f64::from_le_bytes(c.try_into().unwrap_or_default())).collect()
}

/// f64 little-endian.
pub fn float_bytes<'a>(values: impl IntoIterator<Item = &'a f64>) -> Vec<u8> {
    values.into_iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// One bit per step, lowest first; empty when all are set.
fn bitmap(bits: impl ExactSizeIterator<Item = bool>) -> Vec<u8> {
    let mut out = vec![0u8; bits.len().div_ceil(8)];
    let mut all = true;
    for (i, bit) in bits.enumerate() {
        out[i / 8] |= u8::from(bit) << (i % 8);
        all &= bit;
    }
    if all { Vec::new() } else { out }
}

/// The steps that a bitmap names.
fn present_steps(bitmap: &[u8], steps: usize) -> Result<Vec<usize>> {
    if bitmap.is_empty() {
        return Ok((0..steps).collect());
    }
    if bitmap.len() != steps.div_ceil(8) {
        return Err(malformed("a presence bitmap does not fit the steps"));
    }
    Ok((0..steps).filter(|i| bitmap[i / 8] >> (i % 8) & 1 == 1).collect())
}

/// A column from the values of present steps. An empty column stands for `default` at all of them.
fn column(bytes: &[u8], present: &[usize], steps: usize, default: f64, absent: f64) -> Result<Vec<f64>> {
    let mut out = vec![absent; steps];
    if bytes.is_empty() {
        present.iter().for_each(|step| out[*step] = default);
        return Ok(out);
    }
    if bytes.len() != present.len() * 8 {
        return Err(malformed("a column does not fit its presence"));
    }
    for (step, value) in present.iter().zip(floats(bytes)) {
        out[*step] = value;
    }
    Ok(out)
}

fn labels(bytes: &[u8]) -> Result<Labels> {
    Labels::from_canonical(bytes).map_err(|e| malformed(&e.to_string()))
}

/// To a message.
pub fn histogram_to_wire(h: &Histogram) -> HistogramMessage {
    let spans = |spans: &[Span]| spans.iter().flat_map(|s| [s.offset, s.length as i32]).collect();
    HistogramMessage {
        counter_reset_hint: match h.counter_reset_hint {
            CounterResetHint::Unknown => 0,
            CounterResetHint::Reset => 1,
            CounterResetHint::NotReset => 2,
            CounterResetHint::Gauge => 3,
        },
        schema: h.schema,
        zero_threshold: h.zero_threshold,
        zero_count: h.zero_count,
        count: h.count,
        sum: h.sum,
        positive_spans: spans(&h.positive_spans),
        negative_spans: spans(&h.negative_spans),
        positive_buckets: h.positive_buckets.clone(),
        negative_buckets: h.negative_buckets.clone(),
        custom_values: h.custom_values.clone(),
    }
}

/// From a message.
pub fn histogram_from_wire(m: HistogramMessage) -> Result<Histogram> {
    let spans = |flat: &[i32], buckets: &[f64]| -> Result<Vec<Span>> {
        let mut left = buckets.len();
        let pairs = flat.chunks(2).map(|pair| match *pair {
            [offset, length] if length >= 0 && length as usize <= left => {
                left -= length as usize;
                Ok(Span { offset, length: length as u32 })
            }
            _ => Err(malformed("the spans of a histogram do not fit its buckets")),
        });
        pairs.collect()
    };
    Ok(Histogram {
        counter_reset_hint: match m.counter_reset_hint {
            1 => CounterResetHint::Reset,
            2 => CounterResetHint::NotReset,
            3 => CounterResetHint::Gauge,
            _ => CounterResetHint::Unknown,
        },
        is_integer: false,
        schema: m.schema,
        zero_threshold: m.zero_threshold,
        zero_count: m.zero_count,
        count: m.count,
        sum: m.sum,
        positive_spans: spans(&m.positive_spans, &m.positive_buckets)?,
        negative_spans: spans(&m.negative_spans, &m.negative_buckets)?,
        positive_buckets: m.positive_buckets,
        negative_buckets: m.negative_buckets,
        custom_values: m.custom_values,
    })
}

/// A series over a grid.
pub fn series_to_wire(series: &Series) -> SeriesMessage {
    let histograms = series.histograms.iter().enumerate();
    SeriesMessage {
        labels: Bytes::copy_from_slice(series.labels.as_bytes()),
        drop_name: series.drop_name,
        presence: bitmap(series.values.iter().map(|v| !is_absent(*v))),
        values: float_bytes(series.values.iter().filter(|v| !is_absent(**v))).into(),
        histograms: histograms
            .filter_map(|(step, h)| {
                let histogram = Some(histogram_to_wire(h.as_deref()?));
                Some(StepHistogram { step: step as u32, histogram })
            })
            .collect(),
    }
}

/// The other way of [`series_to_wire`].
pub fn series_from_wire(m: SeriesMessage, steps: usize) -> Result<Series> {
    let unfit = || malformed("the values of a series do not fit its presence");
    let labels = labels(&m.labels)?;
    let mut series = if m.presence.is_empty() {
        if m.values.len() != steps * 8 {
            return Err(unfit());
        }
        Series { labels, drop_name: m.drop_name, values: floats(&m.values), histograms: Vec::new() }
    } else {
        let present = present_steps(&m.presence, steps)?;
        if m.values.len() != present.len() * 8 {
            return Err(unfit());
        }
        let mut series = Series { drop_name: m.drop_name, ..Series::empty(labels, steps) };
        for (step, value) in present.iter().zip(floats(&m.values)) {
            series.values[*step] = value;
        }
        series
    };
    for at in m.histograms {
        let step = at.step as usize;
        let Some(histogram) = at.histogram.filter(|_| step < steps) else {
            return Err(malformed("a histogram lies outside of the steps"));
        };
        series.set_histogram(step, Arc::new(histogram_from_wire(histogram)?));
    }
    Ok(series)
}

fn has_any(column: &[f64]) -> bool {
    column.iter().any(|v| v.to_bits() != 0)
}

/// A group's running states.
pub fn group_to_wire(group: &Group) -> PartialMessage {
    let present: Vec<usize> = (0..group.high.len()).filter(|step| !is_absent(group.high[*step])).collect();
    // Columns of zeros are left out.
    let pick = |column: &[f64]| {
        let values: Vec<f64> = present.iter().filter_map(|step| column.get(*step)).copied().collect();
        if has_any(&values) { float_bytes(&values) } else { Vec::new() }
    };
    let flags: Vec<u8> = present.iter().filter_map(|step| group.flags.get(*step)).copied().collect();
    let histogram = |(step, state): (&usize, &HistogramState)| {
        let step = *step as u32;
        match state {
            HistogramState::Incompatible => {
                PartialHistogram { step, high: None, low: None, count: 0.0, flags: FLAG_INCOMPATIBLE }
            }
            HistogramState::Total(total) => {
                let flag = |set: bool, flag: u32| if set { flag } else { 0 };
                PartialHistogram {
                    step,
                    high: Some(histogram_to_wire(&total.sum)),
                    low: total.low.as_ref().map(histogram_to_wire),
                    count: total.count,
                    flags: flag(total.is_mean, FLAG_HISTOGRAM_MEAN)
                        | flag(total.reset_seen, FLAG_RESET)
                        | flag(total.not_reset_seen, FLAG_NOT_RESET)
                        | flag(total.bounds_reconciled, FLAG_RECONCILED),
                }
            }
        }
    };
    PartialMessage {
        labels: group.labels.as_bytes().to_vec(),
        drop_name: group.drop_name,
        presence: bitmap(group.high.iter().map(|v| !is_absent(*v))),
        high: float_bytes(present.iter().map(|step| &group.high[*step])),
        low: pick(&group.low),
        count: pick(&group.count),
        spread: pick(&group.spread),
        spread_low: pick(&group.spread_low),
        flags: if flags.iter().any(|f| *f != 0) { flags } else { Vec::new() },
        histograms: group.histograms.iter().map(histogram).collect(),
        metric: if group.histograms.is_empty() { String::new() } else { group.metric.clone() },
    }
}

/// Columns of a float per step that [`group_from_wire`] makes, the list of present steps and the flags included.
pub const GROUP_COLUMNS: u64 = 7;

/// The other way of [`group_to_wire`].
pub fn group_from_wire(m: PartialMessage, steps: usize) -> Result<Group> {
    let present = present_steps(&m.presence, steps)?;
    if m.high.len() != present.len() * 8 {
        return Err(malformed("a state column does not fit its presence"));
    }
    let zeros = |bytes: &[u8]| column(bytes, &present, steps, 0.0, 0.0);
    let mut flags = vec![0; steps];
    if !m.flags.is_empty() {
        if m.flags.len() != present.len() {
            return Err(malformed("state flags do not fit their presence"));
        }
        present.iter().zip(&m.flags).for_each(|(step, flag)| flags[*step] = *flag);
    }
    let mut histograms = BTreeMap::new();
    for h in m.histograms {
        let step = h.step as usize;
        if step >= steps {
            return Err(malformed("a histogram state lies outside of the steps"));
        }
        let state = match h.high {
            None => HistogramState::Incompatible,
            Some(high) => HistogramState::Total(Box::new(HistogramTotal {
                sum: histogram_from_wire(high)?,
                low: h.low.map(histogram_from_wire).transpose()?,
                count: h.count,
                is_mean: h.flags & FLAG_HISTOGRAM_MEAN != 0,
                reset_seen: h.flags & FLAG_RESET != 0,
                not_reset_seen: h.flags & FLAG_NOT_RESET != 0,
                bounds_reconciled: h.flags & FLAG_RECONCILED != 0,
            })),
        };
        histograms.insert(step, state);
    }
    Ok(Group {
        labels: labels(&m.labels)?,
        drop_name: m.drop_name,
        high: column(&m.high, &present, steps, ABSENT, ABSENT)?,
        low: zeros(&m.low)?,
        count: zeros(&m.count)?,
        spread: zeros(&m.spread)?,
        spread_low: zeros(&m.spread_low)?,
        flags,
        histograms,
        rows: Vec::new(),
        metric: m.metric,
    })
}

/// The rows of a quantile's group: series that all have the group's labels.
pub fn rows_to_wire(group: &Group) -> Vec<SeriesMessage> {
    let row = |values: &Vec<f64>| SeriesMessage {
        labels: Bytes::copy_from_slice(group.labels.as_bytes()),
        drop_name: group.drop_name,
        presence: bitmap(values.iter().map(|v| !is_absent(*v))),
        values: float_bytes(values.iter().filter(|v| !is_absent(**v))).into(),
        histograms: Vec::new(),
    };
    group.rows.iter().map(row).collect()
}

/// Whether anything is present, per step.
pub fn presence_to_wire(present: &[bool]) -> PartialMessage {
    PartialMessage { presence: bitmap(present.iter().copied()), ..Default::default() }
}

/// The other way of [`presence_to_wire`].
pub fn presence_from_wire(m: &PartialMessage, steps: usize) -> Result<Vec<usize>> {
    present_steps(&m.presence, steps)
}

fn differences(times: &[i64]) -> Vec<i64> {
    let mut before = 0i64;
    times.iter().map(|t| t.wrapping_sub(std::mem::replace(&mut before, *t))).collect()
}

/// Times from their differences.
pub fn times(differences: &[i64]) -> Vec<i64> {
    let mut time = 0i64;
    let next = |d: &i64| {
        time = time.wrapping_add(*d);
        time
    };
    differences.iter().map(next).collect()
}

/// Raw samples of a series; only the newest of all with `last_only`.
pub fn raw_to_wire(columns: &SeriesColumns<'_>, last_only: bool) -> RawSeries {
    let (mut floats, mut histograms) = (0, 0);
    if last_only {
        let float_is_newest = columns.times.last() >= columns.histogram_times.last();
        floats = if float_is_newest { columns.times.len().saturating_sub(1) } else { columns.times.len() };
        histograms = match float_is_newest {
            true => columns.histogram_times.len(),
            false => columns.histogram_times.len().saturating_sub(1),
        };
    }
    RawSeries {
        labels: columns.labels.as_bytes().to_vec(),
        times: differences(&columns.times[floats..]),
        values: float_bytes(&columns.values[floats..]),
        histogram_times: differences(&columns.histogram_times[histograms..]),
        histograms: columns.histograms[histograms..].iter().map(histogram_to_wire).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use prost::Message;

    proptest! {
        #[test]
        fn series_survive_the_wire(values in proptest::collection::vec(
            prop_oneof![Just(ABSENT), any::<f64>()], 1..50), is_whole: bool)
        {
            let values: Vec<f64> =
                values.into_iter().map(|v| if is_whole && is_absent(v) { 1.5 } else { v }).collect();
            let labels = Labels::from_pairs([("a", "b")]).unwrap();
            let mut series = Series { labels, drop_name: true, values, histograms: Vec::new() };
            if !is_whole {
                series.set_histogram(0, Arc::new(Histogram::default()));
                series.values[0] = ABSENT;
            }
            let bytes = series_to_wire(&series).encode_to_vec();
            let message = SeriesMessage::decode(bytes.as_slice()).unwrap();
            let back = series_from_wire(message.clone(), series.values.len()).unwrap();
            let bits = |s: &Series| s.values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&back), bits(&series));
            prop_assert_eq!(&back.labels, &series.labels);
            prop_assert!(back.drop_name && back.histogram(0).is_some() != is_whole);
            let steps = series.values.len();
            prop_assert!(series_from_wire(message, steps + 8).is_err() || series.values.iter().all(|v| !is_absent(*v)));
        }

        #[test]
        fn any_message_is_taken_or_refused(bytes: Vec<u8>, steps in 0usize..100) {
            if let Ok(message) = SeriesMessage::decode(bytes.as_slice()) {
                let _ = series_from_wire(message, steps);
            }
            if let Ok(message) = PartialMessage::decode(bytes.as_slice()) {
                let _ = group_from_wire(message, steps);
            }
            if let Ok(message) = HistogramMessage::decode(bytes.as_slice()) {
                let _ = histogram_from_wire(message);
            }
        }

        #[test]
        fn times_survive_the_wire(list: Vec<i64>) {
            prop_assert_eq!(times(&differences(&list)), list);
        }
    }
}
