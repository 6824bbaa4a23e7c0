//! Groups of bodies: rows of a block whose bodies have one template stand together in its grouped columns. Which group a row
//! is in tells, with what the directory says of the groups, which parts of those columns a question needs.

use std::ops::Range;

use protocol::encoding::DecodeError;
use protocol::encoding::columns::Trust;
use protocol::logs::block::{Block, BodyCount};

use super::filter::Bits;

/// The groups of a block, in grouped order, and where its rows are in that.
pub(super) struct Groups<'a> {
    bodies: &'a [BodyCount],
    rows: usize,
    /// Of rows in the order of times, the number of each one's group; nothing of rows in grouped order.
    numbers: Option<Vec<u32>>,
}

impl<'a> Groups<'a> {
    /// Of rows in grouped order.
    pub fn in_order(bodies: &'a [BodyCount], rows: usize) -> Self {
        Self { bodies, rows, numbers: None }
    }

    /// Of rows in the order of times.
    pub fn by_time(bodies: &'a [BodyCount], block: &Block<'_>) -> Result<Self, DecodeError> {
        let numbers = block.numbers(Trust::Own)?;
        if numbers.iter().any(|number| *number as usize >= bodies.len() + 2) {
            return Err(DecodeError::Malformed("number of a group"));
        }
        Ok(Self { bodies, rows: block.rows(), numbers: Some(numbers) })
    }

    /// Where each group is in grouped order.
    fn ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let mut end = 0;
        self.bodies.iter().map(move |(_, count)| {
            let start = end;
            end += *count as usize;
            start..end
        })
    }

    /// By number, the group. Those without a template have the numbers 0 and 1, also where there is but one.
    fn of_number(&self, number: u32) -> usize {
        let plain = self.bodies.iter().take_while(|(template, _)| template.is_none()).count();
        match (number as usize).checked_sub(2) {
            Some(at) => plain + at,
            None => (number as usize).min(plain.saturating_sub(1)),
        }
    }

    /// Rows of some groups.
    pub fn rows_of(&self, wanted: &[bool]) -> Bits {
        if wanted.iter().all(|wanted| *wanted) {
            return Bits::all(self.rows, true);
        }
        let mut bits = Bits::all(self.rows, false);
        match &self.numbers {
            None => {
                let ranges = self.ranges().zip(wanted).filter(|(_, wanted)| **wanted);
                ranges.for_each(|(range, _)| range.for_each(|row| bits.set(row)));
            }
            Some(numbers) => {
                let known = |number| wanted.get(self.of_number(number)).copied().unwrap_or(false);
                let by_number: Vec<bool> = (0..wanted.len() as u32 + 2).map(known).collect();
                let rows = numbers.iter().enumerate();
                rows.filter(|(_, number)| by_number[**number as usize]).for_each(|(row, _)| bits.set(row));
            }
        }
        bits
    }

    /// Which groups have some of these rows.
    pub fn used(&self, rows: &Bits) -> Vec<bool> {
        let mut used = vec![false; self.bodies.len()];
        match &self.numbers {
            None => {
                let mut ends = self.ranges().map(|range| range.end);
                let (mut group, mut end) = (0, ends.next().unwrap_or(0));
                for row in rows.iter() {
                    while row >= end {
                        let Some(next) = ends.next() else { return used };
                        (group, end) = (group + 1, next);
                    }
                    used[group] = true;
                }
            }
            Some(numbers) => {
                let mut by_number = vec![false; self.bodies.len() + 2];
                rows.iter().for_each(|row| by_number[numbers[row] as usize] = true);
                let numbers = (0..).zip(by_number).filter(|(_, used)| *used);
                numbers.for_each(|(number, _)| used[self.of_number(number)] = true);
            }
        }
        used
    }

    /// Places of some groups in grouped order; `None` if those are all.
    pub fn among(&self, wanted: &[bool]) -> Option<Vec<Range<usize>>> {
        if wanted.iter().all(|wanted| *wanted) {
            return None;
        }
        Some(self.ranges().zip(wanted).filter(|(_, wanted)| **wanted).map(|(range, _)| range).collect())
    }

    /// Places of some rows in grouped order, ascending.
    pub fn places(&self, rows: &Bits) -> Vec<Range<usize>> {
        let Some(numbers) = &self.numbers else { return rows.iter().map(|row| row..row + 1).collect() };
        // By number, the place of its next row.
        let mut next = vec![0; self.bodies.len() + 3];
        numbers.iter().for_each(|number| next[*number as usize + 1] += 1);
        for at in 1..next.len() {
            next[at] += next[at - 1];
        }
        let (mut places, mut wanted) = (Vec::new(), rows.iter().peekable());
        for (row, number) in numbers.iter().enumerate() {
            let place = next[*number as usize];
            next[*number as usize] += 1;
            if wanted.next_if_eq(&row).is_some() {
                places.push(place..place + 1);
            }
        }
        places.sort_unstable_by_key(|place| place.start);
        places
    }

    /// The templates of some groups, ascending, and whether all these have one.
    pub fn templates(&self, wanted: &[bool]) -> (Vec<u32>, bool) {
        let bodies = || self.bodies.iter().zip(wanted).filter(|(_, wanted)| **wanted);
        let mut templates: Vec<u32> = bodies().filter_map(|((template, _), _)| *template).collect();
        templates.sort_unstable();
        (templates, bodies().all(|((template, _), _)| template.is_some()))
    }
}

#[cfg(test)]
mod tests {
    use protocol::encoding::columns::Pack;
    use protocol::ids::TenantId;
    use protocol::logs::LogValue;
    use protocol::logs::batch::LogBatch;
    use protocol::logs::block::{Layout, encode};

    use super::*;
    use crate::logs::segment::LIMITS;
    use crate::logs::tests::{batch_of, line, stream};

    #[test]
    fn rows_groups_and_templates_agree_in_either_order() {
        let records: Vec<_> = (0..90)
            .map(|i| {
                let mut record = line(i + 1, ["a b c", "d e f"][i as usize % 2]);
                if i % 9 == 0 {
                    record.body = LogValue::Int(i);
                }
                (stream("a"), record)
            })
            .collect();
        let batch = LogBatch::decode(&batch_of(&TenantId::default(), 1, &records)).expect("own bytes");
        for layout in [Layout::Plain, Layout::Checked] {
            let mut bytes = Vec::new();
            let bodies = encode(&batch.rows, &batch.dict, Pack::Small, layout, &mut bytes).bodies;
            let block = Block::parse(&bytes, layout, LIMITS).expect("own bytes");
            assert_eq!(bodies.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [10, 40, 40]);
            let (ordered, timed) =
                (Groups::in_order(&bodies, 90), Groups::by_time(&bodies, &block).expect("own bytes"));
            for group in 0..3 {
                let wanted: Vec<bool> = (0..3).map(|other| other == group).collect();
                for groups in [&ordered, &timed] {
                    let rows = groups.rows_of(&wanted);
                    let range = groups.among(&wanted).expect("not all").remove(0);
                    assert_eq!(groups.places(&rows), range.map(|row| row..row + 1).collect::<Vec<_>>());
                    assert_eq!(
                        (rows.count(), groups.used(&rows)),
                        (bodies[group].1 as usize, wanted.clone())
                    );
                }
                let place = ordered.rows_of(&wanted).iter().next().expect("a row");
                assert_eq!(timed.among(&wanted).expect("not all")[0].start, place);
                assert_eq!(timed.templates(&wanted).1, bodies[group].0.is_some());
            }
            assert!(timed.rows_of(&[true, false, false]).iter().all(|row| row % 9 == 0));
            assert_eq!(timed.among(&[true; 3]), None);
            assert!(Groups::by_time(&bodies[..1], &block).is_err(), "a directory of another block");
        }
    }
}
