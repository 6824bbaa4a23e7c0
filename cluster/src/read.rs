//! How fresh a read must be, and the rounds that prove it.

use std::collections::BTreeMap;

use protocol::ids::ShardId;
use protocol::varint;

/// How fresh the data of a read must be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Everything acknowledged before the read began. Asks the shard's leader, which asks a quorum.
    #[default]
    Linearizable,
    /// Everything that the session has seen: the index per shard from its commit token. Any replica that is so far.
    Session(BTreeMap<ShardId, u64>),
    /// Whatever the nearest replica has.
    Local,
}

impl Consistency {
    /// Index of a shard that the session has seen.
    pub fn seen(&self, shard: ShardId) -> u64 {
        match self {
            Self::Session(seen) => seen.get(&shard).copied().unwrap_or(0),
            Self::Linearizable | Self::Local => 0,
        }
    }

    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Linearizable => out.push(0),
            Self::Session(seen) => {
                out.push(1);
                varint::write_u64(out, seen.len() as u64);
                for (shard, index) in seen {
                    varint::write_u64(out, u64::from(shard.0));
                    varint::write_u64(out, *index);
                }
            }
            Self::Local => out.push(2),
        }
    }

    pub(crate) fn read(input: &mut &[u8]) -> Option<Self> {
        match varint::read_bytes(input, 1)?[0] {
            0 => Some(Self::Linearizable),
            1 => {
                let count = varint::read_len(input)?;
                let mut seen = BTreeMap::new();
                for _ in 0..count {
                    let shard = u16::try_from(varint::read_u64(input)?).ok()?;
                    seen.insert(ShardId(shard), varint::read_u64(input)?);
                }
                Some(Self::Session(seen))
            }
            2 => Some(Self::Local),
            _ => None,
        }
    }
}
