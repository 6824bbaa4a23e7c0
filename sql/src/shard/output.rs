//! The rows of an answer as an Arrow IPC stream, written as they come.

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::ipc::writer::StreamWriter;
use protocol::sql::{SqlRequest, begin_rows};
use query::exec::Budget;

use super::Result;

/// See the module.
pub(super) struct Output {
    writer: StreamWriter<Vec<u8>>,
    schema: SchemaRef,
    rows: u64,
    /// Bytes that the budget knows of.
    held: usize,
    max_bytes: usize,
    too_long: bool,
}

impl Output {
    pub fn new(request: &SqlRequest, schema: &SchemaRef) -> Result<Self> {
        let buffer = if request.rows_first { begin_rows() } else { Vec::new() };
        let max_bytes = match usize::try_from(request.max_rows_bytes) {
            Ok(max) if max > 0 => max,
            _ => usize::MAX,
        };
        let writer = StreamWriter::try_new(buffer, schema)?;
        Ok(Self { writer, schema: SchemaRef::clone(schema), rows: 0, held: 0, max_bytes, too_long: false })
    }

    /// Columns that the answer has.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Adds rows; false once there are more than are wanted.
    pub fn write(&mut self, batch: &RecordBatch, budget: &Budget) -> Result<bool> {
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch)?;
        budget.check()?;
        self.hold(budget)?;
        self.too_long = self.held > self.max_bytes;
        Ok(!self.too_long)
    }

    fn hold(&mut self, budget: &Budget) -> Result<()> {
        let len = self.writer.get_ref().len();
        budget.hold((len - self.held) as u64)?;
        self.held = len;
        Ok(())
    }

    /// Rows that were added.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Whether there are more than are wanted.
    pub fn is_too_long(&self) -> bool {
        self.too_long
    }

    /// The bytes, as they began.
    pub fn finish(mut self, budget: &Budget) -> Result<Vec<u8>> {
        self.writer.finish()?;
        self.hold(budget)?;
        Ok(self.writer.into_inner()?)
    }
}
