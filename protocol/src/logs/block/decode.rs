//! Bytes to rows.

use std::cell::Cell;
use std::ops::Range;

use super::{
    Attributes, BITS, BODIES, BODY_TEXT, Bodies, EACH, EVENTS, FIXED, FLAGS, KEY_SETS, Layout, Limits,
    MAX_EXPONENT, OBSERVED, ORIGINS, PLAIN, SECTIONS, SEVERITIES, SPANS, STREAMS, TIMES, TRACES, Want,
    digits,
};
use crate::encoding::columns::{self, Trust};
use crate::encoding::{DecodeError, frame};
use crate::logs::TimestampNs;
use crate::logs::codec;
use crate::logs::dict::{Dict, ValueKind};
use crate::logs::rows::{NO_CELL, Origin, Rows, Values};
use crate::logs::template::{Kind, MAX_DIGITS};
use crate::logs::text::{ASIDE, Blobs, Group, NO_TEMPLATE, Slot, TextColumn, VALUE};
use crate::varint;

/// Rows that whoever decodes looks at, by their places in grouped order, ascending; `None`: all. Of others, numbers of
/// streams, severities, flags and events may be 0, and of their attributes those may be missing that no row which is looked
/// at has.
pub type Among<'r> = Option<&'r [Range<usize>]>;

/// Bytes of a section.
#[derive(Clone, Debug)]
struct Section<'a> {
    bytes: &'a [u8],
    /// Its groups, where they are kept apart.
    groups: &'a [u8],
    /// What is to be compared before anything is believed.
    crc: Option<u32>,
    is_checked: Cell<bool>,
}

impl<'a> Section<'a> {
    fn plain(bytes: &'a [u8]) -> Self {
        Self { bytes, groups: &[], crc: None, is_checked: Cell::new(true) }
    }

    /// Length, checksum and groups; the bytes come later.
    fn read_head(input: &mut &'a [u8]) -> Option<(usize, Self)> {
        let len = varint::read_len(input)?;
        let crc = u32::from_le_bytes(varint::read_bytes(input, 4)?.try_into().ok()?);
        let groups = varint::read_prefixed(input)?;
        Some((len, Self { bytes: &[], groups, crc: Some(crc), is_checked: Cell::new(false) }))
    }

    fn bytes(&self) -> Result<&'a [u8], DecodeError> {
        if !self.is_checked.get() {
            if self.crc.is_some_and(|crc| crc32c::crc32c(self.bytes) != crc) {
                return Err(DecodeError::Checksum);
            }
            self.is_checked.set(true);
        }
        Ok(self.bytes)
    }

    /// The groups of a text section of so many entries: from `input` where they are not kept apart.
    fn heads(&self, entries: usize, input: &mut &'a [u8]) -> Result<Vec<Head>, DecodeError> {
        if self.crc.is_none() {
            return read_heads(input, entries);
        }
        let mut groups = self.groups;
        let heads = read_heads(&mut groups, entries)?;
        if groups.is_empty() { Ok(heads) } else { Err(DecodeError::Malformed("end of groups")) }
    }
}

/// A block whose sections were found and not yet looked into.
#[derive(Clone, Debug)]
pub struct Block<'a> {
    rows: usize,
    sections: [Section<'a>; SECTIONS],
    columns: Vec<(u32, Section<'a>)>,
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
    /// How many bytes at the start of a block have no checksum in it; whoever keeps one for them compares it before
    /// [`Self::parse`]. Nothing where the bytes can not begin a block.
    pub fn unchecked(input: &[u8], layout: Layout) -> Option<usize> {
        if layout == Layout::Plain {
            return Some(input.len());
        }
        let mut rest = input;
        varint::read_prefixed(&mut rest)?;
        Some(input.len() - rest.len())
    }

    /// Finds the sections of a block that fills `input`.
    pub fn parse(input: &'a [u8], layout: Layout, limits: Limits) -> Result<Self, DecodeError> {
        let mut rest = input;
        let block = match layout {
            Layout::Plain => Self::read(&mut rest, |head| varint::read_prefixed(head).map(Section::plain)),
            Layout::Checked => varint::read_prefixed(&mut rest).and_then(|mut head| {
                let block = Self::read(&mut head, |head| {
                    let (len, mut section) = Section::read_head(head)?;
                    section.bytes = varint::read_bytes(&mut rest, len)?;
                    Some(section)
                });
                block.filter(|_| head.is_empty())
            }),
        };
        let block = block.filter(|_| rest.is_empty()).ok_or(DecodeError::Truncated)?;
        if block.rows > limits.rows {
            return Err(DecodeError::Malformed("number of rows"));
        }
        if !block.columns.is_sorted_by(|a, b| a.0 < b.0) {
            return Err(DecodeError::Malformed("order of columns"));
        }
        Ok(block)
    }

    fn read(
        head: &mut &'a [u8],
        mut section: impl FnMut(&mut &'a [u8]) -> Option<Section<'a>>,
    ) -> Option<Self> {
        let rows = varint::read_len(head)?;
        let mut sections = std::array::from_fn(|_| Section::plain(&[]));
        for known in &mut sections {
            *known = section(head)?;
        }
        let mut columns = Vec::new();
        for _ in 0..varint::read_len(head)? {
            let column = u32::try_from(varint::read_u64(head)?).ok()?;
            columns.push((column, section(head)?));
        }
        Some(Self { rows, sections, columns })
    }

    /// Compares the checksums of all sections.
    pub fn verify(&self) -> Result<(), DecodeError> {
        self.sections
            .iter()
            .chain(self.columns.iter().map(|(_, section)| section))
            .try_for_each(|section| section.bytes().map(drop))
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of the section of each column: for figures.
    pub fn sizes(&self) -> impl Iterator<Item = (Option<u32>, usize)> + '_ {
        let sections = self.sections.iter().map(|section| (None, section.bytes.len()));
        sections.chain(self.columns.iter().map(|(column, section)| (Some(*column), section.bytes.len())))
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
        let section = &self.columns[at].1;
        let mut input = section.bytes;
        if section.crc.is_none() {
            varint::read_prefixed(&mut input).ok_or(DecodeError::Truncated)?;
        }
        Ok(section.heads(self.rows, &mut input)?.into_iter().map(|head| head.template).collect())
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
        self.decode_bodies(entries, &Texts::Of(wanted), dict, trust, &mut budget)
    }

    /// The number of the group of each row's body: 0 for texts without a template, 1 for values that are no texts, then the
    /// templates in grouped order.
    pub fn numbers(&self, trust: Trust) -> Result<Vec<u32>, DecodeError> {
        numbers_of(columns::decode(self.sections[BODIES].bytes()?, self.rows, trust)?)
    }

    /// The number of each body's group, those of one group together.
    fn numbers_by_group(&self) -> Result<Vec<u32>, DecodeError> {
        let mut numbers: Vec<u32> = Vec::with_capacity(self.rows);
        let section = &self.sections[BODY_TEXT];
        for head in section.heads(self.rows, &mut &section.bytes[..])? {
            if head.len > self.rows - numbers.len() {
                return Err(DecodeError::Malformed("length of groups"));
            }
            numbers.resize(numbers.len() + head.len, head.number);
        }
        if numbers.len() == self.rows { Ok(numbers) } else { Err(DecodeError::Malformed("length of groups")) }
    }

    /// Effective times, in order.
    pub fn times(&self, trust: Trust) -> Result<Vec<TimestampNs>, DecodeError> {
        let times = columns::decode(self.sections[TIMES].bytes()?, self.rows, trust)?;
        if times.is_sorted() { Ok(times) } else { Err(DecodeError::Malformed("order of times")) }
    }

    /// All values of one column, in no order of rows; [`Values::Absent`] where no row has it.
    pub fn column(
        &self,
        column: u32,
        dict: &Dict,
        trust: Trust,
        limits: Limits,
    ) -> Result<Values, DecodeError> {
        let Some((_, section)) = self.columns.iter().find(|(other, _)| *other == column) else {
            return Ok(Values::Absent);
        };
        let mut budget = Budget { values: limits.values, bytes: limits.bytes };
        let has: Vec<bool> = (0..dict.key_sets_len() as u32)
            .map(|key_set| dict.key_columns(key_set).contains(&column))
            .collect();
        let mut count = 0;
        for key_set in columns::decode(self.sections[KEY_SETS].bytes()?, budget.take(self.rows)?, trust)? {
            let has = usize::try_from(key_set).ok().and_then(|key_set| has.get(key_set));
            count += usize::from(*has.ok_or(DecodeError::Malformed("number in a dictionary"))?);
        }
        decode_values(dict.column_kind(column), section, count, dict, trust, &mut budget)
    }

    /// Decodes columns, and the times.
    pub fn decode(
        &self,
        dict: &Dict,
        want: &Want,
        among: Among<'_>,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        self.decode_with((self.times(trust)?, Order::Times), dict, want, among, trust, limits)
    }

    /// Decodes columns, without the times: for whoever takes rows whenever they were.
    pub fn decode_untimed(
        &self,
        dict: &Dict,
        want: &Want,
        among: Among<'_>,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        // The collector's times are kept as differences.
        let times = if want.observed { self.times(trust)? } else { Vec::new() };
        self.decode_with((times, Order::Times), dict, want, among, trust, limits)
    }

    /// Decodes columns in the order in which they are kept, rows with bodies of one group together: for whoever asks neither
    /// when rows were nor in which order. What is wanted has to be [`Want::is_grouped`].
    pub fn decode_grouped(
        &self,
        dict: &Dict,
        want: &Want,
        among: Among<'_>,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        debug_assert!(want.is_grouped());
        self.decode_with((Vec::new(), Order::Groups), dict, want, among, trust, limits)
    }

    fn decode_with(
        &self,
        (times, order): (Vec<TimestampNs>, Order),
        dict: &Dict,
        want: &Want,
        among: Among<'_>,
        trust: Trust,
        limits: Limits,
    ) -> Result<Rows, DecodeError> {
        let mut budget = Budget { values: limits.values, bytes: limits.bytes };
        let count = self.rows;
        let plain = |section: usize, budget: &mut Budget| {
            columns::decode(self.sections[section].bytes()?, budget.take(count)?, trust)
        };
        let mut rows = Rows { len: count, times, ..Rows::default() };
        if want.observed {
            let origins = plain(ORIGINS, &mut budget)?;
            let both = origins.iter().filter(|origin| **origin == Origin::Both as i64).count();
            if origins.iter().any(|origin| !(0..=2).contains(origin)) {
                return Err(DecodeError::Malformed("origin of a time"));
            }
            rows.origins = origins.into_iter().map(|origin| origin as u8).collect();
            let late = columns::decode(self.sections[OBSERVED].bytes()?, budget.take(both)?, trust)?;
            let mut late = late.into_iter();
            rows.observed = (0..count)
                .map(|row| match rows.origins[row] == Origin::Both as u8 {
                    true => rows.times[row].wrapping_add(late.next().unwrap_or(0)),
                    false => 0,
                })
                .collect();
        }
        if want.traces {
            rows.traces =
                decode_ids(self.sections[TRACES].bytes()?, budget.take(count)?, trust, &mut budget)?;
        }
        if want.spans {
            rows.spans = decode_ids(self.sections[SPANS].bytes()?, budget.take(count)?, trust, &mut budget)?;
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
            rows.body = Some(self.decode_bodies(Entries::All(numbers), &texts, dict, trust, &mut budget)?);
        }
        let parts = |section: usize, budget: &mut Budget| {
            budget.take(count)?;
            self.decode_parts(&self.sections[section], among, trust)
        };
        let scattered = |values: Vec<i64>, len: usize| {
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
            rows.streams = scattered(parts(STREAMS, &mut budget)?, dict.streams().len())?;
        }
        if want.severities {
            rows.severities = scattered(parts(SEVERITIES, &mut budget)?, dict.severities().len())?;
        }
        if want.flags {
            rows.flags = scattered(parts(FLAGS, &mut budget)?, usize::MAX)?;
        }
        if want.events {
            rows.events = scattered(parts(EVENTS, &mut budget)?, dict.events().len())?;
        }
        if want.attributes != Attributes::None {
            rows.key_sets = scattered(plain(KEY_SETS, &mut budget)?, dict.key_sets_len())?;
            self.decode_attributes(&mut rows, &grouped, dict, (&want.attributes, among), trust, &mut budget)?;
        }
        Ok(rows)
    }

    /// Bodies; of groups that are not wanted, without the values of their slots.
    fn decode_bodies(
        &self,
        entries: Entries,
        texts: &Texts<'_>,
        dict: &Dict,
        trust: Trust,
        budget: &mut Budget,
    ) -> Result<TextColumn, DecodeError> {
        let section = &self.sections[BODY_TEXT];
        // Where no text is wanted, nothing but the groups is read, if they are apart.
        let is_read = !matches!(texts, Texts::None) || section.crc.is_none();
        let mut input = if is_read { section.bytes()? } else { &[] };
        let heads = section.heads(entries.len(), &mut input)?;
        decode_text(heads, is_read.then_some(input), entries, texts, dict, trust, budget)
    }

    /// Values of a grouped column; zeros in parts that hold none of the rows that are looked at.
    fn decode_parts(
        &self,
        section: &Section<'_>,
        among: Among<'_>,
        trust: Trust,
    ) -> Result<Vec<i64>, DecodeError> {
        let mut input = section.bytes()?;
        if section.crc.is_none() {
            return columns::decode(input, self.rows, trust);
        }
        let input = &mut input;
        let bad = || DecodeError::Malformed("parts of a column");
        let mut parts = Vec::new();
        for _ in 0..varint::read_len(input).filter(|parts| *parts <= self.rows).ok_or_else(bad)? {
            let rows = varint::read_len(input).ok_or(DecodeError::Truncated)?;
            parts.push((rows, varint::read_len(input).ok_or(DecodeError::Truncated)?));
        }
        let mut values: Vec<i64> = Vec::with_capacity(self.rows);
        // The first range that does not end before the part.
        let mut ranges = among.unwrap_or_default();
        for (rows, len) in parts {
            let bytes = varint::read_bytes(input, len).ok_or(DecodeError::Truncated)?;
            let end = values.len().checked_add(rows).filter(|end| *end <= self.rows).ok_or_else(bad)?;
            while ranges.first().is_some_and(|range| range.end <= values.len()) {
                ranges = &ranges[1..];
            }
            if among.is_none() || ranges.first().is_some_and(|range| range.start < end) {
                columns::decode_into(bytes, rows, trust, &mut values)?;
            } else {
                values.resize(end, 0);
            }
        }
        if values.len() == self.rows && input.is_empty() { Ok(values) } else { Err(bad()) }
    }

    fn decode_attributes(
        &self,
        rows: &mut Rows,
        grouped: &[u32],
        dict: &Dict,
        (want, among): (&Attributes, Among<'_>),
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
        let of_those = among.map(|ranges| {
            let mut has = vec![false; dict.columns_len()];
            let mut seen = vec![false; uses.len()];
            for row in ranges.iter().flat_map(|range| grouped.get(range.clone()).unwrap_or_default()) {
                let key_set = rows.key_sets[*row as usize];
                if !std::mem::replace(&mut seen[key_set as usize], true) {
                    dict.key_columns(key_set).iter().for_each(|column| has[*column as usize] = true);
                }
            }
            has
        });
        let is_wanted = |column: u32| match want {
            Attributes::All => of_those.as_ref().is_none_or(|has| has[column as usize]),
            Attributes::Some(columns) => columns.contains(&column),
            Attributes::None => false,
        };
        if *want != Attributes::All || of_those.is_some() {
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
        for (column, section) in &self.columns {
            let count = counts.get(*column as usize).copied().filter(|count| *count > 0);
            let count = count.ok_or(DecodeError::Malformed("column"))? as usize;
            if is_wanted(*column) {
                let kind = dict.column_kind(*column);
                rows.columns[*column as usize] = decode_values(kind, section, count, dict, trust, budget)?;
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
    section: &Section<'_>,
    count: usize,
    dict: &Dict,
    trust: Trust,
    budget: &mut Budget,
) -> Result<Values, DecodeError> {
    budget.take(count)?;
    let mut input = section.bytes()?;
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
            let heads = section.heads(count, &mut input)?;
            let entries = Entries::All(numbers);
            Values::Text(decode_text(heads, Some(input), entries, &Texts::All, dict, trust, budget)?)
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

impl Entries {
    /// Of how many groups are chosen.
    fn len(&self) -> usize {
        match self {
            Self::All(numbers) => numbers.len(),
            Self::Wanted(len) => *len,
        }
    }
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

/// The column of a text section, from its groups and what is behind them. Groups of texts that are not wanted stay without
/// the values of their slots; where none is, nothing else need be there.
fn decode_text(
    heads: Vec<Head>,
    input: Option<&[u8]>,
    entries: Entries,
    texts: &Texts<'_>,
    dict: &Dict,
    trust: Trust,
    budget: &mut Budget,
) -> Result<TextColumn, DecodeError> {
    let (count, is_all) = (entries.len(), matches!(entries, Entries::All(_)));
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
    let Some(mut input) = input else { return Ok(TextColumn::assemble(groups, numbers)) };
    let input = &mut input;
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
