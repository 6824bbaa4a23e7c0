//! Applying commands: writes change registry and memtable at once, everything else enters the queue.

use std::sync::Arc;

use bytes::Bytes;
use protocol::batch::{NewSeries, RejectReason, SeriesRef, SubBatchOutcome, SubBatchView};
use protocol::command::{Command, CommandBody, CommandOutcome, TenantsOver};
use protocol::ids::{LogIndex, Ordinal};
use protocol::logs::RowSignal;
use protocol::logs::batch::{LogBatch, LogBatchOutcome, signal_of};
use protocol::logs::matching::CompiledFilter;

use super::LogPosition;
use super::ops::{Op, PendingOp};
use super::state::State;
use crate::logs::tombstone::LogTombstone;
use crate::logs::window::Admission;
use crate::metadata::{FamilyMetadata, MAX_FAMILIES};
use crate::mutant::{self, Mutant};
use crate::tombstone::Tombstone;

impl State {
    /// Applies the command of the next entry.
    pub fn apply(&mut self, at: LogPosition<'_>, command: &[u8]) -> CommandOutcome {
        self.advance(at);
        let command = match Command::decode(command) {
            Ok(command) => command,
            Err(error) => return CommandOutcome::Rejected(error.to_string()),
        };
        self.cluster_time_ms = self.cluster_time_ms.max(command.header.cluster_time_ms);
        let index = at.index.0;
        let encoder_epoch = command.header.encoder_epoch;
        let op = match command.body {
            CommandBody::Write(sub_batches) => {
                let outcomes = sub_batches.into_iter().map(|bytes| {
                    let mut out = Vec::new();
                    if signal_of(bytes).is_some() {
                        self.apply_rows(index, bytes).encode(&mut out);
                    } else {
                        self.apply_sub_batch(index, bytes).encode(&mut out);
                    }
                    Bytes::from(out)
                });
                return CommandOutcome::Write(outcomes.collect());
            }
            CommandBody::BeginFlush { new_generation } => {
                self.freeze(encoder_epoch, new_generation);
                Op::BeginFlush
            }
            CommandBody::DeleteSeries { tenant, matchers, start_ms, end_ms } => {
                self.changes.note(&tenant, index, start_ms);
                self.freeze(encoder_epoch, false);
                Op::Delete(Tombstone { index, tenant, matchers, start_ms, end_ms })
            }
            CommandBody::DeleteLogs { tenant, filter, start_ns, end_ns } => {
                if let Err(error) = CompiledFilter::new(&filter) {
                    return CommandOutcome::Rejected(error.to_string());
                }
                self.freeze(encoder_epoch, false);
                Op::DeleteLogs(LogTombstone { index, tenant, filter, start_ns, end_ns })
            }
            CommandBody::InstallFlush { job, output } => Op::InstallFlush { job: job.0, output },
            CommandBody::BeginMerge { inputs, over } => Op::BeginMerge { inputs, over, encoder_epoch },
            CommandBody::InstallMerge { job, output } => {
                for tenant in self.tenants_over(job).tenants() {
                    self.changes.note(tenant, index, i64::MIN);
                }
                Op::InstallMerge { job: job.0, output }
            }
            CommandBody::DropPartitions(cuts) => {
                self.changes.note_all(index);
                Op::DropPartitions(cuts)
            }
        };
        // Replay: the manifest reflects this operation. (A cut above is made anew: no file remembers it.)
        if index > self.manifest.op_index || mutant::is(Mutant::OperationsRepeated) {
            self.pending.push_back(PendingOp { index, op });
            self.process_ops();
        }
        CommandOutcome::Done
    }

    /// What becomes of tenants in a merge, whether it runs or waits for its turn.
    fn tenants_over(&self, job: LogIndex) -> TenantsOver {
        let begun = self.manifest.merges.iter().find(|m| m.job == job).map(|m| &m.over);
        let over = begun.or_else(|| self.pending.iter().find_map(|op| op.tenants_over(job.0)));
        over.cloned().unwrap_or_default()
    }

    fn apply_sub_batch(&mut self, index: u64, bytes: &[u8]) -> SubBatchOutcome {
        let batch = match SubBatchView::parse(bytes) {
            Ok(batch) => batch,
            Err(error) => {
                return SubBatchOutcome::Rejected { reason: RejectReason::Malformed(error.to_string()) };
            }
        };
        let generation = self.registry.generation();
        if batch.uses_ordinals() {
            if batch.generation() != generation {
                return SubBatchOutcome::StaleRegistry { generation };
            }
            if batch.max_ordinal().is_some_and(|max| max.0 as usize >= self.registry.len()) {
                let text = "an ordinal is not registered in this generation".to_owned();
                return SubBatchOutcome::Rejected { reason: RejectReason::Malformed(text) };
            }
        }
        let tenant = batch.tenant();
        let mut series_limit = 0;
        let register = |series: NewSeries<'_>| {
            let known = self.registry.ordinal(tenant, series.label_bytes);
            if known.is_none() && self.registry.len() >= self.options.max_series {
                series_limit = self.options.max_series as u64;
                return None;
            }
            Some(known.unwrap_or_else(|| self.registry.register(tenant, series.id, series.label_bytes)))
        };
        let new_ordinals: Vec<Option<Ordinal>> = batch.new_series().map(register).collect();
        let resolve = |series| match series {
            SeriesRef::Known(ordinal) => Some(ordinal.0),
            SeriesRef::New(position) => new_ordinals[position as usize].map(|ordinal| ordinal.0),
        };

        let [mut samples, mut histograms, mut exemplars] = [0; 3];
        let mut earliest = i64::MAX;
        let floats = batch.floats();
        let (mut refs, mut values) = (floats.rows().refs(), floats.values());
        for (time, rows) in floats.rows().time_runs() {
            earliest = earliest.min(time);
            for (series, value) in refs.by_ref().take(rows).zip(values.by_ref()) {
                if let Some(ordinal) = resolve(series) {
                    self.active.push_float(ordinal, time, value);
                    samples += 1;
                }
            }
        }
        if floats.rows().has_starts() {
            for row in floats.iter().filter(|row| row.start_ms != 0) {
                if let Some(ordinal) = resolve(row.series) {
                    self.active.push_start_time(ordinal, row.timestamp_ms, row.start_ms);
                }
            }
        }
        for row in batch.histograms().iter() {
            let Some(ordinal) = resolve(row.series) else { continue };
            earliest = earliest.min(row.timestamp_ms);
            self.active.push_histogram(ordinal, row.timestamp_ms, row.blob);
            if row.start_ms != 0 {
                self.active.push_start_time(ordinal, row.timestamp_ms, row.start_ms);
            }
            histograms += 1;
        }
        for row in batch.exemplars().iter() {
            let Some(ordinal) = resolve(row.series) else { continue };
            self.active.push_exemplar(ordinal, row.timestamp_ms, row.value, row.labels());
            exemplars += 1;
        }
        if earliest < i64::MAX {
            self.changes.note(tenant, index, earliest);
        }
        if batch.metadata().len() > 0 {
            self.apply_metadata(&batch);
        }
        if self.active_since_ms.is_none() && !self.active.is_empty() {
            self.active_since_ms = Some(self.cluster_time_ms);
        }
        SubBatchOutcome::Applied { generation, new_ordinals, series_limit, samples, histograms, exemplars }
    }

    fn apply_rows(&mut self, index: u64, bytes: &[u8]) -> LogBatchOutcome {
        let batch = match LogBatch::decode(bytes) {
            Ok(batch) => batch,
            Err(error) => return LogBatchOutcome::Rejected { reason: error.to_string() },
        };
        let records = batch.rows.len() as u64;
        match self.window.admit(batch.key, self.cluster_time_ms) {
            Admission::Known => LogBatchOutcome::Duplicate { records },
            Admission::Full => LogBatchOutcome::WindowFull { keys: self.window.len() as u64 },
            Admission::New => {
                self.rows[batch.signal].push(bytes, &batch);
                if batch.signal == RowSignal::Spans && records > 0 {
                    self.lock_span_metrics().take(index, self.cluster_time_ms, &batch);
                }
                if self.active_since_ms.is_none() && records > 0 {
                    self.active_since_ms = Some(self.cluster_time_ms);
                }
                LogBatchOutcome::Applied { records }
            }
        }
    }

    fn apply_metadata(&mut self, batch: &SubBatchView<'_>) {
        for item in batch.metadata() {
            let known = self.metadata.get(batch.tenant()).and_then(|families| families.get(item.family));
            let same = |k: &FamilyMetadata| {
                k.metric_type == item.metric_type && k.help == item.help && k.unit == item.unit
            };
            if known.is_some_and(same) {
                continue;
            }
            let families: usize = self.metadata.values().map(|families| families.len()).sum();
            if known.is_none() && families >= MAX_FAMILIES {
                continue;
            }
            // Readers share the map; it is copied when it changes, which is rare after the first minute.
            let map = Arc::make_mut(&mut self.metadata);
            map.entry(batch.tenant().clone()).or_default().insert(
                item.family.to_owned(),
                FamilyMetadata {
                    metric_type: item.metric_type,
                    help: item.help.to_owned(),
                    unit: item.unit.to_owned(),
                },
            );
            self.metadata_changed = true;
        }
    }
}
