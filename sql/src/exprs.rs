//! Expressions on their way to the shards and back: DataFusion's physical expressions as nodes of `protocol::sql`.
//!
//! What can not be written down (a volatile function, a subquery, a type that Arrow IPC does not carry) stays at the
//! coordinator: [`Writer::write`] says `None`. [`Reader::read`] takes bytes of a peer: every place, number and name is
//! checked, and DataFusion checks the types.

use std::sync::Arc;

use datafusion::arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::arrow::ipc::reader::StreamReader;
use datafusion::arrow::ipc::writer::StreamWriter;
use datafusion::common::ScalarValue;
use datafusion::common::config::ConfigOptions;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CaseExpr, CastExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal,
    NegativeExpr, NotExpr, TryCastExpr, in_list,
};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use protocol::sql::{SqlExpr, SqlNode, SqlNodeKind};

use crate::functions;

/// Nodes of an expression that is sent to the shards; longer ones are evaluated by the coordinator.
const MAX_NODES: usize = 4096;
/// Depth of such an expression.
const MAX_DEPTH: usize = 128;

const OPERATORS: [Operator; 28] = [
    Operator::Eq,
    Operator::NotEq,
    Operator::Lt,
    Operator::LtEq,
    Operator::Gt,
    Operator::GtEq,
    Operator::Plus,
    Operator::Minus,
    Operator::Multiply,
    Operator::Divide,
    Operator::Modulo,
    Operator::And,
    Operator::Or,
    Operator::RegexMatch,
    Operator::RegexIMatch,
    Operator::RegexNotMatch,
    Operator::RegexNotIMatch,
    Operator::LikeMatch,
    Operator::ILikeMatch,
    Operator::NotLikeMatch,
    Operator::NotILikeMatch,
    Operator::IsDistinctFrom,
    Operator::IsNotDistinctFrom,
    Operator::BitwiseAnd,
    Operator::BitwiseOr,
    Operator::BitwiseXor,
    Operator::StringConcat,
    Operator::IntegerDivide,
];

/// Why an expression of a peer can not be read.
#[derive(Debug, thiserror::Error)]
pub enum ExprError {
    /// It is not of the form that `protocol::sql` describes.
    #[error("malformed expression: {0}")]
    Malformed(&'static str),
    /// A function or operator that this node does not have.
    #[error("{0:?} is unknown here")]
    Unknown(String),
    /// Types that do not fit.
    #[error(transparent)]
    Types(#[from] datafusion::error::DataFusionError),
    /// Bytes that are no Arrow.
    #[error("malformed literals: {0}")]
    Arrow(#[from] datafusion::arrow::error::ArrowError),
}

/// Writes expressions that share literals.
#[derive(Debug, Default)]
pub struct Writer {
    literals: Vec<ScalarValue>,
}

impl Writer {
    /// The nodes of an expression over the columns of a walk, or `None` where it has to stay.
    pub fn write(&mut self, expr: &Arc<dyn PhysicalExpr>) -> Option<SqlExpr> {
        let mut nodes = Vec::new();
        self.node(expr, &mut nodes, 0)?;
        Some(SqlExpr { nodes })
    }

    fn literal(&mut self, value: &ScalarValue) -> u32 {
        let at = self.literals.iter().position(|known| known == value).unwrap_or_else(|| {
            self.literals.push(value.clone());
            self.literals.len() - 1
        });
        at as u32
    }

    fn node(&mut self, expr: &Arc<dyn PhysicalExpr>, nodes: &mut Vec<SqlNode>, depth: usize) -> Option<u32> {
        if depth > MAX_DEPTH || nodes.len() >= MAX_NODES {
            return None;
        }
        let mut node = SqlNode::default();
        let mut children: Vec<&Arc<dyn PhysicalExpr>> = Vec::new();
        let kind = if let Some(column) = expr.downcast_ref::<Column>() {
            node.number = u32::try_from(column.index()).ok()?;
            SqlNodeKind::Column
        } else if let Some(literal) = expr.downcast_ref::<Literal>() {
            node.number = self.literal(literal.value());
            SqlNodeKind::Literal
        } else if let Some(binary) = expr.downcast_ref::<BinaryExpr>() {
            if !OPERATORS.contains(binary.op()) {
                return None;
            }
            node.name = binary.op().to_string();
            children.extend([binary.left(), binary.right()]);
            SqlNodeKind::Binary
        } else if let Some(not) = expr.downcast_ref::<NotExpr>() {
            children.push(not.arg());
            SqlNodeKind::Not
        } else if let Some(is_null) = expr.downcast_ref::<IsNullExpr>() {
            children.push(is_null.arg());
            SqlNodeKind::IsNull
        } else if let Some(is_not_null) = expr.downcast_ref::<IsNotNullExpr>() {
            children.push(is_not_null.arg());
            SqlNodeKind::IsNotNull
        } else if let Some(negative) = expr.downcast_ref::<NegativeExpr>() {
            children.push(negative.arg());
            SqlNodeKind::Negative
        } else if let Some(list) = expr.downcast_ref::<InListExpr>() {
            children.push(list.expr());
            children.extend(list.list());
            node.flags = u32::from(list.negated());
            SqlNodeKind::InList
        } else if let Some(like) = expr.downcast_ref::<LikeExpr>() {
            children.extend([like.expr(), like.pattern()]);
            node.flags = u32::from(like.negated()) | u32::from(like.case_insensitive()) << 1;
            SqlNodeKind::Like
        } else if let Some(cast) = expr.downcast_ref::<CastExpr>() {
            children.push(cast.expr());
            node.number = self.literal(&ScalarValue::try_from(cast.cast_type()).ok()?);
            SqlNodeKind::Cast
        } else if let Some(cast) = expr.downcast_ref::<TryCastExpr>() {
            children.push(cast.expr());
            node.number = self.literal(&ScalarValue::try_from(cast.cast_type()).ok()?);
            SqlNodeKind::TryCast
        } else if let Some(case) = expr.downcast_ref::<CaseExpr>() {
            children.extend(case.expr());
            children.extend(case.when_then_expr().iter().flat_map(|(when, then)| [when, then]));
            children.extend(case.else_expr());
            node.flags = u32::from(case.expr().is_some()) | u32::from(case.else_expr().is_some()) << 1;
            SqlNodeKind::Case
        } else if let Some(call) = expr.downcast_ref::<ScalarFunctionExpr>() {
            if expr.is_volatile_node() || functions::scalar(call.fun().name()).is_none() {
                return None;
            }
            node.name = call.fun().name().to_owned();
            children.extend(call.args());
            SqlNodeKind::Function
        } else {
            return None;
        };
        for child in children {
            let place = self.node(child, nodes, depth + 1)?;
            node.children.push(place);
        }
        node.kind = kind as i32;
        nodes.push(node);
        Some(nodes.len() as u32 - 1)
    }

    /// The literals of all that was written. `None` where Arrow IPC does not carry one of them.
    pub fn literals(&self) -> Option<Vec<u8>> {
        let columns: Vec<ArrayRef> =
            self.literals.iter().map(|value| value.to_array().ok()).collect::<Option<_>>()?;
        let fields: Vec<Field> = columns
            .iter()
            .enumerate()
            .map(|(at, column)| Field::new(at.to_string(), column.data_type().clone(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &options).ok()?;
        let mut out = Vec::new();
        let mut writer = StreamWriter::try_new(&mut out, &schema).ok()?;
        writer.write(&batch).ok()?;
        writer.finish().ok()?;
        drop(writer);
        Some(out)
    }
}

/// Reads expressions over the columns of a walk.
#[derive(Debug)]
pub struct Reader {
    literals: Vec<ScalarValue>,
    schema: SchemaRef,
    config: Arc<ConfigOptions>,
}

impl Reader {
    /// A reader of expressions with these literals.
    pub fn new(literals: &[u8], schema: SchemaRef) -> Result<Self, ExprError> {
        let mut values = Vec::new();
        let batch = StreamReader::try_new(literals, None)?
            .next()
            .ok_or(ExprError::Malformed("there are no literals"))??;
        for column in batch.columns() {
            if column.is_empty() {
                return Err(ExprError::Malformed("a literal has no value"));
            }
            values.push(ScalarValue::try_from_array(column, 0)?);
        }
        Ok(Self { literals: values, schema, config: Arc::new(ConfigOptions::default()) })
    }

    fn value(&self, number: u32) -> Result<&ScalarValue, ExprError> {
        self.literals.get(number as usize).ok_or(ExprError::Malformed("a literal does not exist"))
    }

    fn type_of(&self, number: u32) -> Result<DataType, ExprError> {
        Ok(self.value(number)?.data_type())
    }

    /// The expression that nodes describe.
    pub fn read(&self, expr: &SqlExpr) -> Result<Arc<dyn PhysicalExpr>, ExprError> {
        let mut built: Vec<Option<Arc<dyn PhysicalExpr>>> = Vec::new();
        let mut depths: Vec<usize> = Vec::new();
        if expr.nodes.len() > MAX_NODES {
            return Err(ExprError::Malformed("too many nodes"));
        }
        for node in &expr.nodes {
            let mut children = Vec::new();
            let mut depth = 0;
            for place in &node.children {
                let child = built.get_mut(*place as usize).and_then(Option::take);
                children.push(child.ok_or(ExprError::Malformed("a child is missing or used twice"))?);
                depth = depth.max(depths[*place as usize] + 1);
            }
            if depth > MAX_DEPTH {
                return Err(ExprError::Malformed("too deep"));
            }
            built.push(Some(self.build(node, children)?));
            depths.push(depth);
        }
        let last = built.pop().flatten().ok_or(ExprError::Malformed("it is empty"))?;
        // What is wrong in an expression shows when its type is asked for.
        last.data_type(&self.schema)?;
        Ok(last)
    }

    fn build(
        &self,
        node: &SqlNode,
        children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>, ExprError> {
        let kind = SqlNodeKind::try_from(node.kind)
            .map_err(|_| ExprError::Unknown(format!("node {}", node.kind)))?;
        let wrong = || ExprError::Malformed("the wrong number of children");
        let mut given = children.into_iter();
        let mut next = || given.next().ok_or_else(wrong);
        let built: Arc<dyn PhysicalExpr> = match kind {
            SqlNodeKind::Column => {
                let at = node.number as usize;
                let field =
                    self.schema.fields().get(at).ok_or(ExprError::Malformed("a column does not exist"))?;
                Arc::new(Column::new(field.name(), at))
            }
            SqlNodeKind::Literal => Arc::new(Literal::new(self.value(node.number)?.clone())),
            SqlNodeKind::Binary => {
                let known = OPERATORS.iter().find(|op| op.to_string() == node.name);
                let op = known.ok_or_else(|| ExprError::Unknown(node.name.clone()))?;
                Arc::new(BinaryExpr::new(next()?, *op, next()?))
            }
            SqlNodeKind::Not => Arc::new(NotExpr::new(next()?)),
            SqlNodeKind::IsNull => Arc::new(IsNullExpr::new(next()?)),
            SqlNodeKind::IsNotNull => Arc::new(IsNotNullExpr::new(next()?)),
            SqlNodeKind::Negative => Arc::new(NegativeExpr::new(next()?)),
            SqlNodeKind::InList => {
                let expr = next()?;
                let list: Vec<_> = given.by_ref().collect();
                in_list(expr, list, &(node.flags & 1 != 0), &self.schema)?
            }
            SqlNodeKind::Like => {
                let (expr, pattern) = (next()?, next()?);
                Arc::new(LikeExpr::new(node.flags & 1 != 0, node.flags & 2 != 0, expr, pattern))
            }
            SqlNodeKind::Cast => Arc::new(CastExpr::new(next()?, self.type_of(node.number)?, None)),
            SqlNodeKind::TryCast => Arc::new(TryCastExpr::new(next()?, self.type_of(node.number)?)),
            SqlNodeKind::Case => {
                let base = if node.flags & 1 != 0 { Some(next()?) } else { None };
                let mut rest: Vec<_> = given.by_ref().collect();
                let otherwise = if node.flags & 2 != 0 { Some(rest.pop().ok_or_else(wrong)?) } else { None };
                if rest.is_empty() || rest.len() % 2 != 0 {
                    return Err(wrong());
                }
                let mut pairs = Vec::new();
                let mut rest = rest.into_iter();
                while let (Some(when), Some(then)) = (rest.next(), rest.next()) {
                    pairs.push((when, then));
                }
                Arc::new(CaseExpr::try_new(base, pairs, otherwise)?)
            }
            SqlNodeKind::Function => {
                let function =
                    functions::scalar(&node.name).ok_or_else(|| ExprError::Unknown(node.name.clone()))?;
                let args: Vec<_> = given.by_ref().collect();
                Arc::new(ScalarFunctionExpr::try_new(function, args, &self.schema, Arc::clone(&self.config))?)
            }
        };
        match given.next() {
            None => Ok(built),
            Some(_) => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use datafusion::physical_expr::expressions::{binary, case, cast, col, lit, not};
    use proptest::prelude::*;

    use super::*;

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("a", DataType::Float64, true),
            Field::new("b", DataType::Utf8, true),
        ]))
    }

    fn there_and_back(expr: Arc<dyn PhysicalExpr>) {
        let mut writer = Writer::default();
        let written = writer.write(&expr).expect("it can be sent");
        let reader = Reader::new(&writer.literals().expect("literals"), schema()).expect("a reader");
        assert_eq!(reader.read(&written).expect("it can be read").to_string(), expr.to_string());
    }

    #[test]
    fn expressions_survive_the_wire() {
        let schema = schema();
        let (a, b) = (|| col("a", &schema).expect("a"), || col("b", &schema).expect("b"));
        let greater = || binary(a(), Operator::Gt, lit(1.5), &schema).expect("comparable");
        there_and_back(greater());
        there_and_back(not(greater()).expect("boolean"));
        there_and_back(in_list(b(), vec![lit("x"), lit("y")], &true, &schema).expect("a list"));
        there_and_back(Arc::new(LikeExpr::new(true, true, b(), lit("x%"))));
        there_and_back(cast(a(), &schema, DataType::Int64).expect("castable"));
        there_and_back(case(None, vec![(greater(), lit(1i64))], Some(lit(2i64))).expect("a case"));
        let upper = functions::scalar("upper").expect("known");
        let config = Arc::new(ConfigOptions::default());
        there_and_back(Arc::new(
            ScalarFunctionExpr::try_new(upper, vec![b()], &schema, config).expect("a call"),
        ));
    }

    #[test]
    fn deep_and_volatile_ones_stay() {
        let schema = schema();
        let mut deep = col("a", &schema).expect("a");
        for _ in 0..MAX_DEPTH + 1 {
            deep = Arc::new(NegativeExpr::new(deep));
        }
        assert!(Writer::default().write(&deep).is_none());
        let random = functions::scalar("random").expect("known");
        let config = Arc::new(ConfigOptions::default());
        let call: Arc<dyn PhysicalExpr> =
            Arc::new(ScalarFunctionExpr::try_new(random, vec![], &schema, config).expect("a call"));
        assert!(Writer::default().write(&call).is_none());
    }

    proptest! {
        #[test]
        fn any_nodes_are_read_or_refused(
            nodes in proptest::collection::vec(
                (0i32..14, proptest::collection::vec(0u32..5, 0..4), 0u32..4,
                 prop_oneof![Just("+"), Just("="), Just("upper"), Just("AND"), Just("?")], 0u32..4),
                0..6,
            )
        ) {
            let mut writer = Writer::default();
            for value in [lit(1i64), lit("x"), lit(true)] {
                writer.write(&value);
            }
            let reader = Reader::new(&writer.literals().expect("literals"), schema()).expect("a reader");
            let nodes = nodes
                .into_iter()
                .map(|(kind, children, number, name, flags)| SqlNode {
                    kind, children, number, name: name.to_owned(), flags,
                })
                .collect();
            let batch = RecordBatch::new_empty(schema());
            if let Ok(expr) = reader.read(&SqlExpr { nodes }) {
                let _ = expr.evaluate(&batch);
            }
        }
    }
}
