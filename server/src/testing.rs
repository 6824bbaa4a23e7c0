//! What several modules' tests share.

use std::path::Path;

/// Compares a committed file with what the code would write; `PHAROS_BLESS=1` writes it instead.
#[track_caller]
pub(crate) fn committed(path: &Path, text: &str) {
    if std::env::var_os("PHAROS_BLESS").is_some() {
        if let Some(dir) = path.parent() {
            std::fs::create_dir_all(dir).unwrap();
        }
        std::fs::write(path, text).unwrap();
        return;
    }
    let found = std::fs::read_to_string(path).unwrap_or_default();
    if found != text {
        let line = found.lines().zip(text.lines()).position(|(a, b)| a != b).map_or(0, |n| n + 1);
        panic!("{} is out of date from line {line} on: run `make docs`", path.display());
    }
}
