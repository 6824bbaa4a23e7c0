//! The labels of a segment: who has which series, and how matchers find them.
//!
//! Series are grouped in *parts*: a run of at most 16,384 series of one tenant, one metric and one set of label
//! names. Each label name has one dictionary for the whole segment; each part has a value-id column for each of its
//! names. A metric is a contiguous range of parts and a matcher a scan of a column, after it was asked once for each
//! distinct value: there are no postings and no ids on disk.
//!
//! ```text
//! frames:         zstd frames of about 64 KiB raw: dictionaries, then the parts' columns; crc32c each
//! labels section: tenants: count, texts
//!                 frames:  count, each gap to the one before, length, crc32c u32 LE
//!                 names:   count, each text, values, frame, offset in it, length
//!                 sets:    count, each count, name numbers (ascending)
//!                 parts:   count, each tenant, set, metric's value id + 1 or 0, series, frame, offset in it
//! ```
//! All numbers are varints. The metric's name is a label like any other, but its id stands in the part.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use hashbrown::HashMap;
use protocol::labels::{Labels, METRIC_NAME};
use protocol::varint;

use super::dictionary::{self, Dictionary};
use super::id_column::{self, IdColumn, varint_len};
use super::metadata::read_text;
use super::rows::{Located, Output};
use super::sink::Sink;
use super::{Corruption, order};
use crate::encoding::{DecodeError, frame};

/// Most series of a part: what a cursor decodes at once.
const PART_SERIES: usize = 1 << 14;
/// Raw bytes after which a frame is closed.
const FRAME_LEN: usize = 64 << 10;

/// Collects the labels of series that come in order.
#[derive(Default)]
pub(super) struct LabelsIndexWriter {
    tenants: Vec<String>,
    names: HashMap<Box<[u8]>, u32>,
    values: Vec<NameValues>,
    sets: HashMap<Vec<u32>, u32>,
    set_list: Vec<Vec<u32>>,
    parts: Vec<PartValues>,
    last: LabelPairs,
    next: LabelPairs,
    changed: Vec<bool>,
}

/// A label set taken apart, its bytes copied.
#[derive(Default)]
struct LabelPairs {
    bytes: Vec<u8>,
    pairs: Vec<(Range<usize>, Range<usize>)>,
}

/// Distinct values of a name, numbered as they come.
struct NameValues {
    name: Box<[u8]>,
    numbers: HashMap<Box<[u8]>, u32>,
    list: Vec<Box<[u8]>>,
}

struct PartValues {
    tenant: u32,
    set: u32,
    metric: Option<u32>,
    series: usize,
    /// Name and ids of each label but the metric's.
    columns: Vec<(u32, Vec<u32>)>,
}

/// How a series follows the one before it.
enum Step {
    /// Same metric and names; `changed` says which values differ.
    SameFamily,
    NewFamily,
    OutOfOrder,
}

impl LabelPairs {
    fn set(&mut self, canonical: &[u8]) {
        self.bytes.clear();
        self.bytes.extend_from_slice(canonical);
        self.pairs.clear();
        let mut end = 0;
        for (name, value) in order::pairs(canonical) {
            let prefix = |len: usize| if len < 1 << 7 { 1 } else { varint_len(len as u64) };
            let name_start = end + prefix(name.len());
            let name_end = name_start + name.len();
            let value_start = name_end + prefix(value.len());
            end = value_start + value.len();
            self.pairs.push((name_start..name_end, value_start..end));
        }
    }

    fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.pairs.iter().map(|(name, value)| (&self.bytes[name.clone()], &self.bytes[value.clone()]))
    }

    fn plain(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.iter().filter(|(name, _)| *name != METRIC_NAME.as_bytes())
    }

    fn metric(&self) -> Option<&[u8]> {
        self.iter().find(|(name, _)| *name == METRIC_NAME.as_bytes()).map(|(_, value)| value)
    }
}

/// Compares as [`order::compare_series`] does, with the answer that the writer needs.
fn step(last: &LabelPairs, next: &LabelPairs, changed: &mut Vec<bool>) -> Step {
    changed.clear();
    let mut order = Ordering::Equal;
    let mut same = last.pairs.len() == next.pairs.len();
    for ((name, before), (other, value)) in last.iter().zip(next.iter()) {
        let values = before.cmp(value);
        if name != other || (name == METRIC_NAME.as_bytes() && values != Ordering::Equal) {
            same = false;
            break;
        }
        if name != METRIC_NAME.as_bytes() {
            changed.push(values != Ordering::Equal);
            order = order.then(values);
        }
    }
    if !same {
        order = last
            .metric()
            .cmp(&next.metric())
            .then_with(|| last.plain().map(|(name, _)| name).cmp(next.plain().map(|(name, _)| name)));
    }
    match (order, same) {
        (Ordering::Less, true) => Step::SameFamily,
        (Ordering::Less, false) => Step::NewFamily,
        _ => Step::OutOfOrder,
    }
}

impl LabelsIndexWriter {
    /// Adds the next series, unless it does not come after the last: then the answer is `false`.
    pub(super) fn push(&mut self, tenant: &str, labels: &Labels) -> bool {
        self.next.set(labels.as_bytes());
        let step = match self.tenants.last().map(|last| last.as_str().cmp(tenant)) {
            Some(Ordering::Greater) => Step::OutOfOrder,
            Some(Ordering::Equal) => step(&self.last, &self.next, &mut self.changed),
            _ => {
                self.tenants.push(tenant.to_owned());
                Step::NewFamily
            }
        };
        match step {
            Step::OutOfOrder => return false,
            Step::SameFamily if self.parts.last().is_some_and(|part| part.series < PART_SERIES) => {}
            _ => {
                self.begin_part();
                self.changed.clear();
                self.changed.resize(self.next.pairs.len(), true);
            }
        }
        let Some(part) = self.parts.last_mut() else { return false };
        for (((_, value), changed), (name, ids)) in
            self.next.plain().zip(&self.changed).zip(&mut part.columns)
        {
            let last = ids.last().copied();
            ids.push(match last {
                Some(id) if !changed => id,
                last => self.values[*name as usize].number_of(value, last),
            });
        }
        part.series += 1;
        std::mem::swap(&mut self.last, &mut self.next);
        true
    }

    fn begin_part(&mut self) {
        let (mut set, mut columns, mut metric) = (Vec::new(), Vec::new(), None);
        for (name, value) in self.next.iter() {
            let next = self.values.len() as u32;
            let number = self.names.get(name).copied().unwrap_or(next);
            if number == next {
                self.names.insert(name.into(), next);
                self.values.push(NameValues { name: name.into(), numbers: HashMap::new(), list: Vec::new() });
            }
            if name == METRIC_NAME.as_bytes() {
                metric = Some(self.values[number as usize].number_of(value, None));
            } else {
                columns.push((number, Vec::new()));
            }
            set.push(number);
        }
        let next = self.set_list.len() as u32;
        let number = self.sets.get(&set).copied().unwrap_or(next);
        if number == next {
            self.sets.insert(set.clone(), next);
            self.set_list.push(set);
        }
        let tenant = self.tenants.len() as u32 - 1;
        self.parts.push(PartValues { tenant, set: number, metric, series: 0, columns });
    }

    /// Writes the frames and gives the section's raw bytes.
    pub(super) fn finish<S: Sink>(mut self, out: &mut Output<S>) -> io::Result<Vec<u8>> {
        let mut frames = FramesWriter::default();
        // Numbers by arrival become ranks: of names, and of values by name.
        let mut by_name: Vec<u32> = (0..self.values.len() as u32).collect();
        by_name.sort_by(|a, b| self.values[*a as usize].name.cmp(&self.values[*b as usize].name));
        let mut name_rank = vec![0; by_name.len()];
        let mut value_ranks: Vec<Vec<u32>> = vec![Vec::new(); by_name.len()];
        let mut names = Vec::new();
        varint::write_u64(&mut names, by_name.len() as u64);
        for (rank, &number) in by_name.iter().enumerate() {
            name_rank[number as usize] = rank as u32;
            let values = &mut self.values[number as usize];
            let (sorted, ranks) = values.sort();
            let start = frames.raw.len();
            dictionary::encode(sorted.iter().map(|id| &*values.list[*id as usize]), &mut frames.raw);
            varint::write_prefixed(&mut names, &values.name);
            for number in [sorted.len(), frames.number(), start, frames.raw.len() - start] {
                varint::write_u64(&mut names, number as u64);
            }
            value_ranks[number as usize] = ranks;
            values.numbers = HashMap::new();
            frames.close_if_full(out)?;
        }
        frames.close(out)?;
        let parts = self.write_parts(&value_ranks, &mut frames, out)?;
        frames.close(out)?;

        let mut section = Vec::new();
        varint::write_u64(&mut section, self.tenants.len() as u64);
        for tenant in &self.tenants {
            varint::write_prefixed(&mut section, tenant.as_bytes());
        }
        frames.write_table(&mut section);
        section.extend_from_slice(&names);
        varint::write_u64(&mut section, self.set_list.len() as u64);
        for set in &self.set_list {
            varint::write_u64(&mut section, set.len() as u64);
            for number in set {
                varint::write_u64(&mut section, u64::from(name_rank[*number as usize]));
            }
        }
        section.extend_from_slice(&parts);
        Ok(section)
    }

    fn write_parts<S: Sink>(
        &mut self,
        value_ranks: &[Vec<u32>],
        frames: &mut FramesWriter,
        out: &mut Output<S>,
    ) -> io::Result<Vec<u8>> {
        let mut parts = Vec::new();
        varint::write_u64(&mut parts, self.parts.len() as u64);
        let metric_name = self.names.get(METRIC_NAME.as_bytes()).copied();
        for part in &mut self.parts {
            let metric = match (part.metric, metric_name) {
                (Some(id), Some(name)) => u64::from(value_ranks[name as usize][id as usize]) + 1,
                _ => 0,
            };
            for number in [u64::from(part.tenant), u64::from(part.set), metric, part.series as u64] {
                varint::write_u64(&mut parts, number);
            }
            varint::write_u64(&mut parts, frames.number() as u64);
            varint::write_u64(&mut parts, frames.raw.len() as u64);
            for (name, mut ids) in std::mem::take(&mut part.columns) {
                let ranks = &value_ranks[name as usize];
                ids.iter_mut().for_each(|id| *id = ranks[*id as usize]);
                id_column::encode(&ids, &mut frames.raw);
            }
            frames.close_if_full(out)?;
        }
        Ok(parts)
    }
}

impl NameValues {
    /// The number of a value. `last` is the one before it in its column: families mostly share their values and
    /// their order, so the value after it is the first guess.
    fn number_of(&mut self, value: &[u8], last: Option<u32>) -> u32 {
        let guess = last.map_or(0, |last| last + 1);
        if self.list.get(guess as usize).is_some_and(|known| **known == *value) {
            return guess;
        }
        let next = self.list.len() as u32;
        let number = self.numbers.get(value).copied().unwrap_or(next);
        if number == next {
            self.numbers.insert(value.into(), next);
            self.list.push(value.into());
        }
        number
    }

    /// Numbers in the order of their values, and the rank of each number.
    fn sort(&self) -> (Vec<u32>, Vec<u32>) {
        let mut sorted: Vec<u32> = (0..self.list.len() as u32).collect();
        sorted.sort_unstable_by(|a, b| self.list[*a as usize].cmp(&self.list[*b as usize]));
        let mut ranks = vec![0; sorted.len()];
        for (rank, &number) in sorted.iter().enumerate() {
            ranks[number as usize] = rank as u32;
        }
        (sorted, ranks)
    }
}

#[derive(Default)]
struct FramesWriter {
    raw: Vec<u8>,
    table: Vec<FrameEntry>,
}

impl FramesWriter {
    /// Number of the frame that `raw` will be.
    fn number(&self) -> usize {
        self.table.len()
    }

    fn close_if_full<S: Sink>(&mut self, out: &mut Output<S>) -> io::Result<()> {
        if self.raw.len() >= FRAME_LEN { self.close(out) } else { Ok(()) }
    }

    fn close<S: Sink>(&mut self, out: &mut Output<S>) -> io::Result<()> {
        if self.raw.is_empty() {
            return Ok(());
        }
        if self.raw.len() > frame::MAX_RAW_LEN {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "labels of a segment"));
        }
        let mut packed = Vec::new();
        frame::write(&self.raw, 3, &mut packed);
        self.table.push(FrameEntry {
            offset: out.offset(),
            len: packed.len() as u64,
            crc: crc32c::crc32c(&packed),
        });
        self.raw.clear();
        out.write(&packed)
    }

    fn write_table(&self, out: &mut Vec<u8>) {
        varint::write_u64(out, self.table.len() as u64);
        let mut end = 0;
        for entry in &self.table {
            varint::write_u64(out, entry.offset - end);
            varint::write_u64(out, entry.len);
            out.extend_from_slice(&entry.crc.to_le_bytes());
            end = entry.offset + entry.len;
        }
    }
}

/// A zstd frame's place in the file.
#[derive(Clone, Copy, Debug)]
struct FrameEntry {
    offset: u64,
    len: u64,
    crc: u32,
}

/// A label name and where its dictionary lies.
#[derive(Debug)]
pub(super) struct NameEntry {
    pub(super) name: String,
    pub(super) values: u32,
    frame: u32,
    offset: usize,
    len: usize,
}

/// A run of series of one tenant, metric and set of names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Part {
    pub(super) tenant: u32,
    pub(super) set: u32,
    pub(super) metric: Option<u32>,
    pub(super) first_series: u32,
    pub(super) series: u32,
    frame: u32,
    offset: usize,
}

/// The labels section, decoded; dictionaries and columns are read when they are needed.
pub(super) struct LabelsIndex {
    pub(super) tenants: Vec<String>,
    pub(super) names: Vec<NameEntry>,
    /// Name numbers of each set, in the order of labels.
    pub(super) sets: Vec<Vec<u32>>,
    pub(super) parts: Vec<Part>,
    /// Number of [`METRIC_NAME`], when some series has it.
    pub(super) metric_name: Option<u32>,
    frames: Vec<FrameEntry>,
    dictionaries: Vec<OnceLock<Arc<Dictionary>>>,
    unpacked: Mutex<FrameCache>,
}

/// Frames unpacked lately, oldest out first: a dashboard asks for the same few again and again.
#[derive(Default)]
struct FrameCache {
    frames: VecDeque<(u32, Arc<[u8]>)>,
    bytes: usize,
}

/// Bytes of unpacked frames that a reader keeps.
const FRAME_CACHE_BYTES: usize = 1 << 20;

const WHAT: &str = "labels";

fn column(source: DecodeError) -> Corruption {
    Corruption::Column { what: WHAT, source }
}

impl LabelsIndex {
    /// Reads the section's raw bytes and checks every reference in it.
    pub(super) fn open(raw: &[u8], file_len: usize, series: u32) -> Result<Self, Corruption> {
        let mut reader = SectionReader { input: raw };
        let tenants = reader.list(|r| read_text(&mut r.input))?;
        if !tenants.is_sorted_by(|a, b| a < b) {
            return Err(column(DecodeError::Malformed("order of tenants")));
        }
        let mut end = 0u64;
        let frames = reader.list(|r| {
            let offset = end.checked_add(r.number()?).ok_or(DecodeError::Malformed("offset of a frame"))?;
            let len = r.number()?;
            end = offset.checked_add(len).ok_or(DecodeError::Malformed("length of a frame"))?;
            let crc = varint::read_bytes(&mut r.input, 4).ok_or(DecodeError::Truncated)?;
            Ok(FrameEntry {
                offset,
                len,
                crc: u32::from_le_bytes(crc.try_into().expect("4 bytes were read")),
            })
        })?;
        let names = reader.list(|r| {
            Ok(NameEntry {
                name: read_text(&mut r.input)?,
                values: r.number_u32()?,
                frame: r.number_u32()?,
                offset: r.number()? as usize,
                len: r.number()? as usize,
            })
        })?;
        let sets = reader.list(|r| r.list_of(SectionReader::number_u32))?;
        let mut next_series = 0u32;
        let parts = reader.list(|r| {
            let (tenant, set) = (r.number_u32()?, r.number_u32()?);
            let metric = r.number_u32()?.checked_sub(1);
            let count = r.number_u32()?;
            let first_series = next_series;
            next_series = first_series.checked_add(count).ok_or(DecodeError::Malformed("count of series"))?;
            if count == 0 || count as usize > PART_SERIES {
                return Err(DecodeError::Malformed("series of a part"));
            }
            Ok(Part {
                tenant,
                set,
                metric,
                first_series,
                series: count,
                frame: r.number_u32()?,
                offset: r.number()? as usize,
            })
        })?;
        let ordered = names.is_sorted_by(|a, b| a.name < b.name) && !names.iter().any(|n| n.name.is_empty());
        if !reader.input.is_empty() || next_series != series || !ordered || end > file_len as u64 {
            return Err(column(DecodeError::Malformed("counts of the labels section")));
        }
        let metric_name = names.iter().position(|n| n.name == METRIC_NAME).map(|i| i as u32);
        let metrics = metric_name.map_or(0, |number| names[number as usize].values);
        let dictionaries = names.iter().map(|_| OnceLock::new()).collect();
        let unpacked = Mutex::default();
        let index = Self { tenants, names, sets, parts, metric_name, frames, dictionaries, unpacked };
        if index.references_hold(metrics) { Ok(index) } else { Err(Corruption::Bounds(WHAT)) }
    }

    fn references_hold(&self, metrics: u32) -> bool {
        let (names, frames) = (self.names.len() as u32, self.frames.len() as u32);
        let set_holds =
            |set: &Vec<u32>| set.is_sorted_by(|a, b| a < b) && set.last().is_none_or(|n| *n < names);
        let part_holds = |part: &Part| {
            self.tenants.len() as u32 > part.tenant
                && self.sets.get(part.set as usize).is_some_and(|set| {
                    let named = self.metric_name.is_some_and(|name| set.contains(&name));
                    let columns = set.len() - usize::from(named);
                    named == part.metric.is_some() && (columns == 0 || part.frame < frames)
                })
                && part.metric.is_none_or(|id| id < metrics)
        };
        self.sets.iter().all(set_holds)
            && self.parts.iter().all(part_holds)
            && self.parts.is_sorted_by_key(|part| part.tenant)
            && self.names.iter().all(|name| name.frame < frames)
    }

    /// Bytes of all frames.
    pub(super) fn len_bytes(&self) -> u64 {
        self.frames.iter().map(|entry| entry.len).sum()
    }

    /// The number of a label name.
    pub(super) fn name(&self, name: &str) -> Option<u32> {
        self.names.binary_search_by(|entry| entry.name.as_str().cmp(name)).ok().map(|i| i as u32)
    }

    /// The parts of a tenant.
    pub(super) fn tenant_parts(&self, tenant: &str) -> std::ops::Range<usize> {
        match self.tenants.binary_search_by(|t| t.as_str().cmp(tenant)) {
            Err(_) => 0..0,
            Ok(number) => {
                let number = number as u32;
                let start = self.parts.partition_point(|part| part.tenant < number);
                start..self.parts.partition_point(|part| part.tenant <= number)
            }
        }
    }

    /// The part that holds a series.
    pub(super) fn part_of(&self, series: u32) -> Option<usize> {
        let i = self.parts.partition_point(|part| part.first_series <= series).checked_sub(1)?;
        (series - self.parts[i].first_series < self.parts[i].series).then_some(i)
    }

    /// The dictionary of a name, read at its first use.
    pub(super) fn dictionary(&self, file: &[u8], name: u32) -> Located<Arc<Dictionary>> {
        let slot = &self.dictionaries[name as usize];
        if let Some(dictionary) = slot.get() {
            return Ok(dictionary.clone());
        }
        let entry = &self.names[name as usize];
        let raw = self.frame(file, entry.frame)?;
        let located = |reason| (self.frames[entry.frame as usize].offset, reason);
        let bytes = entry
            .offset
            .checked_add(entry.len)
            .and_then(|end| raw.get(entry.offset..end))
            .ok_or(located(Corruption::Bounds("dictionary")))?;
        let decoded = Dictionary::decode(bytes, entry.values as usize)
            .map_err(|source| located(Corruption::Column { what: "dictionary", source }))?;
        Ok(slot.get_or_init(|| Arc::new(decoded)).clone())
    }

    /// Unpacks every frame and dictionary, and names those that can not be.
    pub(super) fn check(&self, file: &[u8], note: &mut dyn FnMut((u64, Corruption))) {
        let frames = (0..self.frames.len() as u32).filter_map(|number| self.frame(file, number).err());
        frames.for_each(&mut *note);
        (0..self.names.len() as u32).filter_map(|name| self.dictionary(file, name).err()).for_each(note);
    }

    /// A frame of columns.
    fn cached_frame(&self, file: &[u8], number: u32) -> Located<Arc<[u8]>> {
        let lock = || self.unpacked.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, raw)) = lock().frames.iter().find(|(known, _)| *known == number) {
            return Ok(raw.clone());
        }
        let raw: Arc<[u8]> = self.frame(file, number)?.into();
        let mut cache = lock();
        if raw.len() <= FRAME_CACHE_BYTES && !cache.frames.iter().any(|(known, _)| *known == number) {
            cache.bytes += raw.len();
            cache.frames.push_back((number, raw.clone()));
            while cache.bytes > FRAME_CACHE_BYTES
                && let Some((_, gone)) = cache.frames.pop_front()
            {
                cache.bytes -= gone.len();
            }
        }
        Ok(raw)
    }

    /// Unpacks a frame.
    fn frame(&self, file: &[u8], number: u32) -> Located<Vec<u8>> {
        let entry = self.frames[number as usize];
        let located = |reason| (entry.offset, reason);
        let (start, end) = (entry.offset as usize, (entry.offset + entry.len) as usize);
        let packed = file.get(start..end).ok_or(located(Corruption::Bounds(WHAT)))?;
        if crc32c::crc32c(packed) != entry.crc {
            return Err(located(Corruption::Checksum(WHAT)));
        }
        frame::read(packed).map_err(|source| located(column(source)))
    }
}

/// Reads the columns of parts; keeps the frame it used last, since neighbours share it.
#[derive(Default)]
pub(super) struct PartReader {
    frame: Option<u32>,
    raw: Arc<[u8]>,
}

impl PartReader {
    /// The coded columns of a part: one for each name of its set but the metric's.
    pub(super) fn columns<'a>(
        &'a mut self,
        index: &LabelsIndex,
        file: &[u8],
        part: &Part,
        out: &mut Vec<IdColumn<'a>>,
    ) -> Located<()> {
        out.clear();
        let count = index.sets[part.set as usize].len() - usize::from(part.metric.is_some());
        if count == 0 {
            return Ok(());
        }
        if self.frame != Some(part.frame) {
            self.frame = None;
            self.raw = index.cached_frame(file, part.frame)?;
            self.frame = Some(part.frame);
        }
        let located = |reason| (index.frames[part.frame as usize].offset, reason);
        let mut input = self.raw.get(part.offset..).ok_or(located(Corruption::Bounds(WHAT)))?;
        for _ in 0..count {
            out.push(IdColumn::read(&mut input).map_err(|source| located(column(source)))?);
        }
        Ok(())
    }

    /// Names of the part's columns, in their order.
    pub(super) fn column_names<'a>(index: &'a LabelsIndex, part: &Part) -> impl Iterator<Item = u32> + 'a {
        index.sets[part.set as usize].iter().copied().filter(|name| Some(*name) != index.metric_name)
    }
}

impl LabelsIndex {
    /// Locates a fault in a part's columns.
    pub(super) fn in_part(&self, part: &Part, source: DecodeError) -> (u64, Corruption) {
        (self.frames.get(part.frame as usize).map_or(0, |entry| entry.offset), column(source))
    }
}

struct SectionReader<'a> {
    input: &'a [u8],
}

impl SectionReader<'_> {
    fn number(&mut self) -> Result<u64, DecodeError> {
        varint::read_u64(&mut self.input).ok_or(DecodeError::Truncated)
    }

    fn number_u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.number()?).map_err(|_| DecodeError::Malformed("number"))
    }

    fn list_of<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let mut item = item;
        let count = self.number()?;
        // Items take a byte at least, and no memory is reserved ahead of them.
        if count > self.input.len() as u64 {
            return Err(DecodeError::Truncated);
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn list<T>(
        &mut self,
        item: impl FnMut(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, Corruption> {
        self.list_of(item).map_err(column)
    }
}

/// Which values of a label pass.
pub(super) enum Passing {
    /// No value of this segment.
    None,
    /// One value.
    One(u32),
    /// A bit for each value, and how many are set.
    Some(Vec<u64>),
    /// All values.
    All,
}

impl Passing {
    /// Asks about each distinct value once.
    pub(super) fn of(dictionary: &Dictionary, mut passes: impl FnMut(&str) -> bool) -> Self {
        let mut bits = vec![0u64; dictionary.len().div_ceil(64)];
        let (mut count, mut last) = (0, 0);
        for (id, value) in dictionary.iter().enumerate() {
            if passes(value) {
                bits[id / 64] |= 1 << (id % 64);
                (count, last) = (count + 1, id as u32);
            }
        }
        match count {
            0 => Self::None,
            1 => Self::One(last),
            _ if count == dictionary.len() => Self::All,
            _ => Self::Some(bits),
        }
    }

    /// Those of a list of ids.
    pub(super) fn only(ids: &[u32], values: usize) -> Self {
        match ids {
            [] => Self::None,
            [id] => Self::One(*id),
            ids => {
                let mut bits = vec![0u64; values.div_ceil(64)];
                ids.iter().for_each(|id| bits[*id as usize / 64] |= 1 << (id % 64));
                Self::Some(bits)
            }
        }
    }

    /// Whether a value passes.
    #[inline]
    pub(super) fn holds(&self, id: u32) -> bool {
        match self {
            Self::None => false,
            Self::One(one) => *one == id,
            Self::Some(bits) => bits.get(id as usize / 64).is_some_and(|word| word >> (id % 64) & 1 != 0),
            Self::All => true,
        }
    }
}
