//! Log questions at a shard: a request in, one walk over the shard's records, an answer out.
//!
//! Every kind of question holds a [`Budget`]: records that are read are charged, as are the bytes of what is kept for
//! the answer; the source asks whether to stop at least once a block, so that a query that finds nothing ends in time,
//! too. Answers are sorted where the walk has no order of its own, so that they do not depend on how a shard came to
//! its segments.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use prost::Message;
use protocol::error::ErrorKind;
use protocol::ids::TenantId;
use protocol::logs::messages::{
    CountsRequest, FieldCount, FieldMessage, FieldsRequest, FilterMessage, GroupMessage, LogAnswer, LogBody,
    LogRequest, MessageError, PatternsRequest, PlaceMessage, RowMessage, RowsRequest, StreamMessage, VERSION,
    ValuesRequest,
};
use protocol::logs::{LogColumns, LogField, LogFilter, LogRecord, LogScan, LogStream, RowSignal};
use protocol::scan::FragmentAnswer;

use super::logql::fragment as logql;
use super::patterns;
use super::source::{LogCount, LogKinds, LogRead, LogSource};
use super::stats::Gathered;
use crate::error::QueryError;
use crate::exec::{Budget, Control, Limits};
use crate::source::{ShardSource, SourceError};
use crate::value::Map;

pub(crate) type Result<T> = std::result::Result<T, QueryError>;

impl From<MessageError> for QueryError {
    fn from(error: MessageError) -> Self {
        Self::Protocol(error.to_string())
    }
}

/// A question at a shard while it is answered.
pub(crate) struct Asked<'a> {
    pub source: &'a dyn LogSource,
    pub signal: RowSignal,
    pub tenant: &'a TenantId,
    pub start_ns: i64,
    pub end_ns: i64,
    pub budget: Budget,
}

/// Answers a question about logs.
pub(crate) fn run_log_fragment(
    source: &dyn ShardSource,
    tenant: &TenantId,
    request: LogRequest,
    limits: Limits,
    control: Control,
    round: u32,
) -> Result<FragmentAnswer> {
    if request.version > VERSION {
        let message =
            format!("version {} of log messages is newer than this node's {VERSION}", request.version);
        return Err(QueryError::Protocol(message));
    }
    let Some(logs) = source.logs() else {
        let error = SourceError::new(ErrorKind::Internal, "the shard of this node has no logs to read");
        return Err(error.into());
    };
    let limits = limits.within(request.max_samples, request.max_bytes, request.timeout_ms);
    let budget = Budget::new(limits, control).within(source.memory()).in_round(round);
    let signal = if request.spans { RowSignal::Spans } else { RowSignal::Logs };
    let (start_ns, end_ns) = (request.start_ns, request.end_ns);
    let asked = Asked { source: logs, signal, tenant, start_ns, end_ns, budget };
    let answer = match request.body {
        None => return Err(QueryError::Protocol("the request about logs has no body".to_owned())),
        Some(LogBody::Rows(request)) => asked.rows(request),
        Some(LogBody::Counts(request)) => asked.counts(request),
        Some(LogBody::Fields(request)) => asked.fields(request),
        Some(LogBody::Values(request)) => asked.values(request),
        Some(LogBody::Patterns(request)) => asked.patterns(request),
        Some(LogBody::Lines(request)) => logql::lines(&asked, &request),
        Some(LogBody::Range(request)) => logql::range(&asked, &request),
        Some(LogBody::Streams(request)) => logql::streams(&asked, &request),
        Some(LogBody::Volume(request)) => logql::volume(&asked, &request),
    }?;
    asked.budget.check()?;
    asked.budget.settle();
    let stats = asked.budget.stats();
    Ok(FragmentAnswer { logs: Some(answer), stats: Some(stats), ..FragmentAnswer::default() })
}

/// A visitor's failure on its way out of the walk.
pub(crate) struct Failure(Option<QueryError>);

impl Failure {
    pub fn none() -> Self {
        Self(None)
    }

    /// Goes on, or stops and remembers why.
    pub fn go_on(&mut self, result: Result<ControlFlow<()>>) -> ControlFlow<()> {
        result.unwrap_or_else(|error| {
            self.0 = Some(error);
            ControlFlow::Break(())
        })
    }

    /// The failure of the visitor, else that of the walk.
    pub fn or(self, walked: std::result::Result<(), SourceError>) -> Result<()> {
        match self.0 {
            Some(error) => Err(error),
            None => Ok(walked?),
        }
    }
}

impl<'a> Asked<'a> {
    /// What every walk is told.
    pub fn read<'r>(&'r self, should_stop: &'r dyn Fn() -> bool) -> LogRead<'r> {
        LogRead { signal: self.signal, tenant: self.tenant, should_stop }
    }

    /// Walks over records; each is charged before it is visited.
    pub fn scan(
        &self,
        scan: &LogScan,
        visit: &mut dyn FnMut(&LogStream<'_>, &LogRecord<'_>) -> Result<ControlFlow<()>>,
    ) -> Result<()> {
        let mut failure = Failure::none();
        let should_stop = || self.budget.check().is_err();
        let read = self.read(&should_stop);
        let walked = self.source.scan(&read, scan, &mut |stream, record| {
            let visited = self.budget.charge_samples(1).and_then(|()| visit(stream, record));
            failure.go_on(visited)
        });
        failure.or(walked)?;
        self.budget.check()
    }

    fn scan_of(&self, filter: LogFilter, newest_first: bool, columns: LogColumns) -> LogScan {
        LogScan {
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            filter,
            newest_first,
            columns,
            expected: usize::MAX,
        }
    }

    fn rows(&self, request: RowsRequest) -> Result<LogAnswer> {
        let filter = LogFilter::try_from(request.filter)?;
        let limit = usize::try_from(request.limit).unwrap_or(usize::MAX);
        let mut rows = Rows { asked: self, limit, streams: Map::default(), answer: LogAnswer::default() };
        let scan = self.scan_of(filter, request.newest_first, LogColumns::All);
        if limit > 0 {
            match request.newest_first {
                true => rows.newest_first(scan, request.after)?,
                false => rows.oldest_first(scan, request.after)?,
            }
        }
        Ok(rows.answer)
    }

    fn counts(&self, request: CountsRequest) -> Result<LogAnswer> {
        let by =
            request.by.into_iter().map(LogField::try_from).collect::<std::result::Result<Vec<_>, _>>()?;
        let count = LogCount {
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            filter: LogFilter::try_from(request.filter)?,
            bucket_ns: request.bucket_ns,
            by,
        };
        let mut groups = Groups::new(&self.budget);
        self.count(&count, &mut |bucket, values, records| groups.add(values, bucket, records, 0))?;
        Ok(LogAnswer { groups: groups.finish(), ..LogAnswer::default() })
    }

    /// Counts, by the shortest way that the source has.
    pub fn count(
        &self,
        count: &LogCount,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> Result<()>,
    ) -> Result<()> {
        let mut failure = Failure::none();
        let should_stop = || self.budget.check().is_err();
        let read = self.read(&should_stop);
        let walked = self.source.count(&read, count, &mut |bucket, values, records| {
            let visited = self.budget.charge_samples(1).and_then(|()| visit(bucket, values, records));
            failure.go_on(visited.map(ControlFlow::Continue))
        });
        failure.or(walked)?;
        self.budget.check()
    }

    fn values(&self, request: ValuesRequest) -> Result<LogAnswer> {
        let (filter, field) = (LogFilter::try_from(request.filter)?, LogField::try_from(request.field)?);
        let mut gathered = Gathered::new(&self.budget);
        let mut failure = Failure::none();
        let should_stop = || self.budget.check().is_err();
        let read = self.read(&should_stop);
        let range = (self.start_ns, self.end_ns);
        let walked = self.source.values(&read, range, &filter, &field, &mut |values| {
            failure.go_on(gathered.add(values).map(ControlFlow::Continue))
        });
        failure.or(walked)?;
        self.budget.check()?;
        Ok(LogAnswer { values: Some(gathered.finish()), ..LogAnswer::default() })
    }

    fn fields(&self, request: FieldsRequest) -> Result<LogAnswer> {
        let filter = LogFilter::try_from(request.filter)?;
        let mut found: BTreeMap<LogField, (LogKinds, u64)> = BTreeMap::new();
        let mut failure = Failure::none();
        let should_stop = || self.budget.check().is_err();
        let read = self.read(&should_stop);
        let walked =
            self.source.fields(&read, self.start_ns, self.end_ns, &filter, &mut |field, kinds, records| {
                let visited = self.budget.charge_samples(1).and_then(|()| {
                    if let Some(known) = found.get_mut(field) {
                        *known = (known.0.and(kinds), known.1 + records);
                    } else {
                        self.budget.hold(size_of::<(LogField, LogKinds, u64)>() as u64 + 64)?;
                        found.insert(field.clone(), (kinds, records));
                    }
                    Ok(ControlFlow::Continue(()))
                });
                failure.go_on(visited)
            });
        failure.or(walked)?;
        self.budget.check()?;
        let fields = found.iter().map(|(field, (kinds, records))| FieldCount {
            field: FieldMessage::from(field),
            kinds: u32::from(kinds.0),
            records: *records,
        });
        Ok(LogAnswer { fields: fields.collect(), ..LogAnswer::default() })
    }

    fn patterns(&self, request: PatternsRequest) -> Result<LogAnswer> {
        let max_templates = usize::try_from(request.max_templates).unwrap_or(usize::MAX);
        let mut groups = Groups::new(&self.budget);
        let (mut masked, mut left_out) = (String::new(), 0u64);
        let width = LogCount {
            start_ns: self.start_ns,
            end_ns: self.end_ns,
            filter: LogFilter::All,
            bucket_ns: request.bucket_ns,
            by: Vec::new(),
        };
        let mut mine = |line: &str, time_ns: i64| {
            patterns::mask(line, &mut masked);
            if groups.len() >= max_templates && !groups.has(&[&masked]) {
                left_out += 1;
                return Ok(());
            }
            groups.add(&[&masked], width.bucket(time_ns), 1, 0)
        };
        if request.logql.is_empty() {
            let filter = LogFilter::try_from(request.filter)?;
            let scan = self.scan_of(filter, false, LogColumns::Fields(vec![LogField::Body]));
            self.scan(&scan, &mut |_, record| {
                mine(&record.body.text(), record.effective_ns())?;
                Ok(ControlFlow::Continue(()))
            })?;
        } else {
            logql::each_line(self, &request.logql, &mut |line, time_ns| mine(line, time_ns))?;
        }
        Ok(LogAnswer { groups: groups.finish(), left_out, ..LogAnswer::default() })
    }
}

/// Counts by the values of some fields.
pub(crate) struct Groups<'a> {
    budget: &'a Budget,
    groups: Map<Vec<u8>, Group>,
    key: Vec<u8>,
}

#[derive(Default)]
struct Group {
    values: Vec<String>,
    buckets: BTreeMap<u64, (u64, u64)>,
}

impl<'a> Groups<'a> {
    pub fn new(budget: &'a Budget) -> Self {
        Self { budget, groups: Map::default(), key: Vec::new() }
    }

    pub fn len(&self) -> usize {
        self.groups.len()
    }

    fn take_key(&mut self, values: &[&str]) {
        self.key.clear();
        for value in values {
            self.key.extend_from_slice(&(value.len() as u64).to_le_bytes());
            self.key.extend_from_slice(value.as_bytes());
        }
    }

    fn has(&mut self, values: &[&str]) -> bool {
        self.take_key(values);
        self.groups.contains_key(self.key.as_slice())
    }

    /// Counts records and bytes of a bucket.
    pub fn add(&mut self, values: &[&str], bucket: u64, records: u64, bytes: u64) -> Result<()> {
        self.take_key(values);
        if !self.groups.contains_key(self.key.as_slice()) {
            self.budget.hold(2 * self.key.len() as u64 + 128)?;
            let group = Group {
                values: values.iter().map(|value| (*value).to_owned()).collect(),
                ..Group::default()
            };
            self.groups.insert(self.key.clone(), group);
        }
        if let Some(group) = self.groups.get_mut(self.key.as_slice()) {
            if let Some(counts) = group.buckets.get_mut(&bucket) {
                *counts = (counts.0 + records, counts.1 + bytes);
            } else {
                self.budget.hold(32)?;
                group.buckets.insert(bucket, (records, bytes));
            }
        }
        Ok(())
    }

    /// The groups by their values.
    pub fn finish(self) -> Vec<GroupMessage> {
        let mut groups: Vec<Group> = self.groups.into_values().collect();
        groups.sort_by(|a, b| a.values.cmp(&b.values));
        let message = |group: Group| {
            let buckets: Vec<u64> = group.buckets.keys().copied().collect();
            let has_bytes = group.buckets.values().any(|(_, bytes)| *bytes > 0);
            GroupMessage {
                values: group.values,
                buckets: differences(&buckets),
                counts: group.buckets.values().map(|(records, _)| *records).collect(),
                bytes: match has_bytes {
                    true => group.buckets.values().map(|(_, bytes)| *bytes).collect(),
                    false => Vec::new(),
                },
            }
        };
        groups.into_iter().map(message).collect()
    }
}

/// Ascending numbers as the first and differences.
pub(crate) fn differences(numbers: &[u64]) -> Vec<u64> {
    let mut last = 0;
    numbers.iter().map(|number| number - std::mem::replace(&mut last, *number)).collect()
}

/// The other way of [`differences`]; what would overflow is refused.
pub(crate) fn sums(differences: &[u64]) -> Result<Vec<u64>> {
    let mut sum = 0u64;
    let add = |difference: &u64| {
        sum = sum.checked_add(*difference)?;
        Some(sum)
    };
    differences
        .iter()
        .map(add)
        .collect::<Option<Vec<u64>>>()
        .ok_or_else(|| QueryError::Protocol("buckets of a log answer overflow".to_owned()))
}

/// Ascending numbers as the first and differences, which are exact modulo 2^64.
pub(crate) fn differences_of(numbers: &[i64]) -> Vec<u64> {
    let mut last = 0i64;
    numbers.iter().map(|number| number.wrapping_sub(std::mem::replace(&mut last, *number)) as u64).collect()
}

/// The other way of [`differences_of`].
pub(crate) fn sums_of(differences: &[u64]) -> Result<Vec<i64>> {
    let mut sum = 0i64;
    let add = |difference: &u64| {
        sum = sum.wrapping_add(*difference as i64);
        sum
    };
    let numbers: Vec<i64> = differences.iter().map(add).collect();
    match numbers.is_sorted() {
        true => Ok(numbers),
        false => Err(QueryError::Protocol("numbers of a log answer do not ascend".to_owned())),
    }
}

/// Rows of an answer while they are gathered.
struct Rows<'a> {
    asked: &'a Asked<'a>,
    limit: usize,
    /// Positions of streams in the answer, by their encoded form.
    streams: Map<Vec<u8>, u32>,
    answer: LogAnswer,
}

impl Rows<'_> {
    fn push(&mut self, stream: &LogStream<'_>, record: &LogRecord<'_>, ordinal: u64) -> Result<()> {
        self.asked.budget.hold(record.memory_bytes() + 64)?;
        let message = StreamMessage::from(stream);
        let key = message.encode_to_vec();
        let next = self.answer.streams.len() as u32;
        let at = match self.streams.get(&key) {
            Some(at) => *at,
            None => {
                self.asked.budget.hold(stream.memory_bytes() + key.len() as u64)?;
                self.streams.insert(key, next);
                self.answer.streams.push(message);
                next
            }
        };
        self.answer.rows.push(RowMessage::new(at, record, ordinal));
        Ok(())
    }

    fn oldest_first(&mut self, mut scan: LogScan, after: Option<PlaceMessage>) -> Result<()> {
        let mut skip = None;
        if let Some(place) = after {
            let own = u32::from(self.asked.source.shard().0);
            scan.start_ns = scan.start_ns.max(match place.shard > own {
                true => match place.time_ns.checked_add(1) {
                    Some(next) => next,
                    None => return Ok(()),
                },
                false => place.time_ns,
            });
            skip = (place.shard == own).then_some((place.time_ns, place.ordinal));
        }
        scan.expected = self.limit;
        let mut place: Option<(i64, u64)> = None;
        self.asked.scan(&scan, &mut |stream, record| {
            let time = record.effective_ns();
            let ordinal = match place {
                Some((last, ordinal)) if last == time => ordinal + 1,
                _ => 0,
            };
            place = Some((time, ordinal));
            if skip.is_some_and(|(at, last)| at == time && ordinal <= last) {
                return Ok(ControlFlow::Continue(()));
            }
            self.push(stream, record, ordinal)?;
            Ok(match self.answer.rows.len() >= self.limit {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            })
        })
    }

    /// Ordinals count from the oldest, so a record's is known when all of its time have been seen.
    fn newest_first(&mut self, mut scan: LogScan, after: Option<PlaceMessage>) -> Result<()> {
        if let Some(place) = after {
            let own = u32::from(self.asked.source.shard().0);
            if place.shard == own && (scan.start_ns..=scan.end_ns).contains(&place.time_ns) {
                self.before_in_time(&scan, place)?;
            }
            let last = if place.shard > own { Some(place.time_ns) } else { place.time_ns.checked_sub(1) };
            let Some(last) = last else { return Ok(()) };
            scan.end_ns = scan.end_ns.min(last);
        }
        if self.answer.rows.len() >= self.limit {
            return Ok(());
        }
        // And the one that shows how many the last one's time has.
        scan.expected = self.limit - self.answer.rows.len() + 1;
        let (mut group_start, mut group_time, mut group_size) = (self.answer.rows.len(), None, 0u64);
        self.asked.scan(&scan, &mut |stream, record| {
            let time = record.effective_ns();
            if group_time != Some(time) {
                number_group(&mut self.answer.rows[group_start..], group_size);
                if self.answer.rows.len() >= self.limit {
                    group_start = self.answer.rows.len();
                    return Ok(ControlFlow::Break(()));
                }
                (group_start, group_time, group_size) = (self.answer.rows.len(), Some(time), 0);
            }
            group_size += 1;
            if self.answer.rows.len() < self.limit {
                self.push(stream, record, 0)?;
            }
            Ok(ControlFlow::Continue(()))
        })?;
        number_group(&mut self.answer.rows[group_start..], group_size);
        Ok(())
    }

    /// The records of a place's time that were written before it, newest first.
    fn before_in_time(&mut self, scan: &LogScan, place: PlaceMessage) -> Result<()> {
        let scan =
            LogScan { start_ns: place.time_ns, end_ns: place.time_ns, newest_first: false, ..scan.clone() };
        let mut kept: VecDeque<(u64, LogStream<'static>, LogRecord<'static>)> = VecDeque::new();
        let mut held = self.asked.budget.hold_while(0)?;
        let mut ordinal = 0;
        self.asked.scan(&scan, &mut |stream, record| {
            if ordinal >= place.ordinal {
                return Ok(ControlFlow::Break(()));
            }
            if kept.len() == self.limit {
                kept.pop_front();
            }
            held.grow(record.memory_bytes())?;
            kept.push_back((ordinal, stream.clone().into_owned(), record.clone().into_owned()));
            ordinal += 1;
            Ok(ControlFlow::Continue(()))
        })?;
        for (ordinal, stream, record) in kept.iter().rev() {
            self.push(stream, record, *ordinal)?;
        }
        Ok(())
    }
}

/// Numbers the records of one time, of which there are `size`, the newest of them first.
fn number_group(rows: &mut [RowMessage], size: u64) {
    for (back, row) in (1..).zip(rows) {
        row.ordinal = size.saturating_sub(back);
    }
}

/// The filter of a request about LogQL, which carries text instead.
pub(crate) fn any_filter() -> FilterMessage {
    FilterMessage::from(&LogFilter::All)
}
