//! Any bytes as a query for logs, in both languages: refused or understood, and what is understood prints as what it is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use query::logs::{logql, search};

fuzz_target!(|bytes: &[u8]| {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(parsed) = search::parse(&text) {
        let printed = parsed.to_string();
        let again = search::parse(&printed).expect("what was printed parses");
        assert_eq!(again, parsed);
        let _ = parsed.filter(&text);
    }
    if let Ok(parsed) = logql::parse(&text) {
        let printed = parsed.to_string();
        let again = logql::parse(&printed).expect("what was printed parses");
        assert_eq!(again.to_string(), printed);
    }
});
