//! Fragments of SQL: what the coordinator asks of each shard, and how a shard answers.
//!
//! A fragment is one walk over one kind of rows at a shard: which series and which time, which columns, what is kept of
//! the rows, and what is made of them. It rides in `scan::FragmentRequest` and `scan::FragmentAnswer`.
//!
//! ```text
//! table, matchers, time ─► columns ─► filter ─► outputs ─► (sort and) limit   ─► rows
//!                                            └► groups, aggregates            ─► groups and states of aggregates
//! ```
//!
//! Expressions are lists of nodes in postfix order: a node names its children by their place before it, and is the child
//! of one node at most, so that reading them needs no recursion and evaluating them no more work than nodes. Values and
//! types are columns of one Arrow IPC stream with a single row, [`SqlRequest::literals`]; rows come back as an Arrow IPC
//! stream, too. States of aggregates are what this version's engine makes them: the coordinator says what columns it
//! expects ([`SqlRequest::schema`]), and a shard that would answer others refuses.
//!
//! Rows are most of an answer, so that they are not copied into the message that tells of them where the asker says that
//! it can read them before it ([`SqlRequest::rows_first`]):
//!
//! ```text
//! 0: magic, 8 bytes | length of the rows, u64 LE | zeroes to 64 | the rows | FragmentAnswer, its `sql.rows` empty
//! ```
//!
//! Their place is such that columns need not be moved to be read. No message begins with the magic's first byte.

use bytes::Bytes;
use prost::Message as _;

use crate::scan::{FragmentAnswer, MatcherSet};

/// Version of SQL fragments, in `FragmentRequest::version`: nodes that know none of them refuse it.
pub const VERSION: u32 = 2;

/// Kinds of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SqlTable {
    /// Float samples.
    Samples = 0,
    /// Native histograms.
    Histograms = 1,
    /// Exemplars.
    Exemplars = 2,
    /// Segments of the shard that hold anything of the tenant; nothing else of the request counts.
    Segments = 3,
}

/// What a column of a walk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SqlColumnKind {
    /// The series' metric name.
    Name = 0,
    /// The series' labels without the name, as a map.
    Labels = 1,
    /// The value of one label of the series, null where it has none.
    Label = 2,
    /// When the row was observed.
    Time = 3,
    /// A sample's or exemplar's value.
    Value = 4,
    /// A histogram's number of observations.
    Count = 5,
    /// A histogram's sum of observations.
    Sum = 6,
    /// A histogram's schema.
    Schema = 7,
    /// A histogram's width of the zero bucket.
    ZeroThreshold = 8,
    /// A histogram's observations in the zero bucket.
    ZeroCount = 9,
    /// A histogram's buckets: lower bound, upper bound, count.
    Buckets = 10,
    /// An exemplar's own labels, as a map.
    ExemplarLabels = 11,
}

/// A column of a walk.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SqlColumn {
    /// What it holds.
    #[prost(enumeration = "SqlColumnKind", tag = "1")]
    pub kind: i32,
    /// Which label, for [`SqlColumnKind::Label`].
    #[prost(string, tag = "2")]
    pub label: String,
}

/// What a node of an expression does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum SqlNodeKind {
    /// Column `number` of the walk.
    Column = 0,
    /// Literal `number`.
    Literal = 1,
    /// The operator `name` of two children.
    Binary = 2,
    /// `NOT`
    Not = 3,
    /// `IS NULL`
    IsNull = 4,
    /// `IS NOT NULL`
    IsNotNull = 5,
    /// `-`
    Negative = 6,
    /// The first child is among the others; with flag 1 it is not.
    InList = 7,
    /// The first child is like the second; flag 1: it is not, flag 2: whatever the case of letters.
    Like = 8,
    /// The child as the type of literal `number`.
    Cast = 9,
    /// The same, null where that is impossible.
    TryCast = 10,
    /// `CASE`: the value to compare with (flag 1), pairs of condition and result, the result otherwise (flag 2).
    Case = 11,
    /// The function `name` of the children.
    Function = 12,
}

/// A node of an expression.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SqlNode {
    /// What it does.
    #[prost(enumeration = "SqlNodeKind", tag = "1")]
    pub kind: i32,
    /// Places of its children among the nodes before.
    #[prost(uint32, repeated, tag = "2")]
    pub children: Vec<u32>,
    /// Of a column or literal.
    #[prost(uint32, tag = "3")]
    pub number: u32,
    /// Of an operator or function.
    #[prost(string, tag = "4")]
    pub name: String,
    /// Depend on the kind.
    #[prost(uint32, tag = "5")]
    pub flags: u32,
}

/// An expression over the columns of a walk; the last node is its value.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SqlExpr {
    /// In postfix order.
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<SqlNode>,
}

/// A key of an order.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SqlSort {
    /// What is compared.
    #[prost(message, required, tag = "1")]
    pub expr: SqlExpr,
    /// Largest first.
    #[prost(bool, tag = "2")]
    pub descending: bool,
    /// Nulls before values.
    #[prost(bool, tag = "3")]
    pub nulls_first: bool,
}

/// An aggregate, of which the state is answered.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct SqlAggregate {
    /// Name of the function.
    #[prost(string, tag = "1")]
    pub function: String,
    /// Its arguments.
    #[prost(message, repeated, tag = "2")]
    pub args: Vec<SqlExpr>,
    /// Of distinct values only.
    #[prost(bool, tag = "3")]
    pub distinct: bool,
    /// Of these rows only.
    #[prost(message, optional, tag = "4")]
    pub filter: Option<SqlExpr>,
    /// Leaves nulls out that it would otherwise regard.
    #[prost(bool, tag = "5")]
    pub ignore_nulls: bool,
}

/// Walk over rows of a shard.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SqlRequest {
    /// The statement, for the list of what runs on a node.
    #[prost(string, tag = "1")]
    pub statement: String,
    /// Kind of rows.
    #[prost(enumeration = "SqlTable", tag = "2")]
    pub table: i32,
    /// Which series: all matchers are to be met.
    #[prost(message, optional, tag = "3")]
    pub matchers: Option<MatcherSet>,
    /// First millisecond.
    #[prost(int64, tag = "4")]
    pub start_ms: i64,
    /// Last millisecond.
    #[prost(int64, tag = "5")]
    pub end_ms: i64,
    /// What expressions refer to.
    #[prost(message, repeated, tag = "6")]
    pub columns: Vec<SqlColumn>,
    /// Literals and types, as an Arrow IPC stream of one row.
    #[prost(bytes = "vec", tag = "7")]
    pub literals: Vec<u8>,
    /// Which rows are kept: all of these are to be true.
    #[prost(message, repeated, tag = "8")]
    pub filters: Vec<SqlExpr>,
    /// Columns of the answer, unless `aggregate`.
    #[prost(message, repeated, tag = "9")]
    pub outputs: Vec<SqlExpr>,
    /// The order in which rows are first; none where any will do.
    #[prost(message, repeated, tag = "10")]
    pub sort: Vec<SqlSort>,
    /// At most so many rows; 0 for all.
    #[prost(uint64, tag = "11")]
    pub limit: u64,
    /// Whether rows are grouped: then columns of the answer are the groups and the states of the aggregates.
    #[prost(bool, tag = "12")]
    pub aggregate: bool,
    /// What rows are grouped by.
    #[prost(message, repeated, tag = "13")]
    pub groups: Vec<SqlExpr>,
    /// What is made of each group.
    #[prost(message, repeated, tag = "14")]
    pub aggregates: Vec<SqlAggregate>,
    /// Columns that the answer is expected to have, as an Arrow IPC stream without rows.
    #[prost(bytes = "vec", tag = "15")]
    pub schema: Vec<u8>,
    /// Rows that may be read.
    #[prost(uint64, tag = "16")]
    pub max_samples: u64,
    /// Rows longer than so many bytes are not wanted now, 0 for any: then the answer is that they are too long.
    #[prost(uint64, tag = "17")]
    pub max_rows_bytes: u64,
    /// The asker reads answers that begin with the rows.
    #[prost(bool, tag = "18")]
    pub rows_first: bool,
}

/// What a shard answers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SqlAnswer {
    /// The rows, as an Arrow IPC stream.
    #[prost(bytes = "bytes", tag = "1")]
    pub rows: bytes::Bytes,
    /// How many they are.
    #[prost(uint64, tag = "2")]
    pub row_count: u64,
    /// Segments of the shard.
    #[prost(uint64, tag = "3")]
    pub segments: u64,
    /// Those of them that lie outside the asked time and were not opened.
    #[prost(uint64, tag = "4")]
    pub segments_pruned: u64,
    /// Segments that hold anything of the tenant, where the request is for [`SqlTable::Segments`].
    #[prost(message, repeated, tag = "5")]
    pub segment_list: Vec<SqlSegment>,
    /// Samples that were counted and did not have to be read.
    #[prost(uint64, tag = "6")]
    pub counted: u64,
    /// The rows are longer than was asked for, and none of them are here.
    #[prost(bool, tag = "7")]
    pub too_long: bool,
}

/// First bytes of an answer that begins with the rows.
const ROWS_FIRST: [u8; 8] = *b"\0PHROWS\x01";
/// Where the rows begin.
const ROWS_AT: usize = 64;

/// The buffer of an answer that begins with the rows: they are written behind what is in it.
pub fn begin_rows() -> Vec<u8> {
    let mut out = vec![0; ROWS_AT];
    out[..ROWS_FIRST.len()].copy_from_slice(&ROWS_FIRST);
    out
}

/// Completes an answer that was begun by [`begin_rows`].
pub fn end_rows(out: &mut Vec<u8>, answer: &FragmentAnswer) {
    let rows = (out.len() - ROWS_AT) as u64;
    out[ROWS_FIRST.len()..ROWS_FIRST.len() + 8].copy_from_slice(&rows.to_le_bytes());
    out.reserve_exact(answer.encoded_len());
    out.extend_from_slice(&answer.encode_to_vec());
}

/// Why an answer can not be read.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// It ends before the rows that it announces.
    #[error("the rows are cut short")]
    Rows,
    /// The message is damaged.
    #[error(transparent)]
    Message(#[from] prost::DecodeError),
}

/// Reads an answer, wherever its rows are. They stay where they lie.
pub fn decode_answer(answer: Bytes) -> Result<FragmentAnswer, AnswerError> {
    if !answer.starts_with(&ROWS_FIRST) {
        return Ok(FragmentAnswer::decode(answer)?);
    }
    let length = answer.get(ROWS_FIRST.len()..ROWS_AT).and_then(|head| head.first_chunk::<8>());
    let end = length
        .and_then(|len| usize::try_from(u64::from_le_bytes(*len)).ok()?.checked_add(ROWS_AT))
        .filter(|end| *end <= answer.len())
        .ok_or(AnswerError::Rows)?;
    let mut decoded = FragmentAnswer::decode(answer.slice(end..))?;
    decoded.sql.get_or_insert_default().rows = answer.slice(ROWS_AT..end);
    Ok(decoded)
}

/// A segment of a shard.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SqlSegment {
    /// Name of its file.
    #[prost(string, tag = "1")]
    pub name: String,
    /// Length of its file.
    #[prost(uint64, tag = "2")]
    pub bytes: u64,
    /// First timestamp in it.
    #[prost(int64, tag = "3")]
    pub min_time_ms: i64,
    /// Last timestamp in it.
    #[prost(int64, tag = "4")]
    pub max_time_ms: i64,
    /// Series of the tenant in it.
    #[prost(uint64, tag = "5")]
    pub series: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(rows: &'static [u8]) -> FragmentAnswer {
        let sql = SqlAnswer { rows: Bytes::from_static(rows), row_count: 3, ..SqlAnswer::default() };
        FragmentAnswer { sql: Some(sql), ..FragmentAnswer::default() }
    }

    #[test]
    fn rows_come_first_or_inside() {
        let inside = Bytes::from(answer(b"rows").encode_to_vec());
        assert_eq!(decode_answer(inside).expect("a message"), answer(b"rows"));
        let mut first = begin_rows();
        first.extend_from_slice(b"rows");
        end_rows(&mut first, &answer(b""));
        let first = Bytes::from(first);
        assert_eq!(decode_answer(first.clone()).expect("an answer"), answer(b"rows"));
        // Cut anywhere, it is refused, or tells less; it is never read beyond its end.
        for end in 0..first.len() {
            let _ = decode_answer(first.slice(..end));
        }
        let mut longer = first.to_vec();
        longer[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(decode_answer(longer.into()).is_err());
    }
}
