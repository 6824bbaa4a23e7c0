#![doc = include_str!("block.md")]

use hashbrown::HashMap;

use super::dict::{Dict, ValueKind, level};
use super::rows::{NO_CELL, Origin, Rows, Values};
use super::template::{Kind, MAX_DIGITS};
use super::text::{ASIDE, Blobs, Group, NO_TEMPLATE, RAW, Slot, TextColumn, VALUE};
use super::{TimestampNs, codec};
use crate::encoding::columns::{self, Pack, Trust};
use crate::encoding::{DecodeError, frame};
use crate::varint;

const TIMES: usize = 0;
const ORIGINS: usize = 1;
const OBSERVED: usize = 2;
const BODIES: usize = 3;
const BODY_TEXT: usize = 4;
const TRACES: usize = 5;
const SPANS: usize = 6;
const STREAMS: usize = 7;
const SEVERITIES: usize = 8;
const FLAGS: usize = 9;
const EVENTS: usize = 10;
const KEY_SETS: usize = 11;
const SECTIONS: usize = 12;

/// Bounds of what is decoded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Rows of a block.
    pub rows: usize,
    /// Values of all columns together.
    pub values: usize,
    /// Bytes of texts that are kept as they are.
    pub bytes: usize,
}

/// Which columns are decoded. Times always are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Want {
    /// The collector's times.
    pub observed: bool,
    /// Bodies.
    pub body: Bodies,
    /// Streams.
    pub streams: bool,
    /// Severities.
    pub severities: bool,
    /// Trace flags.
    pub flags: bool,
    /// Events.
    pub events: bool,
    /// Trace ids.
    pub traces: bool,
    /// Span ids.
    pub spans: bool,
    /// Attributes.
    pub attributes: Attributes,
}

/// Which bodies are decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bodies {
    /// None.
    #[default]
    None,
    /// None, but which template each has is known.
    Templates,
    /// Those of these templates, ascending, and those that have no template. Of the others it is known which template they
    /// have, and no more.
    Of(Vec<u32>),
    /// All.
    All,
}

impl Bodies {
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, some) | (some, Self::None) => some,
            (Self::Templates, some) | (some, Self::Templates) => some,
            (Self::Of(a), Self::Of(b)) => Self::Of(united(a, b)),
            _ => Self::All,
        }
    }
}

/// Numbers of either list, ascending.
fn united(mut a: Vec<u32>, b: Vec<u32>) -> Vec<u32> {
    a.extend(b);
    a.sort_unstable();
    a.dedup();
    a
}

/// Which attributes are decoded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Attributes {
    /// None.
    #[default]
    None,
    /// Columns of the dictionary.
    Some(Vec<u32>),
    /// All.
    All,
}

impl Want {
    /// Everything.
    pub const ALL: Self = Self {
        observed: true,
        body: Bodies::All,
        streams: true,
        severities: true,
        flags: true,
        events: true,
        traces: true,
        spans: true,
        attributes: Attributes::All,
    };

    /// Whether all that is wanted is kept by groups of bodies, rather than in the order of times.
    pub fn is_grouped(&self) -> bool {
        !self.observed && !self.traces && !self.spans
    }

    /// What either wants.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        let attributes = match (self.attributes, other.attributes) {
            (Attributes::None, some) | (some, Attributes::None) => some,
            (Attributes::Some(a), Attributes::Some(b)) => Attributes::Some(united(a, b)),
            _ => Attributes::All,
        };
        Self {
            observed: self.observed || other.observed,
            body: self.body.and(other.body),
            streams: self.streams || other.streams,
            severities: self.severities || other.severities,
            flags: self.flags || other.flags,
            events: self.events || other.events,
            traces: self.traces || other.traces,
            spans: self.spans || other.spans,
            attributes,
        }
    }
}

/// How many bodies of a block have a template; `None`: those kept as they are, values that are no text among them.
pub type BodyCount = (Option<u32>, u32);

/// Appends the rows as a block, in the order of their times. Returns the body's groups.
pub fn encode(rows: &Rows, dict: &Dict, pack: Pack, out: &mut Vec<u8>) -> Vec<BodyCount> {
    let empty = TextColumn::default();
    let body = rows.body().unwrap_or(&empty);
    let order = rows.by_time();
    let numbering = Numbering::new(body);
    let grouped = numbering.grouped(body, &order);
    varint::write_u64(out, rows.len() as u64);

    let mut section = Vec::new();
    let mut put = |write: &mut dyn FnMut(&mut Vec<u8>)| {
        section.clear();
        write(&mut section);
        varint::write_prefixed(out, &section);
    };
    let of_order = |values: &[i64]| -> Vec<i64> { order.iter().map(|row| values[*row as usize]).collect() };
    let of_grouped =
        |values: &[u32]| -> Vec<i64> { grouped.iter().map(|row| i64::from(values[*row as usize])).collect() };
    put(&mut |out| columns::encode(&of_order(&rows.times), true, pack, out));
    let origins: Vec<i64> = order.iter().map(|row| i64::from(rows.origins[*row as usize])).collect();
    put(&mut |out| columns::encode(&origins, false, pack, out));
    let both = order.iter().filter(|row| rows.origins[**row as usize] == Origin::Both as u8);
    let late = both.map(|row| rows.observed[*row as usize].wrapping_sub(rows.times[*row as usize]));
    let late: Vec<i64> = late.collect();
    put(&mut |out| columns::encode(&late, false, pack, out));
    let bodies: Vec<i64> = order
        .iter()
        .map(|row| i64::from(numbering.number_of[body.entry(*row as usize).0 as usize]))
        .collect();
    put(&mut |out| columns::encode(&bodies, false, pack, out));
    put(&mut |out| encode_text(body, &numbering, &order, dict, pack, out));
    put(&mut |out| encode_ids(order.iter().map(|row| rows.traces[*row as usize]), pack, out));
    put(&mut |out| encode_ids(order.iter().map(|row| rows.spans[*row as usize]), pack, out));
    for values in [&rows.streams, &rows.severities, &rows.flags, &rows.events, &rows.key_sets] {
        put(&mut |out| columns::encode(&of_grouped(values), false, pack, out));
    }

    // Entries of each column in grouped order.
    let mut entries: Vec<Vec<u32>> = vec![Vec::new(); rows.columns.len()];
    for row in &grouped {
        let columns = dict.key_columns(rows.key_sets[*row as usize]);
        for (column, cell) in columns.iter().zip(rows.cells(*row as usize)) {
            entries[*column as usize].push(*cell);
        }
    }
    varint::write_u64(out, entries.iter().filter(|entries| !entries.is_empty()).count() as u64);
    for (column, (values, entries)) in rows.columns.iter().zip(&entries).enumerate() {
        if entries.is_empty() {
            continue;
        }
        section.clear();
        encode_values(values, entries, dict, pack, &mut section);
        varint::write_u64(out, column as u64);
        varint::write_prefixed(out, &section);
    }
    let count = |group: &u32| {
        let group = &body.groups()[*group as usize];
        (group.template(), group.len() as u32)
    };
    numbering.used.iter().map(count).collect()
}

fn encode_values(values: &Values, entries: &[u32], dict: &Dict, pack: Pack, out: &mut Vec<u8>) {
    let pick = |values: &[i64]| -> Vec<i64> { entries.iter().map(|at| values[*at as usize]).collect() };
    match values {
        Values::Empty(_) | Values::Absent => {}
        Values::Int(values) | Values::Bool(values) => columns::encode(&pick(values), false, pack, out),
        Values::Float(values) => {
            let bits: Vec<u64> = entries.iter().map(|at| values[*at as usize]).collect();
            encode_floats(&bits, pack, out);
        }
        Values::Other(blobs) => encode_heap(entries.iter().map(|at| blobs.get(*at as usize)), pack, out),
        Values::Text(column) => {
            let numbering = Numbering::new(column);
            let numbers: Vec<i64> = entries
                .iter()
                .map(|at| i64::from(numbering.number_of[column.entry(*at as usize).0 as usize]))
                .collect();
            let mut bytes = Vec::new();
            columns::encode(&numbers, false, pack, &mut bytes);
            varint::write_prefixed(out, &bytes);
            encode_text(column, &numbering, entries, dict, pack, out);
        }
    }
}

/// Numbers of a column's groups in a block: 0 and 1 as in memory, the others by falling length.
struct Numbering {
    /// By group.
    number_of: Vec<u32>,
    /// Groups that have entries, by number.
    used: Vec<u32>,
}

impl Numbering {
    fn new(column: &TextColumn) -> Self {
        let groups = column.groups();
        let mut used: Vec<u32> =
            (2..groups.len() as u32).filter(|g| !groups[*g as usize].is_empty()).collect();
        used.sort_by_key(|group| std::cmp::Reverse(groups[*group as usize].len()));
        let mut number_of = vec![0; groups.len()];
        number_of[VALUE as usize] = VALUE;
        for (at, group) in used.iter().enumerate() {
            number_of[*group as usize] = at as u32 + 2;
        }
        let first = [RAW, VALUE].into_iter().filter(|group| !groups[*group as usize].is_empty());
        Self { number_of, used: first.chain(used.iter().copied()).collect() }
    }

    /// Rows by the number of their body's group, those of one group by time.
    fn grouped(&self, body: &TextColumn, order: &[u32]) -> Vec<u32> {
        let mut next = vec![0u32; self.number_of.len() + 1];
        for group in &self.used {
            next[self.number_of[*group as usize] as usize + 1] = body.groups()[*group as usize].len() as u32;
        }
        for at in 1..next.len() {
            next[at] += next[at - 1];
        }
        let mut grouped = vec![0; order.len()];
        for row in order {
            let next = &mut next[self.number_of[body.entry(*row as usize).0 as usize] as usize];
            grouped[*next as usize] = *row;
            *next += 1;
        }
        grouped
    }
}

/// Groups and slots of a column whose entries come in some order.
fn encode_text(
    column: &TextColumn,
    numbering: &Numbering,
    order: &[u32],
    dict: &Dict,
    pack: Pack,
    out: &mut Vec<u8>,
) {
    // Positions in each group, in the order in which entries come.
    let mut positions: Vec<Vec<u32>> = vec![Vec::new(); column.groups().len()];
    for entry in order {
        let (group, at) = column.entry(*entry as usize);
        positions[group as usize].push(at as u32);
    }
    varint::write_u64(out, numbering.used.len() as u64);
    let mut heap: Vec<&[u8]> = Vec::new();
    let mut slots = Vec::new();
    let mut bytes = Vec::new();
    for group in &numbering.used {
        let (positions, number) = (&positions[*group as usize], *group);
        let group = &column.groups()[*group as usize];
        let code = group.template().map_or(u64::from(number), |template| u64::from(template) + 2);
        varint::write_u64(out, code);
        varint::write_u64(out, positions.len() as u64);
        if group.template().is_none() {
            heap.extend(positions.iter().map(|at| group.blobs.get(*at as usize)));
        }
        for slot in group.slots() {
            bytes.clear();
            encode_slot(slot, positions, pack, &mut heap, &mut bytes);
            varint::write_prefixed(&mut slots, &bytes);
        }
    }
    debug_assert!(
        numbering
            .used
            .iter()
            .all(|g| (column.groups()[*g as usize].template < dict.templates().len() as u32)
                || column.groups()[*g as usize].template == NO_TEMPLATE)
    );
    bytes.clear();
    encode_heap(heap.into_iter(), pack, &mut bytes);
    varint::write_prefixed(out, &bytes);
    out.extend_from_slice(&slots);
}

fn encode_heap<'a>(blobs: impl Iterator<Item = &'a [u8]>, pack: Pack, out: &mut Vec<u8>) {
    let (mut lens, mut bytes) = (Vec::new(), Vec::new());
    for blob in blobs {
        lens.push(blob.len() as i64);
        bytes.extend_from_slice(blob);
    }
    varint::write_u64(out, lens.len() as u64);
    if lens.is_empty() {
        return;
    }
    let mut column = Vec::new();
    columns::encode(&lens, false, pack, &mut column);
    varint::write_prefixed(out, &column);
    frame::write(&bytes, level(pack), out);
}

const PLAIN: u8 = 0;
const FIXED: u8 = 1;
const EACH: u8 = 2;

fn encode_slot<'a>(
    slot: &'a Slot,
    positions: &[u32],
    pack: Pack,
    heap: &mut Vec<&'a [u8]>,
    out: &mut Vec<u8>,
) {
    let words = |out: &mut Vec<u8>| {
        let values: Vec<i64> = positions.iter().map(|at| slot.words[*at as usize] as i64).collect();
        columns::encode(&values, false, pack, out);
    };
    let aux = || positions.iter().map(|at| i64::from(slot.aux[*at as usize]));
    match slot.kind {
        Kind::Int | Kind::Decimal => {
            // What is constant of the digits: no leading zeros, all digits, those behind the point.
            let is_int = slot.kind == Kind::Int;
            let width = |at: &u32| {
                let aux = i64::from(slot.aux[*at as usize]);
                if is_int { digits(slot.words[*at as usize]) + aux } else { aux }
            };
            let first = positions.first().map_or(0, width);
            if is_int && aux().all(|zeros| zeros == 0) {
                out.push(PLAIN);
            } else if positions.iter().all(|at| width(at) == first) {
                out.extend_from_slice(&[FIXED, first as u8]);
            } else {
                out.push(EACH);
                let mut column = Vec::new();
                columns::encode(&aux().collect::<Vec<_>>(), false, pack, &mut column);
                varint::write_prefixed(out, &column);
            }
            words(out);
        }
        Kind::Address => words(out),
        Kind::Uuid => {
            let id = |at: &u32| {
                let at = 2 * *at as usize;
                (u128::from(slot.words[at]) << 64 | u128::from(slot.words[at + 1])).to_be_bytes()
            };
            encode_ids(positions.iter().map(id), pack, out);
        }
        Kind::HexLower | Kind::HexUpper => {
            let blobs = || positions.iter().map(|at| slot.blobs.get(*at as usize));
            let mut column = Vec::new();
            columns::encode(&blobs().map(|b| b.len() as i64).collect::<Vec<_>>(), false, pack, &mut column);
            varint::write_prefixed(out, &column);
            let mut packed = Vec::new();
            let mut half = None;
            for digit in blobs().flatten() {
                let nibble = (*digit as char).to_digit(16).unwrap_or(0) as u8;
                match half.take() {
                    None => half = Some(nibble),
                    Some(high) => packed.push(high << 4 | nibble),
                }
            }
            packed.extend(half.map(|high| high << 4));
            match pack {
                Pack::Quick => frame::store(&packed, out),
                Pack::Small => frame::write(&packed, level(pack), out),
            }
        }
        Kind::Word => {
            let values = positions.iter().map(|at| {
                let word = slot.words[*at as usize];
                if word & ASIDE == 0 {
                    return word as i64 + 1;
                }
                heap.push(slot.blobs.get((word ^ ASIDE) as usize));
                0
            });
            columns::encode(&values.collect::<Vec<_>>(), false, pack, out);
        }
    }
}

fn digits(value: u64) -> i64 {
    value.checked_ilog10().map_or(1, |log| i64::from(log) + 1)
}

/// Identifiers: zeros, a new one, or how far back the same one came up first among the new ones.
fn encode_ids<const N: usize>(ids: impl Iterator<Item = [u8; N]>, pack: Pack, out: &mut Vec<u8>) {
    let (mut codes, mut distinct) = (Vec::new(), Vec::new());
    let mut known: HashMap<[u8; N], i64> = HashMap::new();
    for id in ids {
        if id == [0; N] {
            codes.push(0);
            continue;
        }
        let next = known.len() as i64;
        match known.get(&id) {
            Some(at) => codes.push(1 + next - at),
            None => {
                known.insert(id, next);
                codes.push(1);
                distinct.extend_from_slice(&id);
            }
        }
    }
    let mut column = Vec::new();
    columns::encode(&codes, false, pack, &mut column);
    varint::write_prefixed(out, &column);
    match pack {
        Pack::Quick => frame::store(&distinct, out),
        Pack::Small => frame::write(&distinct, level(pack), out),
    }
}

/// Largest whole number that a float holds with room for the point to be moved.
const MAX_SCALED: f64 = (1u64 << 51) as f64;
const MAX_EXPONENT: u8 = 6;
const BITS: u8 = 255;

fn encode_floats(bits: &[u64], pack: Pack, out: &mut Vec<u8>) {
    let scaled = (0..=MAX_EXPONENT).find_map(|exponent| {
        let scale = 10f64.powi(i32::from(exponent));
        let one = |bits: &u64| {
            let moved = (f64::from_bits(*bits) * scale).round();
            let fits = moved.abs() < MAX_SCALED && (moved / scale).to_bits() == *bits;
            fits.then_some(moved as i64).filter(|int| (*int as f64).to_bits() == moved.to_bits())
        };
        Some((exponent, bits.iter().map(one).collect::<Option<Vec<i64>>>()?))
    });
    let (head, values) = scaled.unwrap_or_else(|| (BITS, bits.iter().map(|bits| *bits as i64).collect()));
    out.push(head);
    columns::encode(&values, false, pack, out);
}

/// A block whose sections were found and not yet looked into.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    rows: usize,
    sections: [&'a [u8]; SECTIONS],
    columns: Vec<(u32, &'a [u8])>,
}

/// In which order rows are decoded.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Times,
    /// As the columns are kept: by the groups of the bodies.
    Groups,
}

/// How many bytes and values may still be decoded.
struct Budget {
    values: usize,
    bytes: usize,
}

impl Budget {
    fn take(&mut self, values: usize) -> Result<usize, DecodeError> {
        self.values = self.values.checked_sub(values).ok_or(DecodeError::Malformed("number of values"))?;
        Ok(values)
    }

    fn frame(&mut self, input: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let bytes = frame::read_within(input, self.bytes)?;
        self.bytes -= bytes.len();
        Ok(bytes)
    }
}

impl<'a> Block<'a> {
    /// Finds the sections of a block that fills `input`.
    pub fn parse(mut input: &'a [u8], limits: Limits) -> Result<Self, DecodeError> {
        let input = &mut input;
        let rows = varint::read_len(input).filter(|rows| *rows <= limits.rows);
        let rows = rows.ok_or(DecodeError::Malformed("number of rows"))?;
        let mut sections: [&[u8]; SECTIONS] = [&[]; SECTIONS];
        for section in &mut sections {
            *section = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
        }
        let mut columns = Vec::new();
        for _ in 0..varint::read_len(input).ok_or(DecodeError::Truncated)? {
            let column = varint::read_u64(input).and_then(|column| u32::try_from(column).ok());
            let bytes = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
            columns.push((column.ok_or(DecodeError::Truncated)?, bytes));
        }
        if !columns.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::Malformed("order of columns"));
        }
        if input.is_empty() {
            Ok(Self { rows, sections, columns })
        } else {
            Err(DecodeError::Malformed("end"))
        }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the section of each column: for figures.
    pub fn sizes(&self) -> impl Iterator<Item = (Option<u32>, usize)> + '_ {
        let sections = self.sections.iter().map(|section| (None, section.len()));
        sections.chain(self.columns.iter().map(|(column, bytes)| (Some(*column), bytes.len())))
    }

    /// Attributes' columns that this block has, ascending.
    pub fn columns(&self) -> impl Iterator<Item = u32> + '_ {
        self.columns.iter().map(|(column, _)| *column)
    }

    /// The templates that the texts of an attribute's column have, `None` for what is kept as it is: a few bytes are read,
    /// and no text is. Nothing for a column that this block does not have.
    pub fn templates_of(&self, column: u32) -> Result<Vec<Option<u32>>, DecodeError> {
        let Ok(at) = self.columns.binary_search_by_key(&column, |(column, _)| *column) else {
            return Ok(Vec::new());
        };
        let mut input = self.columns[at].1;
        varint::read_prefixed(&mut input).ok_or(DecodeError::Truncated)?;
        Ok(read_heads(&mut input, self.rows)?.into_iter().map(|head| head.template).collect())
    }

    /// The bodies of templates that are wanted, and those that have no template, by their groups rather than in the order of
    /// the rows. To count by: neither times nor places are read, and nothing of the others.
    pub fn bodies_by_group(
        &self,
        wanted: &dyn Fn(u32) -> bool,
        dict: &Dict,
        trust: Trust,
        limits: Limits,
    ) -> Result<TextColumn, DecodeError> {
        let mut budget = Budget { values: limits.values, bytes: limits.bytes };
        let entries = Entries::Wanted(self.rows);
        decode_text(self.sections[BODY_TEXT], entries, &Texts::Of(wanted), dict, trust, &mut budget)
    }

    /// The number of each body's group, those of one group together.
    fn numbers_by_group(&self) -> Result<Vec<u32>, DecodeError> {
        let mut numbers: Vec<u32> = Vec::with_capacity(self.rows);
        for head in read_heads(&mut &self.sections[BODY_TEXT][..], self.rows)? {
            if head.len > self.rows - numbers.len() {
                return Err(DecodeError::Malformed("length of groups"));
            }
            numbers.resize(numbers.len() + head.len, head.number);
        }
        if numbers.len() == self.rows { Ok(numbers) } else { Err(DecodeError::Malformed("length of groups")) }
    }

    /// Effective times, in order.
    pub fn times(&self, trust: Trust) -> Result<Vec<TimestampNs>, DecodeError> {
        let times = columns::decode(self.sections[TIMES], self.rows, trust)?;
        if times.is_sorted() { Ok(times) } else { Err(DecodeError::Malformed("order of times")) }
    }

    /// Decodes columns, and the times.
    pub fn decode(
        &self,
        dict: &Dict,
        want: &Want,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        self.decode_with(self.times(trust)?, Order::Times, dict, want, trust, limits)
    }

    /// Decodes columns, without the times: for whoever takes rows whenever they were.
    pub fn decode_untimed(
        &self,
        dict: &Dict,
        want: &Want,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        // The collector's times are kept as differences.
        let times = if want.observed { self.times(trust)? } else { Vec::new() };
        self.decode_with(times, Order::Times, dict, want, trust, limits)
    }

    /// Decodes columns in the order in which they are kept, rows with bodies of one group together: for whoever asks neither
    /// when rows were nor in which order. What is wanted has to be [`Want::is_grouped`].
    pub fn decode_grouped(
        &self,
        dict: &Dict,
        want: &Want,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        debug_assert!(want.is_grouped());
        self.decode_with(Vec::new(), Order::Groups, dict, want, trust, limits)
    }

    fn decode_with(
        &self,
        times: Vec<TimestampNs>,
        order: Order,
        dict: &Dict,
        want: &Want,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        let mut budget = Budget { values: limits.values, bytes: limits.bytes };
        let count = self.rows;
        let plain = |section: usize, budget: &mut Budget| {
            columns::decode(self.sections[section], budget.take(count)?, trust)
        };
        let mut rows = Rows { len: count, times, ..Rows::default() };
        if want.observed {
            let origins = plain(ORIGINS, &mut budget)?;
            let both = origins.iter().filter(|origin| **origin == Origin::Both as i64).count();
            if origins.iter().any(|origin| !(0..=2).contains(origin)) {
                return Err(DecodeError::Malformed("origin of a time"));
            }
            rows.origins = origins.into_iter().map(|origin| origin as u8).collect();
            let late = columns::decode(self.sections[OBSERVED], budget.take(both)?, trust)?;
            let mut late = late.into_iter();
            rows.observed = (0..count)
                .map(|row| match rows.origins[row] == Origin::Both as u8 {
                    true => rows.times[row].wrapping_add(late.next().unwrap_or(0)),
                    false => 0,
                })
                .collect();
        }
        if want.traces {
            rows.traces = decode_ids(self.sections[TRACES], budget.take(count)?, trust, &mut budget)?;
        }
        if want.spans {
            rows.spans = decode_ids(self.sections[SPANS], budget.take(count)?, trust, &mut budget)?;
        }
        let wants_groups = want.body != Bodies::None
            || want.streams
            || want.severities
            || want.flags
            || want.events
            || want.attributes != Attributes::None;
        if !wants_groups {
            return Ok(rows);
        }
        let (numbers, grouped) = match order {
            Order::Times => {
                let numbers = numbers_of(plain(BODIES, &mut budget)?)?;
                let grouped = grouped(&numbers);
                (numbers, grouped)
            }
            // They are needed for the bodies alone.
            Order::Groups if want.body == Bodies::None => (Vec::new(), (0..count as u32).collect()),
            Order::Groups => (self.numbers_by_group()?, (0..count as u32).collect()),
        };
        if want.body != Bodies::None {
            let is_listed = |template: u32| match &want.body {
                Bodies::Of(templates) => templates.binary_search(&template).is_ok(),
                _ => false,
            };
            let texts = match &want.body {
                Bodies::None | Bodies::Templates => Texts::None,
                Bodies::Of(_) => Texts::Of(&is_listed),
                Bodies::All => Texts::All,
            };
            let (bytes, entries) = (self.sections[BODY_TEXT], Entries::All(numbers));
            rows.body = Some(decode_text(bytes, entries, &texts, dict, trust, &mut budget)?);
        }
        let scattered = |section: usize, len: usize, budget: &mut Budget| {
            let values = plain(section, budget)?;
            // As numbers without a sign, negative ones are too large. Where all their bits together are no larger number
            // than one that is allowed, none of them is, and that is found out quicker than the largest.
            let bits = values.iter().fold(0, |bits, value| bits | *value as u64);
            let is_in = |value: u64| value < len as u64 && value <= u64::from(u32::MAX);
            if !is_in(bits) && !values.iter().all(|value| is_in(*value as u64)) {
                return Err(DecodeError::Malformed("number in a dictionary"));
            }
            if order == Order::Groups {
                return Ok(values.into_iter().map(|value| value as u32).collect());
            }
            let mut out = vec![0u32; count];
            for (row, value) in grouped.iter().zip(values) {
                out[*row as usize] = value as u32;
            }
            Ok::<_, DecodeError>(out)
        };
        if want.streams {
            rows.streams = scattered(STREAMS, dict.streams().len(), &mut budget)?;
        }
        if want.severities {
            rows.severities = scattered(SEVERITIES, dict.severities().len(), &mut budget)?;
        }
        if want.flags {
            rows.flags = scattered(FLAGS, usize::MAX, &mut budget)?;
        }
        if want.events {
            rows.events = scattered(EVENTS, dict.events().len(), &mut budget)?;
        }
        if want.attributes != Attributes::None {
            rows.key_sets = scattered(KEY_SETS, dict.key_sets_len(), &mut budget)?;
            self.decode_attributes(&mut rows, &grouped, dict, &want.attributes, trust, &mut budget)?;
        }
        Ok(rows)
    }

    fn decode_attributes(
        &self,
        rows: &mut Rows,
        grouped: &[u32],
        dict: &Dict,
        want: &Attributes,
        trust: Trust,
        budget: &mut Budget,
    ) -> Result<(), DecodeError> {
        let mut uses = vec![0usize; dict.key_sets_len()];
        rows.key_sets.iter().for_each(|key_set| uses[*key_set as usize] += 1);
        let mut counts = vec![0u32; dict.columns_len()];
        for (key_set, uses) in uses.iter().enumerate() {
            let columns = dict.key_columns(key_set as u32);
            budget.take(uses.saturating_mul(columns.len()))?;
            columns.iter().for_each(|column| counts[*column as usize] += *uses as u32);
        }
        let is_wanted = |column: u32| match want {
            Attributes::All => true,
            Attributes::Some(columns) => columns.contains(&column),
            Attributes::None => false,
        };
        if *want != Attributes::All {
            rows.with_cells = Some((0..dict.columns_len() as u32).map(is_wanted).collect());
        }
        let columns_of: Vec<Vec<u32>> =
            (0..dict.key_sets_len() as u32).map(|key_set| rows.columns_of(key_set, dict).collect()).collect();
        let mut next = vec![0u32; dict.columns_len()];
        if columns_of.iter().zip(&uses).all(|(columns, uses)| *uses == 0 || columns.len() <= 1) {
            rows.cells = vec![NO_CELL; rows.len];
            for row in grouped {
                if let [column] = columns_of[rows.key_sets[*row as usize] as usize][..] {
                    let next = &mut next[column as usize];
                    rows.cells[*row as usize] = *next;
                    *next += 1;
                }
            }
        } else {
            rows.cell_starts = Vec::with_capacity(rows.len + 1);
            let mut end = 0u32;
            rows.cell_starts.push(0);
            for key_set in &rows.key_sets {
                end += columns_of[*key_set as usize].len() as u32;
                rows.cell_starts.push(end);
            }
            rows.cells = vec![0; end as usize];
            for row in grouped {
                let start = rows.cell_starts[*row as usize] as usize;
                let columns = &columns_of[rows.key_sets[*row as usize] as usize];
                for (cell, column) in rows.cells[start..start + columns.len()].iter_mut().zip(columns) {
                    let next = &mut next[*column as usize];
                    *cell = *next;
                    *next += 1;
                }
            }
        }
        let used = counts.iter().filter(|count| **count > 0).count();
        if self.columns.len() != used {
            return Err(DecodeError::Malformed("number of columns"));
        }
        rows.columns.resize_with(dict.columns_len(), || Values::Absent);
        for (column, bytes) in &self.columns {
            let count = counts.get(*column as usize).copied().filter(|count| *count > 0);
            let count = count.ok_or(DecodeError::Malformed("column"))? as usize;
            if is_wanted(*column) {
                let kind = dict.column_kind(*column);
                rows.columns[*column as usize] = decode_values(kind, bytes, count, dict, trust, budget)?;
            }
        }
        Ok(())
    }
}

fn numbers_of(values: Vec<i64>) -> Result<Vec<u32>, DecodeError> {
    let rows = values.len() as i64;
    // A number is 0, 1 or that of a group, of which there are no more than rows.
    let number = |value: i64| u32::try_from(value).ok().filter(|_| value < rows + 2);
    let numbers: Option<Vec<u32>> = values.into_iter().map(number).collect();
    numbers.ok_or(DecodeError::Malformed("number of a group"))
}

/// Rows by number, those of one number in order.
fn grouped(numbers: &[u32]) -> Vec<u32> {
    let mut next = vec![0u32; numbers.len() + 3];
    numbers.iter().for_each(|number| next[*number as usize + 1] += 1);
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    let mut grouped = vec![0; numbers.len()];
    for (row, number) in numbers.iter().enumerate() {
        let next = &mut next[*number as usize];
        grouped[*next as usize] = row as u32;
        *next += 1;
    }
    grouped
}

fn decode_values(
    kind: ValueKind,
    mut input: &[u8],
    count: usize,
    dict: &Dict,
    trust: Trust,
    budget: &mut Budget,
) -> Result<Values, DecodeError> {
    budget.take(count)?;
    Ok(match kind {
        ValueKind::Empty if input.is_empty() => Values::Empty(count),
        ValueKind::Empty => return Err(DecodeError::Malformed("bytes of empty values")),
        ValueKind::Int => Values::Int(columns::decode(input, count, trust)?),
        ValueKind::Bool => {
            let values = columns::decode(input, count, trust)?;
            if values.iter().any(|value| !(0..=1).contains(value)) {
                return Err(DecodeError::Malformed("truth value"));
            }
            Values::Bool(values)
        }
        ValueKind::Float => Values::Float(decode_floats(input, count, trust)?),
        ValueKind::Other => {
            let blobs = decode_heap(input, trust, budget)?;
            if blobs.len() != count {
                return Err(DecodeError::Malformed("number of values"));
            }
            check_values(&blobs)?;
            Values::Other(blobs)
        }
        ValueKind::Text => {
            let numbers = varint::read_prefixed(&mut input).ok_or(DecodeError::Truncated)?;
            let numbers = numbers_of(columns::decode(numbers, count, trust)?)?;
            Values::Text(decode_text(input, Entries::All(numbers), &Texts::All, dict, trust, budget)?)
        }
    })
}

fn check_values(blobs: &Blobs) -> Result<(), DecodeError> {
    for at in 0..blobs.len() {
        let mut bytes = blobs.get(at);
        codec::decode_value(&mut bytes)?;
        if !bytes.is_empty() {
            return Err(DecodeError::Malformed("end of a value"));
        }
    }
    Ok(())
}

fn decode_floats(input: &[u8], count: usize, trust: Trust) -> Result<Vec<u64>, DecodeError> {
    let (&head, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
    let values = columns::decode(rest, count, trust)?;
    match head {
        BITS => Ok(values.into_iter().map(|value| value as u64).collect()),
        0..=MAX_EXPONENT => {
            let scale = 10f64.powi(i32::from(head));
            Ok(values.into_iter().map(|value| (value as f64 / scale).to_bits()).collect())
        }
        _ => Err(DecodeError::Malformed("exponent")),
    }
}

fn decode_heap(mut input: &[u8], trust: Trust, budget: &mut Budget) -> Result<Blobs, DecodeError> {
    let input = &mut input;
    let count = varint::read_len(input).ok_or(DecodeError::Truncated)?;
    if count == 0 {
        return if input.is_empty() {
            Ok(Blobs::default())
        } else {
            Err(DecodeError::Malformed("end of texts"))
        };
    }
    budget.take(count)?;
    let lens = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
    let lens = columns::decode(lens, count, trust)?;
    let bytes = budget.frame(input)?;
    let (mut ends, mut end) = (Vec::with_capacity(count), 0usize);
    for len in lens {
        let len = usize::try_from(len).ok().filter(|len| *len <= bytes.len() - end);
        end += len.ok_or(DecodeError::Malformed("length of a text"))?;
        ends.push(u32::try_from(end).map_err(|_| DecodeError::Malformed("length of texts"))?);
    }
    if end == bytes.len() {
        Ok(Blobs { bytes, ends })
    } else {
        Err(DecodeError::Malformed("length of texts"))
    }
}

/// A group of a text section.
struct Head {
    template: Option<u32>,
    /// Its number in the block.
    number: u32,
    len: usize,
}

/// The groups of a text section: of those without a template that of texts first, then that of other values.
fn read_heads(input: &mut &[u8], entries: usize) -> Result<Vec<Head>, DecodeError> {
    let used = varint::read_len(input).filter(|used| *used <= entries);
    let used = used.ok_or(DecodeError::Malformed("number of groups"))?;
    let mut heads: Vec<Head> = Vec::with_capacity(used);
    let mut next = VALUE + 1;
    for _ in 0..used {
        let code = varint::read_u64(input).ok_or(DecodeError::Truncated)?;
        let len = varint::read_len(input).ok_or(DecodeError::Truncated)?;
        let (template, number) = match code.checked_sub(2) {
            Some(template) => {
                next += 1;
                let template = u32::try_from(template).map_err(|_| DecodeError::Malformed("template"))?;
                (Some(template), next - 1)
            }
            None if heads
                .last()
                .is_some_and(|last| last.template.is_some() || u64::from(last.number) >= code) =>
            {
                return Err(DecodeError::Malformed("order of groups"));
            }
            None => (None, code as u32),
        };
        heads.push(Head { template, number, len });
    }
    Ok(heads)
}

/// Which entries a decoded column has.
enum Entries {
    /// All; the number of each one's group.
    All(Vec<u32>),
    /// Of so many those of groups that are wanted, one group after the other.
    Wanted(usize),
}

/// Texts that are decoded.
enum Texts<'w> {
    /// None: which group an entry belongs to is all that is known.
    None,
    /// Those of these templates, and what has no template.
    Of(&'w dyn Fn(u32) -> bool),
    All,
}

impl Texts<'_> {
    fn has(&self, template: Option<u32>) -> bool {
        match (self, template) {
            (Self::None, _) => false,
            (Self::Of(wanted), Some(template)) => wanted(template),
            (Self::Of(_), None) | (Self::All, _) => true,
        }
    }
}

/// The column of a text section. Groups of texts that are not wanted stay without the values of their slots.
fn decode_text(
    mut input: &[u8],
    entries: Entries,
    texts: &Texts<'_>,
    dict: &Dict,
    trust: Trust,
    budget: &mut Budget,
) -> Result<TextColumn, DecodeError> {
    let input = &mut input;
    let (count, is_all) = match &entries {
        Entries::All(numbers) => (numbers.len(), true),
        Entries::Wanted(count) => (*count, false),
    };
    let heads = read_heads(input, count)?;
    let mut numbers = match entries {
        Entries::All(numbers) => numbers,
        Entries::Wanted(_) => Vec::new(),
    };
    let mut lens = vec![0u32; if is_all { count + 2 } else { 0 }];
    if is_all {
        numbers.iter().for_each(|number| lens[*number as usize] += 1);
    }
    let mut groups = Vec::with_capacity(heads.len() + 2);
    groups.extend([Group::new(NO_TEMPLATE, &[]), Group::new(NO_TEMPLATE, &[])]);
    let mut seen = 0;
    // Groups before this one have something on the heap that is wanted; the others need not be read for their words.
    let (mut heap_until, mut is_whole) = (0, true);
    for Head { template, number, len } in &heads {
        let (template, number, len) = (*template, *number, *len);
        let is_wrong = is_all && lens.get(number as usize).copied() != u32::try_from(len).ok();
        if len == 0 || len > count - seen || is_wrong {
            return Err(DecodeError::Malformed("length of a group"));
        }
        seen += len;
        let is_wanted = texts.has(template);
        is_whole &= is_wanted;
        if let Some(template) = template {
            if template as usize >= dict.templates().len() {
                return Err(DecodeError::Malformed("template"));
            }
            let kinds = dict.template_kinds(template);
            groups.push(Group::new(template, if is_wanted { kinds } else { &[] }));
            if is_wanted && kinds.contains(&Kind::Word) {
                heap_until = groups.len();
            }
        } else if is_wanted {
            heap_until = number as usize + 1;
        }
        if is_all || is_wanted {
            groups[number as usize].len = len as u32;
        }
        if !is_all && is_wanted {
            numbers.resize(numbers.len() + len, number);
        }
    }
    if seen != count {
        return Err(DecodeError::Malformed("length of groups"));
    }
    let heap = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
    is_whole |= heap_until == groups.len();
    let heap = match is_whole || heap_until > 0 {
        true => decode_heap(heap, trust, budget)?,
        false => Blobs::default(),
    };
    let mut taken = 0;
    let mut take = |count: usize| {
        let range = taken..taken + count;
        taken += count;
        if taken <= heap.len() { Ok(range) } else { Err(DecodeError::Malformed("number of texts")) }
    };
    for Head { template, number, len } in heads {
        let (group, number) = (&mut groups[number as usize], number as usize);
        let is_wanted = texts.has(template);
        let Some(template) = template else {
            if number >= heap_until {
                continue;
            }
            for at in take(len)? {
                if is_wanted {
                    group.blobs.push(heap.get(at));
                }
            }
            if number == VALUE as usize {
                check_values(&group.blobs)?;
            } else if (0..group.blobs.len()).any(|at| std::str::from_utf8(group.blobs.get(at)).is_err()) {
                return Err(DecodeError::Malformed("text"));
            }
            continue;
        };
        if !is_wanted {
            for kind in dict.template_kinds(template) {
                let bytes = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
                // Words that no dictionary holds lie on the heap of all groups.
                if *kind == Kind::Word && number < heap_until && !heap.is_empty() {
                    let words = columns::decode(bytes, budget.take(len)?, trust)?;
                    take(words.iter().filter(|word| **word == 0).count())?;
                }
            }
            continue;
        }
        for slot in &mut group.slots {
            let bytes = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
            budget.take(len)?;
            let aside = decode_slot(slot, bytes, len, dict, trust, budget)?;
            for at in take(aside)? {
                let word = heap.get(at);
                if std::str::from_utf8(word).is_err() {
                    return Err(DecodeError::Malformed("word"));
                }
                slot.blobs.push(word);
            }
        }
    }
    if (is_whole && taken != heap.len()) || !input.is_empty() {
        return Err(DecodeError::Malformed("end of a text column"));
    }
    numbers.shrink_to_fit();
    Ok(TextColumn::assemble(groups, numbers))
}

/// Decodes a slot's values; returns how many words the heap has of it.
fn decode_slot(
    slot: &mut Slot,
    mut input: &[u8],
    count: usize,
    dict: &Dict,
    trust: Trust,
    budget: &mut Budget,
) -> Result<usize, DecodeError> {
    let input = &mut input;
    let numbers = |input: &[u8], limit: u64, words: &mut Vec<u64>| {
        let values = columns::decode(input, count, trust)?;
        words.reserve(count);
        for value in values {
            let value = u64::try_from(value).ok().filter(|value| *value < limit);
            words.push(value.ok_or(DecodeError::Malformed("number of a slot"))?);
        }
        Ok::<_, DecodeError>(())
    };
    match slot.kind {
        Kind::Int | Kind::Decimal => {
            let limit = 10u64.pow(MAX_DIGITS as u32);
            let (&head, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
            *input = rest;
            let bad = || DecodeError::Malformed("digits of a slot");
            let is_int = slot.kind == Kind::Int;
            match head {
                PLAIN if is_int => {
                    slot.aux = vec![0; count];
                    numbers(input, limit, &mut slot.words)?;
                }
                FIXED => {
                    let (&width, rest) = input.split_first().ok_or(DecodeError::Truncated)?;
                    numbers(rest, limit, &mut slot.words)?;
                    for word in &slot.words {
                        let aux = if is_int { i64::from(width) - digits(*word) } else { i64::from(width) };
                        slot.aux.push(u8::try_from(aux).map_err(|_| bad())?);
                    }
                }
                EACH => {
                    let aux = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
                    let aux = columns::decode(aux, count, trust)?;
                    slot.aux =
                        aux.into_iter().map(u8::try_from).collect::<Result<_, _>>().map_err(|_| bad())?;
                    numbers(input, limit, &mut slot.words)?;
                }
                _ => return Err(bad()),
            }
            let fits = |aux: &u8| usize::from(*aux) <= MAX_DIGITS && (is_int || *aux > 0);
            if !slot.aux.iter().all(fits) {
                return Err(bad());
            }
        }
        Kind::Address => numbers(input, 1 << 32, &mut slot.words)?,
        Kind::Uuid => {
            for id in decode_ids::<16>(input, count, trust, budget)? {
                let id = u128::from_be_bytes(id);
                slot.words.extend([(id >> 64) as u64, id as u64]);
            }
        }
        Kind::HexLower | Kind::HexUpper => {
            let lens = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
            let lens = columns::decode(lens, count, trust)?;
            let packed = budget.frame(input)?;
            let alphabet =
                if slot.kind == Kind::HexLower { b"0123456789abcdef" } else { b"0123456789ABCDEF" };
            let nibble = |at: usize| packed[at / 2] >> (4 - 4 * (at % 2)) & 15;
            let mut at = 0usize;
            for len in lens {
                let len = usize::try_from(len).ok().filter(|len| *len <= packed.len() * 2 - at);
                let end = at + len.ok_or(DecodeError::Malformed("length of digits"))?;
                slot.blobs.bytes.extend((at..end).map(|at| alphabet[usize::from(nibble(at))]));
                slot.blobs.ends.push(slot.blobs.bytes.len() as u32);
                at = end;
            }
            if at.div_ceil(2) != packed.len() {
                return Err(DecodeError::Malformed("length of digits"));
            }
        }
        Kind::Word => {
            let mut words = Vec::new();
            numbers(input, dict.words().len() as u64 + 1, &mut words)?;
            let mut aside = 0;
            slot.words.extend(words.into_iter().map(|word| match word.checked_sub(1) {
                Some(word) => word,
                None => {
                    aside += 1;
                    ASIDE | (aside - 1)
                }
            }));
            return Ok(aside as usize);
        }
    }
    Ok(0)
}

fn decode_ids<const N: usize>(
    mut input: &[u8],
    count: usize,
    trust: Trust,
    budget: &mut Budget,
) -> Result<Vec<[u8; N]>, DecodeError> {
    let codes = varint::read_prefixed(&mut input).ok_or(DecodeError::Truncated)?;
    let codes = columns::decode(codes, count, trust)?;
    let distinct = budget.frame(input)?;
    if distinct.len() % N != 0 {
        return Err(DecodeError::Malformed("length of identifiers"));
    }
    let (mut ids, mut next) = (Vec::with_capacity(count), 0usize);
    for code in codes {
        let at = match code {
            0 => {
                ids.push([0; N]);
                continue;
            }
            1 => {
                next += 1;
                Some(next - 1)
            }
            _ => usize::try_from(code - 1).ok().and_then(|back| next.checked_sub(back)),
        };
        let bytes = at.and_then(|at| distinct.get(at * N..at * N + N)).and_then(|id| id.try_into().ok());
        ids.push(bytes.ok_or(DecodeError::Malformed("identifier"))?);
    }
    if next * N == distinct.len() { Ok(ids) } else { Err(DecodeError::Malformed("number of identifiers")) }
}
