//! Writes a part again with labels where it had ordinals, after the shard's registry has moved on.
//!
//! The rows are read back from the part's own bytes, so that what was checked and left out is not judged again.

use hashbrown::HashMap;
use hashbrown::hash_map::Entry;
use protocol::batch::{SeriesRef, SubBatchView};
use protocol::ids::{ClusterSecret, Ordinal, ShardId};

use super::split::{NewSeries, Part, PartBuilder, Resolved};
use super::{Prepared, RouterConfig};

const OWN_BYTES: &str = "the router wrote the part itself";

/// Labels that would take more memory than a request may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooManyLabelBytes;

/// The same rows without ordinals; several parts where one would be too long.
pub(super) fn with_labels(
    part: &Part,
    shard: ShardId,
    prepared: &Prepared,
    secret: &ClusterSecret,
    config: &RouterConfig,
) -> Result<Vec<Part>, TooManyLabelBytes> {
    let mut series = SeriesByReference::new(part, shard, prepared, secret);
    // Without ordinals a batch has no generation.
    let mut out = PartBuilder::new(prepared.tenant.clone(), 0, config.max_part_bytes);
    let mut budget = config.max_label_bytes;
    copy(&view(part), &mut out, |out, reference| {
        let new = series.get(reference, &mut budget)?;
        Ok(out.new_reference(new))
    })?;
    Ok(out.finish())
}

pub(super) fn view(part: &Part) -> SubBatchView<'_> {
    SubBatchView::parse(&part.bytes).expect(OWN_BYTES)
}

pub(super) fn row_counts(view: &SubBatchView<'_>) -> [u64; 3] {
    [view.floats().rows().len(), view.histograms().rows().len(), view.exemplars().rows().len()]
        .map(|n| n as u64)
}

/// Copies the rows with the references that `translate` gives them, and the metadata.
fn copy<E>(
    view: &SubBatchView<'_>,
    out: &mut PartBuilder,
    mut translate: impl FnMut(&mut PartBuilder, SeriesRef) -> Result<SeriesRef, E>,
) -> Result<(), E> {
    for (position, row) in view.floats().iter().enumerate() {
        out.look_at_length(position);
        let reference = translate(out, row.series)?;
        out.builder().push_float(reference, row.timestamp_ms, row.value, row.start_ms);
    }
    for row in view.histograms().iter() {
        out.look_at_length(0);
        let reference = translate(out, row.series)?;
        out.builder().push_histogram(reference, row.timestamp_ms, row.blob, row.start_ms);
    }
    for row in view.exemplars().iter() {
        out.look_at_length(0);
        let reference = translate(out, row.series)?;
        out.builder().push_exemplar(reference, row.timestamp_ms, row.value, row.label_bytes);
    }
    for metadata in view.metadata() {
        out.look_at_length(0);
        out.builder().push_metadata(&metadata);
    }
    Ok(())
}

/// The labels behind a part's references.
struct SeriesByReference<'a> {
    part: &'a Part,
    prepared: &'a Prepared,
    secret: &'a ClusterSecret,
    shard: ShardId,
    /// A message of the request for each ordinal of the shard.
    messages: HashMap<Ordinal, u32>,
    met: HashMap<u32, NewSeries>,
}

impl<'a> SeriesByReference<'a> {
    fn new(part: &'a Part, shard: ShardId, prepared: &'a Prepared, secret: &'a ClusterSecret) -> Self {
        let resolved = prepared.split.resolved.iter().enumerate();
        let messages = resolved.filter_map(|(message, resolved)| match *resolved {
            Resolved::Known { shard: of, ordinal } if of == shard => Some((ordinal, message as u32)),
            _ => None,
        });
        Self { part, prepared, secret, shard, messages: messages.collect(), met: HashMap::new() }
    }

    fn get(&mut self, reference: SeriesRef, budget: &mut usize) -> Result<&mut NewSeries, TooManyLabelBytes> {
        let message = match reference {
            SeriesRef::Known(ordinal) => self.messages[&ordinal],
            SeriesRef::New(position) => self.part.new[position as usize],
        };
        match self.met.entry(message) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let series = self.prepared.batch.series(message as usize);
                // A fingerprint gets into the cache only with labels that were taken.
                let labels = series.labels().expect("labels that were taken before are taken again");
                *budget = budget.checked_sub(labels.as_bytes().len()).ok_or(TooManyLabelBytes)?;
                let id = labels.series_id(self.secret, &self.prepared.tenant);
                Ok(entry.insert(NewSeries::new(message, id, labels, self.shard)))
            }
        }
    }
}
