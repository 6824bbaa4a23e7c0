//! Records as columns in memory: what a batch is built from, and what a block is decoded to.
//!
//! ```text
//! push(record) ──► Rows + Dict ──block::encode──► bytes ──block::decode──► Rows ──record(i)──► the record again
//!                    ▲
//! push_from(other rows, i): a row moves from one dictionary to another without its texts being put together
//! ```
//!
//! Invariant: what is pushed is what is read, with each bit of each value, the order of attributes and repeated names.

use std::borrow::Cow;

use xxhash_rust::xxh3::xxh3_64;

use super::codec;
use super::dict::{ColumnKey, Dict, ValueKind};
use super::template::{Split, kinds};
use super::text::{Blobs, TextColumn, TextMap, VALUE};
use super::{LogRecord, LogValue, TimestampNs};
use crate::varint::{write_prefixed, write_u64, zigzag};

/// Where a row's two times come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Origin {
    /// It has its own time alone.
    Own = 0,
    /// It has the collector's time alone.
    Observed = 1,
    /// It has both.
    Both = 2,
}

/// Values of an attribute's column.
#[derive(Clone, Debug)]
pub enum Values {
    /// So many of nothing.
    Empty(usize),
    /// Texts.
    Text(TextColumn),
    /// Whole numbers.
    Int(Vec<i64>),
    /// Numbers, by their bits.
    Float(Vec<u64>),
    /// Truth values, 0 or 1.
    Bool(Vec<i64>),
    /// Bytes of other values.
    Other(Blobs),
    /// Not decoded, since nobody asked for it.
    Absent,
}

impl Values {
    pub(super) fn new(kind: ValueKind) -> Self {
        match kind {
            ValueKind::Empty => Self::Empty(0),
            ValueKind::Text => Self::Text(TextColumn::default()),
            ValueKind::Int => Self::Int(Vec::new()),
            ValueKind::Float => Self::Float(Vec::new()),
            ValueKind::Bool => Self::Bool(Vec::new()),
            ValueKind::Other => Self::Other(Blobs::default()),
        }
    }

    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::Empty(len) => *len,
            Self::Text(column) => column.len(),
            Self::Int(values) | Self::Bool(values) => values.len(),
            Self::Float(values) => values.len(),
            Self::Other(blobs) => blobs.len(),
            Self::Absent => 0,
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A value.
    pub fn value<'a>(&'a self, at: usize, dict: &'a Dict) -> LogValue<'a> {
        match self {
            Self::Empty(_) | Self::Absent => LogValue::Empty,
            Self::Text(column) => column.value(at, dict),
            Self::Int(values) => LogValue::Int(values[at]),
            Self::Float(values) => LogValue::Float(f64::from_bits(values[at])),
            Self::Bool(values) => LogValue::Bool(values[at] != 0),
            Self::Other(blobs) => codec::decode_value(&mut blobs.get(at)).unwrap_or(LogValue::Empty),
        }
    }
}

/// See the module. Fields that were not decoded are empty.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    pub(super) len: usize,
    /// Effective times.
    pub(super) times: Vec<TimestampNs>,
    pub(super) origins: Vec<u8>,
    /// The collector's times of rows that have both, else 0.
    pub(super) observed: Vec<TimestampNs>,
    pub(super) streams: Vec<u32>,
    pub(super) severities: Vec<u32>,
    pub(super) flags: Vec<u32>,
    pub(super) events: Vec<u32>,
    pub(super) key_sets: Vec<u32>,
    pub(super) traces: Vec<[u8; 16]>,
    pub(super) spans: Vec<[u8; 8]>,
    pub(super) body: Option<TextColumn>,
    /// Values by column of the dictionary.
    pub(super) columns: Vec<Values>,
    /// Columns that rows have cells of, by number, where those are not all.
    pub(super) with_cells: Option<Vec<bool>>,
    /// For each row and each column of its key set that has cells, the position of its value in that column.
    pub(super) cells: Vec<u32>,
    /// Where each row's cells begin, and where the last ones end. Empty where no row has more than one: then `cells` has
    /// one of each row, [`NO_CELL`] where it has none.
    pub(super) cell_starts: Vec<u32>,
}

/// See [`Rows::only_cells`].
pub const NO_CELL: u32 = u32::MAX;

/// Buffers of whoever pushes records.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    pub split: Split,
    bytes: Vec<u8>,
    columns: Vec<u32>,
    /// By column of a first occurrence: the row that it came up in last, plus one, and how often.
    seen: Vec<(u32, u32)>,
}

/// Numbers of one dictionary in another. Each pair of dictionaries has its own.
#[derive(Debug, Default)]
pub struct RowMap {
    text: TextMap,
    columns: Vec<u32>,
    key_sets: Vec<u32>,
    streams: Vec<u32>,
    severities: Vec<u32>,
    events: Vec<u32>,
    scratch: Vec<u8>,
}

impl RowMap {
    /// A map that gives texts without a template another chance: more may be like them where the rows go.
    pub fn splitting_again() -> Self {
        let text = TextMap { again: Some(Split::default()), ..TextMap::default() };
        Self { text, ..Self::default() }
    }
}

fn translate(map: &mut Vec<u32>, len: usize, number: u32, new: impl FnOnce() -> u32) -> u32 {
    if map.len() < len {
        map.resize(len, u32::MAX);
    }
    let known = &mut map[number as usize];
    if *known == u32::MAX {
        *known = new();
    }
    *known
}

impl Rows {
    /// No rows yet.
    pub fn new() -> Self {
        Self { cell_starts: vec![0], body: Some(TextColumn::default()), ..Self::default() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Effective times.
    pub fn times(&self) -> &[TimestampNs] {
        &self.times
    }

    /// Streams, as the dictionary numbers them.
    pub fn streams(&self) -> &[u32] {
        &self.streams
    }

    /// Severities, as the dictionary numbers them.
    pub fn severities(&self) -> &[u32] {
        &self.severities
    }

    /// Trace flags.
    pub fn flags(&self) -> &[u32] {
        &self.flags
    }

    /// Events, as the dictionary numbers them.
    pub fn events(&self) -> &[u32] {
        &self.events
    }

    /// Key sets, as the dictionary numbers them.
    pub fn key_sets(&self) -> &[u32] {
        &self.key_sets
    }

    /// Trace ids, zeros where there is none.
    pub fn traces(&self) -> &[[u8; 16]] {
        &self.traces
    }

    /// Span ids, zeros where there is none.
    pub fn spans(&self) -> &[[u8; 8]] {
        &self.spans
    }

    /// Bodies.
    pub fn body(&self) -> Option<&TextColumn> {
        self.body.as_ref()
    }

    /// Lets the bodies go: of some perhaps only the template was decoded, and nobody is to take that for a body.
    pub fn forget_bodies(&mut self) {
        self.body = None;
    }

    /// Values of a column of the dictionary.
    pub fn column(&self, column: u32) -> Option<&Values> {
        self.columns.get(column as usize).filter(|values| !matches!(values, Values::Absent))
    }

    /// Columns that rows of a key set have cells of, in the order of these: those that were wanted.
    pub fn columns_of<'a>(&'a self, key_set: u32, dict: &'a Dict) -> impl Iterator<Item = u32> + 'a {
        let has_cells = |column: &u32| self.with_cells.as_ref().is_none_or(|with| with[*column as usize]);
        dict.key_columns(key_set).iter().copied().filter(has_cells)
    }

    /// Positions of a row's values in the columns that [`Self::columns_of`] says of its key set.
    pub fn cells(&self, row: usize) -> &[u32] {
        match self.cell_starts.get(row..row + 2) {
            Some(ends) => &self.cells[ends[0] as usize..ends[1] as usize],
            None => match self.cells.get(row) {
                Some(cell) if *cell != NO_CELL => std::slice::from_ref(cell),
                _ => &[],
            },
        }
    }

    /// The cells of a column, one of each row, [`NO_CELL`] where it has none; nothing where rows have cells of others too.
    pub fn only_cells(&self, column: u32) -> Option<&[u32]> {
        let with_cells = self.with_cells.as_ref()?;
        let is_only = with_cells.iter().enumerate().all(|(other, with)| *with == (other == column as usize));
        (is_only && self.cell_starts.is_empty() && self.cells.len() == self.len).then_some(&self.cells)
    }

    /// Takes a record of a stream of the dictionary. Returns roughly how many bytes it adds.
    pub(super) fn push(
        &mut self,
        record: &LogRecord<'_>,
        stream: u32,
        dict: &mut Dict,
        scratch: &mut Scratch,
    ) -> usize {
        let before = dict.total_bytes();
        let origin = match (record.time_ns, record.observed_ns) {
            (_, 0) => Origin::Own,
            (0, _) => Origin::Observed,
            _ => Origin::Both,
        };
        self.times.push(record.effective_ns());
        self.origins.push(origin as u8);
        self.observed.push(if origin == Origin::Both { record.observed_ns } else { 0 });
        self.streams.push(stream);
        let severity = dict.intern_severity(record.severity, &record.severity_text, &mut scratch.bytes);
        self.severities.push(severity);
        self.flags.push(record.flags);
        self.events.push(dict.intern_event(&record.event_name));
        self.traces.push(record.trace_id);
        self.spans.push(record.span_id);
        let mut bytes = 24;
        let body = self.body.get_or_insert_default();
        bytes += match &record.body {
            LogValue::String(text) => body.push(text, &mut scratch.split, dict),
            value => body.push_value(value, &mut scratch.bytes),
        };
        scratch.columns.clear();
        let row = self.len as u32 + 1;
        for (name, value) in &record.attributes {
            let kind = kind_of(value);
            let key = ColumnKey { kind, occurrence: 0, name };
            let mut column = dict.intern_column(&key, &mut scratch.bytes);
            if scratch.seen.len() <= column as usize {
                scratch.seen.resize(column as usize + 1, (0, 0));
            }
            let seen = &mut scratch.seen[column as usize];
            *seen = if seen.0 == row { (row, seen.1 + 1) } else { (row, 0) };
            if seen.1 > 0 {
                column = dict.intern_column(&ColumnKey { occurrence: seen.1, ..key }, &mut scratch.bytes);
            }
            while self.columns.len() <= column as usize {
                self.columns.push(Values::new(dict.column_kind(self.columns.len() as u32)));
            }
            let values = &mut self.columns[column as usize];
            self.cells.push(values.len() as u32);
            scratch.columns.push(column);
            bytes += 8;
            match (values, value) {
                (Values::Empty(len), _) => *len += 1,
                (Values::Text(column), LogValue::String(text)) => {
                    bytes += column.push(text, &mut scratch.split, dict);
                }
                (Values::Int(values), LogValue::Int(int)) => values.push(*int),
                (Values::Float(values), LogValue::Float(float)) => values.push(float.to_bits()),
                (Values::Bool(values), LogValue::Bool(truth)) => values.push(i64::from(*truth)),
                (Values::Other(blobs), value) => {
                    scratch.bytes.clear();
                    codec::encode_value(value, &mut scratch.bytes);
                    blobs.push(&scratch.bytes);
                    bytes += scratch.bytes.len();
                }
                _ => unreachable!("a column has one kind of values"),
            }
        }
        let key_set = dict.intern_key_set(&scratch.columns, &mut scratch.bytes);
        self.key_sets.push(key_set);
        self.cell_starts.push(self.cells.len() as u32);
        self.len += 1;
        bytes + (dict.total_bytes() - before)
    }

    /// These rows with what others have decoded of the same ones; where both have a column, that of the others.
    #[must_use]
    pub fn joined(self, other: Self) -> Self {
        fn either<T>(own: Vec<T>, other: Vec<T>) -> Vec<T> {
            if other.is_empty() { own } else { other }
        }
        debug_assert_eq!(self.len, other.len, "other rows");
        // Cells point into the columns that were decoded with them.
        let (cells, cell_starts, with_cells, columns, key_sets) = match other.key_sets.is_empty() {
            true => (self.cells, self.cell_starts, self.with_cells, self.columns, self.key_sets),
            false => (other.cells, other.cell_starts, other.with_cells, other.columns, other.key_sets),
        };
        Self {
            len: self.len,
            times: either(self.times, other.times),
            origins: either(self.origins, other.origins),
            observed: either(self.observed, other.observed),
            streams: either(self.streams, other.streams),
            severities: either(self.severities, other.severities),
            flags: either(self.flags, other.flags),
            events: either(self.events, other.events),
            traces: either(self.traces, other.traces),
            spans: either(self.spans, other.spans),
            body: other.body.or(self.body),
            key_sets,
            columns,
            with_cells,
            cells,
            cell_starts,
        }
    }

    /// Takes a row of others, all of whose columns were decoded. `admit` says which templates the dictionary takes; texts
    /// of others are kept as they are.
    pub fn push_from(
        &mut self,
        dict: &mut Dict,
        from: &Self,
        from_dict: &Dict,
        row: usize,
        map: &mut RowMap,
        admit: &dyn Fn(&[u8]) -> bool,
    ) {
        self.times.push(from.times[row]);
        self.origins.push(from.origins[row]);
        self.observed.push(from.observed[row]);
        let RowMap { text, columns, key_sets, streams, severities, events, scratch } = map;
        let stream = from.streams[row];
        self.streams.push(translate(streams, from_dict.streams().len(), stream, || {
            dict.intern_stream(from_dict.streams().get(stream))
        }));
        let severity = from.severities[row];
        self.severities.push(translate(severities, from_dict.severities().len(), severity, || {
            let (number, text) = from_dict.severity(severity);
            dict.intern_severity(number, text, scratch)
        }));
        self.flags.push(from.flags[row]);
        let event = from.events[row];
        self.events.push(translate(events, from_dict.events().len(), event, || {
            dict.intern_event(from_dict.event(event))
        }));
        self.traces.push(from.traces[row]);
        self.spans.push(from.spans[row]);
        if let Some(body) = &from.body {
            let own = self.body.get_or_insert_default();
            own.push_from(body, row, from_dict, dict, text, admit);
        }
        let key_set = from.key_sets[row];
        let from_columns = from_dict.key_columns(key_set);
        for (&from_column, &cell) in from_columns.iter().zip(from.cells(row)) {
            let column = translate(columns, from_dict.columns_len(), from_column, || {
                dict.intern_column(&from_dict.column(from_column), scratch)
            });
            while self.columns.len() <= column as usize {
                self.columns.push(Values::new(dict.column_kind(self.columns.len() as u32)));
            }
            let (values, cell) = (&mut self.columns[column as usize], cell as usize);
            self.cells.push(values.len() as u32);
            match (values, &from.columns[from_column as usize]) {
                (Values::Empty(len), _) => *len += 1,
                (Values::Text(own), Values::Text(from)) => {
                    own.push_from(from, cell, from_dict, dict, text, admit)
                }
                (Values::Int(own), Values::Int(from)) | (Values::Bool(own), Values::Bool(from)) => {
                    own.push(from[cell]);
                }
                (Values::Float(own), Values::Float(from)) => own.push(from[cell]),
                (Values::Other(own), Values::Other(from)) => own.push(from.get(cell)),
                _ => unreachable!("a column has one kind of values, and all of them were decoded"),
            }
        }
        self.key_sets.push(translate(key_sets, from_dict.key_sets_len(), key_set, || {
            let own: Vec<u32> = from_columns.iter().map(|column| columns[*column as usize]).collect();
            dict.intern_key_set(&own, scratch)
        }));
        self.cell_starts.push(self.cells.len() as u32);
        self.len += 1;
    }

    /// A row's two times: its own and the collector's.
    pub fn times_of(&self, row: usize) -> (TimestampNs, TimestampNs) {
        let time = self.times.get(row).copied().unwrap_or(0);
        match self.origins.get(row) {
            Some(origin) if *origin == Origin::Observed as u8 => (0, time),
            Some(origin) if *origin == Origin::Both as u8 => {
                (time, self.observed.get(row).copied().unwrap_or(0))
            }
            _ => (time, 0),
        }
    }

    /// A row's attributes, as far as they were decoded.
    pub fn attributes<'a>(&'a self, row: usize, dict: &'a Dict) -> Vec<super::Attribute<'a>> {
        let Some(key_set) = self.key_sets.get(row) else { return Vec::new() };
        let columns = self.columns_of(*key_set, dict).zip(self.cells(row));
        let decoded =
            columns.filter_map(|(column, cell)| Some((column, self.column(column)?, *cell as usize)));
        decoded
            .map(|(column, values, cell)| (Cow::Borrowed(dict.column(column).name), values.value(cell, dict)))
            .collect()
    }

    /// A row as a record, without what was not decoded.
    pub fn record<'a>(&'a self, row: usize, dict: &'a Dict) -> LogRecord<'a> {
        let (time_ns, observed_ns) = self.times_of(row);
        let (severity, severity_text) =
            self.severities.get(row).map_or((0, ""), |number| dict.severity(*number));
        LogRecord {
            time_ns,
            observed_ns,
            severity,
            severity_text: Cow::Borrowed(severity_text),
            body: self.body.as_ref().map_or(LogValue::Empty, |body| body.value(row, dict)),
            trace_id: self.traces.get(row).copied().unwrap_or_default(),
            span_id: self.spans.get(row).copied().unwrap_or_default(),
            flags: self.flags.get(row).copied().unwrap_or(0),
            event_name: Cow::Borrowed(self.events.get(row).map_or("", |number| dict.event(*number))),
            attributes: self.attributes(row, dict),
        }
    }

    /// Appends the bytes that [`codec::encode_record`] gives the record of a row, all of whose columns were decoded.
    pub(super) fn encode_record(&self, row: usize, dict: &Dict, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        let (time_ns, observed_ns) = self.times_of(row);
        let (severity, severity_text) = dict.severity(self.severities[row]);
        write_u64(out, zigzag(time_ns));
        write_u64(out, zigzag(observed_ns));
        out.push(severity);
        write_prefixed(out, severity_text.as_bytes());
        match &self.body {
            Some(body) => body.encode_value(row, dict, text, out),
            None => codec::encode_value(&LogValue::Empty, out),
        }
        out.extend_from_slice(&self.traces[row]);
        out.extend_from_slice(&self.spans[row]);
        write_u64(out, u64::from(self.flags[row]));
        write_prefixed(out, dict.event(self.events[row]).as_bytes());
        let columns = dict.key_columns(self.key_sets[row]);
        write_u64(out, columns.len() as u64);
        for (column, cell) in columns.iter().zip(self.cells(row)) {
            write_prefixed(out, dict.column(*column).name.as_bytes());
            let (values, cell) = (&self.columns[*column as usize], *cell as usize);
            match values {
                Values::Text(column) => column.encode_value(cell, dict, text, out),
                Values::Other(blobs) => out.extend_from_slice(blobs.get(cell)),
                values => codec::encode_value(&values.value(cell, dict), out),
            }
        }
    }

    /// Bytes of texts and values that are kept as they are.
    pub fn kept_bytes(&self) -> usize {
        let columns = self.columns.iter().map(|values| match values {
            Values::Text(column) => column.kept_bytes(),
            Values::Other(blobs) => blobs.bytes.len(),
            _ => 0,
        });
        self.body.as_ref().map_or(0, TextColumn::kept_bytes) + columns.sum::<usize>()
    }

    /// Visits the templates of bodies and attributes, and how many texts have each; one may come several times.
    pub fn each_template(&self, mut visit: impl FnMut(u32, usize)) {
        let texts = self.columns.iter().filter_map(|values| match values {
            Values::Text(column) => Some(column),
            _ => None,
        });
        for column in self.body.iter().chain(texts) {
            for group in column.groups() {
                if let Some(template) = group.template() {
                    visit(template, group.len());
                }
            }
        }
    }

    /// Visits the [hash](id_hash) of each value that is looked for by itself: trace and span ids, hexadecimal numbers and
    /// UUIDs in texts; [`UNSPLIT_HASH`] if there is a text in
    /// which they can not be told. One may come several times. Span ids come only if they are asked for.
    pub fn each_id(&self, with_span_ids: bool, mut visit: impl FnMut(u64)) {
        let mut digits = Vec::new();
        let mut hex = |id: &[u8], visit: &mut dyn FnMut(u64)| {
            if id.iter().any(|byte| *byte != 0) {
                digits.clear();
                for byte in id {
                    digits.extend(
                        [byte >> 4, byte & 15].map(|nibble| b"0123456789abcdef"[usize::from(nibble)]),
                    );
                }
                visit(id_hash(&digits));
            }
        };
        self.traces.chunk_by(|a, b| a == b).for_each(|run| hex(&run[0], &mut visit));
        if with_span_ids {
            self.spans.iter().for_each(|id| hex(id, &mut visit));
        }
        let texts = self.columns.iter().filter_map(|values| match values {
            Values::Text(column) => Some(column),
            _ => None,
        });
        let has_others = |blobs: &Blobs| blobs.bytes.iter().any(|byte| *byte != 0);
        let in_columns =
            self.columns.iter().any(|values| matches!(values, Values::Other(blobs) if !blobs.is_empty()));
        if in_columns
            || self.body.as_ref().is_some_and(|body| has_others(body.groups()[VALUE as usize].blobs()))
        {
            visit(UNSPLIT_HASH);
        }
        let mut split = Split::default();
        for column in self.body.iter().chain(texts) {
            column.groups().iter().flat_map(|group| group.slots()).for_each(|slot| slot.each_id(&mut visit));
            column.each_kept(|text| {
                if !split.split(text) {
                    return visit(UNSPLIT_HASH);
                }
                for (kind, (start, end)) in kinds(&split.template).zip(&split.slots) {
                    if kind.is_id() {
                        visit(id_hash(&text.as_bytes()[*start as usize..*end as usize]));
                    }
                }
            });
        }
    }

    /// Rows in the order of their times; of equal ones the first pushed comes first.
    pub(super) fn by_time(&self) -> Vec<u32> {
        let mut order: Vec<u32> = (0..self.len as u32).collect();
        if !self.times.is_sorted() {
            order.sort_by_key(|row| self.times[*row as usize]);
        }
        order
    }
}

/// Stands among the hashes of identifiers for texts that were not looked into.
pub const UNSPLIT_HASH: u64 = 0x756e_7370_6c69_7421;

/// Hash of an identifier's text, by which filters know it.
pub fn id_hash(text: &[u8]) -> u64 {
    xxh3_64(text)
}

fn kind_of(value: &LogValue<'_>) -> ValueKind {
    match value {
        LogValue::Empty => ValueKind::Empty,
        LogValue::String(_) => ValueKind::Text,
        LogValue::Int(_) => ValueKind::Int,
        LogValue::Float(_) => ValueKind::Float,
        LogValue::Bool(_) => ValueKind::Bool,
        LogValue::Bytes(_) | LogValue::List(_) | LogValue::Map(_) => ValueKind::Other,
    }
}
