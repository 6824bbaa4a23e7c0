//! Black-box chaos: real processes, real protocols, faults from outside, and a judgement that uses nothing but what clients
//! saw.
//!
//! ```text
//! scenario + seed ─► plan ─► faults on processes, links, files ──┐
//!                    load ─► writers and readers over HTTP ──────┼─► history.ndjson ─► check ─► report
//!                            nodes' memory, leaders, logs ───────┘    (K1 to K14)     (JSON, Markdown, HTML)
//! ```
//!
//! [`run`] plays a scenario, [`history`] is what it leaves behind, [`check`] judges that, also years later, [`report`] tells
//! it. Harness errors are a third outcome beside right and wrong: a run whose harness failed is never counted as passed.
//! Same seed: same faults at the same times and the same writes, but not the same interleaving, which is the system's.

pub mod attach;
pub mod check;
mod clients;
mod faults;
pub mod figures;
pub mod history;
mod hostile;
mod html;
mod numbered;
mod reader;
mod registers;
pub mod report;
pub mod run;
