//! `prometheus.WriteRequest`.
//!
//! ```text
//! WriteRequest  1 timeseries*  3 metadata*
//! TimeSeries    1 labels* {1 name, 2 value}  2 samples* {1 value f64, 2 timestamp}  3 exemplars*  4 histograms*
//! Exemplar      1 labels*  2 value f64  3 timestamp
//! Metadata      1 type  2 family  4 help  5 unit
//! ```
//!
//! All clients write a series' labels first and in one run, so the run's bytes are the key. A message that scatters them
//! is legal; its label fields are gathered in the scratch space first.

use super::wire::Reader;
use super::{Fault, check_rows, check_series, histogram};
use crate::batch::MetricType;
use crate::write_batch::{
    Description, FingerprintKey, LabelLimits, Piece, RowKind, Rows, labels_from_raw, piece,
};

pub(super) fn walk(body: &[u8], key: &FingerprintKey, limits: LabelLimits) -> Result<Rows, Fault> {
    let mut rows = Rows::with_pairs(limits);
    let mut request = Reader::new(body);
    let mut histograms = histogram::Walker::default();
    let mut position = 0;
    while !request.is_empty() {
        let named = |error: Fault| error.within(|| "WriteRequest".into());
        let (field, wire) = request.tag().map_err(named)?;
        match field {
            1 => {
                check_series(&rows)?;
                let series = request.message(wire).map_err(named)?;
                walk_series(body, series, position, key, &mut histograms, &mut rows)?;
                position += 1;
            }
            3 => {
                check_rows(&rows)?;
                let metadata = request.message(wire).map_err(named)?;
                walk_metadata(metadata, key, &mut rows)
                    .map_err(|error| error.within(|| "MetricMetadata".into()))?;
            }
            _ => request.skip(wire).map_err(named)?,
        }
    }
    Ok(rows)
}

fn walk_series(
    body: &[u8],
    mut series: Reader<'_>,
    position: usize,
    key: &FingerprintKey,
    histograms: &mut histogram::Walker,
    rows: &mut Rows,
) -> Result<(), Fault> {
    let named = |error: Fault, field: &str| error.within(|| format!("{field} of TimeSeries {position}"));
    let whole = series;
    let start = whole.position();
    let (mut labels_start, mut labels_end) = (start, start);
    let mut scattered = false;
    while series.skip_usual_label() {
        labels_end = series.position();
    }
    while !series.is_empty() {
        let tag_at = series.position();
        let (field, wire) = series.tag().map_err(|e| named(e, "field"))?;
        match field {
            1 => {
                check_label(series.message(wire).map_err(|e| named(e, "label"))?)
                    .map_err(|e| named(e, "label"))?;
                if labels_start == labels_end {
                    labels_start = tag_at;
                } else if labels_end != tag_at {
                    scattered = true;
                }
                labels_end = series.position();
            }
            2 => {
                let sample = series.message(wire).and_then(read_sample).map_err(|e| named(e, "sample"))?;
                check_rows(rows)?;
                rows.push_sample(sample.0, sample.1);
            }
            3 => {
                check_rows(rows)?;
                let exemplar = series.message(wire).map_err(|e| named(e, "exemplar"))?;
                walk_exemplar(exemplar, || describe(whole), rows).map_err(|e| named(e, "exemplar"))?;
            }
            4 => {
                check_rows(rows)?;
                let message = series.message(wire).map_err(|e| named(e, "histogram"))?;
                histograms.walk(message, || describe(whole), rows).map_err(|e| named(e, "histogram"))?;
            }
            _ => series.skip(wire).map_err(|e| named(e, "field"))?,
        }
    }
    if scattered {
        let gathered = gather_labels(body, start, series.end(), rows)?;
        let fingerprint = key.hash(rows.scratch(gathered));
        rows.end_series(fingerprint, gathered);
    } else {
        let fingerprint = key.hash(&body[labels_start..labels_end]);
        rows.end_series(fingerprint, piece(labels_start, labels_end - labels_start));
    }
    Ok(())
}

/// Checks that a label is a message whose known fields are strings, so that it can be read later without errors.
#[inline]
fn check_label(mut label: Reader<'_>) -> Result<(), Fault> {
    while !label.is_empty() {
        let (field, wire) = label.tag()?;
        match field {
            1 | 2 => drop(label.message(wire)?),
            _ => label.skip(wire)?,
        }
    }
    Ok(())
}

/// Copies the label fields of a series message, tags included, one after the other.
#[cold]
fn gather_labels(body: &[u8], start: usize, end: usize, rows: &mut Rows) -> Result<Piece, Fault> {
    let message = &body[start..end];
    let mut series = Reader::new(message);
    let mut runs = Vec::new();
    while !series.is_empty() {
        let tag_at = series.position();
        let (field, wire) = series.tag()?;
        series.skip(wire)?;
        if field == 1 {
            runs.push(tag_at..series.position());
        }
    }
    Ok(rows.keep(|out| runs.into_iter().for_each(|run| out.extend_from_slice(&message[run]))))
}

#[inline]
fn read_sample(mut sample: Reader<'_>) -> Result<(i64, f64), Fault> {
    let (mut timestamp, mut value) = (0, 0.0);
    while !sample.is_empty() {
        let (field, wire) = sample.tag()?;
        match field {
            1 => value = sample.f64(wire)?,
            2 => timestamp = sample.u64(wire)? as i64,
            _ => sample.skip(wire)?,
        }
    }
    Ok((timestamp, value))
}

fn walk_exemplar(
    mut exemplar: Reader<'_>,
    series: impl Fn() -> String,
    rows: &mut Rows,
) -> Result<(), Fault> {
    let (mut timestamp, mut value) = (0, 0.0);
    let mut pairs = Vec::new();
    while !exemplar.is_empty() {
        let (field, wire) = exemplar.tag()?;
        match field {
            1 => pairs.push(read_label(exemplar.message(wire)?)?),
            2 => value = exemplar.f64(wire)?,
            3 => timestamp = exemplar.u64(wire)? as i64,
            _ => exemplar.skip(wire)?,
        }
    }
    match labels_from_raw(&pairs, &rows.limits()) {
        Ok(labels) => {
            let labels = rows.keep(|out| out.extend_from_slice(labels.as_bytes()));
            rows.push_exemplar(timestamp, value, labels);
        }
        Err(error) => {
            rows.rejections().add(RowKind::Exemplar, 1, || format!("exemplar of {}: {error}", series()))
        }
    }
    Ok(())
}

/// Names a series in an offence, as far as its message can be read.
#[cold]
fn describe(mut series: Reader<'_>) -> String {
    let mut description = Description::default();
    while let Ok((field, wire)) = series.tag() {
        if field != 1 {
            if series.skip(wire).is_err() {
                break;
            }
        } else if let Ok((name, value)) = series.message(wire).and_then(read_label) {
            description.push(name, value);
        }
    }
    description.finish()
}

fn read_label(mut label: Reader<'_>) -> Result<(&[u8], &[u8]), Fault> {
    let (mut name, mut value) = (&[][..], &[][..]);
    while !label.is_empty() {
        let (field, wire) = label.tag()?;
        match field {
            1 => name = label.bytes(wire)?,
            2 => value = label.bytes(wire)?,
            _ => label.skip(wire)?,
        }
    }
    Ok((name, value))
}

/// Visits the labels in a run of label fields that [`walk`] has checked.
pub(crate) fn for_each_raw_label<'a>(run: &'a [u8], mut visit: impl FnMut(&'a [u8], &'a [u8])) {
    let mut run = Reader::new(run);
    while !run.is_empty() {
        let label = run.tag().and_then(|(_, wire)| run.message(wire)).and_then(read_label);
        let (name, value) = label.expect("the walker checked the labels");
        visit(name, value);
    }
}

fn walk_metadata(mut message: Reader<'_>, key: &FingerprintKey, rows: &mut Rows) -> Result<(), Fault> {
    let fingerprint = key.hash(message.rest());
    let mut metric_type = MetricType::Unknown;
    let empty = Reader::new(&[]);
    let (mut family, mut help, mut unit) = (empty, empty, empty);
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => metric_type = type_from_wire(message.u64(wire)?),
            2 => family = message.message(wire)?,
            4 => help = message.message(wire)?,
            5 => unit = message.message(wire)?,
            _ => message.skip(wire)?,
        }
    }
    match check_metadata(family.rest(), help.rest(), unit.rest(), &rows.limits()) {
        Ok(()) => {
            let at = |text: Reader<'_>| piece(text.position(), text.rest().len());
            rows.push_metadata(fingerprint, at(family), metric_type, [at(help), at(unit)]);
        }
        Err(offence) => {
            let name = family.rest();
            rows.rejections().add(RowKind::Metadata, 1, || {
                let name = String::from_utf8_lossy(&name[..name.len().min(64)]);
                format!("metadata of family {name:?}: {offence}")
            });
        }
    }
    Ok(())
}

/// Types that are not known are no error: the enum is open.
pub(super) fn type_from_wire(code: u64) -> MetricType {
    u8::try_from(code).ok().and_then(MetricType::from_code).unwrap_or_default()
}

pub(crate) fn check_metadata(
    family: &[u8],
    help: &[u8],
    unit: &[u8],
    limits: &LabelLimits,
) -> Result<(), &'static str> {
    if family.is_empty() {
        return Err("the name is empty");
    }
    if family.len().max(unit.len()) > limits.max_name_bytes || help.len() > limits.max_value_bytes {
        return Err("a text is too long");
    }
    match [family, help, unit].into_iter().all(|text| std::str::from_utf8(text).is_ok()) {
        true => Ok(()),
        false => Err("a text is not valid UTF-8"),
    }
}
