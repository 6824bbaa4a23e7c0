//! Data points: what all kinds have in common, numbers and summaries.
//!
//! ```text
//! NumberDataPoint     2 start  3 time  4 double | 6 int  5 exemplars*  7 attributes*  8 flags
//! SummaryDataPoint    2 start  3 time  4 count  5 sum  6 {1 quantile, 2 value}*  7 attributes*  8 flags
//! Exemplar            2 time  3 double | 6 int  4 span id  5 trace id  7 attributes*
//! ```

use std::borrow::Cow;

use super::labels::{Source, Suffix};
use super::{Data, Metric, Times, Walker, to_ms};
use crate::logs::LogValue;
use crate::otlp::value::{MAX_VALUES, check_key_value, label_text, read_key_value};
use crate::remote_write::wire::Reader;
use crate::remote_write::{DecodeError, Fault, MAX_BUCKETS, check_rows};
use crate::sample::stale_nan;
use crate::write_batch::{Piece, RowKind, Rows, labels_from_raw, piece};

/// `DATA_POINT_FLAGS_NO_RECORDED_VALUE_MASK`
const NO_RECORDED_VALUE: u64 = 1;

/// Longest labels of an exemplar, in characters, beyond which its attributes are left out (OpenMetrics' limit).
const MAX_EXEMPLAR_CHARS: usize = 128;

/// Most exemplars of a point; those that writers keep are as many as a histogram has buckets.
const MAX_EXEMPLARS: usize = MAX_BUCKETS;

/// Memory that points share, one after the other.
#[derive(Default)]
pub(super) struct Scratch<'a> {
    pub exemplars: Vec<Reader<'a>>,
    pub counts: Vec<u64>,
    pub bounds: Vec<f64>,
    pub quantiles: Vec<(f64, f64)>,
    pub taken: Vec<Exemplar>,
}

impl<'a> Scratch<'a> {
    pub fn add_exemplar(&mut self, message: Reader<'a>) -> Result<(), Fault> {
        if self.exemplars.len() >= MAX_EXEMPLARS {
            return Err(Box::new(DecodeError::TooMany {
                what: "exemplars at one point",
                limit: MAX_EXEMPLARS,
            }));
        }
        self.exemplars.push(message);
        Ok(())
    }
}

/// One above the limit is enough to see that it was passed.
pub(super) fn push_bounded<T>(out: &mut Vec<T>, value: T) {
    if out.len() <= MAX_BUCKETS {
        out.push(value);
    }
}

/// An exemplar whose labels are in the scratch space of the rows.
#[derive(Clone, Copy)]
pub(super) struct Exemplar {
    pub timestamp_ms: i64,
    pub value: f64,
    labels: Piece,
}

/// The fields that all kinds of points have, under whatever numbers.
#[derive(Clone, Copy)]
pub(super) struct Point {
    pub start_ns: u64,
    pub time_ns: u64,
    pub flags: u64,
    attributes: Run,
    values_left: usize,
}

impl Default for Point {
    fn default() -> Self {
        Self { start_ns: 0, time_ns: 0, flags: 0, attributes: Run::default(), values_left: MAX_VALUES }
    }
}

impl Point {
    pub fn timestamp_ms(&self) -> i64 {
        to_ms(self.time_ns)
    }

    pub fn is_stale(&self) -> bool {
        self.flags & NO_RECORDED_VALUE != 0
    }

    /// Takes an attribute, which began at a position.
    pub fn attribute(&mut self, message: &mut Reader<'_>, tag_at: usize, wire: u8) -> Result<(), Fault> {
        check_key_value(message.message(wire)?, &mut self.values_left)?;
        self.attributes.extend(tag_at, message.position());
        Ok(())
    }
}

/// Where attributes are: most writers put them side by side.
#[derive(Clone, Copy, Default)]
struct Run {
    start: usize,
    end: usize,
    is_scattered: bool,
}

impl Run {
    fn extend(&mut self, start: usize, end: usize) {
        if self.start == self.end {
            self.start = start;
        } else if self.end != start {
            self.is_scattered = true;
        }
        self.end = end;
    }
}

/// Raw attributes of a point, and their hash.
#[derive(Clone, Copy)]
pub(super) struct Attributes {
    pub piece: Piece,
    pub hash: u128,
}

impl<'a> Walker<'a> {
    pub(super) fn walk_points(
        &mut self,
        data: Data<'a>,
        metric: &Metric<'a>,
        times: &mut Times,
    ) -> Result<(), Fault> {
        let mut message = data.message();
        while !message.is_empty() {
            let (field, wire) = message.tag()?;
            if field != 1 {
                message.skip(wire)?;
                continue;
            }
            let point = message.message(wire)?;
            let time_ns = match data {
                Data::Gauge(_) => self.walk_number(point, metric, false)?,
                Data::Sum(_) => self.walk_number(point, metric, true)?,
                Data::Histogram(_) => self.walk_histogram(point, metric)?,
                Data::Exponential(_) => self.walk_exponential(point, metric)?,
                Data::Summary(_) => self.walk_summary(point, metric)?,
            };
            times.see(time_ns);
        }
        Ok(())
    }

    /// Refuses a point and says why.
    pub(super) fn reject_point(&mut self, kind: RowKind, metric: &Metric<'_>, point: &Point, offence: &str) {
        self.rows.rejections().add(kind, 1, || {
            let name = &metric.name[..metric.name.floor_char_boundary(200)];
            format!("point of metric {name:?} at {}: {offence}", point.timestamp_ms())
        });
    }

    /// The raw attributes of a point, side by side.
    pub(super) fn attributes(
        &mut self,
        point: &Point,
        message: Reader<'a>,
        field: u32,
    ) -> Result<Attributes, Fault> {
        let run = point.attributes;
        if !run.is_scattered {
            let hash = self.key.hash(&self.body[run.start..run.end]);
            return Ok(Attributes { piece: piece(run.start, run.end - run.start), hash });
        }
        let mut fields = message;
        let mut runs = Vec::new();
        while !fields.is_empty() {
            let tag_at = fields.position();
            let (found, wire) = fields.tag()?;
            fields.skip(wire)?;
            if found == field {
                runs.push(tag_at..fields.position());
            }
        }
        let body = self.body;
        let gathered =
            self.rows.keep(|out| runs.into_iter().for_each(|run| out.extend_from_slice(&body[run])));
        Ok(Attributes { piece: gathered, hash: self.key.hash(self.rows.scratch(gathered)) })
    }

    /// Adds a sample to the series that ends next.
    pub(super) fn push_sample(&mut self, point: &Point, value: f64) -> Result<(), Fault> {
        check_rows(&self.rows)?;
        self.rows.push_sample(point.timestamp_ms(), if point.is_stale() { stale_nan() } else { value });
        if point.start_ns != 0 {
            self.rows.set_start(to_ms(point.start_ns));
        }
        Ok(())
    }

    /// Ends a series of a point.
    pub(super) fn end_point(
        &mut self,
        metric: &Metric<'_>,
        attributes: Attributes,
        suffix: Suffix,
    ) -> Result<(), Fault> {
        let source = Source {
            resource: metric.resource,
            scope: metric.scope,
            family: Some(metric.family.clone()),
            attributes: attributes.piece,
            suffix,
        };
        self.end_series(source, metric.hash, attributes.hash)
    }

    /// A series of one sample.
    pub(super) fn push_series(
        &mut self,
        metric: &Metric<'_>,
        point: &Point,
        attributes: Attributes,
        suffix: Suffix,
        value: f64,
    ) -> Result<(), Fault> {
        self.push_sample(point, value)?;
        self.end_point(metric, attributes, suffix)
    }

    fn walk_number(&mut self, message: Reader<'a>, metric: &Metric<'a>, is_sum: bool) -> Result<u64, Fault> {
        let mut point = Point::default();
        let mut value = None;
        self.scratch.exemplars.clear();
        let mut fields = message;
        while !fields.is_empty() {
            let tag_at = fields.position();
            let (field, wire) = fields.tag()?;
            match field {
                2 => point.start_ns = fields.fixed64(wire)?,
                3 => point.time_ns = fields.fixed64(wire)?,
                4 => value = Some(fields.f64(wire)?),
                5 => self.scratch.add_exemplar(fields.message(wire)?)?,
                6 => value = Some(fields.fixed64(wire)? as i64 as f64),
                7 => point.attribute(&mut fields, tag_at, wire)?,
                8 => point.flags = fields.u64(wire)?,
                _ => fields.skip(wire)?,
            }
        }
        if point.time_ns == 0 {
            self.reject_point(RowKind::Sample, metric, &point, "it has no time");
            return Ok(0);
        }
        if value.is_none() && !point.is_stale() {
            self.reject_point(RowKind::Sample, metric, &point, "it has no value");
            return Ok(point.time_ns);
        }
        let attributes = self.attributes(&point, message, 7)?;
        if !is_sum {
            // When a gauge began says nothing about its values.
            point.start_ns = 0;
        }
        self.push_sample(&point, value.unwrap_or_default())?;
        if is_sum {
            self.read_exemplars(metric)?;
            for index in 0..self.scratch.taken.len() {
                self.push_exemplar(self.scratch.taken[index]);
            }
        }
        self.end_point(metric, attributes, Suffix::None)?;
        Ok(point.time_ns)
    }

    fn walk_summary(&mut self, message: Reader<'a>, metric: &Metric<'a>) -> Result<u64, Fault> {
        let mut point = Point::default();
        let (mut count, mut sum) = (0, 0.0);
        self.scratch.quantiles.clear();
        let mut fields = message;
        while !fields.is_empty() {
            let tag_at = fields.position();
            let (field, wire) = fields.tag()?;
            match field {
                2 => point.start_ns = fields.fixed64(wire)?,
                3 => point.time_ns = fields.fixed64(wire)?,
                4 => count = fields.fixed64(wire)?,
                5 => sum = fields.f64(wire)?,
                6 => push_bounded(&mut self.scratch.quantiles, read_quantile(fields.message(wire)?)?),
                7 => point.attribute(&mut fields, tag_at, wire)?,
                8 => point.flags = fields.u64(wire)?,
                _ => fields.skip(wire)?,
            }
        }
        if point.time_ns == 0 {
            self.reject_point(RowKind::Sample, metric, &point, "it has no time");
            return Ok(0);
        }
        if self.scratch.quantiles.len() > MAX_BUCKETS {
            self.reject_point(RowKind::Sample, metric, &point, "it has too many quantiles");
            return Ok(point.time_ns);
        }
        let attributes = self.attributes(&point, message, 7)?;
        self.push_series(metric, &point, attributes, Suffix::Sum, sum)?;
        self.push_series(metric, &point, attributes, Suffix::Count, count as f64)?;
        for index in 0..self.scratch.quantiles.len() {
            let (quantile, value) = self.scratch.quantiles[index];
            self.push_series(metric, &point, attributes, Suffix::Quantile(quantile), value)?;
        }
        Ok(point.time_ns)
    }

    /// Reads the exemplars that a point has into [`Scratch::taken`].
    pub(super) fn read_exemplars(&mut self, metric: &Metric<'_>) -> Result<(), Fault> {
        self.scratch.taken.clear();
        for index in 0..self.scratch.exemplars.len() {
            check_rows(&self.rows)?;
            match read_exemplar(self.scratch.exemplars[index], &mut self.rows)? {
                Ok(exemplar) => self.scratch.taken.push(exemplar),
                Err(offence) => self.rows.rejections().add(RowKind::Exemplar, 1, || {
                    let name = &metric.name[..metric.name.floor_char_boundary(200)];
                    format!("exemplar of metric {name:?}: {offence}")
                }),
            }
        }
        Ok(())
    }

    pub(super) fn push_exemplar(&mut self, exemplar: Exemplar) {
        self.rows.push_exemplar(exemplar.timestamp_ms, exemplar.value, exemplar.labels);
    }
}

fn read_quantile(mut message: Reader<'_>) -> Result<(f64, f64), Fault> {
    let (mut quantile, mut value) = (0.0, 0.0);
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => quantile = message.f64(wire)?,
            2 => value = message.f64(wire)?,
            _ => message.skip(wire)?,
        }
    }
    Ok((quantile, value))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads an exemplar and keeps its labels, or says what is wrong with it.
fn read_exemplar(mut message: Reader<'_>, rows: &mut Rows) -> Result<Result<Exemplar, String>, Fault> {
    let (mut time_ns, mut value) = (0, None);
    let (mut span, mut trace) = (&[][..], &[][..]);
    let mut attributes: Vec<(&[u8], LogValue<'_>)> = Vec::new();
    let mut left = MAX_VALUES;
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            2 => time_ns = message.fixed64(wire)?,
            3 => value = Some(message.f64(wire)?),
            4 => span = message.bytes(wire)?,
            5 => trace = message.bytes(wire)?,
            6 => value = Some(message.fixed64(wire)? as i64 as f64),
            7 => {
                let attribute = message.message(wire)?;
                check_key_value(attribute, &mut left)?;
                attributes.push(read_key_value(attribute)?);
            }
            _ => message.skip(wire)?,
        }
    }
    let Some(value) = value else { return Ok(Err("it has no value".to_owned())) };
    let mut pairs: Vec<(Cow<'_, [u8]>, String)> = Vec::new();
    for (name, id) in [("trace_id", trace), ("span_id", span)] {
        if id.len() > 16 {
            return Ok(Err(format!("its {name} has {} bytes", id.len())));
        }
        if id.iter().any(|byte| *byte != 0) {
            pairs.push((Cow::Borrowed(name.as_bytes()), hex(id)));
        }
    }
    let ids = pairs.len();
    pairs.extend(
        attributes.into_iter().map(|(key, value)| (Cow::Borrowed(key), label_text(value).into_owned())),
    );
    let chars = |bytes: &[u8]| bytes.iter().filter(|byte| **byte & 0xc0 != 0x80).count();
    if pairs.iter().map(|(name, value)| chars(name) + chars(value.as_bytes())).sum::<usize>()
        > MAX_EXEMPLAR_CHARS
    {
        pairs.truncate(ids);
    }
    let raw: Vec<(&[u8], &[u8])> =
        pairs.iter().map(|(name, value)| (name.as_ref(), value.as_bytes())).collect();
    match labels_from_raw(&raw, &rows.limits()) {
        Ok(labels) => {
            let labels = rows.keep(|out| out.extend_from_slice(labels.as_bytes()));
            Ok(Ok(Exemplar { timestamp_ms: to_ms(time_ns), value, labels }))
        }
        Err(error) => Ok(Err(error.to_string())),
    }
}
