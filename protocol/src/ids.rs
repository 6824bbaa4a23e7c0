//! Identifiers. Each is a newtype, so that a shard can not be passed where a node is meant.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($raw:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $raw);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A member of the cluster. Given by the meta group in log order, never used twice. 0 is no node.
    NodeId(u64)
);
id!(
    /// A Raft group that holds data. Groups are numbered from 1; group 0 is the meta group.
    ShardId(u16)
);
id!(
    /// One of [`SLOT_COUNT`] hash ranges. A shard owns a set of slots.
    SlotId(u16)
);
id!(
    /// Position of an entry in a shard's Raft log, from 1 up.
    LogIndex(u64)
);
id!(
    /// A series inside its shard: dense, given in log order, hence equal on all replicas.
    Ordinal(u32)
);

/// The group that holds the cluster's own state.
pub const META_GROUP: ShardId = ShardId(0);

/// Number of slots that every tenant's series are hashed into.
pub const SLOT_COUNT: u16 = 4096;

/// Identity of a series in the whole cluster: keyed BLAKE3 over tenant and canonical labels, 128 bits.
///
/// The key is a secret of the cluster, so that a client can not aim series at one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesId(pub u128);

/// Secret of a cluster that keys the hashes made from outside data.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterSecret(pub [u8; 32]);

impl fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

/// A tenant's name: 1 to 150 bytes of `[A-Za-z0-9!._*'()-]`, neither `.` nor `..`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

/// Why a tenant's name was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TenantError {
    /// The name has no bytes or more than 150.
    #[error("tenant name has {0} bytes, allowed are 1 to 150")]
    Length(usize),
    /// The name holds a byte outside the allowed set, or is a path element.
    #[error("tenant name {0:?} holds a character outside [A-Za-z0-9!._*'()-] or is a path element")]
    Character(String),
}

impl TenantId {
    /// The tenant of requests that name none.
    pub const DEFAULT: &'static str = "default";

    /// Checks a name as it came from a client.
    pub fn new(name: &str) -> Result<Self, TenantError> {
        if name.is_empty() || name.len() > 150 {
            return Err(TenantError::Length(name.len()));
        }
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!._*'()-".contains(&b);
        if name == "." || name == ".." || !name.bytes().all(allowed) {
            return Err(TenantError::Character(name.to_owned()));
        }
        Ok(Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Maps by tenant are asked by name.
impl Borrow<str> for TenantId {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(Self::DEFAULT.into())
    }
}

impl TryFrom<String> for TenantId {
    type Error = TenantError;
    fn try_from(name: String) -> Result<Self, TenantError> {
        Self::new(&name)
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0.as_ref().to_owned()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
