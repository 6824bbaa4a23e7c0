//! The functions that statements may call: DataFusion's, with guards around those that could fill the memory by one call.
//!
//! The shards and the coordinator look functions up here, so that a name means the same at both.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use datafusion::error::Result;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::registry::FunctionRegistry;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

mod bounded;
mod concat;

fn scalars() -> &'static HashMap<String, Arc<ScalarUDF>> {
    static SCALARS: OnceLock<HashMap<String, Arc<ScalarUDF>>> = OnceLock::new();
    SCALARS.get_or_init(|| {
        let mut out = HashMap::from([(concat::NAME.to_owned(), concat::function())]);
        for function in SessionStateDefaults::default_scalar_functions() {
            let function = bounded::bounded(function);
            for name in std::iter::once(function.name()).chain(function.aliases().iter().map(String::as_str))
            {
                out.insert(name.to_owned(), Arc::clone(&function));
            }
        }
        out
    })
}

/// All scalar functions.
pub fn all_scalars() -> Vec<Arc<ScalarUDF>> {
    let mut all: Vec<&Arc<ScalarUDF>> = scalars().values().collect();
    all.sort_by_key(|function| function.name());
    all.dedup_by_key(|function| function.name());
    all.into_iter().cloned().collect()
}

/// Has a session put functions in the place of operators that need a bound.
pub fn register_rewrites(state: &mut SessionState) -> Result<()> {
    state.register_function_rewrite(Arc::new(concat::BoundedConcat))
}

/// A scalar function by its name.
pub fn scalar(name: &str) -> Option<Arc<ScalarUDF>> {
    scalars().get(name).cloned()
}

/// An aggregate that shards may begin: one of which states merge in any order, and are smaller than the rows.
pub fn aggregate(name: &str) -> Option<Arc<AggregateUDF>> {
    static AGGREGATES: OnceLock<HashMap<String, Arc<AggregateUDF>>> = OnceLock::new();
    let all = AGGREGATES.get_or_init(|| {
        let known = SessionStateDefaults::default_aggregate_functions().into_iter();
        known
            .filter(|function| AT_SHARDS.contains(&function.name()))
            .map(|function| (function.name().to_owned(), function))
            .collect()
    });
    all.get(name).cloned()
}

const AT_SHARDS: [&str; 20] = [
    "approx_distinct",
    "approx_median",
    "approx_percentile_cont",
    "approx_percentile_cont_with_weight",
    "avg",
    "bool_and",
    "bool_or",
    "corr",
    "count",
    "covar_pop",
    "covar_samp",
    "max",
    "min",
    "regr_count",
    "regr_slope",
    "stddev",
    "stddev_pop",
    "sum",
    "var",
    "var_pop",
];
