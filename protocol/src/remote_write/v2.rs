//! `io.prometheus.write.v2.Request`.
//!
//! ```text
//! Request     4 symbols*  5 timeseries*
//! TimeSeries  1 label refs*  2 samples*  3 histograms*  4 exemplars*  5 metadata  6 created timestamp (old senders)
//! Sample      1 value f64  2 timestamp  3 start timestamp
//! Exemplar    1 label refs*  2 value f64  3 timestamp
//! Metadata    1 type  3 help ref  4 unit ref
//! ```
//!
//! References mean nothing beyond their request, so a series' fingerprint is made from the symbols: each symbol is hashed
//! once a request, and a series hashes the run of its symbols' hashes. That is stable between requests and costs about
//! what 1.0 costs.

use super::wire::Reader;
use super::{DecodeError, Fault, MAX_SYMBOLS, check_rows, check_series, histogram, v1};
use crate::batch::MetricType;
use crate::labels::METRIC_NAME;
use crate::varint::write_u64;
use crate::write_batch::{
    Description, FingerprintKey, LabelLimits, Piece, RowKind, Rows, SeriesError, labels_from_raw, piece,
};

pub(super) fn walk(body: &[u8], key: &FingerprintKey, limits: LabelLimits) -> Result<Rows, Fault> {
    let symbols = Symbols::collect(body, key)?;
    let mut rows = Rows::with_symbols(limits, symbols.pieces.clone());
    let mut walker = SeriesWalker {
        body,
        key,
        symbols,
        limits,
        refs: Vec::new(),
        hashed: Vec::new(),
        histograms: histogram::Walker::default(),
        last_metadata: None,
    };
    let mut request = Reader::new(body);
    let mut position = 0;
    while !request.is_empty() {
        let named = |error: Fault| error.within(|| "Request".into());
        let (field, wire) = request.tag().map_err(named)?;
        if field == 5 {
            check_series(&rows)?;
            let series = request.message(wire).map_err(named)?;
            walker.walk(series, position, &mut rows)?;
            position += 1;
        } else {
            request.skip(wire).map_err(named)?;
        }
    }
    Ok(rows)
}

/// The request's strings. They usually come first, but nothing says so: hence a pass of their own, which steps over the
/// series.
struct Symbols {
    pieces: Vec<Piece>,
    hashes: Vec<u128>,
    /// Where the name of the label that names the metric is.
    metric_name: Option<u64>,
}

impl Symbols {
    fn collect(body: &[u8], key: &FingerprintKey) -> Result<Self, Fault> {
        let mut symbols = Self { pieces: Vec::new(), hashes: Vec::new(), metric_name: None };
        let mut request = Reader::new(body);
        while !request.is_empty() {
            let named = |error: Fault| error.within(|| "Request".into());
            let (field, wire) = request.tag().map_err(named)?;
            if field != 4 {
                request.skip(wire).map_err(named)?;
                continue;
            }
            let symbol =
                request.message(wire).map_err(|error| error.within(|| "symbol of Request".into()))?;
            let text = symbol.rest();
            if symbols.pieces.len() == MAX_SYMBOLS {
                return Err(Box::new(DecodeError::TooMany { what: "symbols", limit: MAX_SYMBOLS }));
            }
            if symbols.pieces.is_empty() && !text.is_empty() {
                let start = String::from_utf8_lossy(&text[..text.len().min(64)]).into_owned();
                return Err(Box::new(DecodeError::FirstSymbol(start)));
            }
            if text == METRIC_NAME.as_bytes() {
                symbols.metric_name = Some(symbols.pieces.len() as u64);
            }
            symbols.pieces.push(piece(symbol.position(), text.len()));
            symbols.hashes.push(key.hash(text));
        }
        Ok(symbols)
    }

    fn get<'a>(&self, body: &'a [u8], reference: u64) -> Result<&'a [u8], SeriesError> {
        let index = self.index(reference)?;
        Ok(self.pieces[index].of(body))
    }

    #[inline]
    fn index(&self, reference: u64) -> Result<usize, SeriesError> {
        let symbols = self.pieces.len();
        match usize::try_from(reference) {
            Ok(index) if index < symbols => Ok(index),
            _ => Err(SeriesError::UnknownSymbol { reference, symbols }),
        }
    }
}

struct SeriesWalker<'a> {
    body: &'a [u8],
    key: &'a FingerprintKey,
    symbols: Symbols,
    limits: LabelLimits,
    /// References of the series at hand.
    refs: Vec<u64>,
    /// Hashes of the symbols that they name.
    hashed: Vec<u8>,
    histograms: histogram::Walker,
    /// What the series before said of its family: neighbours repeat it.
    last_metadata: Option<(Vec<u8>, MetricType, u64, u64)>,
}

impl SeriesWalker<'_> {
    fn walk(&mut self, mut series: Reader<'_>, position: usize, rows: &mut Rows) -> Result<(), Fault> {
        let named = |error: Fault, field: &str| error.within(|| format!("{field} of TimeSeries {position}"));
        let whole = series;
        self.refs.clear();
        let mut labels = None;
        let mut scattered = false;
        let mut metadata = None;
        let mut created = 0;
        while !series.is_empty() {
            let (field, wire) = series.tag().map_err(|e| named(e, "field"))?;
            match field {
                1 => {
                    let before = series;
                    let take = take_within(&mut self.refs, &self.limits);
                    series.each_u64(wire, take).map_err(|e| named(e, "label references"))?;
                    // A run of one packed field can be read in place later.
                    let mut packed = before;
                    match packed.message(wire) {
                        Ok(run) if labels.is_none() && !scattered => {
                            labels = Some(piece(run.position(), run.rest().len()));
                        }
                        _ => scattered = true,
                    }
                }
                2 => {
                    check_rows(rows)?;
                    let sample =
                        series.message(wire).and_then(read_sample).map_err(|e| named(e, "sample"))?;
                    rows.push_sample(sample.timestamp_ms, sample.value);
                    if sample.start_ms != 0 {
                        rows.set_start(sample.start_ms);
                    }
                }
                3 => {
                    check_rows(rows)?;
                    let message = series.message(wire).map_err(|e| named(e, "histogram"))?;
                    let (symbols, body) = (&self.symbols, self.body);
                    let name = || describe(whole, symbols, body);
                    self.histograms.walk(message, name, rows).map_err(|e| named(e, "histogram"))?;
                }
                4 => {
                    check_rows(rows)?;
                    let message = series.message(wire).map_err(|e| named(e, "exemplar"))?;
                    self.walk_exemplar(message, whole, rows).map_err(|e| named(e, "exemplar"))?;
                }
                5 => {
                    let message = series.message(wire).and_then(read_metadata);
                    metadata = Some(message.map_err(|e| named(e, "metadata"))?);
                }
                6 => created = series.u64(wire).map_err(|e| named(e, "created timestamp"))? as i64,
                _ => series.skip(wire).map_err(|e| named(e, "field"))?,
            }
        }
        if created != 0 {
            rows.default_start(created);
        }
        match self.fingerprint(rows) {
            Ok(fingerprint) => {
                let labels = match labels {
                    Some(run) if !scattered => run,
                    _ => rows.keep(|out| self.refs.iter().for_each(|&reference| write_u64(out, reference))),
                };
                rows.end_series(fingerprint, labels);
                if let Some(metadata) = metadata {
                    self.take_metadata(metadata, rows);
                }
            }
            Err(error) => {
                let name = || describe(whole, &self.symbols, self.body);
                rows.reject_series(|| format!("{}: {error}", name()));
            }
        }
        Ok(())
    }

    /// Fingerprint of the series at hand, or why it can not be taken.
    fn fingerprint(&mut self, rows: &Rows) -> Result<u128, SeriesError> {
        if let (1.., 1..) = rows.open_rows() {
            return Err(SeriesError::Mixed);
        }
        let (count, limit) = (self.refs.len().div_ceil(2), self.limits.max_labels);
        if count > limit {
            return Err(SeriesError::TooManyLabels { count, limit });
        }
        if !self.refs.len().is_multiple_of(2) {
            return Err(SeriesError::OddReferences(self.refs.len()));
        }
        self.hashed.clear();
        for &reference in &self.refs {
            let index = self.symbols.index(reference)?;
            self.hashed.extend_from_slice(&self.symbols.hashes[index].to_le_bytes());
        }
        Ok(self.key.hash(&self.hashed))
    }

    fn walk_exemplar(
        &self,
        mut message: Reader<'_>,
        series: Reader<'_>,
        rows: &mut Rows,
    ) -> Result<(), Fault> {
        let (mut timestamp, mut value) = (0, 0.0);
        let mut refs = Vec::new();
        while !message.is_empty() {
            let (field, wire) = message.tag()?;
            match field {
                1 => message.each_u64(wire, take_within(&mut refs, &self.limits))?,
                2 => value = message.f64(wire)?,
                3 => timestamp = message.u64(wire)? as i64,
                _ => message.skip(wire)?,
            }
        }
        let labels = match refs.len() % 2 {
            0 => refs
                .chunks_exact(2)
                .map(|pair| {
                    Ok((self.symbols.get(self.body, pair[0])?, self.symbols.get(self.body, pair[1])?))
                })
                .collect::<Result<Vec<_>, _>>()
                .and_then(|pairs| labels_from_raw(&pairs, &self.limits)),
            _ => Err(SeriesError::OddReferences(refs.len())),
        };
        match labels {
            Ok(labels) => {
                let labels = rows.keep(|out| out.extend_from_slice(labels.as_bytes()));
                rows.push_exemplar(timestamp, value, labels);
            }
            Err(error) => {
                let name = || describe(series, &self.symbols, self.body);
                rows.rejections().add(RowKind::Exemplar, 1, || format!("exemplar of {}: {error}", name()));
            }
        }
        Ok(())
    }

    /// Metadata names no family: it is that of the series' metric.
    fn take_metadata(&mut self, metadata: (MetricType, u64, u64), rows: &mut Rows) {
        let (metric_type, help_ref, unit_ref) = metadata;
        if (metric_type, help_ref, unit_ref) == (MetricType::Unknown, 0, 0) {
            return;
        }
        let metric = self.refs.chunks_exact(2).find(|pair| Some(pair[0]) == self.symbols.metric_name);
        // A series without a name is refused later, by its labels.
        let Some(metric) = metric.and_then(|pair| self.symbols.get(self.body, pair[1]).ok()) else { return };
        let family = family_of(metric, metric_type);
        if let Some((last, last_type, last_help, last_unit)) = &self.last_metadata
            && (last.as_slice(), *last_type, *last_help, *last_unit)
                == (family, metric_type, help_ref, unit_ref)
        {
            return;
        }
        self.last_metadata = Some((family.to_vec(), metric_type, help_ref, unit_ref));

        let texts = self.symbols.index(help_ref).and_then(|help| Ok((help, self.symbols.index(unit_ref)?)));
        let offence = match texts {
            Ok((help, unit)) => {
                let (help_piece, unit_piece) = (self.symbols.pieces[help], self.symbols.pieces[unit]);
                match v1::check_metadata(
                    family,
                    help_piece.of(self.body),
                    unit_piece.of(self.body),
                    &self.limits,
                ) {
                    Ok(()) => {
                        let start = metric.as_ptr() as usize - self.body.as_ptr() as usize;
                        let hashes =
                            [self.key.hash(family), self.symbols.hashes[help], self.symbols.hashes[unit]];
                        let mut content = [0; 49];
                        for (hash, out) in hashes.iter().zip(content.chunks_exact_mut(16)) {
                            out.copy_from_slice(&hash.to_le_bytes());
                        }
                        content[48] = metric_type as u8;
                        let fingerprint = self.key.hash(&content);
                        let family = piece(start, family.len());
                        rows.push_metadata(fingerprint, family, metric_type, [help_piece, unit_piece]);
                        return;
                    }
                    Err(offence) => offence.to_owned(),
                }
            }
            Err(error) => error.to_string(),
        };
        rows.rejections().add(RowKind::Metadata, 1, || {
            let name = String::from_utf8_lossy(&family[..family.len().min(64)]);
            format!("metadata of family {name:?}: {offence}")
        });
    }
}

/// Collects references up to one label more than there may be, which is enough to see that there are too many.
fn take_within(refs: &mut Vec<u64>, limits: &LabelLimits) -> impl FnMut(u64) {
    let most = limits.max_labels.saturating_mul(2).saturating_add(2);
    move |reference| {
        if refs.len() < most {
            refs.push(reference);
        }
    }
}

/// Names a series in an offence, as far as its message and its references can be read.
#[cold]
fn describe(mut series: Reader<'_>, symbols: &Symbols, body: &[u8]) -> String {
    let mut refs = Vec::new();
    while let Ok((field, wire)) = series.tag() {
        let passed = match field {
            1 => series.each_u64(wire, take_within(&mut refs, &LabelLimits::default())),
            _ => series.skip(wire),
        };
        if passed.is_err() {
            break;
        }
    }
    let text = |reference: &u64| symbols.get(body, *reference).unwrap_or(b"?");
    let mut description = Description::default();
    for pair in refs.chunks(2) {
        description.push(text(&pair[0]), pair.get(1).map_or(b"", text));
    }
    description.finish()
}

/// The family that a series of this metric belongs to: classic histograms and summaries have several metrics each.
fn family_of(metric: &[u8], metric_type: MetricType) -> &[u8] {
    let suffixes: &[&[u8]] = match metric_type {
        MetricType::Histogram => &[b"_bucket", b"_count", b"_sum"],
        MetricType::GaugeHistogram => &[b"_bucket", b"_gcount", b"_gsum", b"_count", b"_sum"],
        MetricType::Summary => &[b"_count", b"_sum"],
        _ => &[],
    };
    let stripped = suffixes.iter().find_map(|suffix| metric.strip_suffix(*suffix));
    stripped.filter(|family| !family.is_empty()).unwrap_or(metric)
}

struct Sample {
    timestamp_ms: i64,
    value: f64,
    start_ms: i64,
}

#[inline]
fn read_sample(mut message: Reader<'_>) -> Result<Sample, Fault> {
    let mut sample = Sample { timestamp_ms: 0, value: 0.0, start_ms: 0 };
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => sample.value = message.f64(wire)?,
            2 => sample.timestamp_ms = message.u64(wire)? as i64,
            3 => sample.start_ms = message.u64(wire)? as i64,
            _ => message.skip(wire)?,
        }
    }
    Ok(sample)
}

fn read_metadata(mut message: Reader<'_>) -> Result<(MetricType, u64, u64), Fault> {
    let mut metadata = (MetricType::Unknown, 0, 0);
    while !message.is_empty() {
        let (field, wire) = message.tag()?;
        match field {
            1 => metadata.0 = v1::type_from_wire(message.u64(wire)?),
            3 => metadata.1 = message.u64(wire)?,
            4 => metadata.2 = message.u64(wire)?,
            _ => message.skip(wire)?,
        }
    }
    Ok(metadata)
}
