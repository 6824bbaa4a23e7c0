//! The chaos system: the simulator, faults for real processes, workloads, the oracle, scenarios and reports.
//!
//! What lives here: [`sim`] (whole nodes in one thread under one seed); [`black_box`] (real processes under [`scenario`]s,
//! judged by what clients saw), with [`proxy`] for the links between nodes and [`hooks`] for
//! their disks and clocks; [`process`] (real nodes on loopback), [`client`]
//! and [`ledger`] (numbered samples over HTTP and what became of them), which benchmarks and the black-box tests share;
//! [`bench`] with its [`workload`], [`log_workload`] and [`span_workload`] and the cheap [`http`] connection that it
//! measures with. What does not: anything a node needs to run.
//! `server` exposes this library as `pharos chaos` and `pharos bench`; CI and users run the same code.

#![forbid(unsafe_code)]

pub mod bench;
pub mod black_box;
pub mod client;
pub mod hooks;
pub mod http;
pub mod ledger;
pub mod log_workload;
mod otlp;
pub mod process;
pub mod proxy;
pub mod scenario;
pub mod sim;
pub mod span_workload;
pub mod workload;
