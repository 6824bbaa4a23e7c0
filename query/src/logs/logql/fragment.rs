//! LogQL at a shard.
//!
//! ```text
//! streams ─► which attributes a label may come from ─► filter ─scan─► pipeline ─► lines | states | sizes
//!                                                     └─count─► states, where only counts by fields are asked for
//! ```
//!
//! A label may come from attributes of several names (`a.b` and `a_b` are both `a_b`), so a shard first looks which of
//! them its streams have. The filter is what storage can tell; selectors are tested again on the labels.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, Hash, Hasher};
use std::ops::ControlFlow;
use std::sync::Arc;

use protocol::logs::filter::{Bound, LogRange};
use protocol::logs::messages::{
    LabelSetMessage, LineMessage, LinesRequest, LogAnswer, RangeRequest, SeriesMessage, StreamsRequest,
    VolumeRequest,
};
use protocol::logs::{Attribute, LogColumns, LogField, LogFilter, LogRecord, LogScan, LogStream, LogTest};

use super::super::fragment::{Asked, Failure, Groups, Result, differences};
use super::super::level;
use super::super::source::LogCount;
use super::eval::{Part, part_of};
use super::labels::{DETECTED_LEVEL, LabelSet, label_name, stream_labels};
use super::pipeline::{
    CompiledMatcher, Pipeline, Unwrapper, all_pass, compile_matchers, is_exact, line_of, pushed,
    pushed_stages,
};
use super::range::{Buckets, State, Steps};
use super::{Expr, LogExpr, RangeOp, parse, parse_log, parse_selector};
use crate::error::QueryError;
use crate::value::Map;

/// Streams of a shard, by what they look like, with their labels.
struct Streams<'a> {
    matchers: &'a [CompiledMatcher],
    known: Map<u64, Vec<Known>>,
    hasher: xxhash_rust::xxh3::Xxh3DefaultBuilder,
}

struct Known {
    resource: Vec<(String, String)>,
    labels: Arc<LabelSet>,
    is_selected: bool,
}

impl<'a> Streams<'a> {
    fn new(matchers: &'a [CompiledMatcher]) -> Self {
        Self { matchers, known: Map::default(), hasher: xxhash_rust::xxh3::Xxh3DefaultBuilder::new() }
    }

    /// The labels of a stream, if it is selected.
    fn labels(&mut self, asked: &Asked<'_>, stream: &LogStream<'_>) -> Result<Option<Arc<LabelSet>>> {
        let mut hasher = self.hasher.build_hasher();
        for (key, value) in &stream.resource {
            key.hash(&mut hasher);
            value.text().hash(&mut hasher);
        }
        let same = |known: &&Known| {
            known.resource.len() == stream.resource.len()
                && known.resource.iter().zip(&stream.resource).all(|(a, b)| a.0 == b.0 && a.1 == b.1.text())
        };
        let bucket = self.known.entry(hasher.finish()).or_default();
        if let Some(known) = bucket.iter().find(same) {
            return Ok(known.is_selected.then(|| Arc::clone(&known.labels)));
        }
        let labels = Arc::new(stream_labels(stream));
        let is_selected = all_pass(self.matchers, &labels);
        asked.budget.charge_series()?;
        asked.budget.hold(3 * labels.memory_bytes() + 128)?;
        let text = |(key, value): &Attribute<'_>| (key.to_string(), value.text().into_owned());
        bucket.push(Known {
            resource: stream.resource.iter().map(text).collect(),
            labels: Arc::clone(&labels),
            is_selected,
        });
        Ok(is_selected.then_some(labels))
    }
}

/// Visits the streams of the shard.
fn each_stream(asked: &Asked<'_>, visit: &mut dyn FnMut(&LogStream<'_>) -> Result<()>) -> Result<()> {
    let mut failure = Failure::none();
    let should_stop = || asked.budget.check().is_err();
    let read = asked.read(&should_stop);
    let walked = asked.source.streams(&read, asked.start_ns, asked.end_ns, &mut |stream| {
        failure.go_on(visit(stream).map(ControlFlow::Continue))
    });
    failure.or(walked)?;
    asked.budget.check()
}

/// Names of the attributes of resources by the label that they become.
type Names = BTreeMap<String, Vec<String>>;

/// What a shard knows of the streams of a selector.
struct Selected {
    names: Names,
    /// Labels that every selected stream has.
    common: Vec<String>,
}

fn look_at_streams(asked: &Asked<'_>, matchers: &[CompiledMatcher]) -> Result<Selected> {
    let mut names = Names::new();
    let mut common: Option<Vec<String>> = None;
    let mut streams = Streams::new(matchers);
    each_stream(asked, &mut |stream| {
        for (key, _) in &stream.resource {
            let of_label = names.entry(label_name(key).into_owned()).or_default();
            if !of_label.iter().any(|known| known == key) {
                asked.budget.hold(2 * key.len() as u64 + 96)?;
                of_label.push(key.to_string());
            }
        }
        if let Some(labels) = streams.labels(asked, stream)? {
            match &mut common {
                Some(common) => common.retain(|name| !labels.get(name).is_empty()),
                None => common = Some(labels.0.iter().map(|(name, _)| name.clone()).collect()),
            }
        }
        Ok(())
    })?;
    Ok(Selected { names, common: common.unwrap_or_default() })
}

/// Walks over the lines that a pipeline lets through. The visitor gets the line and its place among those of its time.
fn walk(
    asked: &Asked<'_>,
    log: &LogExpr,
    pipeline: &Pipeline,
    more: Option<LogFilter>,
    (newest_first, expected): (bool, usize),
    visit: &mut dyn FnMut(&mut super::pipeline::Line) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let matchers = compile_matchers(&log.matchers)?;
    let selected = look_at_streams(asked, &matchers)?;
    let names = |label: &str| selected.names.get(label).cloned().unwrap_or_default();
    let mut filter = pushed(log, &names);
    if let Some(more) = more {
        filter = LogFilter::And(vec![filter, more]);
    }
    let scan = LogScan {
        start_ns: asked.start_ns,
        end_ns: asked.end_ns,
        filter,
        newest_first,
        columns: LogColumns::All,
        expected,
    };
    let mut streams = Streams::new(&matchers);
    asked.scan(&scan, &mut |stream: &LogStream<'_>, record: &LogRecord<'_>| {
        let Some(labels) = streams.labels(asked, stream)? else { return Ok(ControlFlow::Continue(())) };
        let mut line = line_of(&labels, stream, record);
        match pipeline.pass(&mut line) {
            true => visit(&mut line),
            false => Ok(ControlFlow::Continue(())),
        }
    })
}

/// Label sets of an answer, each once.
#[derive(Default)]
struct Sets {
    at: Map<(LabelSet, LabelSet, LabelSet), u32>,
    messages: Vec<LabelSetMessage>,
}

impl Sets {
    fn position(&mut self, asked: &Asked<'_>, set: (LabelSet, LabelSet, LabelSet)) -> Result<u32> {
        if let Some(at) = self.at.get(&set) {
            return Ok(*at);
        }
        asked.budget.hold(2 * (set.0.memory_bytes() + set.1.memory_bytes() + set.2.memory_bytes()))?;
        let at = self.messages.len() as u32;
        self.messages.push(LabelSetMessage {
            stream: set.0.flat(),
            metadata: set.1.flat(),
            parsed: set.2.flat(),
        });
        self.at.insert(set, at);
        Ok(at)
    }
}

/// Lines of a log query.
pub(crate) fn lines(asked: &Asked<'_>, request: &LinesRequest) -> Result<LogAnswer> {
    let log = parse_log(&request.query)?;
    let pipeline = Pipeline::new(&log.stages)?;
    let mut sets = Sets::default();
    let mut lines: Vec<LineMessage> = Vec::new();
    if request.limit > 0 {
        let mut place: Option<(i64, u64)> = None;
        let expected = usize::try_from(request.limit).unwrap_or(usize::MAX);
        walk(asked, &log, &pipeline, None, (request.newest_first, expected), &mut |line| {
            let ordinal = match place {
                Some((time, ordinal)) if time == line.time_ns => ordinal + 1,
                _ => 0,
            };
            place = Some((line.time_ns, ordinal));
            asked.budget.hold(line.text.len() as u64 + 96)?;
            let labels = sets.position(asked, line.labels.split())?;
            let line =
                LineMessage { labels, time_ns: line.time_ns, line: std::mem::take(&mut line.text), ordinal };
            lines.push(line);
            Ok(match lines.len() as u64 >= request.limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })?;
    }
    Ok(LogAnswer { label_sets: sets.messages, lines, ..LogAnswer::default() })
}

/// Visits the text of each line of a log query, oldest first.
pub(crate) fn each_line(
    asked: &Asked<'_>,
    query: &str,
    visit: &mut dyn FnMut(&str, i64) -> Result<()>,
) -> Result<()> {
    let log = parse_log(query)?;
    let pipeline = Pipeline::new(&log.stages)?;
    walk(asked, &log, &pipeline, None, (false, usize::MAX), &mut |line| {
        visit(&line.text, line.time_ns)?;
        Ok(ControlFlow::Continue(()))
    })
}

/// Series of states while they are gathered.
struct Series<'a> {
    asked: &'a Asked<'a>,
    max_series: u64,
    by_labels: Map<LabelSet, BTreeMap<u64, State>>,
}

impl Series<'_> {
    fn add(&mut self, labels: LabelSet, bucket: u64, state: &State) -> Result<()> {
        if !self.by_labels.contains_key(&labels) {
            if self.by_labels.len() as u64 >= self.max_series {
                return Err(too_many_series(self.max_series));
            }
            self.asked.budget.charge_series()?;
            self.asked.budget.hold(labels.memory_bytes() + 96)?;
        }
        let buckets = self.by_labels.entry(labels).or_default();
        match buckets.get_mut(&bucket) {
            Some(known) => {
                if let State::Values(_) = state {
                    self.asked.budget.hold(16)?;
                }
                known.merge(state);
            }
            None => {
                self.asked.budget.hold(state.memory_bytes() + 16)?;
                buckets.insert(bucket, state.clone());
            }
        }
        Ok(())
    }

    fn finish(self) -> Vec<SeriesMessage> {
        let mut all: Vec<(LabelSet, BTreeMap<u64, State>)> = self.by_labels.into_iter().collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        let message = |(labels, states): (LabelSet, BTreeMap<u64, State>)| {
            let buckets: Vec<u64> = states.keys().copied().collect();
            let mut message = SeriesMessage {
                labels: labels.flat(),
                buckets: differences(&buckets),
                ..SeriesMessage::default()
            };
            states.values().for_each(|state| state.write(&mut message.ints, &mut message.floats));
            message
        };
        all.into_iter().map(message).collect()
    }
}

pub(super) fn too_many_series(limit: u64) -> QueryError {
    QueryError::Execution(format!(
        "maximum number of series ({limit}) reached for a single query; consider reducing query cardinality by adding \
         more specific stream selectors, reducing the time range, or aggregating results with functions like sum(), \
         count() or topk()"
    ))
}

/// States of a range aggregation.
pub(crate) fn range(asked: &Asked<'_>, request: &RangeRequest) -> Result<LogAnswer> {
    let Expr::Metric(metric) = parse(&request.query)? else {
        return Err(QueryError::Protocol("lines were asked for as numbers".to_owned()));
    };
    let Some(part) = part_of(&metric) else {
        return Err(QueryError::Protocol(format!("{metric} is not for shards")));
    };
    let steps = Steps { start_ns: request.start_ns, step_ns: request.step_ns, count: request.steps as usize };
    let buckets = Buckets::new(steps, part.range.range_ns, part.range.offset_ns);
    let mut series = Series { asked, max_series: request.max_series, by_labels: Map::default() };
    let more = match count_by_fields(asked, &part, &buckets, &mut series)? {
        Counted::All => return Ok(LogAnswer { series: series.finish(), ..LogAnswer::default() }),
        Counted::AllBut(rest) => Some(rest),
        Counted::None => None,
    };
    let mut pipeline = Pipeline::new(&part.range.log.stages)?;
    let unwrapper = part.range.unwrap.as_ref().map(Unwrapper::new).transpose()?;
    if part.has_no_labels() && unwrapper.is_none() {
        pipeline = pipeline.without_labels();
    }
    walk(asked, &part.range.log, &pipeline, more, (false, usize::MAX), &mut |line| {
        let value = match &unwrapper {
            None => 0.0,
            Some(unwrapper) => match unwrapper.number(line) {
                Some(value) => value,
                None => return Ok(ControlFlow::Continue(())),
            },
        };
        let labels = line.labels.all();
        if line.labels.has_error() {
            return Err(pipeline_error(&labels));
        }
        let labels = part.labels(&labels);
        let bytes = line.text.len() as u64;
        let state = State::new(part.range.op, unwrapper.is_some(), value, bytes, line.time_ns);
        let mut holding = buckets.holding(line.time_ns);
        let last = holding.next_back();
        for bucket in holding {
            series.add(labels.clone(), bucket, &state)?;
        }
        if let Some(bucket) = last {
            series.add(labels, bucket, &state)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(LogAnswer { series: series.finish(), ..LogAnswer::default() })
}

fn pipeline_error(labels: &LabelSet) -> QueryError {
    let error = labels.get(super::labels::ERROR);
    QueryError::BadParameter(format!(
        "pipeline error: '{error}' for series: '{labels}'.\nUse a label filter to intentionally skip this error. (e.g | \
         __error__!=\"{error}\").\nTo skip all potential errors you can match empty errors.(e.g __error__=\"\")\nThe label \
         filter can also be specified after unwrap. (e.g | unwrap latency | __error__=\"\" )\n"
    ))
}

/// How far counting by fields went.
enum Counted {
    /// Everything is counted.
    All,
    /// All but the records that meet this.
    AllBut(LogFilter),
    /// Nothing: labels are needed that are no fields.
    None,
}

/// A label as fields: the value is that of the first that has one.
struct LabelFields {
    label: String,
    first: usize,
    end: usize,
    is_level: bool,
}

/// Counts without looking at records one by one, where the question allows.
fn count_by_fields(
    asked: &Asked<'_>,
    part: &Part<'_>,
    buckets: &Buckets,
    series: &mut Series<'_>,
) -> Result<Counted> {
    let is_count = matches!(part.range.op, RangeOp::CountOverTime | RangeOp::Rate | RangeOp::AbsentOverTime)
        && part.range.unwrap.is_none();
    let (Some(width), Some(wanted), true) = (buckets.width(), part.by_labels(), is_count) else {
        return Ok(Counted::None);
    };
    let log = &part.range.log;
    let matchers = compile_matchers(&log.matchers)?;
    let selected = look_at_streams(asked, &matchers)?;
    let names = |label: &str| selected.names.get(label).cloned().unwrap_or_default();
    let (_, are_all) = pushed_stages(&log.stages, &names);
    if !are_all || !log.matchers.iter().all(|matcher| is_exact(matcher, &names(&matcher.name))) {
        return Ok(Counted::None);
    }
    let mut by: Vec<LogField> = Vec::new();
    let mut labels: Vec<LabelFields> = Vec::new();
    for label in wanted {
        let first = by.len();
        let of_resource = names(label);
        if of_resource.len() > 1 {
            return Ok(Counted::None);
        }
        by.extend(of_resource.into_iter().map(LogField::ResourceAttribute));
        let mut is_level = false;
        if !selected.common.contains(label) {
            if label == DETECTED_LEVEL {
                is_level = true;
                by.extend([LogField::RecordAttribute(label.clone()), LogField::Severity]);
            } else if label.contains('_') {
                // Attributes of other names may become this label, too.
                return Ok(Counted::None);
            } else {
                by.push(LogField::RecordAttribute(label.clone()));
                by.push(LogField::ScopeAttribute(label.clone()));
            }
        }
        labels.push(LabelFields { label: label.clone(), first, end: by.len(), is_level });
    }
    let (start_ns, end_ns) = (asked.start_ns, asked.end_ns);
    let filter = pushed(log, &names);
    let has_level = labels.iter().any(|label| label.is_level);
    let zero = Some(Bound { value: 0.0, inclusive: true });
    let is_unnumbered =
        LogFilter::Field(LogField::Severity, LogTest::Range(LogRange { from: zero, to: zero }));
    let counted = match has_level {
        true => LogFilter::And(vec![filter, LogFilter::Not(Box::new(is_unnumbered.clone()))]),
        false => filter,
    };
    let count = LogCount { start_ns, end_ns, filter: counted, bucket_ns: width, by };
    asked.count(&count, &mut |bucket, values, records| {
        let pairs = labels.iter().map(|fields| {
            let own = values.get(fields.first..fields.end).unwrap_or_default();
            let value = match own.split_last() {
                Some((severity, others)) if fields.is_level => {
                    let named = others.iter().find(|value| !value.is_empty()).copied();
                    named.unwrap_or_else(|| severity.parse().ok().and_then(level::name).unwrap_or("unknown"))
                }
                _ => own.iter().find(|value| !value.is_empty()).copied().unwrap_or_default(),
            };
            (fields.label.clone(), value.to_owned())
        });
        series.add(LabelSet::new(pairs.collect()), bucket, &State::Count(records))
    })?;
    Ok(match has_level {
        true => Counted::AllBut(is_unnumbered),
        false => Counted::All,
    })
}

/// Label sets of streams.
pub(crate) fn streams(asked: &Asked<'_>, request: &StreamsRequest) -> Result<LogAnswer> {
    let mut selectors = Vec::new();
    for selector in &request.selectors {
        selectors.push(compile_matchers(&parse_selector(selector)?)?);
    }
    let mut found: std::collections::BTreeSet<LabelSet> = std::collections::BTreeSet::new();
    each_stream(asked, &mut |stream| {
        let labels = stream_labels(stream);
        let is_wanted = selectors.is_empty() || selectors.iter().any(|matchers| all_pass(matchers, &labels));
        if is_wanted && !found.contains(&labels) {
            asked.budget.charge_series()?;
            asked.budget.hold(2 * labels.memory_bytes())?;
            found.insert(labels);
        }
        Ok(())
    })?;
    let message = |labels: LabelSet| LabelSetMessage { stream: labels.flat(), ..LabelSetMessage::default() };
    Ok(LogAnswer { label_sets: found.into_iter().map(message).collect(), ..LogAnswer::default() })
}

/// Records and bytes of streams by bucket.
pub(crate) fn volume(asked: &Asked<'_>, request: &VolumeRequest) -> Result<LogAnswer> {
    let log = LogExpr { matchers: parse_selector(&request.selector)?, stages: Vec::new() };
    let matchers = compile_matchers(&log.matchers)?;
    let selected = look_at_streams(asked, &matchers)?;
    let names = |label: &str| selected.names.get(label).cloned().unwrap_or_default();
    let width = LogCount {
        start_ns: asked.start_ns,
        end_ns: asked.end_ns,
        filter: LogFilter::All,
        bucket_ns: request.bucket_ns,
        by: Vec::new(),
    };
    let scan = LogScan {
        start_ns: asked.start_ns,
        end_ns: asked.end_ns,
        filter: pushed(&log, &names),
        newest_first: false,
        columns: LogColumns::Fields(vec![LogField::Body]),
        expected: usize::MAX,
    };
    let mut streams = Streams::new(&matchers);
    let mut groups = Groups::new(&asked.budget);
    asked.scan(&scan, &mut |stream, record| {
        if let Some(labels) = streams.labels(asked, stream)? {
            let flat = labels.flat();
            let flat: Vec<&str> = flat.iter().map(String::as_str).collect();
            groups.add(&flat, width.bucket(record.effective_ns()), 1, record.body.text().len() as u64)?;
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(LogAnswer { groups: groups.finish(), ..LogAnswer::default() })
}
