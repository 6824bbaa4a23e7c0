//! The server: the one place where the crates meet.
//!
//! What lives here: the binary's commands ([`cli`]), settings ([`config`]), the production side of `cluster`'s seams
//! ([`runtime`], [`peer`]), the HTTP surface and the glue between query, cluster and storage. What does not: anything
//! that decides what is stored, replicated or answered.
//!
//! ```text
//! HTTP -> assets                                                            pages
//! HTTP -> api (routes, auth, errors) -> ingest -> cluster::router           write
//!                                    -> wiring -> query::Engine -> cluster  read
//! peers <-> peer <-> cluster::Node          runtime: threads and tasks for all of it
//! ```
//!
//! Invariants: [`error`] alone maps kinds of errors to HTTP; [`config`] alone reads the environment; every route is a
//! row of one table with the permission it takes.
//!
//! Read first: [`runtime`], then [`peer`].

#![forbid(unsafe_code)]

pub mod api;
pub mod assets;
pub mod auth;
pub mod backup;
pub mod cli;
pub mod config;
pub mod error;
pub mod ingest;
pub mod peer;
pub mod postgres;
pub mod runtime;
pub mod service;
pub mod telemetry;
#[cfg(test)]
mod testing;
pub mod tls;
pub mod wiring;
