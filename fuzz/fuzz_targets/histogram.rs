//! The blob of a native histogram: what is taken is written again as a blob that says the same.

#![no_main]

use libfuzzer_sys::fuzz_target;
use protocol::histogram::{check, decode, encode};

fuzz_target!(|blob: &[u8]| {
    let decoded = decode(blob);
    assert_eq!(decoded.is_ok(), check(blob).is_ok());
    let Ok(histogram) = decoded else { return };
    let _ = histogram.validate();
    let mut again = Vec::new();
    encode(&histogram, &mut again).expect("a decoded histogram has the buckets that its spans describe");
    let mut twice = Vec::new();
    encode(&decode(&again).expect("own blob"), &mut twice).expect("as above");
    assert_eq!(again, twice);
});
