//! Filters, bound to a dictionary and asked of blocks.
//!
//! ```text
//! LogFilter ─new─► Compiled ─bind(dict)─► Bound: what of the dictionary passes is known
//!                                          ├ of_entry(block's directory): no row, each row, or who knows
//!                                          └ of_rows(columns) ─► Bits, a bit a row
//! ```
//!
//! A text is tested by its template first: what the template decides is decided for all its rows at once, and only where
//! it does not are rows put together. A block whose templates decide everything is not decoded for it. Streams, severities and events are tested once per dictionary.

use std::cell::RefCell;

use memchr::memmem::Finder;
use protocol::encoding::DecodeError;
use protocol::encoding::columns::Trust;
use protocol::logs::block::{Attributes, Block, Bodies, BodyCount, Want};
use protocol::logs::codec::decode_stream;
use protocol::logs::dict::{Dict, ValueKind};
use protocol::logs::matching::{CompiledTest, FilterError, beginnings};
use protocol::logs::rows::{NO_CELL, Rows, UNSPLIT_HASH, Values, id_hash};
use protocol::logs::template::{Piece, id_of, may_contain, pieces};
use protocol::logs::text::{RAW, TextColumn, VALUE};
use protocol::logs::value::id_text;
use protocol::logs::{LogField, LogFilter, LogRecord, LogStream, LogTest, LogValue, RowSignal};
use protocol::spans::row;

use super::segment::{BlockEntry, LIMITS, LogSegmentReader};
use crate::segment::SegmentError;

/// A bit a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    words: Vec<u64>,
    len: usize,
}

impl Bits {
    pub fn all(len: usize, value: bool) -> Self {
        let mut bits = Self { words: vec![if value { u64::MAX } else { 0 }; len.div_ceil(64)], len };
        bits.trim();
        bits
    }

    /// Those of some rows that pass. Of the others none is asked.
    fn among(rows: &Self, mut passes: impl FnMut(usize) -> bool) -> Self {
        let mut words = Vec::with_capacity(rows.words.len());
        for (at, among) in rows.words.iter().enumerate() {
            let (start, mut word) = (at * 64, 0);
            if *among == u64::MAX {
                (0..64).for_each(|bit| word |= u64::from(passes(start + bit)) << bit);
            } else {
                let mut rest = *among;
                while rest != 0 {
                    let bit = rest.trailing_zeros() as usize;
                    word |= u64::from(passes(start + bit)) << bit;
                    rest &= rest - 1;
                }
            }
            words.push(word);
        }
        Self { words, len: rows.len }
    }

    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Sets one.
    pub fn set(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
    }

    /// Whether all are set.
    pub fn is_full(&self) -> bool {
        self.count() == self.len
    }

    /// Clears all but a range.
    pub fn keep(&mut self, range: std::ops::Range<usize>) {
        (0..range.start)
            .chain(range.end..self.len)
            .for_each(|row| self.words[row / 64] &= !(1 << (row % 64)));
    }

    /// Rows whose bit is set, ascending.
    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.words.iter().enumerate().flat_map(|(at, word)| {
            let mut rest = *word;
            std::iter::from_fn(move || {
                let bit = (rest != 0).then(|| rest.trailing_zeros() as usize)?;
                rest &= rest - 1;
                Some(at * 64 + bit)
            })
        })
    }

    fn trim(&mut self) {
        if let Some(last) = self.words.last_mut()
            && !self.len.is_multiple_of(64)
        {
            *last &= (1 << (self.len % 64)) - 1;
        }
    }

    pub fn not(mut self) -> Self {
        self.words.iter_mut().for_each(|word| *word = !*word);
        self.trim();
        self
    }

    pub fn and(mut self, other: &Self) -> Self {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a &= b);
        self
    }

    fn or(mut self, other: &Self) -> Self {
        self.words.iter_mut().zip(&other.words).for_each(|(a, b)| *a |= b);
        self
    }
}

/// What is known of some rows before they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    None,
    All,
    Some,
}

impl Verdict {
    fn of(passes: bool) -> Self {
        if passes { Self::All } else { Self::None }
    }

    /// Of rows that have to pass both.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::None, _) | (_, Self::None) => Self::None,
            (Self::All, Self::All) => Self::All,
            _ => Self::Some,
        }
    }

    fn not(self) -> Self {
        match self {
            Self::None => Self::All,
            Self::All => Self::None,
            Self::Some => Self::Some,
        }
    }
}

/// A filter whose tests are compiled.
#[derive(Debug)]
pub(crate) enum Compiled {
    All,
    And(Vec<Compiled>),
    Or(Vec<Compiled>),
    Not(Box<Compiled>),
    Field(LogField, LogTest, CompiledTest),
}

impl Compiled {
    /// Compiles a filter of a signal.
    pub fn of(signal: RowSignal, filter: &LogFilter) -> Result<Self, FilterError> {
        match signal {
            RowSignal::Logs => Self::new(filter),
            RowSignal::Spans => Self::new(&row::row_filter(filter)),
        }
    }

    /// The traces that all rows which pass belong to, where the filter names them.
    pub fn traces(&self) -> Option<Vec<[u8; 16]>> {
        match self {
            Self::And(parts) => parts.iter().find_map(Self::traces),
            Self::Field(LogField::TraceId, test, _) => ids_of(test),
            _ => None,
        }
    }

    /// Compiles a filter of rows.
    pub fn new(filter: &LogFilter) -> Result<Self, FilterError> {
        let all = |parts: &[LogFilter]| parts.iter().map(Self::new).collect::<Result<Vec<_>, _>>();
        Ok(match filter {
            LogFilter::All => Self::All,
            LogFilter::And(parts) => Self::And(all(parts)?),
            LogFilter::Or(parts) => Self::Or(all(parts)?),
            LogFilter::Not(part) => Self::Not(Box::new(Self::new(part)?)),
            LogFilter::Field(field, test) => {
                Self::Field(field.clone(), test.clone(), CompiledTest::new(test)?)
            }
        })
    }

    pub fn bind<'a>(&'a self, dict: &Dict) -> Bound<'a> {
        let all = |parts: &'a [Compiled]| parts.iter().map(|part| part.bind(dict)).collect();
        match self {
            Self::All => Bound::All,
            Self::And(parts) => folded(all(parts), |a, b| a && b).unwrap_or_else(Bound::And),
            Self::Or(parts) => folded(all(parts), |a, b| a || b).unwrap_or_else(Bound::Or),
            Self::Not(part) => Bound::Not(Box::new(part.bind(dict))),
            Self::Field(field, source, test) => bind_field(field, source, test, dict),
        }
    }
}

/// A filter that knows a dictionary.
#[derive(Debug)]
pub(crate) enum Bound<'a> {
    All,
    And(Vec<Bound<'a>>),
    Or(Vec<Bound<'a>>),
    Not(Box<Bound<'a>>),
    Body(TextTest<'a>),
    /// Passing streams, by number.
    Streams(Vec<bool>),
    /// Passing severities, by number.
    Severities(Vec<bool>),
    /// Passing events, by number.
    Events(Vec<bool>),
    Time(&'a CompiledTest),
    Duration(&'a CompiledTest),
    Flags(&'a CompiledTest),
    Trace(IdTest<'a, 16>),
    Span(IdTest<'a, 8>),
    /// The parent of a span, in these columns; rows without one pass or not.
    Parent {
        columns: Vec<u32>,
        test: IdTest<'a, 8>,
        otherwise: bool,
    },
    /// What a span says of its status, in these columns; rows that say nothing pass or not.
    Message {
        columns: Vec<u32>,
        test: TextTest<'a>,
        otherwise: bool,
    },
    /// An attribute of the record; where it has none, whether its stream passes.
    Attribute {
        columns: Vec<u32>,
        test: TextTest<'a>,
        otherwise: Option<Vec<bool>>,
    },
    /// Body and all attributes of the record.
    Any(TextTest<'a>),
}

/// Tests of the same numbers as one test of them, where all are such.
fn folded<'a>(parts: Vec<Bound<'a>>, join: fn(bool, bool) -> bool) -> Result<Bound<'a>, Vec<Bound<'a>>> {
    let joined = |first: &[bool], of: &dyn Fn(&Bound<'a>) -> Option<Vec<bool>>| {
        parts.iter().skip(1).try_fold(first.to_vec(), |all, part| {
            Some(all.into_iter().zip(of(part)?).map(|(a, b)| join(a, b)).collect::<Vec<bool>>())
        })
    };
    let folded = match parts.first() {
        Some(Bound::Streams(first)) => joined(first, &|part| match part {
            Bound::Streams(passing) => Some(passing.clone()),
            _ => None,
        })
        .map(Bound::Streams),
        Some(Bound::Severities(first)) => joined(first, &|part| match part {
            Bound::Severities(passing) => Some(passing.clone()),
            _ => None,
        })
        .map(Bound::Severities),
        _ => None,
    };
    folded.ok_or(parts)
}

/// A letter that hardly any text has, nor any other case of.
const STAND_IN: &str = "\u{a66e}";

/// A test of texts, and what it says of templates.
#[derive(Debug)]
pub(crate) struct TextTest<'a> {
    source: &'a LogTest,
    test: &'a CompiledTest,
    /// By template, as far as they came up.
    verdicts: RefCell<Vec<Option<Verdict>>>,
    /// Hash of the identifier that a value which passes must have.
    id: Option<u64>,
    /// Texts of which a value that passes must have one.
    beginnings: Option<Vec<Vec<u8>>>,
    /// Of a phrase in one case: what a value that passes must have.
    needle: Option<Finder<'a>>,
}

/// A test of identifiers.
#[derive(Debug)]
pub(crate) struct IdTest<'a, const N: usize> {
    test: &'a CompiledTest,
    /// The only ones that pass, ascending, if the test names them.
    only: Option<Vec<[u8; N]>>,
    /// Hashes of the texts of the only ones that pass.
    hashes: Option<Vec<u64>>,
}

impl<'a, const N: usize> IdTest<'a, N> {
    fn new(source: &LogTest, test: &'a CompiledTest) -> Self {
        let texts = texts_of(source).filter(|texts| texts.iter().all(|text| !text.is_empty()));
        let hashes = texts.map(|texts| texts.iter().map(|text| id_hash(text.as_bytes())).collect());
        Self { test, only: ids_of(source), hashes }
    }

    fn passes(&self, id: &[u8; N]) -> bool {
        match &self.only {
            Some(only) => only.binary_search(id).is_ok(),
            None => self.test.passes(&text(&id_text(id))),
        }
    }

    /// Whether a block may hold one that passes.
    fn may_be_in(&self, reader: &LogSegmentReader, block: usize) -> Result<bool, SegmentError> {
        self.hashes.as_ref().map_or(Ok(true), |hashes| reader.may_hold_any(block, hashes))
    }
}

/// The only texts that pass, if a test names them.
fn texts_of(test: &LogTest) -> Option<&[String]> {
    match test {
        LogTest::Equals(text) => Some(std::slice::from_ref(text)),
        LogTest::OneOf(texts) => Some(texts),
        _ => None,
    }
}

/// The only identifiers that pass, ascending, if a test names them and all that it names are some.
fn ids_of<const N: usize>(test: &LogTest) -> Option<Vec<[u8; N]>> {
    let mut ids = texts_of(test)?.iter().map(|text| id_in(text)).collect::<Option<Vec<_>>>()?;
    ids.sort_unstable();
    Some(ids)
}

/// The identifier of which a text is the only form; never zeros, whose form is the empty text.
fn id_in<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N || digits.iter().all(|digit| *digit == b'0') {
        return None;
    }
    let value = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let mut id = [0; N];
    for (byte, pair) in id.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(id)
}

fn text(text: &str) -> LogValue<'_> {
    LogValue::String(text.into())
}

fn bind_field<'a>(field: &LogField, source: &'a LogTest, test: &'a CompiledTest, dict: &Dict) -> Bound<'a> {
    let id = match source {
        LogTest::Equals(text) | LogTest::Phrase { text, ignore_case: false } => id_of(text),
        _ => None,
    };
    let text_test = || TextTest {
        source,
        test,
        verdicts: RefCell::new(vec![None; dict.templates().len()]),
        id,
        beginnings: match source {
            LogTest::Regex(expression) => beginnings(expression),
            _ => None,
        },
        needle: match source {
            LogTest::Phrase { text, ignore_case: false } => Some(Finder::new(text.as_bytes())),
            _ => None,
        },
    };
    let streams = |passes: &dyn Fn(&LogStream<'_>) -> bool| -> Vec<bool> {
        let one = |bytes: &[u8]| decode_stream(bytes).is_ok_and(|stream| passes(&stream));
        dict.streams().iter().map(one).collect()
    };
    let by_stream = |field: LogField| {
        let nothing = LogRecord::default();
        streams(&|stream| field.any(stream, &nothing, &mut |value| test.passes(value)))
    };
    match field {
        LogField::Body => Bound::Body(text_test()),
        LogField::Time => Bound::Time(test),
        LogField::Severity => {
            let passes = |number| test.passes(&LogValue::Int(i64::from(dict.severity(number).0)));
            Bound::Severities((0..dict.severities().len() as u32).map(passes).collect())
        }
        LogField::SeverityText => {
            let passes = |number| test.passes(&text(dict.severity(number).1));
            Bound::Severities((0..dict.severities().len() as u32).map(passes).collect())
        }
        LogField::EventName => {
            let passes = |number| test.passes(&text(dict.event(number)));
            Bound::Events((0..dict.events().len() as u32).map(passes).collect())
        }
        LogField::Flags => Bound::Flags(test),
        LogField::Duration => Bound::Duration(test),
        LogField::TraceId => Bound::Trace(IdTest::new(source, test)),
        LogField::SpanId => Bound::Span(IdTest::new(source, test)),
        LogField::SpanKind | LogField::SpanStatus => {
            let of: fn(u8) -> u8 =
                if *field == LogField::SpanKind { row::kind_number } else { row::status_number };
            let passes = |number| test.passes(&LogValue::Int(i64::from(of(dict.severity(number).0))));
            Bound::Severities((0..dict.severities().len() as u32).map(passes).collect())
        }
        LogField::StatusMessage => Bound::Message {
            columns: columns_named(dict, row::STATUS_MESSAGE),
            test: text_test(),
            otherwise: test.passes(&text("")),
        },
        LogField::ParentId => {
            let is_id = |column: &u32| dict.column_kind(*column) == ValueKind::Int;
            Bound::Parent {
                columns: columns_named(dict, row::PARENT).into_iter().filter(is_id).collect(),
                test: IdTest::new(source, test),
                otherwise: test.passes(&text("")),
            }
        }
        LogField::ScopeName | LogField::ScopeVersion => Bound::Streams(by_stream(field.clone())),
        LogField::ResourceAttribute(_) | LogField::ScopeAttribute(_) => {
            Bound::Streams(by_stream(field.clone()))
        }
        LogField::Attribute(name) => Bound::Attribute {
            columns: columns_named(dict, name),
            test: text_test(),
            otherwise: Some(by_stream(field.clone())),
        },
        LogField::RecordAttribute(name) => {
            Bound::Attribute { columns: columns_named(dict, name), test: text_test(), otherwise: None }
        }
        LogField::Events => {
            Bound::Attribute { columns: columns_named(dict, row::EVENTS), test: text_test(), otherwise: None }
        }
        LogField::Any => Bound::Any(text_test()),
    }
}

impl TextTest<'_> {
    /// What a template decides.
    fn of_template(&self, template: u32, dict: &Dict) -> Verdict {
        let known = self.verdicts.borrow()[template as usize];
        known.unwrap_or_else(|| {
            let verdict =
                self.judge(dict.templates().get(template), dict.template_kinds(template).is_empty());
            self.verdicts.borrow_mut()[template as usize] = Some(verdict);
            verdict
        })
    }

    fn judge(&self, template: &[u8], is_constant: bool) -> Verdict {
        if is_constant {
            let value = std::str::from_utf8(template).unwrap_or_default();
            return Verdict::of(self.test.passes(&text(value)));
        }
        let possible = |may: bool| if may { Verdict::Some } else { Verdict::None };
        match self.source {
            LogTest::Exists => Verdict::All,
            LogTest::Equals(text) => possible(may_contain(template, text.as_bytes(), true, true)),
            LogTest::OneOf(texts) => {
                possible(texts.iter().any(|text| may_contain(template, text.as_bytes(), true, true)))
            }
            LogTest::Prefix(text) => possible(may_contain(template, text.as_bytes(), true, false)),
            LogTest::Contains { text, ignore_case: false } => {
                if text.is_empty() || has(template, text.as_bytes()) {
                    return Verdict::All;
                }
                possible(may_contain(template, text.as_bytes(), false, false))
            }
            LogTest::Contains { .. } => {
                // A match inside of the template's text is one of each row's.
                let is_all = pieces(template).any(|piece| match piece {
                    Piece::Text(bytes) => {
                        std::str::from_utf8(bytes).is_ok_and(|t| self.test.passes(&text(t)))
                    }
                    Piece::Slot(_) => false,
                });
                if is_all { Verdict::All } else { Verdict::Some }
            }
            LogTest::Phrase { text, ignore_case: false } => {
                if self.has_phrase_inside(template) {
                    return Verdict::All;
                }
                possible(may_contain(template, text.as_bytes(), false, false))
            }
            LogTest::Phrase { .. } => {
                if self.has_phrase_inside(template) {
                    Verdict::All
                } else {
                    Verdict::Some
                }
            }
            LogTest::Regex(_) => {
                let begins = |text: &Vec<u8>| may_contain(template, text, false, false);
                possible(self.beginnings.as_ref().is_none_or(|all| all.iter().any(begins)))
            }
            LogTest::Range(_) => Verdict::Some,
        }
    }

    /// Whether the phrase stands in the template's text where no slot can go on with its words.
    fn has_phrase_inside(&self, template: &[u8]) -> bool {
        let LogTest::Phrase { text: phrase, .. } = self.source else { return false };
        if self.needle.as_ref().is_some_and(|needle| needle.find(template).is_none()) {
            return false;
        }
        if phrase.is_empty() || phrase.to_lowercase().contains(STAND_IN) {
            return false;
        }
        let (len, mut at) = (template.len(), 0);
        pieces(template).any(|piece| {
            let Piece::Text(bytes) = piece else {
                at += 1;
                return false;
            };
            let (start, end) = (at, at + bytes.len());
            at = end;
            let Ok(value) = std::str::from_utf8(bytes) else { return false };
            // A letter stands in for what an adjacent slot may hold.
            let before = if start > 0 { STAND_IN } else { "" };
            let behind = if end < len { STAND_IN } else { "" };
            self.test.passes(&text(&format!("{before}{value}{behind}")))
        })
    }

    /// What is known of the entries of each group of a column.
    fn of_groups(&self, column: &TextColumn, dict: &Dict) -> Vec<Verdict> {
        let of_group = |(number, group): (usize, &protocol::logs::text::Group)| match group.template() {
            Some(_) if group.is_empty() => Verdict::None,
            Some(template) => self.of_template(template, dict),
            None if group.is_empty() => Verdict::None,
            None => {
                debug_assert!(number == RAW as usize || number == VALUE as usize);
                Verdict::Some
            }
        };
        column.groups().iter().enumerate().map(of_group).collect()
    }

    /// Which entries of a column pass.
    fn of_column(&self, column: &TextColumn, dict: &Dict) -> Vec<bool> {
        let verdicts = self.of_groups(column, dict);
        let passes = |entry| self.of_entry(column, entry, &verdicts, dict);
        (0..column.len()).map(passes).collect()
    }

    fn of_entry(&self, column: &TextColumn, entry: usize, verdicts: &[Verdict], dict: &Dict) -> bool {
        match verdicts[column.entry(entry).0 as usize] {
            Verdict::All => true,
            Verdict::None => false,
            Verdict::Some => self.test.passes(&column.value(entry, dict)),
        }
    }

    /// Which bodies among some rows pass. Of templates that decide, no body needs to be decoded.
    fn of_body(&self, rows: &Rows, dict: &Dict, among: &Bits) -> Bits {
        let Some(body) = rows.body() else { return Bits::all(rows.len(), false) };
        let verdicts = self.of_groups(body, dict);
        Bits::among(among, |row| self.of_entry(body, row, &verdicts, dict))
    }

    /// How many bodies of a block pass. Only those are read of which the template does not tell.
    fn count_bodies(&self, entry: &BlockEntry, block: &Block<'_>, dict: &Dict) -> Result<u64, DecodeError> {
        let (mut sum, mut undecided) = (0, Vec::new());
        let mut is_decided = true;
        for (template, count) in &entry.bodies {
            match template.map_or(Verdict::Some, |template| self.of_template(template, dict)) {
                Verdict::All => sum += u64::from(*count),
                Verdict::None => {}
                Verdict::Some => {
                    is_decided = false;
                    undecided.extend(*template);
                }
            }
        }
        if is_decided {
            return Ok(sum);
        }
        undecided.sort_unstable();
        let wanted = |template| undecided.binary_search(&template).is_ok();
        let bodies = block.bodies_by_group(&wanted, dict, Trust::Own, LIMITS)?;
        let verdicts = self.of_groups(&bodies, dict);
        let is_open = |entry: &usize| verdicts[bodies.entry(*entry).0 as usize] == Verdict::Some;
        let passing =
            (0..bodies.len()).filter(is_open).filter(|entry| self.test.passes(&bodies.value(*entry, dict)));
        Ok(sum + passing.count() as u64)
    }

    /// Attributes' columns of a block that may have a value which passes, as far as their types and templates tell.
    fn columns_in(&self, block: &Block<'_>, dict: &Dict) -> Result<Vec<u32>, DecodeError> {
        let mut columns = Vec::new();
        for column in block.columns() {
            let may = match dict.column_kind(column) {
                ValueKind::Empty => self.test.passes(&LogValue::Empty),
                ValueKind::Int | ValueKind::Float | ValueKind::Bool => self.may_be_number(),
                ValueKind::Other => true,
                ValueKind::Text => block.templates_of(column)?.into_iter().any(|template| match template {
                    Some(template) if (template as usize) < dict.templates().len() => {
                        self.of_template(template, dict) != Verdict::None
                    }
                    _ => true,
                }),
            };
            if may {
                columns.push(column);
            }
        }
        Ok(columns)
    }

    /// Whether the text of a number or a truth value can pass.
    fn may_be_number(&self) -> bool {
        let may = |text: &str| {
            let text = text.to_ascii_lowercase();
            text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.e".contains(&byte))
                || ["true", "false", "nan", "-infinity"].iter().any(|word| word.contains(text.as_str()))
        };
        match self.source {
            LogTest::Contains { text, ignore_case: true } | LogTest::Phrase { text, ignore_case: true } => {
                !text.is_ascii() || may(text)
            }
            LogTest::Equals(text)
            | LogTest::Prefix(text)
            | LogTest::Contains { text, .. }
            | LogTest::Phrase { text, .. } => may(text),
            LogTest::OneOf(texts) => texts.iter().any(|text| may(text)),
            LogTest::Exists | LogTest::Regex(_) | LogTest::Range(_) => true,
        }
    }

    fn of_values(&self, values: &Values, dict: &Dict) -> Vec<bool> {
        match (values, self.source) {
            (Values::Text(column), _) => self.of_column(column, dict),
            (Values::Int(_) | Values::Float(_) | Values::Bool(_), LogTest::Exists) => {
                vec![true; values.len()]
            }
            (Values::Int(ints), LogTest::Range(range)) => {
                ints.iter().map(|int| range.contains(*int as f64)).collect()
            }
            (Values::Float(floats), LogTest::Range(range)) => {
                floats.iter().map(|bits| range.contains(f64::from_bits(*bits))).collect()
            }
            (values, _) => (0..values.len()).map(|at| self.test.passes(&values.value(at, dict))).collect(),
        }
    }

    /// Whether a block may hold the identifier.
    fn id_may_be_in(&self, reader: &LogSegmentReader, block: usize) -> Result<bool, SegmentError> {
        let Some(id) = self.id else { return Ok(true) };
        Ok(reader.may_hold(block, id)? || reader.may_hold(block, UNSPLIT_HASH)?)
    }
}

fn has(template: &[u8], text: &[u8]) -> bool {
    let whole = std::str::from_utf8(text).unwrap_or_default();
    pieces(template).any(|piece| match piece {
        Piece::Text(bytes) => std::str::from_utf8(bytes).is_ok_and(|bytes| bytes.contains(whole)),
        Piece::Slot(_) => false,
    })
}

impl Bound<'_> {
    /// Columns that [`Self::of_rows`] looks at.
    pub fn want(&self) -> Want {
        let attributes =
            |columns: &[u32]| Want { attributes: Attributes::Some(columns.to_vec()), ..Want::default() };
        match self {
            Self::All | Self::Time(_) => Want::default(),
            Self::Duration(_) => Want { observed: true, ..Want::default() },
            Self::And(parts) | Self::Or(parts) => {
                parts.iter().fold(Want::default(), |want, part| want.and(part.want()))
            }
            Self::Not(part) => part.want(),
            Self::Body(_) => Want { body: Bodies::All, ..Want::default() },
            Self::Streams(_) => Want { streams: true, ..Want::default() },
            Self::Severities(_) => Want { severities: true, ..Want::default() },
            Self::Events(_) => Want { events: true, ..Want::default() },
            Self::Flags(_) => Want { flags: true, ..Want::default() },
            Self::Trace(_) => Want { traces: true, ..Want::default() },
            Self::Span(_) => Want { spans: true, ..Want::default() },
            Self::Parent { columns, .. } | Self::Message { columns, .. } => match columns.is_empty() {
                true => Want::default(),
                false => attributes(columns),
            },
            Self::Attribute { columns, otherwise, .. } => {
                // Who has the attribute at all decides whether the stream is asked.
                let mut want = attributes(columns);
                if columns.is_empty() {
                    want.attributes = Attributes::None;
                }
                Want { streams: otherwise.as_ref().is_some_and(|passing| passing.contains(&true)), ..want }
            }
            Self::Any(_) => Want { body: Bodies::All, attributes: Attributes::All, ..Want::default() },
        }
    }

    /// The parts of a conjunction that a few small columns decide, and the others; `None` where there are not both.
    pub fn quick_and_slow(&self) -> Option<(Vec<&Self>, Vec<&Self>)> {
        let Self::And(parts) = self else { return None };
        let is_quick =
            |part: &&Self| matches!(part, Self::Streams(_) | Self::Severities(_) | Self::Events(_));
        let (quick, slow): (Vec<&Self>, Vec<&Self>) = parts.iter().partition(is_quick);
        (!quick.is_empty() && !slow.is_empty()).then_some((quick, slow))
    }

    /// Whether [`Self::of_rows`] looks at the times of rows.
    pub fn reads_times(&self) -> bool {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().any(Self::reads_times),
            Self::Not(part) => part.reads_times(),
            Self::Time(_) | Self::Duration(_) => true,
            _ => false,
        }
    }

    /// Columns that [`Self::of_rows`] looks at in a block whose rows have these templates: what they decide is not read.
    pub fn want_in(&self, templates: &[u32], block: &Block<'_>, dict: &Dict) -> Result<Want, DecodeError> {
        let text = |test: &TextTest<'_>| {
            let undecided = |template: &&u32| test.of_template(**template, dict) == Verdict::Some;
            let mut undecided: Vec<u32> = templates.iter().filter(undecided).copied().collect();
            undecided.sort_unstable();
            Want { body: Bodies::Of(undecided), ..Want::default() }
        };
        Ok(match self {
            Self::And(parts) | Self::Or(parts) => {
                let mut want = Want::default();
                for part in parts {
                    want = want.and(part.want_in(templates, block, dict)?);
                }
                want
            }
            Self::Not(part) => part.want_in(templates, block, dict)?,
            Self::Body(test) => text(test),
            Self::Any(test) => {
                let columns = test.columns_in(block, dict)?;
                let attributes =
                    if columns.is_empty() { Attributes::None } else { Attributes::Some(columns) };
                Want { attributes, ..text(test) }
            }
            _ => self.want(),
        })
    }

    /// What templates say of the rows of each group of a block's bodies.
    pub fn by_group(
        &self,
        bodies: &[BodyCount],
        block: &Block<'_>,
        dict: &Dict,
    ) -> Result<Vec<Verdict>, DecodeError> {
        let text = |test: &TextTest<'_>| -> Vec<Verdict> {
            let one = |template: Option<u32>| template.map_or(Verdict::Some, |at| test.of_template(at, dict));
            bodies.iter().map(|(template, _)| one(*template)).collect()
        };
        Ok(match self {
            Self::All => vec![Verdict::All; bodies.len()],
            Self::And(parts) => Self::all_by_group(parts.iter(), bodies, block, dict)?,
            Self::Or(parts) => {
                let mut any = vec![Verdict::None; bodies.len()];
                for part in parts {
                    let part = part.by_group(bodies, block, dict)?;
                    any.iter_mut().zip(part).for_each(|(any, one)| *any = any.not().and(one.not()).not());
                }
                any
            }
            Self::Not(part) => part.by_group(bodies, block, dict)?.into_iter().map(Verdict::not).collect(),
            Self::Body(test) => text(test),
            Self::Any(test) if test.columns_in(block, dict)?.is_empty() => text(test),
            Self::Any(test) => {
                // What the body has not an attribute may have.
                let any = |verdict| if verdict == Verdict::None { Verdict::Some } else { verdict };
                text(test).into_iter().map(any).collect()
            }
            _ => vec![Verdict::Some; bodies.len()],
        })
    }

    /// [`Self::by_group`] of several that all have to pass.
    pub fn all_by_group<'b>(
        parts: impl Iterator<Item = &'b Self>,
        bodies: &[BodyCount],
        block: &Block<'_>,
        dict: &Dict,
    ) -> Result<Vec<Verdict>, DecodeError>
    where
        Self: 'b,
    {
        let mut all = vec![Verdict::All; bodies.len()];
        for part in parts {
            let part = part.by_group(bodies, block, dict)?;
            all.iter_mut().zip(part).for_each(|(all, one)| *all = all.and(one));
        }
        Ok(all)
    }

    /// What the directory and the fuse filter say of a block.
    pub fn of_block(
        &self,
        reader: &LogSegmentReader,
        block: usize,
        dict: &Dict,
    ) -> Result<Verdict, SegmentError> {
        let entry = &reader.blocks()[block];
        let each = |verdicts: &mut dyn Iterator<Item = Result<Verdict, SegmentError>>, end: Verdict| {
            let mut all = end.not();
            for verdict in verdicts {
                match verdict? {
                    verdict if verdict == end => return Ok(end),
                    Verdict::Some => all = Verdict::Some,
                    _ => {}
                }
            }
            Ok(all)
        };
        let of_all = |passing: &[bool]| match (passing.contains(&true), passing.contains(&false)) {
            (true, true) => Verdict::Some,
            (passes, _) => Verdict::of(passes),
        };
        Ok(match self {
            Self::All => Verdict::All,
            Self::And(parts) => {
                return each(&mut parts.iter().map(|part| part.of_block(reader, block, dict)), Verdict::None);
            }
            Self::Or(parts) => {
                return each(&mut parts.iter().map(|part| part.of_block(reader, block, dict)), Verdict::All);
            }
            Self::Not(part) => part.of_block(reader, block, dict)?.not(),
            Self::Body(test) => match of_bodies(test, entry, dict) {
                Verdict::Some if !test.id_may_be_in(reader, block)? => Verdict::None,
                verdict => verdict,
            },
            Self::Streams(passing) | Self::Severities(passing) | Self::Events(passing) => of_all(passing),
            Self::Trace(test) if !test.may_be_in(reader, block)? => Verdict::None,
            Self::Span(test) if reader.finds_span_ids() && !test.may_be_in(reader, block)? => Verdict::None,
            Self::Trace(_) | Self::Span(_) => Verdict::Some,
            Self::Parent { columns, otherwise, .. } | Self::Message { columns, otherwise, .. } => {
                if columns.is_empty() { Verdict::of(*otherwise) } else { Verdict::Some }
            }
            Self::Attribute { columns, otherwise: None, .. } if columns.is_empty() => Verdict::None,
            Self::Attribute { columns, otherwise: Some(passing), .. } if columns.is_empty() => {
                of_all(passing)
            }
            Self::Attribute { test, otherwise, .. } => {
                let no_stream = otherwise.as_ref().is_none_or(|passing| !passing.contains(&true));
                let is_none = no_stream && !test.id_may_be_in(reader, block)?;
                if is_none { Verdict::None } else { Verdict::Some }
            }
            Self::Any(test) => match of_bodies(test, entry, dict) {
                Verdict::All => Verdict::All,
                _ if !test.id_may_be_in(reader, block)? => Verdict::None,
                _ => Verdict::Some,
            },
            Self::Time(_) | Self::Duration(_) | Self::Flags(_) => Verdict::Some,
        })
    }

    /// Whether [`Self::count_of`] may say something.
    pub fn is_counted(&self) -> bool {
        match self {
            Self::All | Self::Body(_) | Self::Any(_) => true,
            Self::Not(part) => part.is_counted(),
            _ => false,
        }
    }

    /// How many rows of a whole block pass, if its directory and its bodies say it.
    pub fn count_of(
        &self,
        entry: &BlockEntry,
        block: &Block<'_>,
        dict: &Dict,
    ) -> Result<Option<u64>, DecodeError> {
        let rows = entry.rows as u64;
        Ok(match self {
            Self::All => Some(rows),
            Self::Not(part) => part.count_of(entry, block, dict)?.map(|count| rows - count),
            Self::Body(test) => Some(test.count_bodies(entry, block, dict)?),
            Self::Any(test) if test.columns_in(block, dict)?.is_empty() => {
                Some(test.count_bodies(entry, block, dict)?)
            }
            _ => None,
        })
    }

    /// Which rows pass.
    pub fn of_rows(&self, rows: &Rows, dict: &Dict) -> Bits {
        self.of_rows_among(rows, dict, &Bits::all(rows.len(), true))
    }

    /// Which rows among some pass. Of the others it says nothing.
    pub fn of_rows_among(&self, rows: &Rows, dict: &Dict, among: &Bits) -> Bits {
        let len = rows.len();
        let by_number =
            |numbers: &[u32], passing: &[bool]| Bits::among(among, |row| passing[numbers[row] as usize]);
        match self {
            Self::All => Bits::all(len, true),
            Self::And(parts) => parts.iter().fold(among.clone(), |bits, part| {
                let passing = part.of_rows_among(rows, dict, &bits);
                bits.and(&passing)
            }),
            Self::Or(parts) => {
                let of = |part: &Self| part.of_rows_among(rows, dict, among);
                parts.iter().fold(Bits::all(len, false), |bits, part| bits.or(&of(part)))
            }
            Self::Not(part) => part.of_rows_among(rows, dict, among).not(),
            Self::Body(test) => test.of_body(rows, dict, among),
            Self::Streams(passing) => by_number(rows.streams(), passing),
            Self::Severities(passing) => by_number(rows.severities(), passing),
            Self::Events(passing) => by_number(rows.events(), passing),
            Self::Time(test) => Bits::among(among, |row| test.passes(&LogValue::Int(rows.times()[row]))),
            Self::Flags(test) => {
                Bits::among(among, |row| test.passes(&LogValue::Int(i64::from(rows.flags()[row]))))
            }
            Self::Duration(test) => Bits::among(among, |row| {
                let (start, end) = rows.times_of(row);
                test.passes(&LogValue::Int(end.saturating_sub(start).max(0)))
            }),
            Self::Trace(test) => Bits::among(among, |row| test.passes(&rows.traces()[row])),
            Self::Span(test) => Bits::among(among, |row| test.passes(&rows.spans()[row])),
            Self::Parent { columns, otherwise, .. } | Self::Message { columns, otherwise, .. }
                if columns.is_empty() =>
            {
                Bits::all(len, *otherwise)
            }
            Self::Parent { columns, test, otherwise } => {
                let passes = |values: &Values| match values {
                    Values::Int(ids) => ids.iter().map(|id| test.passes(&id.to_be_bytes())).collect(),
                    _ => Vec::new(),
                };
                self.of_own(rows, dict, among, columns, *otherwise, &passes)
            }
            Self::Message { columns, test, otherwise } => {
                self.of_own(rows, dict, among, columns, *otherwise, &|values| test.of_values(values, dict))
            }
            Self::Attribute { columns, otherwise, .. } if columns.is_empty() => match otherwise {
                Some(passing) if passing.contains(&true) => by_number(rows.streams(), passing),
                _ => Bits::all(len, false),
            },
            Self::Attribute { columns, test, otherwise } => {
                let passing = self.of_columns(rows, dict, test, &|column| columns.contains(&column));
                let of_stream = otherwise.as_ref().filter(|passing| passing.contains(&true));
                let otherwise = |row| of_stream.is_some_and(|passing| passing[rows.streams()[row] as usize]);
                if let [column] = columns[..]
                    && let Some(cells) = rows.only_cells(column)
                {
                    let passing = &passing[column as usize];
                    return Bits::among(among, |row| match cells[row] {
                        NO_CELL => otherwise(row),
                        cell => passing[cell as usize],
                    });
                }
                let cells = self.cells_of(rows, dict, &|column| columns.contains(&column));
                Bits::among(among, |row| {
                    let own = &cells[rows.key_sets()[row] as usize];
                    if own.is_empty() {
                        return otherwise(row);
                    }
                    let all = rows.cells(row);
                    own.iter().any(|(at, column)| passing[*column as usize][all[*at] as usize])
                })
            }
            Self::Any(test) => {
                let body = test.of_body(rows, dict, among);
                // Columns that were not read have no value that passes.
                if rows.key_sets().is_empty() {
                    return body;
                }
                let passing = self.of_columns(rows, dict, test, &|_| true);
                let cells = self.cells_of(rows, dict, &|column| passing[column as usize].contains(&true));
                let attributes = Bits::among(among, |row| {
                    let all = rows.cells(row);
                    let own = &cells[rows.key_sets()[row] as usize];
                    own.iter().any(|(at, column)| passing[*column as usize][all[*at] as usize])
                });
                body.or(&attributes)
            }
        }
    }

    /// Which of some rows pass by a value of some columns; of those that have none, all or none.
    fn of_own(
        &self,
        rows: &Rows,
        dict: &Dict,
        among: &Bits,
        columns: &[u32],
        otherwise: bool,
        passing: &dyn Fn(&Values) -> Vec<bool>,
    ) -> Bits {
        let wanted = |column: u32| columns.contains(&column);
        let of_column = |column: u32| rows.column(column).filter(|_| wanted(column)).map(passing);
        let passing: Vec<Vec<bool>> =
            (0..dict.columns_len() as u32).map(|column| of_column(column).unwrap_or_default()).collect();
        let cells = self.cells_of(rows, dict, &wanted);
        Bits::among(among, |row| {
            let own = &cells[rows.key_sets()[row] as usize];
            let all = rows.cells(row);
            match own.is_empty() {
                true => otherwise,
                false => own.iter().any(|(at, column)| passing[*column as usize][all[*at] as usize]),
            }
        })
    }

    /// Which values of columns pass, by column.
    fn of_columns(
        &self,
        rows: &Rows,
        dict: &Dict,
        test: &TextTest<'_>,
        wanted: &dyn Fn(u32) -> bool,
    ) -> Vec<Vec<bool>> {
        let one = |column: u32| match rows.column(column).filter(|_| wanted(column)) {
            Some(values) => test.of_values(values, dict),
            None => Vec::new(),
        };
        (0..dict.columns_len() as u32).map(one).collect()
    }

    /// For each key set, where among its cells wanted columns are.
    fn cells_of(&self, rows: &Rows, dict: &Dict, wanted: &dyn Fn(u32) -> bool) -> Vec<Vec<(usize, u32)>> {
        let mut used = vec![false; dict.key_sets_len()];
        rows.key_sets().iter().for_each(|key_set| used[*key_set as usize] = true);
        let one = |key_set: usize| {
            let columns = rows.columns_of(key_set as u32, dict).enumerate();
            columns.filter(|(_, column)| used[key_set] && wanted(*column)).collect()
        };
        (0..dict.key_sets_len()).map(one).collect()
    }
}

fn of_bodies(test: &TextTest<'_>, entry: &BlockEntry, dict: &Dict) -> Verdict {
    let (mut passes, mut fails) = (false, false);
    for (template, _) in &entry.bodies {
        match template.map_or(Verdict::Some, |template| test.of_template(template, dict)) {
            Verdict::All => passes = true,
            Verdict::None => fails = true,
            Verdict::Some => (passes, fails) = (true, true),
        }
    }
    if passes && fails { Verdict::Some } else { Verdict::of(passes) }
}

/// Columns that hold an attribute of records.
pub(crate) fn columns_named(dict: &Dict, name: &str) -> Vec<u32> {
    (0..dict.columns_len() as u32).filter(|column| dict.column(*column).name == name).collect()
}

/// Whether values of a column can be empty.
pub(crate) fn may_be_empty(kind: ValueKind) -> bool {
    matches!(kind, ValueKind::Empty | ValueKind::Text | ValueKind::Other)
}
