//! Rows to bytes.

use hashbrown::HashMap;

use super::{BITS, BodyCount, EACH, FIXED, Layout, MAX_EXPONENT, PLAIN, SECTIONS, digits};
use crate::encoding::columns::{self, Pack};
use crate::encoding::frame;
use crate::logs::dict::{Dict, level};
use crate::logs::rows::{Origin, Rows, Values};
use crate::logs::template::Kind;
use crate::logs::text::{ASIDE, NO_TEMPLATE, RAW, Slot, TextColumn, VALUE};
use crate::varint;

/// Rows from which on a part of a grouped column is long enough.
const PART_ROWS: usize = 2048;

/// A block that was appended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encoded {
    /// The bodies' groups, in grouped order.
    pub bodies: Vec<BodyCount>,
    /// Bytes from its start that have no checksum in the block.
    pub unchecked: usize,
}

/// Sections, one after the other.
struct Sections {
    bytes: Vec<u8>,
    /// Groups of text sections that are kept apart from them.
    groups: Vec<u8>,
    /// Where each ends among the bytes, and its groups among those.
    ends: Vec<(usize, usize)>,
}

impl Sections {
    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>)) {
        write(&mut self.bytes, &mut self.groups);
        self.ends.push((self.bytes.len(), self.groups.len()));
    }

    /// Bytes of a section and its groups.
    fn get(&self, at: usize) -> (&[u8], &[u8]) {
        let start = at.checked_sub(1).map_or((0, 0), |before| self.ends[before]);
        (&self.bytes[start.0..self.ends[at].0], &self.groups[start.1..self.ends[at].1])
    }
}

/// Appends the rows as a block, in the order of their times.
pub fn encode(rows: &Rows, dict: &Dict, pack: Pack, layout: Layout, out: &mut Vec<u8>) -> Encoded {
    let empty = TextColumn::default();
    let body = rows.body().unwrap_or(&empty);
    let order = rows.by_time();
    let numbering = Numbering::new(body);
    let grouped = numbering.grouped(body, &order);
    let mut sections = Sections { bytes: Vec::new(), groups: Vec::new(), ends: Vec::new() };

    let of_order = |values: &[i64]| -> Vec<i64> { order.iter().map(|row| values[*row as usize]).collect() };
    let of_grouped =
        |values: &[u32]| -> Vec<i64> { grouped.iter().map(|row| i64::from(values[*row as usize])).collect() };
    sections.put(|out, _| columns::encode(&of_order(&rows.times), true, pack, out));
    let origins: Vec<i64> = order.iter().map(|row| i64::from(rows.origins[*row as usize])).collect();
    sections.put(|out, _| columns::encode(&origins, false, pack, out));
    let both = order.iter().filter(|row| rows.origins[**row as usize] == Origin::Both as u8);
    let late = both.map(|row| rows.observed[*row as usize].wrapping_sub(rows.times[*row as usize]));
    let late: Vec<i64> = late.collect();
    sections.put(|out, _| columns::encode(&late, false, pack, out));
    let bodies: Vec<i64> = order
        .iter()
        .map(|row| i64::from(numbering.number_of[body.entry(*row as usize).0 as usize]))
        .collect();
    sections.put(|out, _| columns::encode(&bodies, false, pack, out));
    sections.put(|out, groups| {
        let heads = encode_text(body, &numbering, &order, dict, pack, layout, out);
        groups.extend_from_slice(&heads);
    });
    sections.put(|out, _| encode_ids(order.iter().map(|row| rows.traces[*row as usize]), pack, out));
    sections.put(|out, _| encode_ids(order.iter().map(|row| rows.spans[*row as usize]), pack, out));
    let parts = match layout {
        Layout::Plain => Vec::new(),
        Layout::Checked => numbering.parts(body),
    };
    for values in [&rows.streams, &rows.severities, &rows.flags, &rows.events] {
        sections.put(|out, _| match layout {
            Layout::Plain => columns::encode(&of_grouped(values), false, pack, out),
            Layout::Checked => encode_parts(&of_grouped(values), &parts, pack, out),
        });
    }
    // Where attributes are depends on all of them.
    sections.put(|out, _| columns::encode(&of_grouped(&rows.key_sets), false, pack, out));
    debug_assert_eq!(sections.ends.len(), SECTIONS);

    // Entries of each column in grouped order.
    let mut entries: Vec<Vec<u32>> = vec![Vec::new(); rows.columns.len()];
    for row in &grouped {
        let columns = dict.key_columns(rows.key_sets[*row as usize]);
        for (column, cell) in columns.iter().zip(rows.cells(*row as usize)) {
            entries[*column as usize].push(*cell);
        }
    }
    let used: Vec<usize> = (0..entries.len()).filter(|column| !entries[*column].is_empty()).collect();
    for column in &used {
        sections.put(|out, groups| {
            encode_values(&rows.columns[*column], &entries[*column], dict, pack, layout, (out, groups));
        });
    }
    let unchecked = match layout {
        Layout::Plain => put_plain(rows.len(), &sections, &used, out),
        Layout::Checked => put_checked(rows.len(), &sections, &used, out),
    };
    let count = |group: &u32| {
        let group = &body.groups()[*group as usize];
        (group.template(), group.len() as u32)
    };
    Encoded { bodies: numbering.used.iter().map(count).collect(), unchecked }
}

fn put_plain(rows: usize, sections: &Sections, columns: &[usize], out: &mut Vec<u8>) -> usize {
    let start = out.len();
    varint::write_u64(out, rows as u64);
    for at in 0..SECTIONS {
        varint::write_prefixed(out, sections.get(at).0);
    }
    varint::write_u64(out, columns.len() as u64);
    for (at, column) in columns.iter().enumerate() {
        varint::write_u64(out, *column as u64);
        varint::write_prefixed(out, sections.get(SECTIONS + at).0);
    }
    out.len() - start
}

fn put_checked(rows: usize, sections: &Sections, columns: &[usize], out: &mut Vec<u8>) -> usize {
    let mut head = Vec::new();
    let put = |at: usize, head: &mut Vec<u8>| {
        let (bytes, groups) = sections.get(at);
        varint::write_u64(head, bytes.len() as u64);
        head.extend_from_slice(&crc32c::crc32c(bytes).to_le_bytes());
        varint::write_prefixed(head, groups);
    };
    varint::write_u64(&mut head, rows as u64);
    (0..SECTIONS).for_each(|at| put(at, &mut head));
    varint::write_u64(&mut head, columns.len() as u64);
    for (at, column) in columns.iter().enumerate() {
        varint::write_u64(&mut head, *column as u64);
        put(SECTIONS + at, &mut head);
    }
    let start = out.len();
    varint::write_prefixed(out, &head);
    let unchecked = out.len() - start;
    out.extend_from_slice(&sections.bytes);
    unchecked
}

/// A grouped column in parts of so many rows.
fn encode_parts(values: &[i64], parts: &[usize], pack: Pack, out: &mut Vec<u8>) {
    let (mut bytes, mut start) = (Vec::new(), 0);
    varint::write_u64(out, parts.len() as u64);
    for rows in parts {
        let before = bytes.len();
        columns::encode(&values[start..start + rows], false, pack, &mut bytes);
        varint::write_u64(out, *rows as u64);
        varint::write_u64(out, (bytes.len() - before) as u64);
        start += rows;
    }
    debug_assert_eq!(start, values.len());
    out.extend_from_slice(&bytes);
}

fn encode_values(
    values: &Values,
    entries: &[u32],
    dict: &Dict,
    pack: Pack,
    layout: Layout,
    (out, groups): (&mut Vec<u8>, &mut Vec<u8>),
) {
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
            let heads = encode_text(column, &numbering, entries, dict, pack, layout, out);
            groups.extend_from_slice(&heads);
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

    /// Rows of each part of a grouped column: whole groups, what has no template by itself.
    fn parts(&self, body: &TextColumn) -> Vec<usize> {
        let (mut parts, mut rows) = (Vec::new(), 0);
        for group in &self.used {
            let group = &body.groups()[*group as usize];
            rows += group.len();
            if rows >= PART_ROWS || group.template().is_none() {
                parts.push(std::mem::take(&mut rows));
            }
        }
        parts.extend(Some(rows).filter(|rows| *rows > 0));
        parts
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

/// Groups and slots of a column whose entries come in some order. Returns the groups where the layout keeps them elsewhere.
fn encode_text(
    column: &TextColumn,
    numbering: &Numbering,
    order: &[u32],
    dict: &Dict,
    pack: Pack,
    layout: Layout,
    out: &mut Vec<u8>,
) -> Vec<u8> {
    // Positions in each group, in the order in which entries come.
    let mut positions: Vec<Vec<u32>> = vec![Vec::new(); column.groups().len()];
    for entry in order {
        let (group, at) = column.entry(*entry as usize);
        positions[group as usize].push(at as u32);
    }
    let mut heads = Vec::new();
    varint::write_u64(&mut heads, numbering.used.len() as u64);
    let mut heap: Vec<&[u8]> = Vec::new();
    let mut slots = Vec::new();
    let mut bytes = Vec::new();
    for group in &numbering.used {
        let (positions, number) = (&positions[*group as usize], *group);
        let group = &column.groups()[*group as usize];
        let code = group.template().map_or(u64::from(number), |template| u64::from(template) + 2);
        varint::write_u64(&mut heads, code);
        varint::write_u64(&mut heads, positions.len() as u64);
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
    if layout == Layout::Plain {
        out.append(&mut heads);
    }
    bytes.clear();
    encode_heap(heap.into_iter(), pack, &mut bytes);
    varint::write_prefixed(out, &bytes);
    out.extend_from_slice(&slots);
    heads
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
