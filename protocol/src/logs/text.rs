//! A column of texts in memory: templates and typed columns of what is in their slots.
//!
//! Texts of one template form a group; group 0 holds texts that are kept as they are. An entry of the column is its group
//! and its position in the group. Values that are no texts may be entries too, as the bytes that `codec` gives them: they
//! form group 1.

use hashbrown::HashMap;

use super::codec;
use super::dict::Dict;
use super::rows::id_hash;
use super::template::{Kind, Piece, Split, pieces};
use super::{LogValue, dict};

/// Group of texts that are kept as they are.
pub const RAW: u32 = 0;
/// Group of values that are no texts.
pub const VALUE: u32 = 1;

/// Template of groups that have none.
pub(super) const NO_TEMPLATE: u32 = u32::MAX;

/// Words of slots that a dictionary holds; what comes later is kept with its slot.
const MAX_WORDS: usize = 1 << 16;
/// Templates that a dictionary takes before texts of others are kept as they are, and bytes of them.
const MAX_TEMPLATES: usize = 20_000;
const MAX_TEMPLATE_BYTES: usize = 8 << 20;

/// Says that a word lies with its slot: the rest of the number is its position.
pub(super) const ASIDE: u64 = 1 << 32;

/// Byte strings one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blobs {
    pub(super) bytes: Vec<u8>,
    pub(super) ends: Vec<u32>,
}

impl Blobs {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// A string.
    ///
    /// # Panics
    /// When there is none of that number.
    pub fn get(&self, at: usize) -> &[u8] {
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.bytes[start as usize..self.ends[at] as usize]
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push(self.bytes.len() as u32);
    }
}

/// Values of one slot of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub(super) kind: Kind,
    /// Numbers; two for each UUID; for words their number in the dictionary, or [`ASIDE`].
    pub(super) words: Vec<u64>,
    /// Leading zeros of whole numbers, digits behind the point of decimals.
    pub(super) aux: Vec<u8>,
    /// Hexadecimal digits, and words that no dictionary holds.
    pub(super) blobs: Blobs,
}

impl Slot {
    pub(super) fn new(kind: Kind) -> Self {
        Self { kind, words: Vec::new(), aux: Vec::new(), blobs: Blobs::default() }
    }

    /// The slot's kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Takes a value, which is what the splitter found.
    fn push(&mut self, text: &[u8], dict: &mut Dict) {
        let fold = |digits: &[u8]| {
            digits
                .iter()
                .filter(|b| b.is_ascii_digit())
                .fold(0u64, |sum, b| sum.wrapping_mul(10).wrapping_add(u64::from(b - b'0')))
        };
        match self.kind {
            Kind::Int => {
                let zeros = text[..text.len() - 1].iter().take_while(|b| **b == b'0').count();
                self.words.push(fold(text));
                self.aux.push(zeros as u8);
            }
            Kind::Decimal => {
                let point = text.iter().position(|b| *b == b'.').unwrap_or(0);
                self.words.push(fold(text));
                self.aux.push((text.len() - point - 1) as u8);
            }
            Kind::Address => {
                let parts = text.split(|b| *b == b'.');
                self.words.push(parts.fold(0, |sum, part| sum << 8 | fold(part)));
            }
            Kind::Uuid => {
                let digits = text.iter().filter(|b| **b != b'-');
                let value = digits.fold(0u128, |sum, b| sum << 4 | u128::from(nibble(*b)));
                self.words.extend([(value >> 64) as u64, value as u64]);
            }
            Kind::HexLower | Kind::HexUpper => self.blobs.push(text),
            Kind::Word => {
                let word = dict.words().find(text).or_else(|| {
                    // Words with digits in them rarely come twice.
                    let admit = dict.words().len() < MAX_WORDS && !text.iter().any(u8::is_ascii_digit);
                    admit.then(|| dict.intern_word(text))
                });
                match word {
                    Some(word) => self.words.push(u64::from(word)),
                    None => {
                        self.words.push(ASIDE | self.blobs.len() as u64);
                        self.blobs.push(text);
                    }
                }
            }
        }
    }

    /// Takes a value of another column's slot.
    fn push_from(&mut self, from: &Self, at: usize, from_dict: &Dict, dict: &mut Dict, words: &mut Vec<u32>) {
        match self.kind {
            Kind::Int | Kind::Decimal => {
                self.words.push(from.words[at]);
                self.aux.push(from.aux[at]);
            }
            Kind::Address => self.words.push(from.words[at]),
            Kind::Uuid => self.words.extend_from_slice(&from.words[2 * at..2 * at + 2]),
            Kind::HexLower | Kind::HexUpper => self.blobs.push(from.blobs.get(at)),
            Kind::Word => {
                let word = from.words[at];
                if word & ASIDE != 0 {
                    self.push(from.blobs.get((word ^ ASIDE) as usize), dict);
                    return;
                }
                if words.len() < from_dict.words().len() {
                    words.resize(from_dict.words().len(), u32::MAX);
                }
                if words[word as usize] == u32::MAX {
                    let text = from_dict.words().get(word as u32);
                    match dict.words().find(text) {
                        Some(known) => words[word as usize] = known,
                        None if dict.words().len() < MAX_WORDS => {
                            words[word as usize] = dict.intern_word(text);
                        }
                        None => return self.push(text, dict),
                    }
                }
                self.words.push(u64::from(words[word as usize]));
            }
        }
    }

    /// Appends a value's text.
    pub(super) fn render(&self, at: usize, dict: &Dict, out: &mut Vec<u8>) {
        match self.kind {
            Kind::Int => {
                out.resize(out.len() + usize::from(self.aux[at]), b'0');
                write_decimal(self.words[at], out);
            }
            Kind::Decimal => {
                let scale = 10u64.pow(u32::from(self.aux[at]));
                write_decimal(self.words[at] / scale, out);
                out.push(b'.');
                let start = out.len();
                write_decimal(self.words[at] % scale + scale, out);
                // The digit in front keeps the zeros behind the point.
                out.remove(start);
            }
            Kind::Address => {
                let word = self.words[at];
                for part in [word >> 24 & 255, word >> 16 & 255, word >> 8 & 255, word & 255] {
                    write_decimal(part, out);
                    out.push(b'.');
                }
                out.pop();
            }
            Kind::Uuid => self.render_uuid(at, out),
            Kind::HexLower | Kind::HexUpper => out.extend_from_slice(self.blobs.get(at)),
            Kind::Word => out.extend_from_slice(self.word(at, dict)),
        }
    }

    /// Visits the hash of each value that is looked for by itself.
    pub(super) fn each_id(&self, visit: &mut dyn FnMut(u64)) {
        let mut text = Vec::new();
        match self.kind {
            Kind::Uuid => {
                for at in 0..self.words.len() / 2 {
                    text.clear();
                    self.render_uuid(at, &mut text);
                    visit(id_hash(&text));
                }
            }
            Kind::HexLower | Kind::HexUpper => {
                (0..self.blobs.len()).for_each(|at| visit(id_hash(self.blobs.get(at))));
            }
            Kind::Int | Kind::Decimal | Kind::Address | Kind::Word => {}
        }
    }

    fn render_uuid(&self, at: usize, out: &mut Vec<u8>) {
        let digits = [self.words[2 * at], self.words[2 * at + 1]];
        for position in 0..32 {
            if matches!(position, 8 | 12 | 16 | 20) {
                out.push(b'-');
            }
            let nibble = digits[position / 16] >> (60 - 4 * (position % 16)) & 15;
            out.push(b"0123456789abcdef"[nibble as usize]);
        }
    }

    /// A word.
    fn word<'a>(&'a self, at: usize, dict: &'a Dict) -> &'a [u8] {
        let word = self.words[at];
        if word & ASIDE == 0 {
            dict.words().get(word as u32)
        } else {
            self.blobs.get((word ^ ASIDE) as usize)
        }
    }
}

fn nibble(digit: u8) -> u8 {
    match digit {
        b'a'..=b'f' => digit - b'a' + 10,
        b'A'..=b'F' => digit - b'A' + 10,
        _ => digit.wrapping_sub(b'0') & 15,
    }
}

fn write_decimal(mut value: u64, out: &mut Vec<u8>) {
    let (mut digits, mut at) = ([0u8; 20], 20);
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Texts of one template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    pub(super) template: u32,
    pub(super) len: u32,
    pub(super) slots: Vec<Slot>,
    /// Of groups without a template: what they hold.
    pub(super) blobs: Blobs,
}

impl Group {
    pub(super) fn new(template: u32, kinds: &[Kind]) -> Self {
        let slots = kinds.iter().map(|kind| Slot::new(*kind)).collect();
        Self { template, len: 0, slots, blobs: Blobs::default() }
    }

    /// Its template, none of the groups [`RAW`] and [`VALUE`].
    pub fn template(&self) -> Option<u32> {
        (self.template != NO_TEMPLATE).then_some(self.template)
    }

    /// Number of its entries.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether it has no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it holds, of groups without a template.
    pub(super) fn blobs(&self) -> &Blobs {
        &self.blobs
    }

    /// Bytes of what is kept as it is.
    fn kept_bytes(&self) -> usize {
        self.blobs.bytes.len() + self.slots.iter().map(|slot| slot.blobs.bytes.len()).sum::<usize>()
    }

    /// Its slots.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }
}

/// See the module.
#[derive(Clone, Debug)]
pub struct TextColumn {
    pub(super) groups: Vec<Group>,
    /// Group of each entry.
    pub(super) group_of: Vec<u32>,
    /// Position of each entry in its group.
    pub(super) at: Vec<u32>,
    /// Group by template.
    by_template: HashMap<u32, u32>,
    /// Bytes of what is kept as it is, in all groups.
    kept: usize,
}

impl Default for TextColumn {
    fn default() -> Self {
        let groups = vec![Group::new(NO_TEMPLATE, &[]), Group::new(NO_TEMPLATE, &[])];
        Self { groups, group_of: Vec::new(), at: Vec::new(), by_template: HashMap::new(), kept: 0 }
    }
}

/// Numbers of one dictionary in another, as far as they came up.
#[derive(Debug, Default)]
pub(super) struct TextMap {
    pub templates: Vec<u32>,
    pub words: Vec<u32>,
    /// Where texts that are kept as they are get another chance.
    pub again: Option<Split>,
}

/// Marks a template that the target does not take: its texts are kept as they are.
pub(super) const REFUSED: u32 = u32::MAX - 1;

impl TextColumn {
    /// Number of entries.
    pub fn len(&self) -> usize {
        self.group_of.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.group_of.is_empty()
    }

    /// Groups, [`RAW`] and [`VALUE`] first.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// Bytes of what is kept as it is.
    pub(super) fn kept_bytes(&self) -> usize {
        self.kept
    }

    /// Whether an entry is a value that is no text.
    pub fn is_value(&self, entry: usize) -> bool {
        self.group_of[entry] == VALUE
    }

    /// An entry's group and its position in it.
    pub fn entry(&self, entry: usize) -> (u32, usize) {
        (self.group_of[entry], self.at[entry] as usize)
    }

    fn group(&mut self, template: u32, dict: &Dict) -> u32 {
        let groups = &mut self.groups;
        *self.by_template.entry(template).or_insert_with(|| {
            groups.push(Group::new(template, dict.template_kinds(template)));
            groups.len() as u32 - 1
        })
    }

    fn note(&mut self, group: u32) {
        let len = &mut self.groups[group as usize].len;
        self.group_of.push(group);
        self.at.push(*len);
        *len += 1;
    }

    /// Takes a text. Returns roughly how many bytes it adds.
    pub(super) fn push(&mut self, text: &str, split: &mut Split, dict: &mut Dict) -> usize {
        let takes = split.split(text) && {
            let known = dict.templates();
            known.len() < MAX_TEMPLATES && known.total_bytes() < MAX_TEMPLATE_BYTES
                || known.find(&split.template).is_some()
        };
        if !takes {
            self.push_raw(RAW, text.as_bytes());
            return text.len();
        }
        let before = dict.total_bytes();
        self.push_split(text.as_bytes(), split, dict);
        let values: usize = split.slots.iter().map(|(start, end)| (end - start) as usize).sum();
        dict.total_bytes() - before + values + 2
    }

    /// Takes a text that was split.
    fn push_split(&mut self, text: &[u8], split: &Split, dict: &mut Dict) {
        let template = dict.intern_template(&split.template);
        let group = self.group(template, dict);
        for (slot, (start, end)) in self.groups[group as usize].slots.iter_mut().zip(&split.slots) {
            let before = slot.blobs.bytes.len();
            slot.push(&text[*start as usize..*end as usize], dict);
            self.kept += slot.blobs.bytes.len() - before;
        }
        self.note(group);
    }

    /// Takes a value that is no text. Returns roughly how many bytes it adds.
    pub(super) fn push_value(&mut self, value: &LogValue<'_>, scratch: &mut Vec<u8>) -> usize {
        scratch.clear();
        codec::encode_value(value, scratch);
        self.push_raw(VALUE, scratch);
        scratch.len()
    }

    fn push_raw(&mut self, group: u32, bytes: &[u8]) {
        self.groups[group as usize].blobs.push(bytes);
        self.kept += bytes.len();
        self.note(group);
    }

    /// Takes an entry of another column. `admit` says which templates the target takes.
    pub(super) fn push_from(
        &mut self,
        from: &Self,
        entry: usize,
        from_dict: &Dict,
        dict: &mut Dict,
        map: &mut TextMap,
        admit: &dyn Fn(&[u8]) -> bool,
    ) {
        let (number, at) = from.entry(entry);
        let group = &from.groups[number as usize];
        let room =
            dict.templates().len() < MAX_TEMPLATES && dict.templates().total_bytes() < MAX_TEMPLATE_BYTES;
        let Some(template) = group.template() else {
            let bytes = group.blobs.get(at);
            if number == RAW
                && let Some(split) = &mut map.again
                && split.split(dict::text_of(bytes))
                && (dict.templates().find(&split.template).is_some() || room && admit(&split.template))
            {
                self.push_split(bytes, split, dict);
                return;
            }
            return self.push_raw(number, bytes);
        };
        if map.templates.len() < from_dict.templates().len() {
            map.templates.resize(from_dict.templates().len(), u32::MAX);
        }
        let known = &mut map.templates[template as usize];
        if *known == u32::MAX {
            let bytes = from_dict.templates().get(template);
            *known = match dict.templates().find(bytes) {
                Some(known) => known,
                None if room && admit(bytes) => dict.intern_template(bytes),
                None => REFUSED,
            };
        }
        if *known == REFUSED {
            let mut text = Vec::new();
            from.render(entry, from_dict, &mut text);
            return self.push_raw(RAW, &text);
        }
        let target = self.group(*known, dict);
        for (slot, from_slot) in self.groups[target as usize].slots.iter_mut().zip(&group.slots) {
            let before = slot.blobs.bytes.len();
            slot.push_from(from_slot, at, from_dict, dict, &mut map.words);
            self.kept += slot.blobs.bytes.len() - before;
        }
        self.note(target);
    }

    /// Appends an entry's text, or the bytes of a value that is none.
    pub fn render(&self, entry: usize, dict: &Dict, out: &mut Vec<u8>) {
        let (number, at) = self.entry(entry);
        let group = &self.groups[number as usize];
        let Some(template) = group.template() else {
            return out.extend_from_slice(group.blobs.get(at));
        };
        let mut slots = group.slots.iter();
        for piece in pieces(dict.templates().get(template)) {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Slot(_) => {
                    if let Some(slot) = slots.next() {
                        slot.render(at, dict, out);
                    }
                }
            }
        }
    }

    /// An entry's value.
    pub fn value<'a>(&'a self, entry: usize, dict: &'a Dict) -> LogValue<'a> {
        let (number, at) = self.entry(entry);
        let group = &self.groups[number as usize];
        match group.template() {
            None if number == VALUE => {
                codec::decode_value(&mut group.blobs.get(at)).unwrap_or(LogValue::Empty)
            }
            None => LogValue::String(dict::text_of(group.blobs.get(at)).into()),
            Some(template) if group.slots.is_empty() => {
                LogValue::String(dict::text_of(dict.templates().get(template)).into())
            }
            Some(_) => {
                let mut out = Vec::with_capacity(64);
                self.render(entry, dict, &mut out);
                let text = String::from_utf8(out).unwrap_or_default();
                LogValue::String(text.into())
            }
        }
    }

    /// Appends the bytes that [`codec::encode_value`] gives an entry's value.
    pub(super) fn encode_value(&self, entry: usize, dict: &Dict, text: &mut Vec<u8>, out: &mut Vec<u8>) {
        let (number, at) = self.entry(entry);
        let group = &self.groups[number as usize];
        match group.template() {
            None if number == VALUE => out.extend_from_slice(group.blobs.get(at)),
            None => codec::encode_text(group.blobs.get(at), out),
            Some(_) => {
                text.clear();
                self.render(entry, dict, text);
                codec::encode_text(text, out);
            }
        }
    }

    /// Visits the texts that are kept as they are.
    pub fn each_kept(&self, mut visit: impl FnMut(&str)) {
        let blobs = &self.groups[RAW as usize].blobs;
        (0..blobs.len()).for_each(|at| visit(dict::text_of(blobs.get(at))));
    }

    /// Puts a decoded column together.
    pub(super) fn assemble(groups: Vec<Group>, group_of: Vec<u32>) -> Self {
        let mut next = vec![0u32; groups.len()];
        let at = group_of.iter().map(|group| {
            let next = &mut next[*group as usize];
            *next += 1;
            *next - 1
        });
        let at = at.collect();
        let kept = groups.iter().map(Group::kept_bytes).sum();
        Self { groups, group_of, at, by_template: HashMap::new(), kept }
    }
}
