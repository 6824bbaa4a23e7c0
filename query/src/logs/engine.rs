//! Questions about logs at the coordinator: sent to all shards, answers merged in shard order.
//!
//! ```text
//! search, filter ─► LogRequest ─Cluster::execute─► one LogAnswer a shard ─► merge ─► rows, counts, fields, patterns
//! ```
//!
//! A shard that does not answer fails the query, as in PromQL. Rows of all shards are merged by [`Place`]: time, shard,
//! and place among the matching records of that time and shard. What is written later never moves a record's place, so a
//! page that begins behind a place neither repeats nor leaves out what was there when the first page was read.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt::{Display, Formatter};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use protocol::ids::{ShardId, TenantId};
use protocol::logs::messages::{
    CountsRequest, FieldCount, FieldMessage, FieldsRequest, FilterMessage, GroupMessage, LogAnswer, LogBody,
    LogRequest, PatternsRequest, PlaceMessage, RowsRequest, VERSION, ValuesRequest,
};
use protocol::logs::{LogField, LogFilter, LogRecord, LogStream, LogTest, RowSignal, TimestampNs};
use protocol::scan::FragmentBody;
use protocol::spans::messages::{TraceBody, TraceRequest};

use super::fragment::sums;
use super::patterns::{self, Pattern};
use super::source::LogKinds;
use super::stats::{FieldStats, Merged};
use crate::engine::{Engine, Reply, encode, execute};
use crate::error::QueryError;
use crate::exec::{Budget, CancelFlag, Control};
use crate::source::{Consistency, ReadContext};
use crate::value::Map;

type Result<T> = std::result::Result<T, QueryError>;

/// Records that one page may have.
pub const MAX_ROWS: usize = 100_000;

/// Buckets that a histogram may have.
pub const MAX_BUCKETS: u64 = 11_000;

/// What part of a page a shard is asked for first, and how many rows at least: somewhat more than it has of a page if
/// there are as many shards as a cluster begins with.
const SHARE: usize = 8;
const LEAST_SHARE: usize = 32;

/// Masked lines that a shard may hold; what comes behind them is counted, not mined.
const MAX_TEMPLATES: u64 = 50_000;

/// Whose logs are asked, of which time, and how.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Which rows: log records, or those in which spans are kept.
    pub signal: RowSignal,
    /// Whose.
    pub tenant: TenantId,
    /// What the user asked, for lists of running queries.
    pub text: String,
    /// First nanosecond.
    pub start_ns: TimestampNs,
    /// Last nanosecond.
    pub end_ns: TimestampNs,
    /// How fresh.
    pub consistency: Consistency,
    /// Less time than the engine allows.
    pub timeout: Option<Duration>,
    /// Stops the query.
    pub cancel: CancelFlag,
}

impl LogQuery {
    /// A question of a tenant about a time range, with everything else as the engine has it.
    pub fn new(
        tenant: TenantId,
        text: impl Into<String>,
        start_ns: TimestampNs,
        end_ns: TimestampNs,
    ) -> Self {
        Self {
            signal: RowSignal::Logs,
            tenant,
            text: text.into(),
            start_ns,
            end_ns,
            consistency: Consistency::default(),
            timeout: None,
            cancel: CancelFlag::default(),
        }
    }
}

/// Place of a record in the order of a query's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Effective time.
    pub time_ns: TimestampNs,
    /// Shard that holds it.
    pub shard: ShardId,
    /// Records of that time and shard that meet the query and were written before it.
    pub ordinal: u64,
}

impl Display for Place {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}_{}_{}", self.time_ns, self.shard.0, self.ordinal)
    }
}

impl FromStr for Place {
    type Err = QueryError;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let mut parts = text.split('_');
            let place = Self {
                time_ns: parts.next()?.parse().ok()?,
                shard: ShardId(parts.next()?.parse().ok()?),
                ordinal: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(place)
        };
        parse().ok_or_else(|| QueryError::BadParameter(format!("{text:?} is no cursor of a page of logs")))
    }
}

/// A record that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Its stream.
    pub stream: Arc<LogStream<'static>>,
    /// The record.
    pub record: LogRecord<'static>,
    /// Its place, where the next page may begin.
    pub place: Place,
}

/// Numbers of records by bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// Values of the fields.
    pub values: Vec<String>,
    /// Records.
    pub count: u64,
    /// Records by bucket, ascending; those without any are left out.
    pub buckets: BTreeMap<u64, u64>,
}

/// The commonest values of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Top {
    /// Those with most records, all of them in bucket 0.
    pub commonest: Vec<Counted>,
    /// Different values of all records.
    pub distinct: usize,
    /// Records.
    pub total: u64,
}

/// A field that records have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldInfo {
    /// The field.
    pub field: LogField,
    /// Kinds of its values.
    pub kinds: LogKinds,
    /// Records that have it.
    pub records: u64,
}

/// Patterns of a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Patterns {
    /// The patterns, the commonest first.
    pub patterns: Vec<Pattern>,
    /// Lines that were not mined, because there were too many kinds of them.
    pub left_out: u64,
}

/// A record among its neighbours.
#[derive(Clone, Debug, PartialEq)]
pub struct Surroundings {
    /// The record and those around it, oldest first.
    pub rows: Vec<Row>,
    /// Which of them was asked about.
    pub at: usize,
}

/// A question on its way to the shards.
pub(crate) struct Sending {
    context: ReadContext,
    fragment: Bytes,
}

impl Sending {
    /// Sends it to all shards.
    pub async fn send(self, engine: &Engine) -> Result<Vec<Reply>> {
        execute(engine.cluster(), &self.context, self.fragment).await
    }
}

/// Rows that all shards have told.
struct Page {
    rows: Vec<Row>,
    /// The last of them, if there may be more behind it.
    end: Option<Place>,
}

/// A running question.
pub(crate) struct Asking<'a> {
    engine: &'a Engine,
    query: &'a LogQuery,
    context: ReadContext,
    /// Questions to the shards so far.
    rounds: Cell<u32>,
    pub budget: Budget,
}

impl<'a> Asking<'a> {
    pub fn new(engine: &'a Engine, query: &'a LogQuery) -> Self {
        let mut limits = engine.options().limits;
        limits.timeout = query.timeout.map_or(limits.timeout, |timeout| timeout.min(limits.timeout));
        let context = engine.context(&query.tenant, &query.consistency, limits.timeout);
        let account = Some(engine.options().accounts.of(context.query));
        let control = Control { cancel: query.cancel.clone(), account, ..Control::default() };
        let budget = Budget::new(limits, control).within(Some(&engine.options().memory));
        Self { engine, query, context, rounds: Cell::new(0), budget }
    }

    /// A question, ready to be sent.
    pub fn prepare(&self, (start_ns, end_ns): (TimestampNs, TimestampNs), body: LogBody) -> Result<Sending> {
        let limits = self.budget.limits();
        let spans = self.query.signal == RowSignal::Spans;
        self.sending(FragmentBody::Logs(LogRequest {
            version: if spans { VERSION } else { 1 },
            spans,
            text: self.query.text.clone(),
            max_samples: limits.max_samples.saturating_sub(self.budget.samples()),
            max_bytes: limits.max_bytes,
            timeout_ms: self.budget.remaining().as_millis() as u64,
            start_ns,
            end_ns,
            body: Some(body),
        }))
    }

    /// A question about traces, ready to be sent.
    pub fn prepare_traces(
        &self,
        (start_ns, end_ns): (TimestampNs, TimestampNs),
        body: TraceBody,
    ) -> Result<Sending> {
        let limits = self.budget.limits();
        self.sending(FragmentBody::Traces(TraceRequest {
            version: body.version(),
            text: self.query.text.clone(),
            max_samples: limits.max_samples.saturating_sub(self.budget.samples()),
            max_bytes: limits.max_bytes,
            timeout_ms: self.budget.remaining().as_millis() as u64,
            start_ns,
            end_ns,
            body: Some(body),
        }))
    }

    fn sending(&self, body: FragmentBody) -> Result<Sending> {
        self.budget.check()?;
        let (timeout, max_answer_bytes) = (self.budget.remaining(), self.budget.free_bytes());
        let context = ReadContext { timeout, max_answer_bytes, ..self.context.clone() };
        self.rounds.set(self.rounds.get() + 1);
        let fragment = encode(&context, self.rounds.get(), body);
        Ok(Sending { context, fragment })
    }

    /// The engine that asks.
    pub fn engine(&self) -> &'a Engine {
        self.engine
    }

    /// Counts what an answer holds, and what was read for it.
    pub fn charge(&self, reply: &Reply) -> Result<()> {
        self.budget.hold(reply.bytes)?;
        match &reply.answer.stats {
            Some(stats) => self.budget.charge_samples(stats.samples),
            None => Ok(()),
        }
    }

    /// What shards answered, in shard order.
    pub fn take_in(&self, replies: Vec<Reply>) -> Result<Vec<(ShardId, LogAnswer)>> {
        let mut answers = Vec::with_capacity(replies.len());
        for reply in replies {
            self.charge(&reply)?;
            let Some(answer) = reply.answer.logs else {
                let message = format!("shard {} gave no answer about logs", reply.shard);
                return Err(QueryError::Protocol(message));
            };
            answers.push((reply.shard, answer));
        }
        Ok(answers)
    }

    /// Asks all shards; answers come in shard order. Takes itself exclusively, since budgets stay on one thread at a time.
    pub async fn ask(
        &mut self,
        range: (TimestampNs, TimestampNs),
        body: LogBody,
    ) -> Result<Vec<(ShardId, LogAnswer)>> {
        let sending = self.prepare(range, body)?;
        let replies = sending.send(self.engine).await?;
        self.take_in(replies)
    }

    /// The time that the question is about.
    pub fn range(&self) -> (TimestampNs, TimestampNs) {
        (self.query.start_ns, self.query.end_ns)
    }

    /// Rows behind a place, in order. No shard knows how many of the rows are the others': each is asked for about its
    /// share first, so that nobody reads a whole page of which a part would be taken, and only where some shard has more
    /// than its share for what is missing.
    async fn rows(
        &mut self,
        range: (TimestampNs, TimestampNs),
        filter: &LogFilter,
        newest_first: bool,
        limit: usize,
        mut after: Option<Place>,
    ) -> Result<Vec<Row>> {
        let mut rows: Vec<Row> = Vec::new();
        let mut share = limit / SHARE + LEAST_SHARE;
        loop {
            let missing = limit - rows.len();
            let page = self.page(range, filter, newest_first, share.min(missing), after).await?;
            rows.extend(page.rows);
            rows.truncate(limit);
            match page.end {
                Some(end) if rows.len() < limit => after = Some(end),
                _ => return Ok(rows),
            }
            share = limit;
        }
    }

    /// The rows behind a place as far as all shards have told them, each of which sends so many at most.
    async fn page(
        &mut self,
        range: (TimestampNs, TimestampNs),
        filter: &LogFilter,
        newest_first: bool,
        limit: usize,
        after: Option<Place>,
    ) -> Result<Page> {
        let place = |place: Place| PlaceMessage {
            time_ns: place.time_ns,
            shard: u32::from(place.shard.0),
            ordinal: place.ordinal,
        };
        let body = LogBody::Rows(RowsRequest {
            filter: filter.into(),
            newest_first,
            limit: limit as u64,
            after: after.map(place),
        });
        let comes_first = |a: Place, b: Place| if newest_first { a.max(b) } else { a.min(b) };
        let mut page = Page { rows: Vec::new(), end: None };
        for (shard, answer) in self.ask(range, body).await? {
            let streams: Vec<Arc<LogStream<'static>>> =
                answer.streams.into_iter().map(|stream| Arc::new(LogStream::from(stream))).collect();
            let is_full = limit > 0 && answer.rows.len() >= limit;
            for row in answer.rows {
                let Some(stream) = streams.get(row.stream as usize) else {
                    return Err(QueryError::Protocol(format!(
                        "shard {shard} names a stream that it did not send"
                    )));
                };
                let ordinal = row.ordinal;
                let record = row.record()?;
                let place = Place { time_ns: record.effective_ns(), shard, ordinal };
                page.rows.push(Row { stream: Arc::clone(stream), record, place });
            }
            // A full shard may have more behind its last row: what others have behind that is not the next.
            if let Some(last) = page.rows.last().filter(|_| is_full).map(|row| row.place) {
                page.end = Some(page.end.map_or(last, |end| comes_first(end, last)));
            }
        }
        if let Some(end) = page.end {
            page.rows.retain(|row| comes_first(row.place, end) == row.place);
        }
        match newest_first {
            true => page.rows.sort_by_key(|row| std::cmp::Reverse(row.place)),
            false => page.rows.sort_by_key(|row| row.place),
        }
        Ok(page)
    }

    async fn values(&mut self, filter: &LogFilter, field: &LogField) -> Result<Merged> {
        if *field == LogField::Any {
            return Err(any_is_no_field());
        }
        let body = LogBody::Values(ValuesRequest { filter: filter.into(), field: FieldMessage::from(field) });
        let mut merged = Merged::default();
        let range = self.range();
        for (shard, answer) in self.ask(range, body).await? {
            let Some(values) = answer.values else {
                return Err(QueryError::Protocol(format!("shard {shard} sent no values")));
            };
            merged.add(values, &self.budget)?;
        }
        Ok(merged)
    }

    async fn counts(&mut self, filter: &LogFilter, bucket_ns: i64, by: &[LogField]) -> Result<Vec<Counted>> {
        if by.contains(&LogField::Any) {
            return Err(any_is_no_field());
        }
        let body = LogBody::Counts(CountsRequest {
            filter: filter.into(),
            bucket_ns,
            by: by.iter().map(FieldMessage::from).collect(),
        });
        let range = self.range();
        let answers = self.ask(range, body).await?;
        merge_groups(answers.into_iter().flat_map(|(_, answer)| answer.groups))
    }
}

/// Adds up counts of all shards: a line a group, sorted by its values.
pub(crate) fn merge_groups(groups: impl Iterator<Item = GroupMessage>) -> Result<Vec<Counted>> {
    let mut all: Map<Vec<String>, BTreeMap<u64, u64>> = Map::default();
    for mut group in groups {
        let values = std::mem::take(&mut group.values);
        add_buckets(all.entry(values).or_default(), group)?;
    }
    let counted = |(values, buckets): (Vec<String>, BTreeMap<u64, u64>)| Counted {
        values,
        count: buckets.values().sum(),
        buckets,
    };
    let mut all: Vec<Counted> = all.into_iter().map(counted).collect();
    all.sort_unstable_by(|a, b| a.values.cmp(&b.values));
    Ok(all)
}

fn any_is_no_field() -> QueryError {
    QueryError::BadParameter("records cannot be counted by \"*\"".to_owned())
}

/// Adds up fields of all shards, sorted.
pub(crate) fn merge_fields(
    answers: impl Iterator<Item = (ShardId, Vec<FieldCount>)>,
) -> Result<Vec<FieldInfo>> {
    let mut all: BTreeMap<LogField, (LogKinds, u64)> = BTreeMap::new();
    for (shard, fields) in answers {
        for field in fields {
            let kinds = u8::try_from(field.kinds).map_err(|_| {
                QueryError::Protocol(format!("shard {shard} names kinds of values that are none"))
            })?;
            let known = all.entry(LogField::try_from(field.field)?).or_default();
            *known = (known.0.and(LogKinds(kinds)), known.1.saturating_add(field.records));
        }
    }
    Ok(all.into_iter().map(|(field, (kinds, records))| FieldInfo { field, kinds, records }).collect())
}

fn add_buckets(buckets: &mut BTreeMap<u64, u64>, group: GroupMessage) -> Result<()> {
    if group.buckets.len() != group.counts.len() {
        return Err(QueryError::Protocol("a log answer has more buckets than counts".to_owned()));
    }
    for (bucket, count) in sums(&group.buckets)?.into_iter().zip(group.counts) {
        let known = buckets.entry(bucket).or_default();
        *known = known.saturating_add(count);
    }
    Ok(())
}

/// Refuses a histogram with too many buckets.
pub(crate) fn check_buckets(start_ns: TimestampNs, end_ns: TimestampNs, bucket_ns: i64) -> Result<()> {
    if bucket_ns < 1 {
        return Err(QueryError::BadParameter("the step of a histogram must be positive".to_owned()));
    }
    let buckets = (i128::from(end_ns) - i128::from(start_ns)) / i128::from(bucket_ns) + 1;
    if buckets > i128::from(MAX_BUCKETS) {
        let points = u64::try_from(buckets).unwrap_or(u64::MAX);
        return Err(QueryError::TooManyPoints { points, limit: MAX_BUCKETS });
    }
    Ok(())
}

/// Those with most records, the first values first among equals.
pub fn largest(mut counted: Vec<Counted>, limit: usize) -> Vec<Counted> {
    counted.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.values.cmp(&b.values)));
    counted.truncate(limit);
    counted
}

impl Engine {
    /// Records that meet a filter, in order, behind a place or from the beginning. A page that is full may have another
    /// behind its last row.
    pub async fn log_rows(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        newest_first: bool,
        limit: usize,
        after: Option<Place>,
    ) -> Result<Vec<Row>> {
        if limit > MAX_ROWS {
            return Err(QueryError::BadParameter(format!("limit {limit} is more than {MAX_ROWS} rows")));
        }
        let mut asking = Asking::new(self, query);
        let range = asking.range();
        asking.rows(range, filter, newest_first, limit, after).await
    }

    /// Records by time and fields: a line a group, sorted by its values. Bucket `n` begins `n * bucket_ns` behind the
    /// beginning of the query's range.
    pub async fn log_histogram(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        bucket_ns: i64,
        by: &[LogField],
    ) -> Result<Vec<Counted>> {
        check_buckets(query.start_ns, query.end_ns, bucket_ns)?;
        Asking::new(self, query).counts(filter, bucket_ns, by).await
    }

    /// The commonest values of fields.
    pub async fn log_top(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        by: &[LogField],
        limit: usize,
    ) -> Result<Top> {
        let mut asking = Asking::new(self, query);
        if let [field] = by {
            return Ok(asking.values(filter, field).await?.top(limit));
        }
        let counted = asking.counts(filter, 0, by).await?;
        let (distinct, total) = (counted.len(), counted.iter().map(|group| group.count).sum());
        Ok(Top { commonest: largest(counted, limit), distinct, total })
    }

    /// Figures of a field.
    pub async fn log_stats(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        field: &LogField,
        quantiles: &[f64],
    ) -> Result<FieldStats> {
        Ok(Asking::new(self, query).values(filter, field).await?.finish(quantiles))
    }

    /// The fields of matching records, sorted.
    pub async fn log_fields(&self, query: &LogQuery, filter: &LogFilter) -> Result<Vec<FieldInfo>> {
        let mut asking = Asking::new(self, query);
        let body = LogBody::Fields(FieldsRequest { filter: filter.into() });
        let range = asking.range();
        let answers = asking.ask(range, body).await?;
        merge_fields(answers.into_iter().map(|(shard, answer)| (shard, answer.fields)))
    }

    /// Templates of the bodies of matching records, the commonest first, counted by bucket.
    pub async fn log_patterns(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        bucket_ns: i64,
        limit: usize,
    ) -> Result<Patterns> {
        self.patterns(query, filter.into(), String::new(), bucket_ns, limit).await
    }

    pub(crate) async fn patterns(
        &self,
        query: &LogQuery,
        filter: FilterMessage,
        logql: String,
        bucket_ns: i64,
        limit: usize,
    ) -> Result<Patterns> {
        check_buckets(query.start_ns, query.end_ns, bucket_ns)?;
        let mut asking = Asking::new(self, query);
        let body =
            LogBody::Patterns(PatternsRequest { filter, logql, bucket_ns, max_templates: MAX_TEMPLATES });
        let (mut masked, mut left_out) = (BTreeMap::<String, BTreeMap<u64, u64>>::new(), 0u64);
        let range = asking.range();
        for (shard, answer) in asking.ask(range, body).await? {
            left_out = left_out.saturating_add(answer.left_out);
            for mut group in answer.groups {
                let Some(text) = group.values.pop() else {
                    return Err(QueryError::Protocol(format!("shard {shard} sent a pattern without text")));
                };
                add_buckets(masked.entry(text).or_default(), group)?;
            }
        }
        let mut patterns = patterns::merge(&masked);
        patterns.truncate(limit);
        Ok(Patterns { patterns, left_out })
    }

    /// The records of a stream around one that a query found: `place` is the one that the query gave it.
    pub async fn log_context(
        &self,
        query: &LogQuery,
        filter: &LogFilter,
        place: Place,
        before: usize,
        after: usize,
    ) -> Result<Surroundings> {
        if before.saturating_add(after) > MAX_ROWS {
            return Err(QueryError::BadParameter(format!("more than {MAX_ROWS} rows around one")));
        }
        let mut asking = Asking::new(self, query);
        let time = place.time_ns;
        let previous = place.ordinal.checked_sub(1).map(|ordinal| Place { ordinal, ..place });
        // The first of its time and shard has none before it to begin behind.
        let found = match previous {
            Some(previous) => asking.rows((time, time), filter, false, 1, Some(previous)).await?,
            None => {
                let begin = ShardId(place.shard.0.saturating_sub(1));
                let behind = Place { time_ns: time, shard: begin, ordinal: u64::MAX };
                let behind = (begin != place.shard).then_some(behind);
                asking.rows((time, time), filter, false, 1, behind).await?
            }
        };
        let Some(target) = found.into_iter().next().filter(|row| row.place == place) else {
            return Err(QueryError::BadParameter(format!("the query finds no record at {place}")));
        };
        let stream = stream_filter(&target.stream);
        // Equal records of one time cannot be told apart, so the first of them stands for all.
        let mut rows = asking.rows((time, time), &stream, false, MAX_ROWS, None).await?;
        let same = |row: &Row| row.place.shard == place.shard && row.record == target.record;
        let Some(at) = rows.iter().position(same) else {
            let message = format!("more than {MAX_ROWS} records of the stream have the time of {place}");
            return Err(QueryError::Execution(message));
        };
        let mut tail = rows.split_off(at + 1);
        tail.truncate(after);
        if tail.len() < after && time < i64::MAX {
            let missing = after - tail.len();
            tail.extend(asking.rows((time + 1, i64::MAX), &stream, false, missing, None).await?);
        }
        let own = rows.split_off(at);
        let mut head = rows.split_off(at.saturating_sub(before));
        if head.len() < before && time > i64::MIN {
            let missing = before - head.len();
            let mut older = asking.rows((i64::MIN, time - 1), &stream, true, missing, None).await?;
            older.reverse();
            older.append(&mut head);
            head = older;
        }
        let at = head.len();
        head.extend(own);
        head.append(&mut tail);
        Ok(Surroundings { rows: head, at })
    }
}

/// The records of a stream: each of its attributes as it is, no others told apart.
fn stream_filter(stream: &LogStream<'_>) -> LogFilter {
    let equals = |field: LogField, text: &str| LogFilter::Field(field, LogTest::Equals(text.to_owned()));
    let mut parts = Vec::new();
    for (key, value) in &stream.resource {
        parts.push(equals(LogField::ResourceAttribute(key.to_string()), &value.text()));
    }
    parts.push(equals(LogField::ScopeName, &stream.scope_name));
    LogFilter::And(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_text() {
        let place = Place { time_ns: -5, shard: ShardId(3), ordinal: 7 };
        assert_eq!(place.to_string().parse::<Place>().expect("a place"), place);
        for text in ["", "1", "1_2", "1_2_3_4", "a_b_c", "1_2_-3", "1_99999_0"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
