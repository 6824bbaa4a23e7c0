//! SQL as PostgreSQL's clients expect it: values in their forms, parameters out of them, and the commands about the
//! session that are no statements of SQL here.
//!
//! The protocol itself is `protocol::postgres`, connections are the server's. Here is what both need of SQL: [`columns`]
//! and [`value`] turn rows into what is sent, [`parameter`] turns what is received into a value of a statement,
//! [`command`] tells what a client asks for, and [`catalog`] and [`rewrite`] answer what tools look up to show tables.

pub mod catalog;
mod command;
mod moment;
mod parameters;
pub mod rewrite;
mod values;

pub use command::{Command, command, split};
pub use parameters::{parameter, sample};
pub use values::{columns, oid, value};
