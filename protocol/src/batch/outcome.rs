//! What `apply` answers for one sub-batch.

use crate::error::ErrorKind;
use crate::ids::Ordinal;
use crate::varint::{read_bytes, read_prefixed, read_u64, unzigzag, write_prefixed, write_u64, zigzag};

const VERSION: u8 = 2;

/// The outcome of a sub-batch: a function of the log, equal on all replicas.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubBatchOutcome {
    /// All of it is applied, but for the rows of series that the shard has no room for.
    Applied {
        /// Registry generation that the ordinals belong to.
        generation: u64,
        /// Ordinals of the batch's new series, in its order. A series that was known already keeps its ordinal; one
        /// that would exceed the shard's limit has none, and none of its rows is taken.
        new_ordinals: Vec<Option<Ordinal>>,
        /// How many series the shard may hold, where that left a series out; 0 where none was left out.
        series_limit: u64,
        /// Float samples taken, repeats of stored ones included.
        samples: u64,
        /// Histogram samples taken.
        histograms: u64,
        /// Exemplars taken.
        exemplars: u64,
    },
    /// Nothing is applied: the batch names ordinals of another generation than the registry's. Send labels.
    StaleRegistry {
        /// The registry's generation.
        generation: u64,
    },
    /// Nothing is applied, and sending it again will not help.
    Rejected {
        /// Why.
        reason: RejectReason,
    },
}

/// Why `apply` refuses a sub-batch for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RejectReason {
    /// The bytes are no sub-batch. A router never sends such; the text says what is wrong.
    #[error("the shard can not read the batch: {0}")]
    Malformed(String),
}

impl RejectReason {
    /// The kind of error this is to the client.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Malformed(_) => ErrorKind::Internal,
        }
    }
}

/// Bytes that are no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("outcome of a sub-batch is malformed in its {0}")]
pub struct OutcomeError(&'static str);

impl SubBatchOutcome {
    /// Appends the outcome's bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(VERSION);
        match self {
            Self::Applied { generation, new_ordinals, series_limit, samples, histograms, exemplars } => {
                out.push(0);
                write_u64(out, *generation);
                write_u64(out, *series_limit);
                write_u64(out, new_ordinals.len() as u64);
                let mut last = 0;
                for ordinal in new_ordinals {
                    // The difference to the ordinal before, plus one; zero for a series that was left out.
                    let Some(ordinal) = ordinal else {
                        write_u64(out, 0);
                        continue;
                    };
                    let ordinal = i64::from(ordinal.0);
                    write_u64(out, 1 + zigzag(ordinal - std::mem::replace(&mut last, ordinal)));
                }
                write_u64(out, *samples);
                write_u64(out, *histograms);
                write_u64(out, *exemplars);
            }
            Self::StaleRegistry { generation } => {
                out.push(1);
                write_u64(out, *generation);
            }
            Self::Rejected { reason: RejectReason::Malformed(text) } => {
                out.extend_from_slice(&[2, 0]);
                write_prefixed(out, text.as_bytes());
            }
        }
    }

    /// Reads what [`Self::encode`] wrote and moves `input` past it.
    pub fn decode(input: &mut &[u8]) -> Result<Self, OutcomeError> {
        let number = |input: &mut &[u8], what| read_u64(input).ok_or(OutcomeError(what));
        match read_bytes(input, 2).ok_or(OutcomeError("header"))? {
            [VERSION, 0] => {
                let generation = number(input, "generation")?;
                let series_limit = number(input, "limit")?;
                let count = number(input, "ordinals")?;
                if count > input.len() as u64 {
                    return Err(OutcomeError("ordinals"));
                }
                let mut new_ordinals = Vec::with_capacity(count as usize);
                let mut last = 0i64;
                for _ in 0..count {
                    let Some(difference) = number(input, "ordinals")?.checked_sub(1) else {
                        new_ordinals.push(None);
                        continue;
                    };
                    let next = last.checked_add(unzigzag(difference));
                    last = next.ok_or(OutcomeError("ordinals"))?;
                    let ordinal = u32::try_from(last).map_err(|_| OutcomeError("ordinals"))?;
                    new_ordinals.push(Some(Ordinal(ordinal)));
                }
                let samples = number(input, "counts")?;
                let histograms = number(input, "counts")?;
                let exemplars = number(input, "counts")?;
                Ok(Self::Applied { generation, new_ordinals, series_limit, samples, histograms, exemplars })
            }
            [VERSION, 1] => Ok(Self::StaleRegistry { generation: number(input, "generation")? }),
            [VERSION, 2] => {
                let reason = match read_bytes(input, 1).ok_or(OutcomeError("reason"))? {
                    [0] => {
                        let text = read_prefixed(input).ok_or(OutcomeError("reason"))?;
                        RejectReason::Malformed(String::from_utf8_lossy(text).into_owned())
                    }
                    _ => return Err(OutcomeError("reason")),
                };
                Ok(Self::Rejected { reason })
            }
            _ => Err(OutcomeError("header")),
        }
    }
}
