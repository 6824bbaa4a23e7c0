//! Refuses to make a release without its pages: a binary that was meant to have a UI and has none is found out here,
//! not by whoever opens it. Development builds read `ui/dist` when they run, so they build without it.

#![allow(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=../ui/dist");
    println!("cargo:rerun-if-changed=build.rs");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let wants_ui = std::env::var_os("CARGO_FEATURE_UI").is_some();
    if is_release && wants_ui && !Path::new("../ui/dist/index.html").exists() {
        println!(
            "cargo:error=ui/dist is missing: run `make ui` first, or build without pages by --no-default-features"
        );
    }
}
