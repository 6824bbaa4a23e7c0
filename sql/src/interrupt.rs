//! Statements end when they are told to, whatever they compute.
//!
//! A stream of DataFusion can be left only where it waits. Its sources wait once they have used up what tokio grants a task
//! for one turn, but an operator that makes much of little asks its sources for nothing for minutes: the product of two
//! lists of a million rows, a condition between them that holds nowhere. Hence, in the finished plan,
//!
//! ```text
//! joins, unions, unnest         each batch that they give counts against the turn, too
//! conditions of joins           the flag and the time are looked at for each batch that is judged
//! ```

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::time::Instant;

use datafusion::arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder};
use datafusion::physical_plan::unnest::UnnestExec;
use query::CancelFlag;

use crate::error::SqlError;

/// When a statement has to end.
#[derive(Clone, Debug)]
pub struct Interrupt {
    /// Set when nobody wants the answer any more.
    pub cancel: CancelFlag,
    /// When there has to be one.
    pub deadline: Instant,
}

impl Interrupt {
    /// The reason to end now, if there is one.
    pub fn reason(&self) -> Option<SqlError> {
        if self.cancel.is_canceled() {
            Some(SqlError::canceled())
        } else if Instant::now() >= self.deadline {
            Some(SqlError::timed_out())
        } else {
            None
        }
    }
}

/// The rule; see the module. To be the last.
#[derive(Debug)]
pub struct Interruptible(pub Interrupt);

impl PhysicalOptimizerRule for Interruptible {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let plan = plan.transform_up(|node| {
            let node = self.guarded(node)?;
            if node.children().len() < 2 && !node.is::<UnnestExec>() {
                return Ok(Transformed::no(node));
            }
            Ok(Transformed::yes(Arc::new(CooperativeExec::new(node)) as Arc<dyn ExecutionPlan>))
        })?;
        Ok(plan.data)
    }

    fn name(&self) -> &str {
        "interruptible"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

impl Interruptible {
    fn guarded(&self, node: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let guarded = |filter: &JoinFilter| {
            let inner = Arc::clone(filter.expression());
            let expression = Arc::new(Guarded { inner, interrupt: self.0.clone() });
            JoinFilter::new(expression, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
        };
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>()
            && let Some(filter) = join.filter()
        {
            let builder = NestedLoopJoinExecBuilder::from(join).with_filter(Some(guarded(filter)));
            return Ok(Arc::new(builder.build()?));
        }
        if let Some(join) = node.downcast_ref::<HashJoinExec>()
            && let Some(filter) = &join.filter
        {
            return Ok(Arc::new(join.builder().with_filter(Some(guarded(filter))).build()?));
        }
        Ok(node)
    }
}

/// A condition that is judged only as long as the statement may go on.
#[derive(Debug)]
struct Guarded {
    inner: Arc<dyn PhysicalExpr>,
    interrupt: Interrupt,
}

impl PartialEq for Guarded {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Guarded {}

impl Hash for Guarded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Guarded {
    fn data_type(&self, input: &Schema) -> Result<DataType> {
        self.inner.data_type(input)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.inner.nullable(input)
    }

    fn return_field(&self, input: &Schema) -> Result<FieldRef> {
        self.inner.return_field(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        match self.interrupt.reason() {
            Some(reason) => Err(DataFusionError::External(Box::new(reason))),
            None => self.inner.evaluate(batch),
        }
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>> {
        let inner = children.pop().unwrap_or_else(|| Arc::clone(&self.inner));
        Ok(Arc::new(Self { inner, interrupt: self.interrupt.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}
