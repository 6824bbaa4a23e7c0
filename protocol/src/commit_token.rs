//! The token that a write's answer carries: which entries hold it.
//!
//! A client sends it back with a query to see at least its own writes, whichever node it asks. As text it is
//! `shard-index` pairs joined by dots (`1-57.12-3`), shards ascending: safe in a header, opaque to clients.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::ids::{LogIndex, ShardId};

/// Positions in the logs of the shards that a write touched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CommitToken(BTreeMap<ShardId, LogIndex>);

/// A token that no write gave out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a commit token")]
pub struct CommitTokenError(String);

/// Longest token: the most shards a cluster may have, with long indexes.
const MAX_BYTES: usize = 16 << 10;

impl CommitToken {
    /// Notes that a write is in an entry of a shard.
    pub fn note(&mut self, shard: ShardId, index: LogIndex) {
        let seen = self.0.entry(shard).or_default();
        *seen = index.max(*seen);
    }

    /// The position per shard.
    pub fn positions(&self) -> impl ExactSizeIterator<Item = (ShardId, LogIndex)> {
        self.0.iter().map(|(&shard, &index)| (shard, index))
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for CommitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (shard, index)) in self.0.iter().enumerate() {
            write!(f, "{}{shard}-{index}", if i > 0 { "." } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for CommitToken {
    type Err = CommitTokenError;

    fn from_str(text: &str) -> Result<Self, CommitTokenError> {
        let error = || CommitTokenError(text.chars().take(64).collect());
        if text.len() > MAX_BYTES {
            return Err(error());
        }
        let mut token = Self::default();
        for pair in text.split('.').filter(|_| !text.is_empty()) {
            let (shard, index) = pair.split_once('-').ok_or_else(error)?;
            let shard = shard.parse().map_err(|_| error())?;
            let index = index.parse().map_err(|_| error())?;
            token.note(ShardId(shard), LogIndex(index));
        }
        Ok(token)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn round_trips(positions: std::collections::BTreeMap<u16, u64>) {
            let mut token = CommitToken::default();
            for (&shard, &index) in &positions {
                token.note(ShardId(shard), LogIndex(index));
            }
            prop_assert_eq!(token.to_string().parse(), Ok(token));
        }

        #[test]
        fn any_text_is_taken_or_refused(text: String) {
            let _ = text.parse::<CommitToken>();
        }
    }

    #[test]
    fn the_latest_position_counts() {
        let mut token = CommitToken::default();
        token.note(ShardId(2), LogIndex(7));
        token.note(ShardId(2), LogIndex(5));
        token.note(ShardId(1), LogIndex(3));
        assert_eq!(token.to_string(), "1-3.2-7");
        for bad in ["x", "1", "1-", "1-2.", "1-2-3", "70000-1", ".1-2"] {
            assert!(bad.parse::<CommitToken>().is_err(), "{bad}");
        }
    }
}
