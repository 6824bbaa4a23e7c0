//! Canonical label bytes: what is taken comes back as the same bytes from its own pairs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::labels::Labels;

fuzz_target!(|bytes: &[u8]| {
    let Ok(labels) = Labels::from_canonical(bytes) else { return };
    assert_eq!(Labels::from_pairs(labels.iter()).as_ref(), Ok(&labels));
});
