//! What repeats in logs, each once: templates, words, names, streams. Rows refer to it by number.
//!
//! ```text
//! dictionary   7 lists: templates | words | columns | key sets | streams | severities | events
//! list         p( count varint, lengths (column), frame of all bytes )
//! template     as `template` makes it            column     kind u8 | occurrence varint | name
//! key set      numbers of columns, varints        stream     as `codec` writes it
//! severity     number u8 | text                   word, event: text
//! ```
//!
//! A column is an attribute by name, kind of its values and occurrence (a record may have a name twice); a key set is the
//! list of a record's columns in its order. Numbers are given in the order of first use, so equal rows pushed in equal
//! order give equal bytes.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::OnceLock;

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::codec::decode_stream;
use super::template::{Kind, MAX_SLOTS, Piece, kinds, pieces};
use crate::encoding::columns::{self, Pack, Trust};
use crate::encoding::{DecodeError, frame};
use crate::varint;

/// Most bytes of one list.
const MAX_LIST_BYTES: usize = 128 << 20;
/// Most items of one list.
const MAX_LIST_ITEMS: usize = 8 << 20;

/// Seed of the tables that find items. It decides no number and no byte; nobody outside can know which items collide.
fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| RandomState::new().hash_one(0u8))
}

/// Byte strings with numbers, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Interner {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    table: HashTable<u32>,
}

impl Interner {
    /// Number of items.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of all items.
    pub fn total_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Bytes of memory.
    pub fn memory_bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 8 + self.table.capacity() * 5
    }

    /// An item.
    ///
    /// # Panics
    /// When there is no item of that number.
    pub fn get(&self, number: u32) -> &[u8] {
        item(&self.bytes, &self.ends, number)
    }

    /// All items, in order.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.len() as u32).map(|number| self.get(number))
    }

    /// The number of an item that is there.
    pub fn find(&self, wanted: &[u8]) -> Option<u32> {
        let hash = xxh3_64_with_seed(wanted, seed());
        self.table.find(hash, |number| item(&self.bytes, &self.ends, *number) == wanted).copied()
    }

    /// The number of an item, and whether it is new.
    pub fn intern(&mut self, wanted: &[u8]) -> (u32, bool) {
        let Self { bytes, ends, table } = self;
        let hash = xxh3_64_with_seed(wanted, seed());
        if let Some(number) = table.find(hash, |number| item(bytes, ends, *number) == wanted) {
            return (*number, false);
        }
        let number = ends.len() as u32;
        bytes.extend_from_slice(wanted);
        ends.push(bytes.len());
        let (bytes, ends) = (&*bytes, &*ends);
        table.insert_unique(hash, number, |number| xxh3_64_with_seed(item(bytes, ends, *number), seed()));
        (number, true)
    }

    fn encode(&self, pack: Pack, out: &mut Vec<u8>) {
        let mut list = Vec::new();
        varint::write_u64(&mut list, self.len() as u64);
        let mut lens = Vec::new();
        columns::encode(
            &self.iter().map(|item| item.len() as i64).collect::<Vec<_>>(),
            false,
            pack,
            &mut lens,
        );
        varint::write_prefixed(&mut list, &lens);
        frame::write(&self.bytes, level(pack), &mut list);
        varint::write_prefixed(out, &list);
    }

    fn decode(input: &mut &[u8], trust: Trust) -> Result<Self, DecodeError> {
        let mut list = varint::read_prefixed(input).ok_or(DecodeError::Truncated)?;
        let count = varint::read_len(&mut list).filter(|count| *count <= MAX_LIST_ITEMS);
        let count = count.ok_or(DecodeError::Malformed("number of items"))?;
        let lens = varint::read_prefixed(&mut list).ok_or(DecodeError::Truncated)?;
        let lens = columns::decode(lens, count, trust)?;
        let bytes = frame::read_within(list, MAX_LIST_BYTES)?;
        let mut out = Self { ends: Vec::with_capacity(count), ..Self::default() };
        let mut end = 0usize;
        for len in lens {
            let len = usize::try_from(len).ok().filter(|len| *len <= bytes.len() - end);
            end += len.ok_or(DecodeError::Malformed("length of an item"))?;
            out.ends.push(end);
        }
        if end != bytes.len() {
            return Err(DecodeError::Malformed("length of items"));
        }
        out.bytes = bytes;
        out.table.reserve(count, |_| 0);
        for number in 0..count as u32 {
            let wanted = item(&out.bytes, &out.ends, number);
            let hash = xxh3_64_with_seed(wanted, seed());
            if out.table.find(hash, |n| item(&out.bytes, &out.ends, *n) == wanted).is_some() {
                return Err(DecodeError::Malformed("item that comes twice"));
            }
            let (bytes, ends) = (&out.bytes, &out.ends);
            out.table.insert_unique(hash, number, |n| xxh3_64_with_seed(item(bytes, ends, *n), seed()));
        }
        Ok(out)
    }
}

fn item<'a>(bytes: &'a [u8], ends: &[usize], number: u32) -> &'a [u8] {
    let number = number as usize;
    let start = if number == 0 { 0 } else { ends[number - 1] };
    &bytes[start..ends[number]]
}

/// zstd level of what a pack holds.
pub(super) fn level(pack: Pack) -> i32 {
    match pack {
        Pack::Quick => 1,
        Pack::Small => 3,
    }
}

/// Kind of an attribute's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ValueKind {
    /// Nothing.
    Empty,
    /// Text.
    Text,
    /// Whole numbers.
    Int,
    /// Numbers.
    Float,
    /// Truth values.
    Bool,
    /// Bytes, arrays and maps.
    Other,
}

impl ValueKind {
    const ALL: [Self; 6] = [Self::Empty, Self::Text, Self::Int, Self::Float, Self::Bool, Self::Other];
}

/// A column, as a key set names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnKey<'a> {
    /// Kind of its values.
    pub kind: ValueKind,
    /// How many times the name and kind came before in the record.
    pub occurrence: u32,
    /// The attribute's name.
    pub name: &'a str,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Dict {
    templates: Interner,
    words: Interner,
    columns: Interner,
    key_sets: Interner,
    streams: Interner,
    severities: Interner,
    events: Interner,
    /// Of each template.
    template_kinds: Vec<Box<[Kind]>>,
    /// Of each column.
    column_kinds: Vec<ValueKind>,
    /// Of each key set.
    key_columns: Vec<Box<[u32]>>,
}

fn read_column(item: &[u8]) -> Option<ColumnKey<'_>> {
    let (&kind, mut rest) = item.split_first()?;
    let kind = *ValueKind::ALL.get(usize::from(kind))?;
    let occurrence = u32::try_from(varint::read_u64(&mut rest)?).ok()?;
    Some(ColumnKey { kind, occurrence, name: std::str::from_utf8(rest).ok()? })
}

impl Dict {
    /// Templates.
    pub fn templates(&self) -> &Interner {
        &self.templates
    }

    /// Words of slots.
    pub fn words(&self) -> &Interner {
        &self.words
    }

    /// Number of columns.
    pub fn columns_len(&self) -> usize {
        self.columns.len()
    }

    /// Number of key sets.
    pub fn key_sets_len(&self) -> usize {
        self.key_sets.len()
    }

    /// Streams, as `codec` writes them.
    pub fn streams(&self) -> &Interner {
        &self.streams
    }

    /// Severities: number and text.
    pub fn severities(&self) -> &Interner {
        &self.severities
    }

    /// Names of events.
    pub fn events(&self) -> &Interner {
        &self.events
    }

    /// Kinds of a template's slots.
    pub fn template_kinds(&self, template: u32) -> &[Kind] {
        &self.template_kinds[template as usize]
    }

    /// A column.
    pub fn column(&self, column: u32) -> ColumnKey<'_> {
        read_column(self.columns.get(column)).expect("columns are checked when they come in")
    }

    /// Kind of a column's values.
    pub fn column_kind(&self, column: u32) -> ValueKind {
        self.column_kinds[column as usize]
    }

    /// Columns of a key set.
    pub fn key_columns(&self, key_set: u32) -> &[u32] {
        &self.key_columns[key_set as usize]
    }

    /// A severity's number and text.
    pub fn severity(&self, severity: u32) -> (u8, &str) {
        let (number, text) = self.severities.get(severity).split_first().unwrap_or((&0, &[]));
        (*number, text_of(text))
    }

    /// An event's name.
    pub fn event(&self, event: u32) -> &str {
        text_of(self.events.get(event))
    }

    /// Bytes of memory, roughly.
    pub fn memory_bytes(&self) -> usize {
        self.lists().iter().map(|list| list.memory_bytes()).sum::<usize>()
            + self.template_kinds.len() * 24
            + self.key_columns.iter().map(|columns| 16 + columns.len() * 4).sum::<usize>()
    }

    /// Bytes of all items.
    pub fn total_bytes(&self) -> usize {
        self.lists().iter().map(|list| list.total_bytes()).sum()
    }

    fn lists(&self) -> [&Interner; 7] {
        let Self { templates, words, columns, key_sets, streams, severities, events, .. } = self;
        [templates, words, columns, key_sets, streams, severities, events]
    }

    pub(super) fn intern_template(&mut self, template: &[u8]) -> u32 {
        let (number, is_new) = self.templates.intern(template);
        if is_new {
            self.template_kinds.push(kinds(template).collect());
        }
        number
    }

    pub(super) fn intern_word(&mut self, word: &[u8]) -> u32 {
        self.words.intern(word).0
    }

    pub(super) fn intern_column(&mut self, key: &ColumnKey<'_>, scratch: &mut Vec<u8>) -> u32 {
        scratch.clear();
        scratch.push(key.kind as u8);
        varint::write_u64(scratch, u64::from(key.occurrence));
        scratch.extend_from_slice(key.name.as_bytes());
        let (number, is_new) = self.columns.intern(scratch);
        if is_new {
            self.column_kinds.push(key.kind);
        }
        number
    }

    pub(super) fn intern_key_set(&mut self, columns: &[u32], scratch: &mut Vec<u8>) -> u32 {
        scratch.clear();
        columns.iter().for_each(|column| varint::write_u64(scratch, u64::from(*column)));
        let (number, is_new) = self.key_sets.intern(scratch);
        if is_new {
            self.key_columns.push(columns.into());
        }
        number
    }

    pub(super) fn intern_stream(&mut self, stream: &[u8]) -> u32 {
        self.streams.intern(stream).0
    }

    pub(super) fn intern_severity(&mut self, number: u8, text: &str, scratch: &mut Vec<u8>) -> u32 {
        scratch.clear();
        scratch.push(number);
        scratch.extend_from_slice(text.as_bytes());
        self.severities.intern(scratch).0
    }

    pub(super) fn intern_event(&mut self, name: &str) -> u32 {
        self.events.intern(name.as_bytes()).0
    }

    /// Appends the dictionary.
    pub fn encode(&self, pack: Pack, out: &mut Vec<u8>) {
        self.lists().iter().for_each(|list| list.encode(pack, out));
    }

    /// Reads what [`Dict::encode`] wrote and moves `input` past it.
    pub fn decode(input: &mut &[u8], trust: Trust) -> Result<Self, DecodeError> {
        let mut list = || Interner::decode(input, trust);
        let mut dict = Self {
            templates: list()?,
            words: list()?,
            columns: list()?,
            key_sets: list()?,
            streams: list()?,
            severities: list()?,
            events: list()?,
            ..Self::default()
        };
        for template in dict.templates.iter() {
            let is_text = |piece: Piece<'_>| match piece {
                Piece::Text(text) => std::str::from_utf8(text).is_ok(),
                Piece::Slot(_) => true,
            };
            let slots: Box<[Kind]> = kinds(template).collect();
            if slots.len() > MAX_SLOTS || !pieces(template).all(is_text) {
                return Err(DecodeError::Malformed("template"));
            }
            dict.template_kinds.push(slots);
        }
        if !dict.words.iter().chain(dict.events.iter()).all(|text| std::str::from_utf8(text).is_ok()) {
            return Err(DecodeError::Malformed("text"));
        }
        for column in dict.columns.iter() {
            let column = read_column(column).ok_or(DecodeError::Malformed("column"))?;
            dict.column_kinds.push(column.kind);
        }
        for key_set in dict.key_sets.iter() {
            let (mut rest, mut columns) = (key_set, Vec::new());
            while !rest.is_empty() {
                let column = varint::read_len(&mut rest).filter(|column| *column < dict.columns.len());
                columns.push(column.ok_or(DecodeError::Malformed("column of a key set"))? as u32);
            }
            let mut sorted = columns.clone();
            sorted.sort_unstable();
            if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
                return Err(DecodeError::Malformed("column that comes twice"));
            }
            dict.key_columns.push(columns.into());
        }
        for stream in dict.streams.iter() {
            decode_stream(stream)?;
        }
        for severity in dict.severities.iter() {
            let text = severity.get(1..).and_then(|text| std::str::from_utf8(text).ok());
            text.ok_or(DecodeError::Malformed("severity"))?;
        }
        Ok(dict)
    }
}

/// Text that was checked when it came in.
pub(super) fn text_of(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap_or_default()
}
