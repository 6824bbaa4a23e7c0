//! Names for subqueries that have none.
//!
//! The optimizer (`merge_consecutive_projections` of DataFusion 55.2) takes two projections of equal expressions for one
//! where one stands right above the other. But `x + 1 AS x` above `x + 1 AS x` adds two. A subquery in `FROM` that has a
//! name never stands right below, so each gets one that no statement writes.

use std::ops::ControlFlow;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{Ident, TableAlias, TableFactor, VisitMut, VisitorMut};

/// Names the subqueries of a statement.
pub fn name_subqueries(statement: &mut Statement) {
    match statement {
        Statement::Statement(statement) => {
            let _ = statement.as_mut().visit(&mut Namer { named: 0 });
        }
        Statement::Explain(explain) => name_subqueries(&mut explain.statement),
        _ => {}
    }
}

struct Namer {
    named: usize,
}

impl VisitorMut for Namer {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::Derived { alias: alias @ None, .. } = factor {
            self.named += 1;
            let name = Ident::with_quote('"', format!("subquery {}", self.named));
            *alias = Some(TableAlias { explicit: true, name, columns: Vec::new(), at: None });
        }
        ControlFlow::Continue(())
    }
}
