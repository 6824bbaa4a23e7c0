//! Join tokens: who holds one may add one node, once.
//!
//! ```text
//! pharos cluster token ─► 128 random bits ─► the meta group keeps their hash and until when ─► secret@peer,peer
//! pharos server --join-token … ─► Join with the secret, to one of the peers ─► meta leader ─► AddNode with the hash:
//!                                                                                the token is gone as the node is in
//! ```
//!
//! A cluster lets in who knows a peer's address, or, once `cluster.join_by` says so, only who has a token.

use std::time::Duration;

use crate::env::Env;
use crate::error::ClusterError;
use crate::meta::state::{JOIN_BY, JOIN_BY_TOKEN};
use crate::meta::{MetaCommand, MetaOutcome};
use crate::node::Node;

/// Bytes of a token's secret.
const SECRET_BYTES: usize = 16;
/// Addresses in a token at most.
const ADDRESSES: usize = 5;
/// How long a token may be good for at most.
pub const MAX_TOKEN_LIFE: Duration = Duration::from_secs(30 * 86_400);

/// What a joining node is given: the secret and where to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinToken {
    /// The secret, in hex.
    pub secret: String,
    /// `host:port` of peers.
    pub addrs: Vec<String>,
}

impl std::fmt::Display for JoinToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.secret, self.addrs.join(","))
    }
}

impl std::str::FromStr for JoinToken {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (secret, addrs) =
            text.split_once('@').ok_or("a join token has an @ between its secret and addresses")?;
        let is_hex = secret.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if secret.len() != 2 * SECRET_BYTES || !is_hex {
            return Err(format!("a join token begins with {} hex digits", 2 * SECRET_BYTES));
        }
        let addrs: Vec<String> = addrs.split(',').map(str::to_owned).collect();
        if addrs.iter().any(String::is_empty) {
            return Err("a join token ends with addresses, host:port".to_owned());
        }
        Ok(Self { secret: secret.to_owned(), addrs })
    }
}

/// What the meta group keeps of a secret.
pub(crate) fn hash_of(secret: &str) -> String {
    blake3::derive_key("pharos join token, 2026", secret.as_bytes())
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

impl<E: Env> Node<E> {
    /// Makes a join token that is good once, for `life`.
    pub async fn make_join_token(
        &self,
        life: Duration,
        timeout: Duration,
    ) -> Result<JoinToken, ClusterError> {
        let refused = |reason: String| Err(ClusterError::Refused { reason });
        if life.is_zero() || life > MAX_TOKEN_LIFE {
            return refused(format!(
                "a join token is good for up to {} days",
                MAX_TOKEN_LIFE.as_secs() / 86_400
            ));
        }
        if self.meta().settings.encoder_epoch < protocol::epoch::JOIN_TOKENS {
            return refused("some node runs a build that does not know join tokens".to_owned());
        }
        let halves = [self.context.env.random_u64(), self.context.env.random_u64()];
        let secret: String = halves.iter().map(|half| format!("{half:016x}")).collect();
        let now_ms = self.context.env.now_ms();
        let life_ms = i64::try_from(life.as_millis()).unwrap_or(i64::MAX);
        let command = MetaCommand::AddJoinToken {
            hash: hash_of(&secret),
            now_ms,
            expires_ms: now_ms.saturating_add(life_ms),
        };
        if let MetaOutcome::Refused { reason } = self.propose_meta(command, timeout).await? {
            return refused(reason);
        }
        let meta = self.meta();
        // This node first: who asked it can reach it.
        let own = meta.present().filter(|(id, _)| *id == self.id());
        let others = meta.present().filter(|(id, _)| *id != self.id());
        let addrs = own.chain(others).take(ADDRESSES).map(|(_, member)| member.addr.clone()).collect();
        Ok(JoinToken { secret, addrs })
    }

    /// Lets nodes in by token only, or any node that knows an address.
    pub async fn join_by_token_only(&self, only: bool, timeout: Duration) -> Result<(), ClusterError> {
        self.set_setting(JOIN_BY, only.then(|| JOIN_BY_TOKEN.to_owned()), timeout).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_read_as_it_was_written_and_nothing_else_is() {
        let secret = "00112233445566778899aabbccddeeff".to_owned();
        let token = JoinToken { secret, addrs: vec!["a:1".into(), "[::1]:9620".into()] };
        assert_eq!(token.to_string().parse(), Ok(token.clone()));
        assert_eq!(token.to_string(), "00112233445566778899aabbccddeeff@a:1,[::1]:9620");
        for bad in [
            "",
            "a:1",
            "0011@a:1",
            "00112233445566778899AABBCCDDEEFF@a:1",
            "00112233445566778899aabbccddeeff@",
        ] {
            assert!(bad.parse::<JoinToken>().is_err(), "{bad}");
        }
        assert_ne!(hash_of(&token.secret), hash_of("00112233445566778899aabbccddeefe"));
    }
}
