//! A compressed body as it comes from a socket: the declared length is checked before anything is allocated.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::remote_write::{Limits, decompress, decompressed_len};

fuzz_target!(|compressed: &[u8]| {
    let limits = Limits::default();
    if let Ok(body) = decompress(compressed, &limits) {
        assert_eq!(Ok(body.len()), decompressed_len(compressed, &limits));
        assert!(body.len() <= compressed.len() * 22);
    }
});
