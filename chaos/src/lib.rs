//! The chaos system: the simulator, faults for real processes, workloads, the oracle, scenarios and reports.

#![forbid(unsafe_code)]
