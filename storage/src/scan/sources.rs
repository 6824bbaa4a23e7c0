//! Reading series that lie in several places, side by side.
//!
//! Each source lists its matching series in the order of labels. The walk looks at the heads of all lists, takes the
//! least, and joins what the sources that have it know. Sources are few; that most of them hold the same series, in the
//! same order, is what it is built for: a source takes over the label sets of another where they are equal (one
//! comparison of bytes, no copy), and equal heads are then the same pointer.
//!
//! Where only the number of samples is asked for, pieces of a series that do not overlap in time are counted apart, from
//! their timestamps; those that do are read and joined as ever.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use protocol::ids::TenantId;
use protocol::labels::Labels;

use super::{SeriesColumns, TableView};
use crate::columns::Columns;
use crate::error::StorageError;
use crate::memtable::{Gathered, SlotMap};
use crate::merge::{read_series, read_starts};
use crate::segment::{SegmentCursor, SegmentReader, Selection, TimeSlice};
use crate::tally::Tally;
use crate::tombstone::{Tombstone, apply_tombstones};

/// How far ahead a source looks in another's list for a label set of its own.
const LOOK_AHEAD: usize = 4;

/// Matching series of one place.
pub(super) struct Source<'a> {
    /// Ascending.
    labels: Vec<Labels>,
    /// The place's own number of each.
    numbers: Vec<u32>,
    /// Position of the head in both.
    next: usize,
    data: Data,
    /// Deletes that concern the place.
    tombstones: Vec<&'a Tombstone>,
}

enum Data {
    Segment(Box<SegmentCursor>),
    Table(Gathered),
}

impl<'a> Source<'a> {
    /// Series of a memtable that have samples in the range. `ordinals` are in the order of labels.
    pub fn of_table(
        view: &TableView,
        ordinals: &[u32],
        range: (i64, i64),
        tombstones: Vec<&'a Tombstone>,
    ) -> Self {
        let wanted = SlotMap::new(view.registry.len(), ordinals.iter().copied());
        let gathered = view.table.gather(&wanted, range);
        let (mut labels, mut numbers) = (Vec::new(), Vec::new());
        for (slot, &ordinal) in ordinals.iter().enumerate() {
            if gathered.has_samples(slot) {
                labels.push(view.registry.labels(ordinal));
                numbers.push(slot as u32);
            }
        }
        Self { labels, numbers, next: 0, data: Data::Table(gathered), tombstones }
    }

    /// Selected series of a segment. `alike` is another source's list, the more alike the better.
    pub fn of_segment(
        reader: &SegmentReader,
        selection: &Selection,
        alike: &[Labels],
        tombstones: Vec<&'a Tombstone>,
    ) -> Result<Self, StorageError> {
        let mut cursor = reader.cursor();
        let (mut labels, mut numbers) =
            (Vec::with_capacity(selection.len()), Vec::with_capacity(selection.len()));
        let (mut at, mut is_sorted) = (0, true);
        // Whether the label set before was taken from the other list: then a later one from there is greater.
        let mut was_alike = false;
        for series in selection.iter() {
            let bytes = cursor.label_bytes(series)?;
            let window = &alike[at.min(alike.len())..(at + LOOK_AHEAD).min(alike.len())];
            let own = match window.iter().position(|other| other.as_bytes() == bytes) {
                Some(ahead) => {
                    at += ahead + 1;
                    alike[at - 1].clone()
                }
                None => cursor.labels(series)?,
            };
            let is_alike = at > 0 && same(&own, &alike[at - 1]);
            if !(was_alike && is_alike) {
                is_sorted &= labels.last().is_none_or(|before| *before < own);
            }
            was_alike = is_alike;
            labels.push(own);
            numbers.push(series);
        }
        if !is_sorted {
            // Families of a metric follow one another in a segment; in the order of labels they may interleave.
            let mut pairs: Vec<(Labels, u32)> = labels.into_iter().zip(numbers).collect();
            pairs.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            (labels, numbers) = pairs.into_iter().unzip();
        }
        Ok(Self { labels, numbers, next: 0, data: Data::Segment(Box::new(cursor)), tombstones })
    }

    pub fn labels(&self) -> &[Labels] {
        &self.labels
    }

    fn head(&self) -> Option<&Labels> {
        self.labels.get(self.next)
    }

    /// Reads the head's samples.
    fn read(&mut self, tenant: &TenantId, range: (i64, i64), out: &mut Columns) -> Result<(), StorageError> {
        let number = self.numbers[self.next];
        match &mut self.data {
            Data::Segment(cursor) => read_series(cursor, number, range, out)?,
            Data::Table(gathered) => {
                gathered.columns(number as usize, out);
            }
        }
        apply_tombstones(self.tombstones.iter().copied(), tenant, &self.labels[self.next], out);
        Ok(())
    }
}

impl Source<'_> {
    /// Counts the head's samples, and gives their span, histograms included; `None` where a delete may hide some of them.
    fn tally(
        &mut self,
        tenant: &TenantId,
        range: (i64, i64),
        piece: &mut Columns,
    ) -> Result<Option<(Tally, Option<(i64, i64)>)>, StorageError> {
        let number = self.numbers[self.next];
        if self.tombstones.iter().any(|tombstone| tombstone.matches(tenant, &self.labels[self.next])) {
            return Ok(None);
        }
        Ok(Some(match &mut self.data {
            Data::Segment(cursor) => {
                (cursor.tally_floats(number, range.0, range.1)?, cursor.span(number, range.0, range.1)?)
            }
            Data::Table(gathered) => {
                gathered.columns(number as usize, piece);
                (Tally::of_values(&piece.times, &piece.values), piece.span())
            }
        }))
    }
}

/// Whether two label sets are one in memory: the usual case among equal ones.
fn same(a: &Labels, b: &Labels) -> bool {
    std::ptr::eq(a.as_bytes(), b.as_bytes())
}

fn compare(a: &Labels, b: &Labels) -> Ordering {
    if same(a, b) || a == b { Ordering::Equal } else { a.cmp(b) }
}

/// Walks over the series of all sources.
pub(super) struct SeriesWalk<'a> {
    tenant: &'a TenantId,
    range: (i64, i64),
    /// Oldest in the log first.
    sources: Vec<Source<'a>>,
    joined: Columns,
    piece: Columns,
    /// Timestamps of the floats, where they are a segment's; `joined.times` is empty then.
    shared: Option<TimeSlice>,
}

impl<'a> SeriesWalk<'a> {
    pub fn new(tenant: &'a TenantId, range: (i64, i64), sources: Vec<Source<'a>>) -> Self {
        let (joined, piece) = (Columns::default(), Columns::default());
        Self { tenant, range, sources, joined, piece, shared: None }
    }

    /// Visits each series that has a sample, in order.
    pub fn walk(
        mut self,
        visit: &mut dyn FnMut(SeriesColumns<'_>) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let mut having: Vec<usize> = Vec::with_capacity(self.sources.len());
        while let Some(labels) = self.least(&mut having) {
            self.read(&having)?;
            for &at in &having {
                self.sources[at].next += 1;
            }
            if let Some(columns) = self.columns(&labels)
                && visit(columns).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// Visits how many float samples each series has, in order; series without any may be visited, too.
    pub fn tally(
        mut self,
        visit: &mut dyn FnMut(&Labels, &Tally) -> ControlFlow<()>,
    ) -> Result<(), StorageError> {
        let mut having: Vec<usize> = Vec::with_capacity(self.sources.len());
        let mut spans = Vec::new();
        while let Some(labels) = self.least(&mut having) {
            let tally = match self.tally_apart(&having, &mut spans)? {
                Some(tally) => tally,
                None => {
                    self.read(&having)?;
                    let times = self.shared.as_deref().unwrap_or(&self.joined.times);
                    Tally::of_values(times, &self.joined.values)
                }
            };
            for &at in &having {
                self.sources[at].next += 1;
            }
            if visit(&labels, &tally).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Counts the heads of these sources apart, if no two of them overlap and nothing hides any of their samples.
    fn tally_apart(
        &mut self,
        having: &[usize],
        spans: &mut Vec<(i64, i64)>,
    ) -> Result<Option<Tally>, StorageError> {
        let mut all = Tally::default();
        spans.clear();
        for &at in having {
            let tallied = self.sources[at].tally(self.tenant, self.range, &mut self.piece)?;
            let Some((tally, span)) = tallied else { return Ok(None) };
            all.add(&tally);
            spans.extend(span);
        }
        spans.sort_unstable();
        let is_apart = spans.is_sorted_by(|before, after| before.1 < after.0);
        Ok(is_apart.then_some(all))
    }

    /// The least head, and the sources that have it, oldest first.
    fn least(&self, having: &mut Vec<usize>) -> Option<Labels> {
        having.clear();
        let mut least: Option<&Labels> = None;
        for (at, source) in self.sources.iter().enumerate() {
            let Some(head) = source.head() else { continue };
            match least.map_or(Ordering::Less, |least| compare(head, least)) {
                Ordering::Less => {
                    least = Some(head);
                    having.clear();
                    having.push(at);
                }
                Ordering::Equal => having.push(at),
                Ordering::Greater => {}
            }
        }
        least.cloned()
    }

    /// Joins the heads of these sources.
    fn read(&mut self, having: &[usize]) -> Result<(), StorageError> {
        self.joined.clear();
        self.shared = None;
        if let [only] = having {
            let source = &mut self.sources[*only];
            let number = source.numbers[source.next];
            // The common case of merged data: one segment, whose vector of timestamps is handed on as it is.
            if let Data::Segment(cursor) = &mut source.data
                && source.tombstones.is_empty()
                && cursor.reader().summary().histograms == 0
            {
                self.shared = cursor.floats(number, self.range.0, self.range.1, &mut self.joined.values)?;
                if let Some(times) = &self.shared {
                    read_starts(cursor, number, times, &mut self.joined.start_times)?;
                }
                return Ok(());
            }
        }
        for &at in having {
            if self.joined.is_empty() {
                self.sources[at].read(self.tenant, self.range, &mut self.joined)?;
            } else {
                self.sources[at].read(self.tenant, self.range, &mut self.piece)?;
                self.joined.absorb(&self.piece);
            }
        }
        Ok(())
    }

    fn columns<'b>(&'b self, labels: &'b Labels) -> Option<SeriesColumns<'b>> {
        let joined = &self.joined;
        let times: &[i64] = self.shared.as_deref().unwrap_or(&joined.times);
        (!times.is_empty() || !joined.histogram_times.is_empty()).then_some(SeriesColumns {
            labels,
            times,
            shared_times: self.shared.as_ref(),
            values: &joined.values,
            start_times: &joined.start_times,
            histogram_times: &joined.histogram_times,
            histograms: &joined.histograms,
            histogram_start_times: &joined.histogram_start_times,
        })
    }
}
