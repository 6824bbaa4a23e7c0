//! The groups' way to their peers: frames, and openraft's network on top of [`crate::env::Net`].

pub mod rpc;
