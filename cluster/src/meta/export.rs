//! The export file: the meta state on disk, and the bytes of the meta group's snapshot.
//!
//! ```text
//! magic "PHMETA\r\n" | version u32 LE (1) | length of body u64 LE | crc32c of body u32 LE | body
//! body = {"last": log id hex, "membership": stored membership hex, "state": MetaState}
//! ```
//!
//! Written aside, synced and renamed, so a crash leaves the old or the new file, whole. The checksum covers the body;
//! magic, version and length are checked by value. The log is purged only up to `last`, so a file that can not be read
//! is never the only copy on a healthy cluster: the node is to be wiped and to join again. It is JSON so that people can
//! read it when everything else is broken.

use std::io;
use std::path::Path;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use storage::fs::Fs;

use crate::error::ClusterError;
use crate::meta::MetaState;
use crate::types::{LogId, StoredMembership, codec};

const MAGIC: &[u8; 8] = b"PHMETA\r\n";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 24;
/// Longest file that is read.
const MAX_BYTES: u64 = 64 << 20;

/// The meta state at a position of its log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Export {
    /// Last entry applied.
    pub last: Option<LogId>,
    /// Membership of the group then.
    pub membership: StoredMembership,
    /// The state then.
    pub state: MetaState,
}

#[derive(Serialize, Deserialize)]
struct Body {
    last: Option<String>,
    membership: String,
    state: MetaState,
}

impl Export {
    /// The file's bytes.
    pub fn encode(&self) -> Bytes {
        let body = Body {
            last: self.last.as_ref().map(|id| hex(&codec::encode_log_id(id))),
            membership: hex(&codec::encode_stored_membership(&self.membership)),
            state: self.state.clone(),
        };
        let body =
            serde_json::to_vec(&body).expect("the meta state has string keys and no failing serializers");
        let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&(body.len() as u64).to_le_bytes());
        out.extend_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        out.extend_from_slice(&body);
        out.into()
    }

    /// Takes the file's bytes, or says what is wrong with them.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or("it is shorter than its header")?;
        if &header[..8] != MAGIC {
            return Err("it does not start with the magic".into());
        }
        let version = u32::from_le_bytes(header[8..12].try_into().expect("4 bytes"));
        if version != VERSION {
            return Err(format!("its version is {version}, known is {VERSION}"));
        }
        let len = u64::from_le_bytes(header[12..20].try_into().expect("8 bytes"));
        if len != body.len() as u64 {
            return Err(format!("its body has {} bytes, the header says {len}", body.len()));
        }
        if crc32c::crc32c(body).to_le_bytes() != header[20..24] {
            return Err("its checksum does not match".into());
        }
        let body: Body = serde_json::from_slice(body).map_err(|e| e.to_string())?;
        let last = match body.last {
            Some(text) => Some(codec::decode_log_id(&unhex(&text)?).map_err(|e| e.to_string())?),
            None => None,
        };
        let membership =
            codec::decode_stored_membership(&unhex(&body.membership)?).map_err(|e| e.to_string())?;
        Ok(Self { last, membership, state: body.state })
    }

    /// Reads the file; an absent one is the empty state.
    pub fn load<F: Fs>(fs: &F, path: &Path) -> Result<Self, ClusterError> {
        let failed = |source: io::Error| ClusterError::Io { path: path.into(), source };
        if !fs.exists(path).map_err(failed)? {
            return Ok(Self::default());
        }
        let bytes = fs.read(path, MAX_BYTES).map_err(failed)?;
        Self::decode(&bytes).map_err(|reason| ClusterError::Corrupt { path: path.into(), reason })
    }
}

/// Lower-case hex.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        for nibble in [byte >> 4, byte & 15] {
            text.push(char::from_digit(u32::from(nibble), 16).expect("a nibble is a hex digit"));
        }
        text
    })
}

fn unhex(text: &str) -> Result<Vec<u8>, String> {
    let digit = |c: u8| (c as char).to_digit(16);
    let pair = |pair: &[u8]| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8);
    text.as_bytes().chunks(2).map(pair).collect::<Option<_>>().ok_or_else(|| format!("{text:?} is no hex"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::LeaderId;

    fn export() -> Export {
        let last = Some(LogId { leader_id: LeaderId { term: 3, node_id: 4 }, index: 500 });
        let state = MetaState { cluster_id: "c".into(), ..MetaState::default() };
        Export { last, membership: StoredMembership::default(), state }
    }

    #[test]
    fn it_round_trips() {
        assert_eq!(Export::decode(&export().encode()).unwrap(), export());
        assert_eq!(unhex(&hex(&[0, 0xab, 0xff])).unwrap(), [0, 0xab, 0xff]);
    }

    #[test]
    fn every_cut_and_every_flip_is_noticed() {
        let bytes = export().encode();
        for cut in 0..bytes.len() {
            assert!(Export::decode(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x10;
            assert!(Export::decode(&flipped).is_err(), "flip at {at}");
        }
    }
}
