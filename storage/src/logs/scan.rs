//! Reading logs and spans: records in the order of time, counts, fields and streams.
//!
//! ```text
//! pieces: blocks of segments and sub-batches of memtables, each with its span of time
//!   ─► those that a directory or filter rules out go
//!   ─► a heap by time; a piece is opened (filter columns decoded, rows selected, wanted columns decoded) when its first
//!      possible row is next, and let go after its last
//! ```
//!
//! A reader that says how many records it expects is given a block's first ones, with only the parts of columns that those
//! need; one that goes on is given all of the block's.
//!
//! Rows that a delete hides are taken out when a piece is opened; a count that a directory would give is made by opening
//! pieces that a delete may concern.
//!
//! What is said of records is done for spans as well, whose rows are put together as spans. All of a trace are found without
//! a range of time: blocks whose filter does not have it, and sub-batches of other traces, are never opened.
//!
//! So newest first over a day reads the newest blocks, and stops when the visitor does. Records of one time come in the
//! order of the log: oldest segment first, then memtables; the other way round that order is reversed.

use std::collections::{BTreeMap, BinaryHeap};
use std::ops::{ControlFlow, Range};
use std::sync::Arc;

use hashbrown::HashMap;
use protocol::encoding::columns::Trust;
use protocol::ids::TenantId;
use protocol::logs::batch::OpenLogBatch;
use protocol::logs::block::{Among, Attributes, Bodies, Want};
use protocol::logs::codec::decode_stream;
use protocol::logs::dict::{Dict, ValueKind};
use protocol::logs::matching::FilterError;
use protocol::logs::rows::{Rows, Values};
use protocol::logs::value::id_text;
use protocol::logs::{
    FieldValues, LogColumns, LogField, LogFilter, LogRecord, LogScan, LogStream, LogTest, RowSignal,
    TimestampNs,
};
use protocol::spans::{Span, row};

use super::counting::{Counter, Gatherer};
use super::filter::{Bits, Bound, Compiled, Verdict, columns_named, may_be_empty};
use super::groups::Groups;
use super::ms;
use super::segment::{LIMITS, LogSegmentReader};
use super::table::HeldBatch;
use super::tombstone::{Hidden, Written};
use crate::error::StorageError;
use crate::scan::StoreSnapshot;

/// Why logs can not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogReadError {
    /// The filter has an expression that does not compile.
    #[error(transparent)]
    Filter(#[from] FilterError),
    /// The store can not be read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl From<crate::segment::SegmentError> for LogReadError {
    fn from(error: crate::segment::SegmentError) -> Self {
        Self::Storage(error.into())
    }
}

/// For whom logs or spans are read, and when to give up.
#[derive(Clone, Copy)]
pub struct LogReader<'a> {
    /// What is read. [`StoreSnapshot::spans`] and [`StoreSnapshot::trace`] read spans whatever this says.
    pub signal: RowSignal,
    /// Whose records.
    pub tenant: &'a TenantId,
    /// Asked at least once a block; the read ends early, without an error, when it says so.
    pub should_stop: &'a dyn Fn() -> bool,
}

/// What is to be counted.
#[derive(Clone, Copy, Debug)]
pub struct LogCounting<'a> {
    /// First nanosecond that counts.
    pub start_ns: TimestampNs,
    /// Last nanosecond that counts.
    pub end_ns: TimestampNs,
    /// What a record must meet.
    pub filter: &'a LogFilter,
    /// Width of the buckets; 0 puts everything into bucket 0. Bucket `n` begins at `start_ns + n * bucket_ns`.
    pub bucket_ns: i64,
    /// Fields to count by: under the text of the first value of each, the empty text where a record has none.
    pub by: &'a [LogField],
}

impl LogCounting<'_> {
    pub(super) fn bucket(&self, time_ns: TimestampNs) -> u64 {
        if self.bucket_ns <= 0 {
            return 0;
        }
        let passed = (i128::from(time_ns) - i128::from(self.start_ns)) / i128::from(self.bucket_ns);
        u64::try_from(passed).unwrap_or(0)
    }
}

/// A field, the kinds of its values and how many records have it with a value that is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldCount {
    /// Which field.
    pub field: LogField,
    /// Kinds of values, each a bit: text 1, int 2, float 4, bool 8, bytes 16, list 32, map 64.
    pub kinds: u8,
    /// Number of records.
    pub records: u64,
}

/// Visits records and their streams; may stop.
pub type VisitRecord<'v> = dyn FnMut(&LogStream<'_>, &LogRecord<'_>) -> ControlFlow<()> + 'v;

type VisitOwned<'v> = dyn FnMut(&LogStream<'_>, LogRecord<'_>) -> ControlFlow<()> + 'v;

/// Visits spans and their streams; may stop.
pub type VisitSpan<'v> = dyn FnMut(&LogStream<'_>, &Span<'_>) -> ControlFlow<()> + 'v;

/// Where a piece's rows are.
#[derive(Clone)]
enum Place<'a> {
    Block { reader: &'a LogSegmentReader, number: usize },
    Batch(&'a Arc<HeldBatch>),
}

#[derive(Clone)]
struct Piece<'a> {
    place: Place<'a>,
    span: (TimestampNs, TimestampNs),
    /// Place in the log among all pieces, and of its first row among those of equal place.
    order: (u64, u64),
    rows: usize,
    written: Written,
}

/// A piece whose matching rows are known.
struct Opened<'a> {
    rows: Rows,
    dict: DictOf<'a>,
    /// Matching rows, in the order in which they are wanted, and how far they were visited.
    matching: Vec<u32>,
    next: usize,
    /// Whether there may be more of them than were put together.
    is_cut: bool,
}

/// The first matching rows of a piece, where no more may be needed.
#[derive(Clone, Copy)]
struct Cut {
    rows: usize,
    newest_first: bool,
}

impl Cut {
    /// Leaves so many of the rows of a block, which are in the order of their times.
    fn apply(self, bits: &mut Bits) {
        let surplus = bits.count().saturating_sub(self.rows);
        if surplus > 0 {
            let kept = match self.newest_first {
                true => bits.iter().nth(surplus).unwrap_or(0)..bits.len(),
                false => 0..bits.iter().nth(self.rows).unwrap_or(bits.len()),
            };
            bits.keep(kept);
        }
    }
}

enum DictOf<'a> {
    Segment(&'a Arc<Dict>),
    Batch(Box<Dict>),
}

impl std::ops::Deref for DictOf<'_> {
    type Target = Dict;
    fn deref(&self) -> &Dict {
        match self {
            Self::Segment(dict) => dict,
            Self::Batch(dict) => dict,
        }
    }
}

/// Place of a row in the order of a scan: what is least comes first.
type Key = (i64, u64, u64);

fn key(time: TimestampNs, order: (u64, u64), newest_first: bool) -> Key {
    if newest_first { (!time, !order.0, !order.1) } else { (time, order.0, order.1) }
}

impl StoreSnapshot {
    /// Pieces that may hold a tenant's records of a closed time range, oldest in the log first.
    fn log_pieces(
        &self,
        LogReader { signal, tenant, .. }: LogReader<'_>,
        range: (i64, i64),
    ) -> Result<Vec<Piece<'_>>, StorageError> {
        let mut pieces = Vec::new();
        if range.0 > range.1 {
            return Ok(pieces);
        }
        let mut order = 0;
        let segments = self.view().segments.iter().filter(|s| s.meta.partition.rows() == Some(signal));
        for view in segments {
            order += 1;
            if !view.meta.overlaps((ms(range.0), ms(range.1))) {
                continue;
            }
            let reader = view.logs().inspect_err(|error| self.view().damage.note(error))?;
            let written = Written { log_last: view.meta.log_last, deleted_upto: view.meta.deleted_upto };
            let mut row = 0;
            for number in reader.blocks_of(tenant.as_str()) {
                let entry = &reader.blocks()[number];
                if entry.span.0 <= range.1 && entry.span.1 >= range.0 {
                    let place = Place::Block { reader, number };
                    let (span, rows) = (entry.span, entry.rows);
                    pieces.push(Piece { place, span, order: (order, row), rows, written });
                }
                row += entry.rows as u64;
            }
        }
        for table in self.view().frozen.iter().chain([&self.view().active]) {
            let written = Written { log_last: table.log_last, deleted_upto: 0 };
            for held in table.rows[signal].batches() {
                order += 1;
                if held.tenant == *tenant && held.span.0 <= range.1 && held.span.1 >= range.0 {
                    let place = Place::Batch(held);
                    let (span, rows) = (held.span, held.rows);
                    pieces.push(Piece { place, span, order: (order, 0), rows, written });
                }
            }
        }
        Ok(pieces)
    }

    /// Visits the records that a scan wants, in its order.
    pub fn log_records(
        &self,
        reader: LogReader<'_>,
        scan: &LogScan,
        visit: &mut VisitRecord<'_>,
    ) -> Result<(), LogReadError> {
        self.walk(reader, scan, &mut |stream, record| visit(stream, &record))
    }

    /// Visits the spans that a scan wants, in its order: as [`Self::log_records`], a span's time being its start.
    pub fn spans(
        &self,
        reader: LogReader<'_>,
        scan: &LogScan,
        visit: &mut VisitSpan<'_>,
    ) -> Result<(), LogReadError> {
        let mut unreadable = None;
        let reader = LogReader { signal: RowSignal::Spans, ..reader };
        self.walk(reader, scan, &mut |stream, record| match row::span_of(record) {
            Ok(span) => visit(stream, &span),
            Err(error) => {
                unreadable = Some(error);
                ControlFlow::Break(())
            }
        })?;
        match unreadable {
            None => Ok(()),
            Some(error) => Err(StorageError::Rows(format!("a row is no span: {error}")).into()),
        }
    }

    /// Visits all spans of a trace, whenever they were, by their start.
    pub fn trace(
        &self,
        reader: LogReader<'_>,
        trace_id: &[u8; 16],
        visit: &mut VisitSpan<'_>,
    ) -> Result<(), LogReadError> {
        if *trace_id == [0; 16] {
            return Ok(());
        }
        let filter = LogFilter::Field(LogField::TraceId, LogTest::Equals(id_text(trace_id)));
        let (start_ns, end_ns) = (TimestampNs::MIN, TimestampNs::MAX);
        let scan = LogScan {
            start_ns,
            end_ns,
            filter,
            newest_first: false,
            columns: LogColumns::All,
            expected: usize::MAX,
        };
        self.spans(reader, &scan, visit)
    }

    /// What deletes hide of a tenant's records; none concern spans.
    fn hidden(&self, reader: LogReader<'_>) -> Result<Vec<Hidden>, LogReadError> {
        match reader.signal {
            RowSignal::Logs => Ok(Hidden::of_tenant(&self.view().log_tombstones, reader.tenant.as_str())?),
            RowSignal::Spans => Ok(Vec::new()),
        }
    }

    fn note_damage(&self, error: &LogReadError) {
        if let LogReadError::Storage(error) = error {
            self.view().damage.note(error);
        }
    }

    fn walk(
        &self,
        reader: LogReader<'_>,
        scan: &LogScan,
        visit: &mut VisitOwned<'_>,
    ) -> Result<(), LogReadError> {
        let filter = Compiled::of(reader.signal, &scan.filter)?;
        let walked = self.walk_pieces(reader, scan, &filter, visit);
        walked.inspect_err(|error| self.note_damage(error))
    }

    fn walk_pieces(
        &self,
        reader: LogReader<'_>,
        scan: &LogScan,
        filter: &Compiled,
        visit: &mut VisitOwned<'_>,
    ) -> Result<(), LogReadError> {
        let range = (scan.start_ns, scan.end_ns);
        let hidden = self.hidden(reader)?;
        let mut opener = Opener::new(filter, range, &hidden);
        let pieces = self.log_pieces(reader, range)?;
        let mut heap = BinaryHeap::with_capacity(pieces.len());
        for (number, piece) in pieces.iter().enumerate() {
            let end = if scan.newest_first {
                key(piece.span.1, (piece.order.0, piece.order.1 + piece.rows as u64), true)
            } else {
                key(piece.span.0, piece.order, false)
            };
            heap.push(std::cmp::Reverse((end, number)));
        }
        let mut open: Vec<Option<Opened<'_>>> = pieces.iter().map(|_| None).collect();
        let mut visited = 0u32;
        while let Some(std::cmp::Reverse((_, number))) = heap.pop() {
            let piece = &pieces[number];
            if open[number].is_none() {
                if (reader.should_stop)() {
                    return Ok(());
                }
                open[number] = opener.open(piece, scan, reader.signal, true)?;
            } else if let Some(opened) = &mut open[number] {
                visited += 1;
                if visited.is_multiple_of(1024) && (reader.should_stop)() {
                    return Ok(());
                }
                let row = opened.matching[opened.next] as usize;
                opened.next += 1;
                let dict = &*opened.dict;
                let stream =
                    decode_stream(dict.streams().get(opened.rows.streams()[row])).unwrap_or_default();
                if visit(&stream, opened.rows.record(row, dict)).is_break() {
                    return Ok(());
                }
            }
            // More than was expected is wanted.
            if let Some(opened) = &open[number]
                && opened.is_cut
                && opened.next == opened.matching.len()
            {
                let next = opened.next;
                let all = opener.open(piece, scan, reader.signal, false)?;
                open[number] = all.map(|all| Opened { next, ..all });
            }
            // The piece's next row, if there is one, takes its turn.
            let next = open[number].as_ref().and_then(|opened| {
                let row = *opened.matching.get(opened.next)?;
                let order = (piece.order.0, piece.order.1 + u64::from(row));
                Some(key(opened.rows.times()[row as usize], order, scan.newest_first))
            });
            match next {
                Some(next) => heap.push(std::cmp::Reverse((next, number))),
                None => open[number] = None,
            }
        }
        Ok(())
    }

    /// Visits counts of records by bucket and fields; the same bucket and values come once, in no order.
    pub fn log_counts(
        &self,
        reader: LogReader<'_>,
        counting: &LogCounting<'_>,
        visit: &mut dyn FnMut(u64, &[&str], u64) -> ControlFlow<()>,
    ) -> Result<(), LogReadError> {
        let filter = Compiled::of(reader.signal, counting.filter)?;
        let by: Vec<LogField>;
        let mut counting = *counting;
        if reader.signal == RowSignal::Spans {
            by = counting.by.iter().map(row::row_field).collect();
            counting.by = &by;
        }
        let mut counter = Counter::new(counting);
        let counted = self.count(reader, &counting, &filter, &mut counter);
        counted.inspect_err(|error| self.note_damage(error))?;
        counter.finish(visit);
        Ok(())
    }

    fn count(
        &self,
        reader: LogReader<'_>,
        counting: &LogCounting<'_>,
        filter: &Compiled,
        counter: &mut Counter<'_>,
    ) -> Result<(), LogReadError> {
        let range = (counting.start_ns, counting.end_ns);
        let hidden = self.hidden(reader)?;
        let mut opener = Opener::new(filter, range, &hidden);
        let want = |dict: &Dict| want_of_all(counting.by, dict);
        for piece in self.log_pieces(reader, range)? {
            if (reader.should_stop)() {
                break;
            }
            let one_bucket =
                counting.bucket(piece.span.0.max(range.0)) == counting.bucket(piece.span.1.min(range.1));
            let whole = piece.span.0 >= range.0 && piece.span.1 <= range.1;
            if whole
                && one_bucket
                && counting.by.is_empty()
                && let Some(count) = opener.count_of(&piece)?
            {
                counter.add_all(counting.bucket(piece.span.0), count);
                continue;
            }
            let timed = !one_bucket || counting.by.contains(&LogField::Time);
            if let Some((rows, dict, bits)) = opener.select(&piece, &want, timed, None)? {
                let bucket = one_bucket.then(|| counting.bucket(piece.span.0.max(range.0)));
                counter.add(&rows, &dict, &bits, bucket);
            }
        }
        Ok(())
    }

    /// Visits the first value of a field in each record that meets a filter, see [`FieldValues`].
    pub fn log_values(
        &self,
        reader: LogReader<'_>,
        range: (TimestampNs, TimestampNs),
        filter: &LogFilter,
        field: &LogField,
        visit: &mut dyn FnMut(FieldValues<'_>) -> ControlFlow<()>,
    ) -> Result<(), LogReadError> {
        let filter = Compiled::of(reader.signal, filter)?;
        let field = match reader.signal {
            RowSignal::Logs => field.clone(),
            RowSignal::Spans => row::row_field(field),
        };
        let mut gatherer = Gatherer::new(&field);
        let mut read = || -> Result<bool, LogReadError> {
            let hidden = self.hidden(reader)?;
            let mut opener = Opener::new(&filter, range, &hidden);
            let want = |dict: &Dict| want_of_all(std::slice::from_ref(&field), dict);
            for piece in self.log_pieces(reader, range)? {
                if (reader.should_stop)() {
                    return Ok(false);
                }
                if let Some(numbers) = opener.numbers_of(&piece, &field)? {
                    if visit_numbers(&numbers, visit).is_break() {
                        return Ok(false);
                    }
                    continue;
                }
                if let Some((rows, dict, bits)) =
                    opener.select(&piece, &want, field == LogField::Time, None)?
                    && gatherer.add(&rows, &dict, &bits, visit).is_break()
                {
                    return Ok(false);
                }
            }
            Ok(true)
        };
        if read().inspect_err(|error| self.note_damage(error))? {
            gatherer.finish(visit);
        }
        Ok(())
    }

    /// Fields of the records that meet a filter, and of their streams; the same field may come several times.
    pub fn log_fields(
        &self,
        reader: LogReader<'_>,
        (start_ns, end_ns): (TimestampNs, TimestampNs),
        filter: &LogFilter,
        visit: &mut dyn FnMut(&FieldCount) -> ControlFlow<()>,
    ) -> Result<(), LogReadError> {
        let filter = Compiled::of(reader.signal, filter)?;
        let mut read = || -> Result<(), LogReadError> {
            let hidden = self.hidden(reader)?;
            let mut opener = Opener::new(&filter, (start_ns, end_ns), &hidden);
            for piece in self.log_pieces(reader, (start_ns, end_ns))? {
                if (reader.should_stop)() {
                    return Ok(());
                }
                let Some((rows, dict, bits)) = opener.select(&piece, &|_| Want::ALL, false, None)? else {
                    continue;
                };
                for field in fields_of(reader.signal, &rows, &dict, &bits) {
                    if visit(&field).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        read().inspect_err(|error| self.note_damage(error))
    }

    /// Visits the streams that may have a record in a closed time range: those of every segment and memtable that has one
    /// of the tenant there. The same may come several times.
    pub fn log_streams(
        &self,
        reader: LogReader<'_>,
        (start_ns, end_ns): (TimestampNs, TimestampNs),
        visit: &mut dyn FnMut(&LogStream<'_>) -> ControlFlow<()>,
    ) -> Result<(), LogReadError> {
        let mut read = || -> Result<(), LogReadError> {
            let hidden = self.hidden(reader)?;
            let mut opener = Opener::new(&Compiled::All, (start_ns, end_ns), &hidden);
            let mut seen: hashbrown::HashSet<Vec<u8>> = hashbrown::HashSet::new();
            for piece in self.log_pieces(reader, (start_ns, end_ns))? {
                if (reader.should_stop)() {
                    return Ok(());
                }
                let want = |_: &Dict| Want { streams: true, ..Want::default() };
                let Some((rows, dict, bits)) = opener.select(&piece, &want, false, None)? else { continue };
                let mut used = vec![false; dict.streams().len()];
                bits.iter().for_each(|row| used[rows.streams()[row] as usize] = true);
                for (bytes, _) in dict.streams().iter().zip(&used).filter(|(_, used)| **used) {
                    if seen.contains(bytes) {
                        continue;
                    }
                    seen.insert(bytes.to_vec());
                    if visit(&decode_stream(bytes).unwrap_or_default()).is_break() {
                        return Ok(());
                    }
                }
            }
            Ok(())
        };
        read().inspect_err(|error| self.note_damage(error))
    }
}

/// Opens pieces for one filter and range.
struct Opener<'f> {
    filter: &'f Compiled,
    /// The traces that all rows which pass belong to, where the filter names them.
    traces: Option<Vec<[u8; 16]>>,
    range: (TimestampNs, TimestampNs),
    /// The filter bound to each segment's dictionary, by the dictionary's address; they live as long as the snapshot.
    bound: HashMap<*const Dict, Bound<'f>>,
    /// Deletes, and their filters bound in the same way, by their place among these.
    hidden: &'f [Hidden],
    bound_hidden: HashMap<(*const Dict, usize), Bound<'f>>,
}

impl<'f> Opener<'f> {
    fn new(filter: &'f Compiled, range: (TimestampNs, TimestampNs), hidden: &'f [Hidden]) -> Self {
        let (bound, bound_hidden) = (HashMap::new(), HashMap::new());
        Self { filter, traces: filter.traces(), range, bound, hidden, bound_hidden }
    }

    /// Places of the deletes that may hide rows of a piece.
    fn concerning(&mut self, piece: &Piece<'_>) -> Result<Vec<usize>, LogReadError> {
        let all = self.hidden;
        let mut concerning = Vec::new();
        for (at, hidden) in all.iter().enumerate().filter(|(_, h)| h.concerns(piece.written, piece.span)) {
            if let Place::Block { reader, number } = piece.place {
                let dict = reader.dict()?;
                let key = (Arc::as_ptr(dict), at);
                let bound = self.bound_hidden.entry(key).or_insert_with(|| hidden.filter.bind(dict));
                if bound.of_block(reader, number, dict)? == Verdict::None {
                    continue;
                }
            }
            concerning.push(at);
        }
        Ok(concerning)
    }

    /// As [`Self::select`], of a piece that these deletes concern.
    fn select_around<'a>(
        &mut self,
        piece: &Piece<'a>,
        concerning: &[usize],
        want: &dyn Fn(&Dict) -> Want,
    ) -> Result<Option<(Rows, DictOf<'a>, Bits)>, LogReadError> {
        let (all, range) = (self.hidden, self.range);
        let unreadable =
            |error| StorageError::Rows(format!("a batch that was applied can not be read: {error}"));
        let (rows, dict) = match piece.place {
            Place::Block { reader, number } => {
                let dict = reader.dict()?;
                let want = concerning.iter().fold(self.bound(dict).want().and(want(dict)), |want, at| {
                    want.and(self.bound_hidden[&(Arc::as_ptr(dict), *at)].want())
                });
                (reader.rows(number, &want)?, DictOf::Segment(dict))
            }
            Place::Batch(held) => {
                let batch = OpenLogBatch::new(&held.bytes).map_err(unreadable)?;
                let rows = batch.rows(&Want::ALL).map_err(unreadable)?;
                (rows, DictOf::Batch(Box::new(batch.dict)))
            }
        };
        let mut bits = self.filter.bind(&dict).of_rows(&rows, &dict);
        bits.keep(within(&rows, range));
        for at in concerning {
            let hidden = &all[*at];
            bits = bits.and(&hidden.rows(&hidden.filter.bind(&dict), &rows, &dict).not());
        }
        let found = bits.count() > 0;
        Ok(found.then_some((rows, dict, bits)))
    }

    fn bound(&mut self, dict: &Arc<Dict>) -> &Bound<'f> {
        self.bound.entry(Arc::as_ptr(dict)).or_insert_with(|| self.filter.bind(dict))
    }

    /// How many rows of a block pass, if its directory, its filter or its bodies alone say it.
    fn count_of(&mut self, piece: &Piece<'_>) -> Result<Option<u64>, LogReadError> {
        let Place::Block { reader, number } = piece.place else { return Ok(None) };
        if !self.concerning(piece)?.is_empty() {
            return Ok(None);
        }
        let dict = reader.dict()?;
        let bound = self.bound(dict);
        Ok(match bound.of_block(reader, number, dict)? {
            Verdict::None => Some(0),
            Verdict::All => Some(piece.rows as u64),
            Verdict::Some if !bound.is_counted() => None,
            Verdict::Some => {
                let block = reader.block(number)?;
                let count = bound.count_of(&reader.blocks()[number], &block, dict);
                count.map_err(|source| reader.fault(number, source))?
            }
        })
    }

    /// The values of a field in a block, where those that have it are asked for and they are one column of numbers: then it
    /// does not matter which row has which.
    fn numbers_of(&mut self, piece: &Piece<'_>, field: &LogField) -> Result<Option<Values>, LogReadError> {
        let Place::Block { reader, number } = piece.place else { return Ok(None) };
        let is_asked = matches!(self.filter, Compiled::Field(asked, LogTest::Exists, _) if asked == field);
        let whole = piece.span.0 >= self.range.0 && piece.span.1 <= self.range.1;
        if !is_asked || !whole || !self.concerning(piece)?.is_empty() {
            return Ok(None);
        }
        let dict = reader.dict()?;
        let Bound::Attribute { columns, otherwise, .. } = self.bound(dict) else { return Ok(None) };
        let of_stream = otherwise.as_ref().is_some_and(|passing| passing.contains(&true));
        let &[column] = &columns[..] else { return Ok(None) };
        if of_stream || !matches!(dict.column_kind(column), ValueKind::Int | ValueKind::Float) {
            return Ok(None);
        }
        let values = reader.block(number)?.column(column, dict, Trust::Own, LIMITS);
        Ok(Some(values.map_err(|source| reader.fault(number, source))?))
    }

    /// Rows of a piece that pass, with the columns that are wanted; `None` if there is none. Their times are there if they
    /// are asked for. Of a block, only those that a cut leaves.
    fn select<'a>(
        &mut self,
        piece: &Piece<'a>,
        want: &dyn Fn(&Dict) -> Want,
        timed: bool,
        cut: Option<Cut>,
    ) -> Result<Option<(Rows, DictOf<'a>, Bits)>, LogReadError> {
        let range = self.range;
        if let (Place::Batch(held), Some(traces)) = (&piece.place, &self.traces)
            && !traces.iter().any(|trace| held.may_hold(trace))
        {
            return Ok(None);
        }
        let concerning = self.concerning(piece)?;
        match piece.place {
            Place::Block { reader, number } => {
                let dict = reader.dict()?;
                let bound = self.bound(dict);
                let verdict = bound.of_block(reader, number, dict)?;
                if verdict == Verdict::None {
                    return Ok(None);
                }
                if !concerning.is_empty() {
                    return self.select_around(piece, &concerning, want);
                }
                self.select_in(piece, (reader, number), verdict, want, timed, cut)
            }
            Place::Batch(_) if !concerning.is_empty() => self.select_around(piece, &concerning, want),
            Place::Batch(held) => {
                let unreadable =
                    |error| StorageError::Rows(format!("a batch that was applied can not be read: {error}"));
                let batch = OpenLogBatch::new(&held.bytes).map_err(unreadable)?;
                let bound = self.filter.bind(&batch.dict);
                let want = bound.want().and(want(&batch.dict));
                let rows = batch.rows(&want).map_err(unreadable)?;
                let mut bits = bound.of_rows(&rows, &batch.dict);
                bits.keep(within(&rows, range));
                let found = bits.count() > 0;
                Ok(found.then(|| (rows, DictOf::Batch(Box::new(batch.dict)), bits)))
            }
        }
    }

    /// As [`Self::select`], of a block that no delete concerns.
    fn select_in<'a>(
        &mut self,
        piece: &Piece<'a>,
        (reader, number): (&'a LogSegmentReader, usize),
        verdict: Verdict,
        want: &dyn Fn(&Dict) -> Want,
        timed: bool,
        cut: Option<Cut>,
    ) -> Result<Option<(Rows, DictOf<'a>, Bits)>, LogReadError> {
        let cut = cut.filter(|cut| cut.rows < piece.rows / 4);
        let range = self.range;
        let dict = reader.dict()?;
        let bound = self.bound(dict);
        let block = reader.block(number)?;
        let bodies = &reader.blocks()[number].bodies;
        let whole = piece.span.0 >= range.0 && piece.span.1 <= range.1;
        let timed = timed || !whole || bound.reads_times() || cut.is_some();
        let fault = |source| reader.fault(number, source);
        let mut wanted = want(dict);
        // Where nobody asks when rows were, they stay together with those like them, as they are kept.
        let is_grouped = !timed && bound.want().and(wanted.clone()).is_grouped();
        let more = |want: &Want, among: Among<'_>| {
            let rows = match is_grouped {
                true => block.decode_grouped(dict, want, among, Trust::Own, LIMITS),
                false => block.decode_untimed(dict, want, among, Trust::Own, LIMITS),
            };
            rows.map_err(fault)
        };
        let first = |want: &Want, among: Among<'_>| match timed {
            true => block.decode(dict, want, among, Trust::Own, LIMITS).map_err(fault),
            false => more(want, among),
        };
        let groups = || match is_grouped {
            true => Ok(Groups::in_order(bodies, block.rows())),
            false => Groups::by_time(bodies, &block).map_err(fault),
        };
        let mut known_groups = None;
        let (own, rows, mut bits) = match (verdict, bound.quick_and_slow()) {
            (Verdict::All, _) => {
                // What is left is known by times alone.
                let own = if cut.is_some() { Want::default() } else { wanted.clone() };
                let rows = first(&own, None)?;
                let bits = Bits::all(rows.len(), true);
                (own, rows, bits)
            }
            (_, None) => {
                let templates: Vec<u32> = bodies.iter().filter_map(|body| body.0).collect();
                let own = bound.want_in(&templates, &block, dict).map_err(fault)?;
                let rows = first(&own, None)?;
                let bits = bound.of_rows(&rows, dict);
                (own, rows, bits)
            }
            (_, Some((quick, slow))) => {
                // Of what is quick to judge, only what the templates of what is slow leave over is read; of what is slow,
                // only what then is undecided.
                let verdicts =
                    Bound::all_by_group(slow.iter().copied(), bodies, &block, dict).map_err(fault)?;
                let possible: Vec<bool> = verdicts.iter().map(|verdict| *verdict != Verdict::None).collect();
                if !possible.contains(&true) {
                    return Ok(None);
                }
                let groups = known_groups.insert(groups()?);
                let own = quick.iter().fold(Want::default(), |want, part| want.and(part.want()));
                let rows = first(&own, groups.among(&possible).as_deref())?;
                let bits = quick.iter().fold(groups.rows_of(&possible), |bits, part| {
                    let passing = part.of_rows_among(&rows, dict, &bits);
                    bits.and(&passing)
                });
                if bits.count() == 0 {
                    return Ok(None);
                }
                let used = groups.used(&bits);
                if used.iter().zip(&verdicts).all(|(used, verdict)| !used || *verdict == Verdict::All) {
                    (own, rows, bits)
                } else {
                    let (templates, is_split) = groups.templates(&used);
                    let mut rest = Want::default();
                    for part in &slow {
                        rest = rest.and(part.want_in(&templates, &block, dict).map_err(fault)?);
                    }
                    if rest.body == Bodies::Of(Vec::new()) && is_split {
                        rest.body = Bodies::Templates;
                    }
                    let rows = rows.joined(more(&rest, groups.among(&used).as_deref())?);
                    let bits = slow.iter().fold(bits, |bits, part| {
                        let passing = part.of_rows_among(&rows, dict, &bits);
                        bits.and(&passing)
                    });
                    (own.and(rest), rows, bits)
                }
            }
        };
        if !whole {
            bits.keep(within(&rows, range));
        }
        if bits.count() == 0 {
            return Ok(None);
        }
        if let Some(cut) = cut {
            cut.apply(&mut bits);
        }
        let has_all = wanted.clone().and(own.clone()) == own;
        let forgets = wanted.body == Bodies::None;
        let mut rows = match has_all {
            true => rows,
            // Where most of the groups have rows that pass, there is little to leave out.
            false if bits.count() * 4 > rows.len() => first(&wanted, None)?,
            false => {
                let groups = known_groups.map_or_else(groups, Ok)?;
                let used = groups.used(&bits);
                if wanted.body == Bodies::All {
                    wanted.body = Bodies::Of(groups.templates(&used).0);
                }
                let among = if cut.is_some() { Some(groups.places(&bits)) } else { groups.among(&used) };
                first(&wanted, among.as_deref())?
            }
        };
        if forgets {
            rows.forget_bodies();
        }
        Ok(Some((rows, DictOf::Segment(dict), bits)))
    }

    fn open<'a>(
        &mut self,
        piece: &Piece<'a>,
        scan: &LogScan,
        signal: RowSignal,
        cuts: bool,
    ) -> Result<Option<Opened<'a>>, LogReadError> {
        let want = |dict: &Dict| {
            let want = match &scan.columns {
                LogColumns::All => Want::ALL,
                LogColumns::Fields(fields) => fields.iter().fold(Want::default(), |want, field| {
                    want.and(match signal {
                        RowSignal::Logs => want_of(field, dict),
                        RowSignal::Spans => want_of(&row::row_field(field), dict),
                    })
                }),
            };
            Want { streams: true, ..want }
        };
        let cut = cuts.then_some(Cut { rows: scan.expected.max(1), newest_first: scan.newest_first });
        let Some((rows, dict, bits)) = self.select(piece, &want, true, cut)? else { return Ok(None) };
        let mut matching: Vec<u32> = bits.iter().map(|row| row as u32).collect();
        if scan.newest_first {
            matching.reverse();
        }
        let is_cut = cut.is_some_and(|cut| matching.len() == cut.rows);
        Ok(Some(Opened { rows, dict, matching, next: 0, is_cut }))
    }
}

fn visit_numbers(
    values: &Values,
    visit: &mut dyn FnMut(FieldValues<'_>) -> ControlFlow<()>,
) -> ControlFlow<()> {
    match values {
        Values::Int(values) => visit(FieldValues::Ints(values)),
        Values::Float(values) => {
            let values: Vec<f64> = values.iter().map(|bits| f64::from_bits(*bits)).collect();
            visit(FieldValues::Floats(&values))
        }
        _ => ControlFlow::Continue(()),
    }
}

/// Rows of a closed time range.
pub(super) fn within(rows: &Rows, range: (TimestampNs, TimestampNs)) -> Range<usize> {
    let times = rows.times();
    times.partition_point(|time| *time < range.0)..times.partition_point(|time| *time <= range.1)
}

/// Columns that the values of some fields are in.
fn want_of_all(fields: &[LogField], dict: &Dict) -> Want {
    fields.iter().fold(Want::default(), |want, field| want.and(want_of(field, dict)))
}

/// Columns that a field's values are in.
fn want_of(field: &LogField, dict: &Dict) -> Want {
    let none = Want::default();
    let of_record = |name: &str| {
        let columns = columns_named(dict, name);
        if columns.is_empty() { Attributes::None } else { Attributes::Some(columns) }
    };
    match field {
        LogField::Body => Want { body: Bodies::All, ..none },
        LogField::Time => none,
        LogField::Duration => Want { observed: true, ..none },
        LogField::Severity | LogField::SeverityText | LogField::SpanKind | LogField::SpanStatus => {
            Want { severities: true, ..none }
        }
        LogField::StatusMessage => Want { attributes: of_record(row::STATUS_MESSAGE), ..none },
        LogField::ParentId => Want { attributes: of_record(row::PARENT), ..none },
        LogField::Events => Want { attributes: of_record(row::EVENTS), ..none },
        LogField::TraceId => Want { traces: true, ..none },
        LogField::SpanId => Want { spans: true, ..none },
        LogField::Flags => Want { flags: true, ..none },
        LogField::EventName => Want { events: true, ..none },
        LogField::ScopeName
        | LogField::ScopeVersion
        | LogField::ResourceAttribute(_)
        | LogField::ScopeAttribute(_) => Want { streams: true, ..none },
        LogField::Attribute(name) => Want { streams: true, attributes: of_record(name), ..none },
        LogField::RecordAttribute(name) => Want { attributes: of_record(name), ..none },
        LogField::Any => Want { body: Bodies::All, attributes: Attributes::All, ..none },
    }
}

fn kind_bit(kind: ValueKind, value: &protocol::logs::LogValue<'_>) -> u8 {
    use protocol::logs::LogValue as V;
    match (kind, value) {
        (ValueKind::Empty, _) => 0,
        (ValueKind::Text, _) => 1,
        (ValueKind::Int, _) => 2,
        (ValueKind::Float, _) => 4,
        (ValueKind::Bool, _) => 8,
        (ValueKind::Other, V::Bytes(_)) => 16,
        (ValueKind::Other, V::List(_)) => 32,
        (ValueKind::Other, _) => 64,
    }
}

/// Fields of selected rows, all of whose columns are there.
fn fields_of(signal: RowSignal, rows: &Rows, dict: &Dict, bits: &Bits) -> Vec<FieldCount> {
    let mut out: BTreeMap<LogField, (u8, u64)> = BTreeMap::new();
    let mut add = |field: LogField, kinds: u8, records: u64| {
        let known = out.entry(field).or_default();
        *known = (known.0 | kinds, known.1 + records);
    };
    let mut streams: HashMap<u32, u64> = HashMap::new();
    let mut own: Vec<(&str, u8)> = Vec::new();
    let mut names: HashMap<&str, (u8, u64)> = HashMap::new();
    for row in bits.iter() {
        *streams.entry(rows.streams()[row]).or_default() += 1;
        if let Some(body) = rows.body() {
            let value = body.value(row, dict);
            if !value.is_empty() {
                add(LogField::Body, kind_of(&value), 1);
            }
        }
        let (severity, text) = dict.severity(rows.severities()[row]);
        let is_span = signal == RowSignal::Spans;
        for (field, kind, is_there) in [
            (LogField::Severity, 2, severity != 0 && !is_span),
            (LogField::SpanKind, 2, is_span && row::kind_number(severity) != 0),
            (LogField::SpanStatus, 2, is_span && row::status_number(severity) != 0),
            (LogField::Duration, 2, is_span),
            (LogField::SeverityText, 1, !text.is_empty()),
            (LogField::TraceId, 1, rows.traces()[row] != [0; 16]),
            (LogField::SpanId, 1, rows.spans()[row] != [0; 8]),
            (LogField::Flags, 2, rows.flags()[row] != 0),
            (LogField::EventName, 1, !dict.event(rows.events()[row]).is_empty()),
        ] {
            if is_there {
                add(field, kind, 1);
            }
        }
        own.clear();
        for (column, cell) in rows.columns_of(rows.key_sets()[row], dict).zip(rows.cells(row)) {
            let (kind, Some(values)) = (dict.column_kind(column), rows.column(column)) else { continue };
            let mut bit = kind_bit(kind, &protocol::logs::LogValue::Empty);
            if may_be_empty(kind) {
                let value = values.value(*cell as usize, dict);
                if value.is_empty() {
                    continue;
                }
                bit = kind_bit(kind, &value);
            }
            let name = dict.column(column).name;
            match own.iter_mut().find(|(known, _)| *known == name) {
                Some((_, kinds)) => *kinds |= bit,
                None => own.push((name, bit)),
            }
        }
        for (name, kinds) in &own {
            let known = names.entry(name).or_default();
            *known = (known.0 | kinds, known.1 + 1);
        }
    }
    for (name, (kinds, records)) in names {
        let name = match signal {
            RowSignal::Logs => name,
            RowSignal::Spans => match row::span_name(name) {
                Some(name) => name,
                None if name == row::STATUS_MESSAGE => {
                    add(LogField::StatusMessage, kinds, records);
                    continue;
                }
                None if name == row::PARENT => {
                    add(LogField::ParentId, 1, records);
                    continue;
                }
                None => continue,
            },
        };
        add(LogField::RecordAttribute(name.to_owned()), kinds, records);
    }
    for (number, records) in streams {
        let Ok(stream) = decode_stream(dict.streams().get(number)) else { continue };
        for (list, field) in [
            (&stream.resource, LogField::ResourceAttribute as fn(String) -> LogField),
            (&stream.scope_attributes, LogField::ScopeAttribute),
        ] {
            let mut own: BTreeMap<&str, u8> = BTreeMap::new();
            for (name, value) in list.iter().filter(|(_, value)| !value.is_empty()) {
                *own.entry(name).or_default() |= kind_of(value);
            }
            own.into_iter().for_each(|(name, kinds)| add(field(name.to_owned()), kinds, records));
        }
        for (field, text) in
            [(LogField::ScopeName, &stream.scope_name), (LogField::ScopeVersion, &stream.scope_version)]
        {
            if !text.is_empty() {
                add(field, 1, records);
            }
        }
    }
    out.into_iter().map(|(field, (kinds, records))| FieldCount { field, kinds, records }).collect()
}

fn kind_of(value: &protocol::logs::LogValue<'_>) -> u8 {
    use protocol::logs::LogValue as V;
    match value {
        V::Empty => 0,
        V::String(_) => 1,
        V::Int(_) => 2,
        V::Float(_) => 4,
        V::Bool(_) => 8,
        V::Bytes(_) => 16,
        V::List(_) => 32,
        V::Map(_) => 64,
    }
}
