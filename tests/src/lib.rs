//! Harness of the black-box tests: starts real nodes and real peers on loopback and judges what they answer.

#![forbid(unsafe_code)]
