//! A statement that is being answered: its rows are made on the threads of queries, in the form that the client wants, and
//! taken from here piece by piece.
//!
//! ```text
//! thread of the query: rows ─► messages ─► pieces, two may wait ─► session: takes as many rows as its client asks for
//! ```
//!
//! Dropping it stops the statement. It ends by `query.timeout` at the latest, also when nobody takes its rows.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use protocol::error::ErrorKind;
use protocol::postgres::{Column, Failure, Severity, Writer};
use query::CancelFlag;
use sql::error::state_of;
use sql::postgres::{columns, value};
use sql::{SqlEngine, SqlError, SqlQuery};
use tokio::sync::mpsc;

use crate::api::App;
use crate::api::active::{Asked, Notes};
use crate::api::read::Failure as _;
use crate::error::ApiError;
use crate::telemetry::trace;

/// A piece is sent on when it has so many bytes or rows.
const PIECE_BYTES: usize = 64 << 10;
const PIECE_ROWS: usize = 4096;
/// Pieces that may wait.
const WAITING: usize = 2;

enum Item {
    Columns(Vec<Column>),
    Rows(Piece),
    Failed(SqlError),
}

/// Rows as messages, and where each ends.
#[derive(Default)]
struct Piece {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    taken: usize,
}

/// A statement that is being answered.
pub(super) struct Running {
    /// The columns of its rows.
    pub columns: Vec<Column>,
    items: mpsc::Receiver<Item>,
    /// The query; none once it has ended well.
    asked: Option<BoxFuture<'static, Result<(), ApiError>>>,
    piece: Piece,
}

/// What is wrong with a statement, and where in the text that the client sent.
pub(super) fn failure(error: &SqlError, text: &str, begins: usize) -> Failure {
    let lines_before = |lines: u64| {
        let statement = text.get(begins..).unwrap_or("");
        let rows = statement.split_inclusive('\n').take(usize::try_from(lines).unwrap_or(usize::MAX));
        rows.map(|line| line.chars().count()).sum::<usize>()
    };
    let before = text.get(..begins).unwrap_or("").chars().count();
    let position = error.position.map(|place| {
        before
            + lines_before(place.line.saturating_sub(1))
            + usize::try_from(place.column).unwrap_or(usize::MAX)
    });
    let message = match error.kind {
        // The log has what it was.
        ErrorKind::Internal => error.for_client().to_string(),
        _ => error.message.clone(),
    };
    Failure { severity: Severity::Error, state: error.state, message, hint: error.hint.clone(), position }
}

/// What went wrong around a statement.
pub(super) fn outer_failure(error: &ApiError) -> Failure {
    let (severity, state) = (Severity::Error, state_of(error.kind()));
    Failure { severity, state, message: error.to_string(), hint: None, position: None }
}

/// Why there is no more of an answer.
pub(super) enum Ended {
    Statement(SqlError),
    Around(ApiError),
}

impl Running {
    /// Begins to answer and comes back once the columns are known.
    pub async fn begin(app: &Arc<App>, query: SqlQuery, formats: Vec<i16>) -> Result<Self, Ended> {
        let backend = app.backend().map_err(Ended::Around)?;
        let (queries, engine) = (backend.queries.clone(), backend.sql.clone());
        let traced = app.tracer.work("postgres");
        let (sender, items) = mpsc::channel(WAITING);
        let asked = Box::pin(async move {
            let listed = Asked::list(&query.tenant, "sql", query.text.clone());
            let cancel: CancelFlag = query.cancel.clone();
            let made = move |_, notes: Arc<Notes>| async move {
                let outcome = make(&engine, &query, &formats, &sender, &notes).await;
                if let Err(error) = &outcome {
                    // Who has gone need not know.
                    let _ = sender.send(Item::Failed(error.clone())).await;
                }
                outcome
            };
            let outcome = trace::at(traced.position(), queries.run_any(listed, cancel, made)).await;
            let failure = outcome.as_ref().err().filter(|error| error.status().is_server_error());
            traced.ended(failure.map(|error| error as &dyn std::fmt::Display));
            outcome
        });
        let mut running = Self { columns: Vec::new(), items, asked: Some(asked), piece: Piece::default() };
        match running.next().await? {
            Some(Item::Columns(columns)) => running.columns = columns,
            _ => return Err(Ended::Around(ApiError::new(ErrorKind::Internal, "an answer without columns"))),
        }
        Ok(running)
    }

    /// What the query gives next; nothing at its end.
    async fn next(&mut self) -> Result<Option<Item>, Ended> {
        let Some(asked) = &mut self.asked else { return self.left().transpose() };
        let item = tokio::select! {
            biased;
            item = self.items.recv() => item,
            outcome = asked.as_mut() => {
                self.asked = None;
                // What it gave before it ended still counts, above all its own words on why it failed.
                return match outcome {
                    Ok(()) => self.left().transpose(),
                    Err(error) => loop {
                        match self.left() {
                            Some(Ok(_)) => {}
                            Some(Err(ended)) => return Err(ended),
                            None => return Err(Ended::Around(error)),
                        }
                    },
                };
            }
        };
        match item {
            Some(Item::Failed(error)) => {
                // It is about to end, and notes how.
                if let Some(asked) = self.asked.take() {
                    let _ = asked.await;
                }
                Err(Ended::Statement(error))
            }
            Some(item) => Ok(Some(item)),
            None => {
                if let Some(asked) = self.asked.take() {
                    asked.await.map_err(Ended::Around)?;
                }
                Ok(None)
            }
        }
    }

    /// What an ended query has left.
    fn left(&mut self) -> Option<Result<Item, Ended>> {
        match self.items.try_recv().ok()? {
            Item::Failed(error) => Some(Err(Ended::Statement(error))),
            item => Some(Ok(item)),
        }
    }

    /// Writes up to `max` rows and says how many; none at the end.
    pub async fn rows(&mut self, max: usize, out: &mut Writer) -> Result<usize, Ended> {
        if !self.has_rows().await? {
            return Ok(0);
        }
        let piece = &mut self.piece;
        let until = piece.ends.len().min(piece.taken.saturating_add(max));
        let start = if piece.taken == 0 { 0 } else { piece.ends[piece.taken - 1] };
        out.append(&piece.bytes[start..piece.ends[until - 1]]);
        let count = until - piece.taken;
        piece.taken = until;
        Ok(count)
    }

    /// Whether there are more rows.
    pub async fn has_rows(&mut self) -> Result<bool, Ended> {
        while self.piece.taken == self.piece.ends.len() {
            match self.next().await? {
                Some(Item::Rows(piece)) => self.piece = piece,
                Some(_) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Makes the rows. An end of the receiver ends it, too.
async fn make(
    engine: &SqlEngine,
    query: &SqlQuery,
    formats: &[i16],
    items: &mpsc::Sender<Item>,
    notes: &Notes,
) -> Result<(), SqlError> {
    let mut rows = engine.execute(query).await?;
    let columns = columns(rows.schema(), formats)?;
    let binary: Vec<bool> = columns.iter().map(|column| column.binary).collect();
    if items.send(Item::Columns(columns)).await.is_err() {
        return Ok(());
    }
    let (mut writer, mut ends) = (Writer::default(), Vec::new());
    while let Some(batch) = rows.next().await {
        let batch = batch?;
        notes.count(batch.num_rows() as u64);
        for row in 0..batch.num_rows() {
            let written = writer.row(binary.len(), |at, out| value(out, batch.column(at), row, binary[at]));
            written.map_err(|error| {
                SqlError::new(ErrorKind::Internal, format!("writing the answer: {error}"))
            })?;
            ends.push(writer.bytes().len());
            if (writer.bytes().len() >= PIECE_BYTES || ends.len() >= PIECE_ROWS)
                && items.send(piece(&mut writer, &mut ends)).await.is_err()
            {
                return Ok(());
            }
        }
    }
    if !ends.is_empty() {
        // The last one that may find nobody.
        let _ = items.send(piece(&mut writer, &mut ends)).await;
    }
    Ok(())
}

fn piece(writer: &mut Writer, ends: &mut Vec<usize>) -> Item {
    Item::Rows(Piece { bytes: writer.take(), ends: std::mem::take(ends), taken: 0 })
}

#[cfg(test)]
mod tests {
    use sql::error::Position;

    use super::*;

    #[test]
    fn places_are_counted_in_the_whole_text() {
        let text = "select 'é';\nselect 1,\n  x";
        let begins = text.find("select 1").unwrap();
        let at = |line, column| {
            let place = Some(Position { line, column });
            failure(&SqlError { position: place, ..SqlError::invalid("bad") }, text, begins).position
        };
        // Characters, not bytes: the text before the statement has twelve.
        assert_eq!(at(1, 8), Some(20));
        assert_eq!(at(2, 3), Some(12 + 10 + 3));
        assert_eq!(failure(&SqlError::invalid("bad"), text, begins).position, None);
    }

    #[test]
    fn faults_of_ours_stay_in_the_log() {
        let told = failure(&SqlError::new(ErrorKind::Internal, "secret"), "", 0);
        assert_eq!((told.state, told.message.contains("secret")), ("XX000", false));
    }
}
