//! Rows of all shards together, window by window of time, a tenant after the other.
//!
//! A window holds whole moments (equal nanoseconds), as many as fit, at least one.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use protocol::ids::{ShardId, TenantId};
use protocol::logs::{LogColumns, LogFilter, LogRecord, LogScan, LogStream, RowSignal};
use storage::archive::Archive;
use storage::logs::scan::LogReader;

use super::super::{CliError, complain};

/// Rows of a window, and of a request.
pub(super) const MAX_ROWS: usize = 4000;
/// Their bytes.
const MAX_BYTES: usize = 1 << 20;

/// A row, as a request has it.
pub(super) trait Encoded {
    /// Its bytes.
    fn message(&self) -> &[u8];
}

impl Encoded for Vec<u8> {
    fn message(&self) -> &[u8] {
        self
    }
}

/// A row and its time.
pub(super) type Row<T> = (i64, T);

/// What is walked over.
pub(super) struct Windows<'a, T> {
    pub archives: &'a [(ShardId, Archive)],
    pub signal: RowSignal,
    pub encode: &'a dyn Fn(&LogStream<'_>, &LogRecord<'_>) -> Result<T, CliError>,
}

impl<T: Encoded> Windows<'_, T> {
    /// Visits all windows; `visit` says how many rows it has written, which is told for each tenant.
    pub fn each(
        &self,
        visit: &mut dyn FnMut(&TenantId, Vec<Row<T>>) -> Result<u64, CliError>,
    ) -> Result<(), CliError> {
        let name = match self.signal {
            RowSignal::Logs => "log records",
            RowSignal::Spans => "spans",
        };
        let tenants: BTreeSet<&TenantId> =
            self.archives.iter().flat_map(|(_, archive)| archive.tenants()).collect();
        for tenant in tenants {
            let (mut written, mut from) = (0, i64::MIN);
            while let Some(window) = self.next(tenant, from)? {
                let Some((last, _)) = window.last() else { break };
                let next = last.checked_add(1);
                written += visit(tenant, window)?;
                match next {
                    Some(next) => from = next,
                    None => break,
                }
            }
            if written > 0 {
                complain(&format!("tenant {tenant}: {written} {name}"));
            }
        }
        Ok(())
    }

    /// The next window from a time on.
    fn next(&self, tenant: &TenantId, from: i64) -> Result<Option<Vec<Row<T>>>, CliError> {
        let (mut all, mut end) = (Vec::new(), None::<i64>);
        for (_, archive) in self.archives {
            let (rows, more) = self.read(archive, tenant, (from, i64::MAX), MAX_ROWS)?;
            if more && let Some((last, _)) = rows.last() {
                // Of its last moment there may be more.
                end = Some(end.map_or(*last, |end| end.min(*last)));
            }
            all.extend(rows);
        }
        all.sort_by_key(|(time, _)| *time);
        let mut bytes = 0;
        let cut = all.iter().enumerate().find(|(at, (_, row))| {
            bytes += row.message().len();
            *at >= MAX_ROWS || (bytes > MAX_BYTES && *at > 0)
        });
        let end = match (end, cut.map(|(_, (time, _))| *time)) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let Some(first) = all.first().map(|(time, _)| *time) else { return Ok(None) };
        match end {
            None => Ok(Some(all)),
            Some(end) if first < end => {
                all.retain(|(time, _)| *time < end);
                Ok(Some(all))
            }
            // One moment that is larger than a window.
            Some(_) => {
                all.clear();
                for (_, archive) in self.archives {
                    all.extend(self.read(archive, tenant, (first, first), usize::MAX)?.0);
                }
                Ok(Some(all))
            }
        }
    }

    /// Rows of a shard in a closed range of time, in order; whether there may be more.
    fn read(
        &self,
        archive: &Archive,
        tenant: &TenantId,
        (start_ns, end_ns): (i64, i64),
        limit: usize,
    ) -> Result<(Vec<Row<T>>, bool), CliError> {
        let scan = LogScan {
            start_ns,
            end_ns,
            filter: LogFilter::All,
            newest_first: false,
            columns: LogColumns::All,
            expected: usize::MAX,
        };
        let (mut rows, mut bytes, mut more, mut failure) = (Vec::new(), 0, false, None);
        let reader = LogReader { signal: self.signal, tenant, should_stop: &|| false };
        let visit = &mut |stream: &LogStream<'_>, record: &LogRecord<'_>| {
            if rows.len() >= limit || (limit < usize::MAX && bytes >= MAX_BYTES) {
                more = true;
                return ControlFlow::Break(());
            }
            match (self.encode)(stream, record) {
                Ok(row) => {
                    bytes += row.message().len();
                    rows.push((record.effective_ns(), row));
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failure = Some(error);
                    ControlFlow::Break(())
                }
            }
        };
        archive
            .snapshot()
            .log_records(reader, &scan, visit)
            .map_err(|error| CliError::Failed(crate::error::chain(&error)))?;
        match failure {
            Some(error) => Err(error),
            None => Ok((rows, more)),
        }
    }
}
