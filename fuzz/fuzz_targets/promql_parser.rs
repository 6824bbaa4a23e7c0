//! Any bytes as a query: refused or understood, and what is understood prints as what it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use query::promql::parser::parse;
use query::promql::printer::pretty;
use query::promql::tree::tree;

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    let Ok(expr) = parse(&text) else { return };
    let printed = expr.to_string();
    let again = parse(&printed).expect("what was printed parses");
    assert_eq!(again.to_string(), printed);
    let broken = parse(&pretty(&expr)).expect("what was broken over lines parses");
    assert_eq!(broken.to_string(), printed);
    let _ = tree(&expr);
});
