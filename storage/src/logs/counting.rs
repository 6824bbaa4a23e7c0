//! Counting rows by time and fields, and gathering the values of a field.
//!
//! ```text
//! piece: rows that pass ─► a number for the text of each field ─► a number for their combination ─► counts of the bucket
//! ```
//!
//! Texts are numbered over all pieces of a read, so that a row costs a look at a number of the dictionary, or where each
//! row has a text of its own, one look-up of it; texts are put together once. Rows come by time: counts go into the result
//! when their bucket ends.

use hashbrown::HashMap;
use protocol::logs::codec::decode_stream;
use protocol::logs::dict::Dict;
use protocol::logs::rows::{Rows, Values};
use protocol::logs::text::TextColumn;
use protocol::logs::{FieldValues, LogField, LogStream, LogValue};

use super::filter::{Bits, columns_named};
use super::scan::LogCounting;

/// What is not numbered yet.
const UNKNOWN: u32 = u32::MAX;

/// Texts of a field, each with a number.
#[derive(Debug, Default)]
struct Texts {
    numbers: HashMap<Box<str>, u32>,
    /// Numbers of the texts of whole numbers and of floats, by their bits.
    ints: HashMap<i64, u32>,
    floats: HashMap<u64, u32>,
}

impl Texts {
    fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = self.numbers.len() as u32;
        self.numbers.insert(text.into(), number);
        number
    }

    fn of_int(&mut self, value: i64) -> u32 {
        if let Some(number) = self.ints.get(&value) {
            return *number;
        }
        let number = self.number(&LogValue::Int(value).text());
        self.ints.insert(value, number);
        number
    }

    fn of_float(&mut self, bits: u64) -> u32 {
        if let Some(number) = self.floats.get(&bits) {
            return *number;
        }
        let number = self.number(&LogValue::Float(f64::from_bits(bits)).text());
        self.floats.insert(bits, number);
        number
    }

    /// The texts by their numbers.
    fn into_texts(self) -> Vec<Box<str>> {
        let mut texts: Vec<Box<str>> = vec!["".into(); self.numbers.len()];
        self.numbers.into_iter().for_each(|(text, number)| texts[number as usize] = text);
        texts
    }
}

/// Where the value of a field is, for one row.
enum Found<'a> {
    /// All rows of this number in this list have the same text.
    Same(usize, u32),
    /// A text of its own.
    Text(&'a TextColumn, usize),
    Value(LogValue<'a>),
    /// Only the whole record tells.
    Record,
}

/// Lists of numbers by which a text may be known.
const OF_ROWS: usize = 0;
const OF_STREAMS: usize = 1;
const ABSENT: usize = 2;
const OF_COLUMNS: usize = 3;

/// Finds the values of a field in the rows of a piece.
struct Finder<'a> {
    field: &'a LogField,
    rows: &'a Rows,
    dict: &'a Dict,
    columns: Vec<u32>,
    /// By key set: which of its cells is the first of the field, of which column, and which of `columns` that is.
    cells: Vec<Option<(usize, u32, usize)>>,
}

impl<'a> Finder<'a> {
    fn new(field: &'a LogField, rows: &'a Rows, dict: &'a Dict) -> Self {
        let columns = match field {
            LogField::Attribute(name) | LogField::RecordAttribute(name) => columns_named(dict, name),
            _ => Vec::new(),
        };
        let cell_of = |key_set: u32| {
            rows.columns_of(key_set, dict).enumerate().find_map(|(cell, column)| {
                let at = columns.iter().position(|wanted| *wanted == column)?;
                Some((cell, column, at))
            })
        };
        let is_attribute = !columns.is_empty() && !rows.key_sets().is_empty();
        let key_sets = if is_attribute { dict.key_sets_len() as u32 } else { 0 };
        let cells = (0..key_sets).map(cell_of).collect();
        Self { field, rows, dict, columns, cells }
    }

    fn find(&self, row: usize) -> Found<'a> {
        if let Some((list, numbers)) = self.by_number() {
            return Found::Same(list, numbers[row]);
        }
        match self.field {
            LogField::Body => match self.rows.body() {
                Some(body) => of_text(body, row, OF_ROWS),
                None => Found::Record,
            },
            LogField::Attribute(_) | LogField::RecordAttribute(_) => self.attribute(row),
            _ => Found::Record,
        }
    }

    /// The list and the numbers in it by which the texts of all rows are known.
    fn by_number(&self) -> Option<(usize, &'a [u32])> {
        Some(match self.field {
            LogField::Severity | LogField::SeverityText | LogField::SpanKind | LogField::SpanStatus => {
                (OF_ROWS, self.rows.severities())
            }
            LogField::EventName => (OF_ROWS, self.rows.events()),
            LogField::ScopeName
            | LogField::ScopeVersion
            | LogField::ResourceAttribute(_)
            | LogField::ScopeAttribute(_) => (OF_STREAMS, self.rows.streams()),
            LogField::Attribute(_) if self.cells.is_empty() => (OF_STREAMS, self.rows.streams()),
            _ => return None,
        })
    }

    /// Whether the record itself has the attribute.
    fn has_own(&self, row: usize) -> bool {
        let key_set = self.rows.key_sets().get(row);
        key_set.is_some_and(|key_set| self.cells.get(*key_set as usize).is_some_and(Option::is_some))
    }

    fn attribute(&self, row: usize) -> Found<'a> {
        let key_set = self.rows.key_sets().get(row);
        let found = key_set.and_then(|key_set| self.cells.get(*key_set as usize).copied().flatten());
        let Some((cell, column, at)) = found else {
            // Of the stream, or nothing.
            return match self.field {
                LogField::RecordAttribute(_) => Found::Same(ABSENT, 0),
                _ => Found::Same(OF_STREAMS, self.rows.streams()[row]),
            };
        };
        let entry = self.rows.cells(row)[cell] as usize;
        match self.rows.column(column) {
            Some(Values::Text(texts)) => of_text(texts, entry, OF_COLUMNS + at),
            Some(values) => Found::Value(values.value(entry, self.dict)),
            None => Found::Record,
        }
    }

    /// The numbers that are the values of all rows that have the field, each row's once; `None` where they are not all in
    /// columns of numbers, or a row may have several.
    fn numbers(&self) -> Option<Vec<&'a Values>> {
        if self.cells.is_empty() {
            return None;
        }
        let is_number = |values: &&Values| matches!(values, Values::Int(_) | Values::Float(_));
        let mut used = vec![false; self.cells.len()];
        self.rows.key_sets().iter().for_each(|key_set| used[*key_set as usize] = true);
        let is_one = |key_set: u32| {
            let own = self.rows.columns_of(key_set, self.dict);
            own.filter(|column| self.columns.contains(column)).count() <= 1
        };
        if !(0..self.cells.len()).all(|key_set| !used[key_set] || is_one(key_set as u32)) {
            return None;
        }
        let columns = self.columns.iter().filter_map(|column| self.rows.column(*column));
        let columns: Vec<&Values> = columns.filter(|values| !values.is_empty()).collect();
        columns.iter().all(is_number).then_some(columns)
    }

    /// The text of a row's field, put together from the whole record.
    fn text(&self, row: usize) -> String {
        let number = self.rows.streams().get(row);
        let stream = number.and_then(|number| decode_stream(self.dict.streams().get(*number)).ok());
        let no_stream = LogStream::default();
        let record = self.rows.record(row, self.dict);
        self.field.first_text(stream.as_ref().unwrap_or(&no_stream), &record).unwrap_or_default()
    }
}

fn of_text(column: &TextColumn, entry: usize, list: usize) -> Found<'_> {
    let (number, _) = column.entry(entry);
    let group = &column.groups()[number as usize];
    match group.template().is_some() && group.slots().is_empty() {
        true => Found::Same(list, number),
        false => Found::Text(column, entry),
    }
}

/// Numbers of a piece, as far as they came up, by list and number of the dictionary.
#[derive(Default)]
struct Known(Vec<Vec<u32>>);

impl Known {
    fn slot(&mut self, list: usize, number: u32) -> &mut u32 {
        if self.0.len() <= list {
            self.0.resize_with(list + 1, Vec::new);
        }
        let list = &mut self.0[list];
        if list.len() <= number as usize {
            list.resize(number as usize + 1, UNKNOWN);
        }
        &mut list[number as usize]
    }
}

/// Counts the rows of all pieces of a read.
pub(super) struct Counter<'c> {
    counting: LogCounting<'c>,
    texts: Vec<Texts>,
    /// Numbers of combinations, by the combination of the fields before and the number of the last one.
    combinations: Vec<HashMap<(u32, u32), u32>>,
    counts: HashMap<(u64, u32), u64>,
    /// Counts of the bucket that is open, by combination, and which are not 0.
    bucket: u64,
    tally: Vec<u64>,
    touched: Vec<u32>,
}

impl<'c> Counter<'c> {
    pub fn new(counting: LogCounting<'c>) -> Self {
        let fields = counting.by.len();
        Self {
            counting,
            texts: (0..fields).map(|_| Texts::default()).collect(),
            combinations: (1..fields).map(|_| HashMap::new()).collect(),
            counts: HashMap::new(),
            bucket: 0,
            tally: Vec::new(),
            touched: Vec::new(),
        }
    }

    /// Counts rows that lie in one bucket and have no field to count by.
    pub fn add_all(&mut self, bucket: u64, rows: u64) {
        if rows > 0 {
            self.open(bucket);
            self.note(0, rows);
        }
    }

    /// Counts rows of a piece, all of one bucket if that is said.
    pub fn add(&mut self, rows: &Rows, dict: &Dict, bits: &Bits, bucket: Option<u64>) {
        let counting = self.counting;
        if let (Some(bucket), [field]) = (bucket, counting.by)
            && let finder = Finder::new(field, rows, dict)
            && let Some((_, numbers)) = finder.by_number()
        {
            self.open(bucket);
            // The rows of each number, and one of them.
            let mut counts: Vec<(u64, usize)> = Vec::new();
            for row in bits.iter() {
                let number = numbers[row] as usize;
                if counts.len() <= number {
                    counts.resize(number + 1, (0, 0));
                }
                counts[number] = (counts[number].0 + 1, row);
            }
            for (count, row) in counts.into_iter().filter(|(count, _)| *count > 0) {
                let text = self.texts[0].number(&finder.text(row));
                self.note(text, count);
            }
            return;
        }
        let mut of_row: Vec<u32> = Vec::new();
        for (at, field) in counting.by.iter().enumerate() {
            let numbers = numbers_of(&Finder::new(field, rows, dict), bits, &mut self.texts[at]);
            if at == 0 {
                of_row = numbers;
                continue;
            }
            let known = &mut self.combinations[at - 1];
            let mut last = ((UNKNOWN, UNKNOWN), 0);
            for row in bits.iter() {
                let pair = (of_row[row], numbers[row]);
                if pair != last.0 {
                    let next = known.len() as u32;
                    last = (pair, *known.entry(pair).or_insert(next));
                }
                of_row[row] = last.1;
            }
        }
        if let Some(bucket) = bucket {
            self.open(bucket);
            if of_row.is_empty() {
                return self.note(0, bits.count() as u64);
            }
            return bits.iter().for_each(|row| self.note(of_row[row], 1));
        }
        // Times ascend: the bucket is looked for only when it ends.
        let mut bucket_end = i128::MIN;
        for row in bits.iter() {
            let time = i128::from(rows.times()[row]);
            if time >= bucket_end {
                let bucket = counting.bucket(rows.times()[row]);
                self.open(bucket);
                bucket_end = match i128::from(counting.bucket_ns.max(0)) {
                    0 => i128::MAX,
                    width => i128::from(counting.start_ns) + (i128::from(bucket) + 1) * width,
                };
            }
            self.note(of_row.get(row).copied().unwrap_or(0), 1);
        }
    }

    fn open(&mut self, bucket: u64) {
        if bucket != self.bucket {
            self.close();
            self.bucket = bucket;
        }
    }

    fn close(&mut self) {
        for combination in self.touched.drain(..) {
            let count = std::mem::take(&mut self.tally[combination as usize]);
            *self.counts.entry((self.bucket, combination)).or_default() += count;
        }
    }

    fn note(&mut self, combination: u32, rows: u64) {
        let at = combination as usize;
        if self.tally.len() <= at {
            self.tally.resize(at + 1, 0);
        }
        if self.tally[at] == 0 {
            self.touched.push(combination);
        }
        self.tally[at] += rows;
    }

    /// Visits what was counted, each bucket and values once, in no order, until `visit` says that it is enough.
    pub fn finish(mut self, visit: &mut dyn FnMut(u64, &[&str], u64) -> std::ops::ControlFlow<()>) {
        self.close();
        let texts: Vec<Vec<Box<str>>> = self.texts.into_iter().map(Texts::into_texts).collect();
        let inverse = |known: HashMap<(u32, u32), u32>| {
            let mut pairs = vec![(0, 0); known.len()];
            known.into_iter().for_each(|(pair, number)| pairs[number as usize] = pair);
            pairs
        };
        let combinations: Vec<Vec<(u32, u32)>> = self.combinations.into_iter().map(inverse).collect();
        let mut values: Vec<&str> = vec![""; texts.len()];
        for ((bucket, mut combination), count) in self.counts {
            for (at, texts) in texts.iter().enumerate().rev() {
                let number = match at.checked_sub(1) {
                    Some(before) => {
                        let (rest, number) = combinations[before][combination as usize];
                        combination = rest;
                        number
                    }
                    None => combination,
                };
                values[at] = &texts[number as usize];
            }
            if visit(bucket, &values, count).is_break() {
                return;
            }
        }
    }
}

/// The number of the text of each row that passes; of the others 0.
fn numbers_of(finder: &Finder<'_>, bits: &Bits, texts: &mut Texts) -> Vec<u32> {
    let mut of_row = vec![0; finder.rows.len()];
    let (mut known, mut rendered) = (Known::default(), Vec::new());
    if let Some((list, numbers)) = finder.by_number() {
        for row in bits.iter() {
            let slot = known.slot(list, numbers[row]);
            if *slot == UNKNOWN {
                *slot = texts.number(&finder.text(row));
            }
            of_row[row] = *slot;
        }
        return of_row;
    }
    for row in bits.iter() {
        of_row[row] = match finder.find(row) {
            Found::Same(list, number) => {
                let slot = known.slot(list, number);
                if *slot == UNKNOWN {
                    *slot = texts.number(&finder.text(row));
                }
                *slot
            }
            Found::Text(column, entry) => number_of_entry(column, entry, finder.dict, texts, &mut rendered),
            Found::Value(LogValue::Int(value)) => texts.of_int(value),
            Found::Value(LogValue::Float(value)) => texts.of_float(value.to_bits()),
            Found::Value(value) => texts.number(&value.text()),
            Found::Record => texts.number(&finder.text(row)),
        };
    }
    of_row
}

fn number_of_entry(
    column: &TextColumn,
    entry: usize,
    dict: &Dict,
    texts: &mut Texts,
    rendered: &mut Vec<u8>,
) -> u32 {
    // A value that is no text is kept among texts in its own form.
    if column.is_value(entry) {
        return texts.number(&column.value(entry, dict).text());
    }
    rendered.clear();
    column.render(entry, dict, rendered);
    match std::str::from_utf8(rendered) {
        Ok(text) => texts.number(text),
        Err(_) => texts.number(&column.value(entry, dict).text()),
    }
}

/// Gathers the values of a field.
pub(super) struct Gatherer<'c> {
    field: &'c LogField,
    texts: Texts,
    counts: Vec<u64>,
    missing: u64,
}

impl<'c> Gatherer<'c> {
    pub fn new(field: &'c LogField) -> Self {
        Self { field, texts: Texts::default(), counts: Vec::new(), missing: 0 }
    }

    /// Takes the rows of a piece: numbers are visited, texts are kept.
    pub fn add(
        &mut self,
        rows: &Rows,
        dict: &Dict,
        bits: &Bits,
        visit: &mut dyn FnMut(FieldValues<'_>) -> std::ops::ControlFlow<()>,
    ) -> std::ops::ControlFlow<()> {
        let finder = Finder::new(self.field, rows, dict);
        let (mut ints, mut floats) = (Vec::new(), Vec::new());
        let (mut known, mut rendered) = (Known::default(), Vec::new());
        // Where all rows pass, numbers need not be looked up row by row.
        let whole = if bits.is_full() { finder.numbers() } else { None };
        for values in whole.iter().flatten() {
            match values {
                Values::Int(values) => visit(FieldValues::Ints(values))?,
                Values::Float(values) => floats.extend(values.iter().map(|bits| f64::from_bits(*bits))),
                _ => {}
            }
        }
        for row in bits.iter() {
            if whole.is_some() && finder.has_own(row) {
                continue;
            }
            let number = match finder.find(row) {
                Found::Value(LogValue::Int(value)) => {
                    ints.push(value);
                    continue;
                }
                Found::Value(LogValue::Float(value)) => {
                    floats.push(value);
                    continue;
                }
                Found::Same(list, number) => {
                    let slot = known.slot(list, number);
                    if *slot == UNKNOWN {
                        *slot = self.texts.number(&finder.text(row));
                    }
                    *slot
                }
                Found::Text(column, entry) => {
                    number_of_entry(column, entry, dict, &mut self.texts, &mut rendered)
                }
                Found::Value(value) => self.texts.number(&value.text()),
                Found::Record => self.texts.number(&finder.text(row)),
            };
            if self.counts.len() <= number as usize {
                self.counts.resize(number as usize + 1, 0);
            }
            self.counts[number as usize] += 1;
        }
        if !ints.is_empty() {
            visit(FieldValues::Ints(&ints))?;
        }
        if !floats.is_empty() {
            visit(FieldValues::Floats(&floats))?;
        }
        std::ops::ControlFlow::Continue(())
    }

    /// Visits the texts.
    pub fn finish(mut self, visit: &mut dyn FnMut(FieldValues<'_>) -> std::ops::ControlFlow<()>) {
        let counts = std::mem::take(&mut self.counts);
        for (text, number) in &self.texts.numbers {
            let Some(count) = counts.get(*number as usize).copied().filter(|count| *count > 0) else {
                continue;
            };
            if text.is_empty() {
                self.missing += count;
            } else if visit(FieldValues::Text(text, count)).is_break() {
                return;
            }
        }
        if self.missing > 0 {
            let _ = visit(FieldValues::Missing(self.missing));
        }
    }
}
