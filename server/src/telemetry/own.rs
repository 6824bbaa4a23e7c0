//! What a node says about itself is written into the cluster as a client would.
//!
//! ```text
//! queue ─every second─► pending ─► written under a key ─► gone; or kept and sent again under the same key
//! ```
//!
//! So each line and span is there once, also when nobody knows whether a write arrived.

use std::future::Future;
use std::time::Duration;

use protocol::logs::{Attribute, LogValue};
use tokio::runtime::Handle;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::runtime::{now_ns, spawn_named};

/// How often what waits is written.
const INTERVAL: Duration = Duration::from_secs(1);

/// Something that a node writes about itself.
pub(super) trait Own: Send + Sync + 'static {
    /// A piece of it.
    type Item: Send + Sync;

    /// What it is called.
    const WHAT: &'static str;

    /// All that waits, oldest first.
    fn take(&self) -> Vec<Self::Item>;

    /// Writes; with the same key, once.
    fn write(&self, pending: &[Self::Item], key: &str) -> impl Future<Output = Result<(), String>> + Send;
}

/// Writes until `stop`.
pub(super) fn start<O: Own>(io: &Handle, own: O, instance: String, stop: CancellationToken) {
    let what = O::WHAT;
    spawn_named(io, what, async move {
        let mut ticks = tokio::time::interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let begun = now_ns();
        let (mut number, mut failing) = (0u64, false);
        let mut pending = Vec::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                _ = ticks.tick() => (),
            }
            if pending.is_empty() {
                pending = own.take();
                number += 1;
            }
            if pending.is_empty() {
                continue;
            }
            match own.write(&pending, &format!("{what} of {instance} since {begun}, {number}")).await {
                Ok(()) => {
                    pending.clear();
                    failing = false;
                }
                Err(_) if stop.is_cancelled() => return,
                Err(reason) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!(what, reason, "what this node says about itself is not written");
                }
                Err(_) => (),
            }
        }
    });
}

/// The node as the source of what it writes.
pub(super) fn resource(instance: &str) -> Vec<Attribute<'_>> {
    vec![
        ("service.name".into(), LogValue::String("pharos".into())),
        ("service.instance.id".into(), LogValue::String(instance.into())),
        ("service.version".into(), LogValue::String(env!("CARGO_PKG_VERSION").into())),
    ]
}
