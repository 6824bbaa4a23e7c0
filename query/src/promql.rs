//! PromQL: text to syntax tree and back.

pub mod ast;
pub mod functions;
pub mod lexer;
pub mod parser;
pub mod printer;
pub mod span;
pub mod tree;
