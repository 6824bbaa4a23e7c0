//! OTLP metrics: an export request to a [`WriteBatch`], translated as Prometheus 3 does.
//!
//! ```text
//! ExportMetricsServiceRequest  1 ResourceMetrics* {1 resource, 2 ScopeMetrics* {1 scope, 2 Metric*, 3 schema}}
//! Metric  1 name  2 description  3 unit   5 gauge | 7 sum | 9 histogram | 10 exponential histogram | 11 summary
//!
//! resource  -> labels job and instance, promoted attributes; the series target_info with all of them
//! sum       -> a counter (_total) or gauge, with exemplars       gauge   -> a gauge
//! histogram -> _bucket{le}, _count, _sum, exemplars by bucket    summary -> {quantile}, _count, _sum
//! exponential histogram -> a native histogram
//! ```
//!
//! A point's labels are not made while walking. A series is known again by a fingerprint of what its labels are made
//! of: the raw bytes of resource, scope, name, unit and attributes, and the suffix. Only for a series that the router
//! has not seen are the labels written out ([`labels`]).
//!
//! What is refused, and named: points without time or value, delta sums and histograms unless the setting takes them (a
//! delta is no sample of a counter: adding it up needs a state that outlives requests, so Prometheus refuses it too),
//! exponential histograms coarser than native ones can be, names of which nothing remains. A point flagged as having no
//! recorded value is the stale marker.

mod histograms;
pub(crate) mod labels;
mod points;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::DecodeError;
use super::naming::{LabelNaming, MetricKind, Strategy, metric_name, unit_name};
use crate::batch::MetricType;
use crate::remote_write::v1::check_metadata;
use crate::remote_write::wire::Reader;
use crate::remote_write::{Fault, Limits, MAX_BODY_BYTES};
use crate::write_batch::{FingerprintKey, RowKind, Rows, WriteBatch};
pub(crate) use labels::Origins;
use labels::Source;

/// How metrics are translated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Names of metrics and labels.
    pub strategy: Strategy,
    /// See [`LabelNaming::underscore_sanitization`].
    pub underscore_sanitization: bool,
    /// See [`LabelNaming::preserve_multiple_underscores`].
    pub preserve_multiple_underscores: bool,
    /// Which attributes of the resource become labels of each series.
    pub promoted: Promoted,
    /// Whether `target_info` has `service.name`, `service.namespace` and `service.instance.id` too.
    pub keep_identifying_attributes: bool,
    /// Whether name, version, schema and attributes of the scope become labels.
    pub promote_scope: bool,
    /// Whether histograms with explicit bounds become native histograms with custom buckets.
    pub custom_buckets: bool,
    /// Whether delta sums and histograms are stored as they are.
    pub store_deltas: bool,
}

/// Attributes of the resource that become labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Promoted {
    /// These.
    These(BTreeSet<String>),
    /// All but these.
    AllBut(BTreeSet<String>),
}

impl Promoted {
    fn contains(&self, name: &str) -> bool {
        match self {
            Self::These(names) => names.contains(name),
            Self::AllBut(names) => !names.contains(name),
        }
    }
}

impl Default for Translation {
    fn default() -> Self {
        Self {
            strategy: Strategy::default(),
            underscore_sanitization: true,
            preserve_multiple_underscores: true,
            promoted: Promoted::These(BTreeSet::new()),
            keep_identifying_attributes: false,
            promote_scope: false,
            custom_buckets: false,
            store_deltas: false,
        }
    }
}

impl Translation {
    fn label_naming(&self) -> LabelNaming {
        LabelNaming {
            escapes: self.strategy.escapes(),
            underscore_sanitization: self.underscore_sanitization,
            preserve_multiple_underscores: self.preserve_multiple_underscores,
        }
    }
}

/// A decoded request.
#[derive(Debug)]
pub struct Decoded {
    /// What is to be written, and what was left out.
    pub batch: WriteBatch,
    /// Data points of the request, those left out among them.
    pub points: u64,
}

/// Walks a request's protobuf.
pub fn decode(
    body: Vec<u8>,
    key: &FingerprintKey,
    translation: &Arc<Translation>,
    limits: &Limits,
) -> Result<Decoded, DecodeError> {
    let limit = limits.max_body_bytes.min(MAX_BODY_BYTES);
    if body.len() > limit {
        return Err(crate::remote_write::DecodeError::TooLong { bytes: body.len() as u64, limit }.into());
    }
    let mut walker = Walker {
        body: &body,
        key,
        rows: Rows::with_origins(limits.labels),
        origins: Origins::new(Arc::clone(translation), &limits.labels),
        points: 0,
        scratch: points::Scratch::default(),
    };
    match walker.walk() {
        Ok(()) => {
            let Walker { mut rows, origins, points, .. } = walker;
            rows.set_origins(origins);
            Ok(Decoded { batch: rows.finish(body), points })
        }
        Err(fault) => Err((*fault).into()),
    }
}

/// What the points of one metric have in common.
struct Metric<'a> {
    /// Name as sent, for errors.
    name: &'a str,
    /// Name of the family.
    family: Arc<str>,
    /// Hash of everything that the labels of its series are made of, the points' own attributes apart.
    hash: u128,
    resource: u32,
    scope: u32,
    is_delta: bool,
}

/// Where a metric's points are.
#[derive(Clone, Copy)]
enum Data<'a> {
    Gauge(Reader<'a>),
    Sum(Reader<'a>),
    Histogram(Reader<'a>),
    Exponential(Reader<'a>),
    Summary(Reader<'a>),
}

/// `AGGREGATION_TEMPORALITY_DELTA`
const DELTA: u64 = 1;
/// `AGGREGATION_TEMPORALITY_CUMULATIVE`
const CUMULATIVE: u64 = 2;

struct Walker<'a> {
    body: &'a [u8],
    key: &'a FingerprintKey,
    rows: Rows,
    origins: Origins,
    points: u64,
    scratch: points::Scratch<'a>,
}

/// First and last time of a resource's points, in nanoseconds.
struct Times {
    first: u64,
    last: u64,
}

/// `target_info` has a sample at least this often while a request's points go on: half of how far queries look back.
const TARGET_INFO_STEP_NS: u64 = 150_000_000_000;

/// A request whose points span more gets its first and last sample only: a wrong clock must not write for ever.
const MAX_TARGET_INFO_SAMPLES: u64 = 1000;

impl<'a> Walker<'a> {
    fn walk(&mut self) -> Result<(), Fault> {
        let mut request = Reader::new(self.body);
        let named = |error: Fault| error.within(|| "ExportMetricsServiceRequest".into());
        while !request.is_empty() {
            let (field, wire) = request.tag().map_err(named)?;
            match field {
                1 => {
                    let resource_metrics = request.message(wire).map_err(named)?;
                    self.walk_resource(resource_metrics)
                        .map_err(|error| error.within(|| "ResourceMetrics".into()))?;
                }
                _ => request.skip(wire).map_err(named)?,
            }
        }
        Ok(())
    }

    fn walk_resource(&mut self, message: Reader<'a>) -> Result<(), Fault> {
        let mut resource = Reader::new(&[]);
        let mut fields = message;
        while !fields.is_empty() {
            match fields.tag()? {
                (1, wire) => resource = fields.message(wire)?,
                (_, wire) => fields.skip(wire)?,
            }
        }
        let index = self.origins.add_resource(resource)?;
        let hash = self.key.hash(resource.rest());
        let mut times = Times { first: u64::MAX, last: 0 };
        let mut fields = message;
        while !fields.is_empty() {
            match fields.tag()? {
                (2, wire) => self.walk_scope(fields.message(wire)?, index, hash, &mut times)?,
                (_, wire) => fields.skip(wire)?,
            }
        }
        self.add_target_info(index, hash, &times)
    }

    fn walk_scope(
        &mut self,
        message: Reader<'a>,
        resource: u32,
        resource_hash: u128,
        times: &mut Times,
    ) -> Result<(), Fault> {
        let (mut scope, mut schema) = (Reader::new(&[]), &[][..]);
        let mut fields = message;
        while !fields.is_empty() {
            match fields.tag()? {
                (1, wire) => scope = fields.message(wire)?,
                (3, wire) => schema = fields.bytes(wire)?,
                (_, wire) => fields.skip(wire)?,
            }
        }
        let index = self.origins.add_scope(scope, schema)?;
        let mut content = [0; 48];
        content[..16].copy_from_slice(&resource_hash.to_le_bytes());
        if self.origins.translation().promote_scope {
            content[16..32].copy_from_slice(&self.key.hash(scope.rest()).to_le_bytes());
            content[32..].copy_from_slice(&self.key.hash(schema).to_le_bytes());
        }
        let hash = self.key.hash(&content);
        let mut fields = message;
        while !fields.is_empty() {
            match fields.tag()? {
                (2, wire) => self
                    .walk_metric(fields.message(wire)?, [resource, index], hash, times)
                    .map_err(|error| error.within(|| "Metric".into()))?,
                (_, wire) => fields.skip(wire)?,
            }
        }
        Ok(())
    }

    fn walk_metric(
        &mut self,
        mut message: Reader<'a>,
        [resource, scope]: [u32; 2],
        scope_hash: u128,
        times: &mut Times,
    ) -> Result<(), Fault> {
        let empty = Reader::new(&[]);
        let (mut name, mut help, mut unit) = (empty, empty, empty);
        let mut data = None;
        while !message.is_empty() {
            let (field, wire) = message.tag()?;
            match field {
                1 => name = message.message(wire)?,
                2 => help = message.message(wire)?,
                3 => unit = message.message(wire)?,
                5 => data = Some(Data::Gauge(message.message(wire)?)),
                7 => data = Some(Data::Sum(message.message(wire)?)),
                9 => data = Some(Data::Histogram(message.message(wire)?)),
                10 => data = Some(Data::Exponential(message.message(wire)?)),
                11 => data = Some(Data::Summary(message.message(wire)?)),
                _ => message.skip(wire)?,
            }
        }
        let Some(data) = data else { return Ok(()) };
        let header = DataHeader::read(data)?;
        if header.points == 0 {
            return Ok(());
        }
        self.points += header.points;

        let reject = |rows: &mut Rows, reason: &str| {
            let name = name.rest();
            rows.rejections().add(RowKind::Sample, header.points, || {
                format!("metric {:?}: {reason}", String::from_utf8_lossy(&name[..name.len().min(200)]))
            });
        };
        let (Ok(name_text), Ok(unit_text)) =
            (std::str::from_utf8(name.rest()), std::str::from_utf8(unit.rest()))
        else {
            reject(&mut self.rows, "name or unit is not valid UTF-8");
            return Ok(());
        };
        let translation = self.origins.translation();
        let has_temporality = !matches!(data, Data::Gauge(_) | Data::Summary(_));
        let is_delta = has_temporality && header.temporality == DELTA;
        if is_delta && !translation.store_deltas {
            reject(
                &mut self.rows,
                "delta temporality is not supported, export cumulative values (or let deltas be stored as they are: \
                 otlp.deltas)",
            );
            return Ok(());
        }
        if has_temporality && !is_delta && header.temporality != CUMULATIVE {
            reject(&mut self.rows, "the temporality is neither cumulative nor delta");
            return Ok(());
        }
        let (kind, metric_type) = match data {
            _ if is_delta && header.is_monotonic => (MetricKind::Counter, MetricType::Unknown),
            _ if is_delta => (MetricKind::Other, MetricType::Unknown),
            Data::Gauge(_) => (MetricKind::Gauge, MetricType::Gauge),
            Data::Sum(_) if header.is_monotonic => (MetricKind::Counter, MetricType::Counter),
            Data::Sum(_) => (MetricKind::Other, MetricType::Gauge),
            Data::Histogram(_) | Data::Exponential(_) => (MetricKind::Other, MetricType::Histogram),
            Data::Summary(_) => (MetricKind::Other, MetricType::Summary),
        };
        let Some(family) = metric_name(translation.strategy, name_text, unit_text, kind) else {
            reject(&mut self.rows, "nothing remains of the name when it is made one of Prometheus");
            return Ok(());
        };
        let hash = self.metric_hash(scope_hash, &family);
        self.add_metadata(&family, metric_type, help.rest(), &unit_name(unit_text))?;
        let metric = Metric { name: name_text, family: family.into(), hash, resource, scope, is_delta };
        self.walk_points(data, &metric, times)
    }

    fn metric_hash(&self, scope_hash: u128, family: &str) -> u128 {
        let mut content = [0; 32];
        content[..16].copy_from_slice(&scope_hash.to_le_bytes());
        content[16..].copy_from_slice(&self.key.hash(family.as_bytes()).to_le_bytes());
        self.key.hash(&content)
    }

    fn add_metadata(
        &mut self,
        family: &str,
        metric_type: MetricType,
        help: &[u8],
        unit: &str,
    ) -> Result<(), Fault> {
        crate::remote_write::check_rows(&self.rows)?;
        let limits = self.rows.limits();
        match check_metadata(family.as_bytes(), help, unit.as_bytes(), &limits) {
            Ok(()) => {
                let mut content = [0; 49];
                let parts = [family.as_bytes(), help, unit.as_bytes()];
                for (part, out) in parts.into_iter().zip(content.chunks_exact_mut(16)) {
                    out.copy_from_slice(&self.key.hash(part).to_le_bytes());
                }
                content[48] = metric_type as u8;
                let fingerprint = self.key.hash(&content);
                let [family, help, unit] =
                    parts.map(|part| self.rows.keep(|out| out.extend_from_slice(part)));
                self.rows.push_metadata(fingerprint, family, metric_type, [help, unit]);
            }
            Err(offence) => self.rows.rejections().add(RowKind::Metadata, 1, || {
                let start = &family[..family.floor_char_boundary(64)];
                format!("metadata of {start:?}: {offence}")
            }),
        }
        Ok(())
    }

    fn add_target_info(&mut self, resource: u32, resource_hash: u128, times: &Times) -> Result<(), Fault> {
        if times.last == 0 || !self.origins.has_target_info(resource) {
            return Ok(());
        }
        let span = times.last - times.first;
        if span / TARGET_INFO_STEP_NS < MAX_TARGET_INFO_SAMPLES {
            let steps = span.div_ceil(TARGET_INFO_STEP_NS);
            for step in 0..steps {
                self.rows.push_sample(to_ms(times.first + step * TARGET_INFO_STEP_NS), 1.0);
            }
        } else {
            self.rows.push_sample(to_ms(times.first), 1.0);
        }
        self.rows.push_sample(to_ms(times.last), 1.0);
        let hash = self.metric_hash(resource_hash, labels::TARGET_INFO);
        self.end_series(Source::target_info(resource), hash, 0)?;
        self.add_metadata(labels::TARGET_INFO, MetricType::Gauge, b"Target metadata", "")
    }

    /// Ends a series: the rows since the last end are its own.
    fn end_series(&mut self, source: Source, metric_hash: u128, attributes_hash: u128) -> Result<(), Fault> {
        crate::remote_write::check_series(&self.rows)?;
        let mut content = [0; 41];
        content[..16].copy_from_slice(&metric_hash.to_le_bytes());
        content[16..32].copy_from_slice(&attributes_hash.to_le_bytes());
        let (code, bits) = source.suffix.code();
        content[32] = code;
        content[33..].copy_from_slice(&bits.to_le_bytes());
        let fingerprint = self.key.hash(&content);
        self.origins.add_source(source);
        self.rows.end_series(fingerprint, Default::default());
        Ok(())
    }
}

fn to_ms(nanoseconds: u64) -> i64 {
    (nanoseconds / 1_000_000) as i64
}

/// What a metric's data say before the points are read.
#[derive(Default)]
struct DataHeader {
    points: u64,
    temporality: u64,
    is_monotonic: bool,
}

impl<'a> Data<'a> {
    fn message(self) -> Reader<'a> {
        match self {
            Self::Gauge(m) | Self::Sum(m) | Self::Histogram(m) | Self::Exponential(m) | Self::Summary(m) => m,
        }
    }
}

impl DataHeader {
    fn read(data: Data<'_>) -> Result<Self, Fault> {
        let mut header = Self::default();
        let mut message = data.message();
        while !message.is_empty() {
            let (field, wire) = message.tag()?;
            match (field, data) {
                (1, _) => {
                    message.message(wire)?;
                    header.points += 1;
                }
                (2, Data::Sum(_) | Data::Histogram(_) | Data::Exponential(_)) => {
                    header.temporality = message.u64(wire)?;
                }
                (3, Data::Sum(_)) => header.is_monotonic = message.u64(wire)? != 0,
                _ => message.skip(wire)?,
            }
        }
        Ok(header)
    }
}

impl Times {
    fn see(&mut self, time_ns: u64) {
        if time_ns != 0 {
            self.first = self.first.min(time_ns);
            self.last = self.last.max(time_ns);
        }
    }
}

#[cfg(test)]
mod tests;
