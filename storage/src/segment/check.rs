//! Reads all of a segment, block by block, and names each place that is damaged: for a look through the disk. Readers
//! stop at the first.

use std::collections::BTreeMap;

use super::reader::SegmentReader;
use super::rows::RowBlock;
use super::{Corruption, SegmentError};
use crate::encoding::blobs::BlobColumn;

impl SegmentReader {
    /// Everything that is wrong behind what [`SegmentReader::open`] verified, in the order of offsets: checksums of all
    /// blocks and label frames and, where they hold, what the content decodes to.
    pub fn damage(&self) -> Vec<SegmentError> {
        let inner = self.inner();
        let mut faults = BTreeMap::<u64, Corruption>::new();
        inner.labels.check(&inner.file, &mut |(offset, reason)| {
            faults.entry(offset).or_insert(reason);
        });
        let mut block = RowBlock::default();
        let all = [&inner.times, &inner.floats, &inner.histograms, &inner.exemplars, &inner.start_times];
        for rows in all {
            for number in 0..rows.blocks() {
                if let Err((offset, reason)) = rows.load(&inner.file, number, &mut block) {
                    faults.entry(offset).or_insert(reason);
                }
            }
        }
        let mut damage: Vec<_> = faults.into_iter().map(|fault| self.corrupt(fault)).collect();
        if damage.is_empty() {
            damage.extend(self.decode_all().err());
        }
        damage
    }

    /// Decodes every series: bytes that match their checksums can still be no columns.
    fn decode_all(&self) -> Result<(), SegmentError> {
        let mut cursor = self.cursor();
        let (mut values, mut blobs) = (Vec::new(), BlobColumn::default());
        let (mut exemplars, mut starts) = (Vec::new(), Vec::new());
        let (from, to) = (i64::MIN, i64::MAX);
        for series in self.all() {
            cursor.tenant(series)?;
            cursor.labels(series)?;
            cursor.floats(series, from, to, &mut values)?;
            cursor.histograms(series, from, to, &mut blobs)?;
            exemplars.clear();
            cursor.exemplars(series, from, to, &mut exemplars)?;
            cursor.start_times(series, &mut starts)?;
        }
        Ok(())
    }
}
