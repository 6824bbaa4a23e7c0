//! Takes work to where the data is: folds the nodes above a walk into it, as far as the shards can do them.
//!
//! ```text
//! FilterExec, ProjectionExec            become part of the walk, where they can be written down
//! AggregateExec(Partial)                becomes groups and states at the shards; the final one above merges them
//! SortExec with a limit, limits         are done at the shards, too; they stay above, over fewer rows
//! ```
//!
//! The rule runs before DataFusion's own, on the plan as it was first made, when the partial aggregates are still beside
//! the walks. A node above a limit or groups stays where it is.

use std::sync::Arc;

use datafusion::arrow::datatypes::SchemaRef;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::error::Result;
use datafusion::physical_expr::expressions::{Column, Literal};
use datafusion::physical_expr::{
    PhysicalExpr, PhysicalSortExpr, ScalarFunctionExpr, conjunction, split_conjunction,
};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::{AggregateExec, AggregateMode};
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::limit::{GlobalLimitExec, LocalLimitExec};
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use protocol::labels::METRIC_NAME;
use protocol::sql::SqlColumnKind;

use crate::columns::ScanColumn;
use crate::functions;
use crate::scan::{Aggregate, ClusterScan, Shape, Walk};

/// Nodes that an expression may have once those of the nodes below are put in.
const MAX_NODES: usize = 4096;

/// The rule; see the module.
#[derive(Debug)]
pub struct PushToShards;

impl PhysicalOptimizerRule for PushToShards {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let folded = plan.transform_up(|node| {
            Ok(match fold(&node)? {
                Some(folded) => Transformed::yes(folded),
                None => Transformed::no(node),
            })
        })?;
        Ok(folded.data)
    }

    fn name(&self) -> &str {
        "push_to_shards"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// A walk that gives rows, and may be made to give others.
struct Open<'a> {
    scan: &'a ClusterScan,
    outputs: &'a [Arc<dyn PhysicalExpr>],
    sort: &'a [PhysicalSortExpr],
    limit: Option<usize>,
}

impl<'a> Open<'a> {
    fn of(plan: &'a Arc<dyn ExecutionPlan>) -> Option<Self> {
        let scan = plan.downcast_ref::<ClusterScan>()?;
        match &scan.walk().shape {
            Shape::Rows { outputs, sort, limit } => Some(Self { scan, outputs, sort, limit: *limit }),
            Shape::Groups { .. } => None,
        }
    }

    /// Whether all rows of the walk come out.
    fn is_whole(&self) -> bool {
        self.limit.is_none() && self.sort.is_empty()
    }

    /// A node that asks for another walk, if that can be written down.
    fn ask(&self, walk: Walk, schema: SchemaRef) -> Option<Arc<dyn ExecutionPlan>> {
        walk.request(&schema, "", 0)?;
        Some(Arc::new(self.scan.with(walk, schema)))
    }
}

fn fold(node: &Arc<dyn ExecutionPlan>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    if let Some(filter) = node.downcast_ref::<FilterExec>() {
        return fold_filter(filter);
    }
    if let Some(projection) = node.downcast_ref::<ProjectionExec>() {
        return fold_projection(projection);
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>() {
        return fold_aggregate(aggregate);
    }
    if let Some(sort) = node.downcast_ref::<SortExec>() {
        return fold_sort(node, sort);
    }
    if let Some(limit) = node.downcast_ref::<GlobalLimitExec>() {
        let rows = limit.fetch().and_then(|fetch| fetch.checked_add(limit.skip()));
        return fold_limit(node, limit.input(), rows);
    }
    if let Some(limit) = node.downcast_ref::<LocalLimitExec>() {
        return fold_limit(node, limit.input(), Some(limit.fetch()));
    }
    Ok(None)
}

fn fold_filter(filter: &FilterExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(open) = Open::of(filter.input()).filter(Open::is_whole) else { return Ok(None) };
    if filter.fetch().is_some() {
        return Ok(None);
    }
    let mut walk = open.scan.walk().clone();
    let schema = open.scan.schema();
    let mut rest = Vec::new();
    for condition in split_conjunction(filter.predicate()) {
        let mut with = walk.clone();
        match over_walk(condition, open.outputs, &mut with.columns)? {
            Some(over_walk) => {
                with.filters.push(over_walk);
                if with.request(&schema, "", 0).is_some() {
                    walk = with;
                } else {
                    rest.push(Arc::clone(condition));
                }
            }
            None => rest.push(Arc::clone(condition)),
        }
    }
    if rest.len() == split_conjunction(filter.predicate()).len() {
        return Ok(None);
    }
    let projection = filter.projection().as_ref().map(|columns| columns.to_vec());
    if !rest.is_empty() {
        let Some(scan) = open.ask(walk, schema) else { return Ok(None) };
        let left = FilterExecBuilder::new(conjunction(rest), scan).apply_projection(projection)?.build()?;
        return Ok(Some(Arc::new(left)));
    }
    let mut outputs = open.outputs.to_vec();
    if let Some(columns) = &projection {
        outputs = columns.iter().map(|at| Arc::clone(&outputs[*at])).collect();
    }
    walk.shape = Shape::Rows { outputs, sort: Vec::new(), limit: None };
    Ok(open.ask(walk, filter.schema()))
}

fn fold_projection(projection: &ProjectionExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(open) = Open::of(projection.input()) else { return Ok(None) };
    let mut walk = open.scan.walk().clone();
    let mut outputs = Vec::new();
    for item in projection.expr() {
        match over_walk(&item.expr, open.outputs, &mut walk.columns)? {
            Some(expr) => outputs.push(expr),
            None => return Ok(None),
        }
    }
    walk.shape = Shape::Rows { outputs, sort: open.sort.to_vec(), limit: open.limit };
    Ok(open.ask(walk, projection.schema()))
}

fn fold_aggregate(node: &AggregateExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(open) = Open::of(node.input()).filter(Open::is_whole) else { return Ok(None) };
    let groups = node.group_expr();
    if *node.mode() != AggregateMode::Partial || !(groups.is_single() || groups.is_true_no_grouping()) {
        return Ok(None);
    }
    let mut walk = open.scan.walk().clone();
    let over =
        |expr: &Arc<dyn PhysicalExpr>, walk: &mut Walk| over_walk(expr, open.outputs, &mut walk.columns);
    let mut keys = Vec::new();
    for (key, _) in groups.expr() {
        match over(key, &mut walk)? {
            Some(key) => keys.push(key),
            None => return Ok(None),
        }
    }
    let mut aggregates = Vec::new();
    for (function, filter) in node.aggr_expr().iter().zip(node.filter_expr()) {
        let name = function.fun().name();
        // The order of rows does not matter to a percentile, though its column is named as one.
        let by_order = !function.order_bys().is_empty() && !name.starts_with("approx_percentile");
        let descending = function.is_reversed() || function.order_bys().iter().any(|o| o.options.descending);
        if by_order || descending || functions::aggregate(name).is_none() {
            return Ok(None);
        }
        let mut args = Vec::new();
        for arg in function.expressions() {
            match over(&arg, &mut walk)? {
                Some(arg) => args.push(arg),
                None => return Ok(None),
            }
        }
        let filter = match filter {
            None => None,
            Some(filter) => match over(filter, &mut walk)? {
                Some(filter) => Some(filter),
                None => return Ok(None),
            },
        };
        aggregates.push(Aggregate { function: Arc::clone(function), args, filter });
    }
    walk.shape = Shape::Groups { keys, aggregates };
    Ok(open.ask(walk, node.schema()))
}

fn fold_sort(node: &Arc<dyn ExecutionPlan>, sort: &SortExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let Some(open) = Open::of(sort.input()).filter(Open::is_whole) else { return Ok(None) };
    let Some(limit) = sort.fetch().filter(|limit| *limit > 0) else { return Ok(None) };
    let mut walk = open.scan.walk().clone();
    let mut keys = Vec::new();
    for key in sort.expr() {
        match over_walk(&key.expr, open.outputs, &mut walk.columns)? {
            Some(expr) => keys.push(PhysicalSortExpr { expr, options: key.options }),
            None => return Ok(None),
        }
    }
    walk.shape = Shape::Rows { outputs: open.outputs.to_vec(), sort: keys, limit: Some(limit) };
    let Some(scan) = open.ask(walk, open.scan.schema()) else { return Ok(None) };
    Ok(Some(above(node, scan)?))
}

fn fold_limit(
    node: &Arc<dyn ExecutionPlan>,
    input: &Arc<dyn ExecutionPlan>,
    rows: Option<usize>,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let (Some(open), Some(rows)) = (Open::of(input), rows.filter(|rows| *rows > 0)) else { return Ok(None) };
    if open.limit.is_some_and(|limit| limit <= rows) {
        return Ok(None);
    }
    let mut walk = open.scan.walk().clone();
    let (outputs, sort) = (open.outputs.to_vec(), open.sort.to_vec());
    walk.shape = Shape::Rows { outputs, sort, limit: Some(rows) };
    let Some(scan) = open.ask(walk, open.scan.schema()) else { return Ok(None) };
    Ok(Some(above(node, scan)?))
}

fn above(node: &Arc<dyn ExecutionPlan>, scan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    use datafusion::physical_plan::ReplaceChildrenOptions;
    use datafusion::physical_plan::execution_plan::ChildrenPropertiesMode;
    let options = ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute);
    Arc::clone(node).replace_children(vec![scan], options)
}

/// How many nodes an expression has once the outputs are put in for its columns; more than the limit is not counted out.
fn nodes(expr: &Arc<dyn PhysicalExpr>, outputs: Option<&[Arc<dyn PhysicalExpr>]>, limit: usize) -> usize {
    if let (Some(column), Some(outputs)) = (expr.downcast_ref::<Column>(), outputs) {
        return outputs.get(column.index()).map_or(1, |output| nodes(output, None, limit));
    }
    let mut count = 1;
    for child in expr.children() {
        if count > limit {
            break;
        }
        count += nodes(child, outputs, limit - count.min(limit));
    }
    count
}

/// An expression over the outputs of a walk as one over its columns; `None` where that would be too large. Labels that
/// are looked up in the map of all labels become columns of their own.
fn over_walk(
    expr: &Arc<dyn PhysicalExpr>,
    outputs: &[Arc<dyn PhysicalExpr>],
    columns: &mut Vec<ScanColumn>,
) -> Result<Option<Arc<dyn PhysicalExpr>>> {
    if nodes(expr, Some(outputs), MAX_NODES) > MAX_NODES {
        return Ok(None);
    }
    let put_in = Arc::clone(expr).transform_up(|node| {
        let output = node.downcast_ref::<Column>().and_then(|column| outputs.get(column.index()));
        Ok(match output {
            Some(output) => Transformed::yes(Arc::clone(output)),
            None => Transformed::no(node),
        })
    })?;
    let looked_up = put_in.data.transform_up(|node| {
        let Some(label) = looked_up_label(&node, columns) else { return Ok(Transformed::no(node)) };
        let column = ScanColumn::label(label);
        let at = columns.iter().position(|known| *known == column).unwrap_or_else(|| {
            columns.push(column.clone());
            columns.len() - 1
        });
        Ok(Transformed::yes(Arc::new(Column::new(&column.name(), at)) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(Some(looked_up.data))
}

fn looked_up_label(expr: &Arc<dyn PhysicalExpr>, columns: &[ScanColumn]) -> Option<String> {
    let call = expr.downcast_ref::<ScalarFunctionExpr>().filter(|call| call.fun().name() == "get_field")?;
    let [map, key] = call.args() else { return None };
    let column = columns.get(map.downcast_ref::<Column>()?.index())?;
    let (ScalarValue::Utf8(Some(label)) | ScalarValue::Utf8View(Some(label))) =
        key.downcast_ref::<Literal>()?.value()
    else {
        return None;
    };
    let is_label = column.kind == SqlColumnKind::Labels && !label.is_empty() && label != METRIC_NAME;
    is_label.then(|| label.clone())
}
