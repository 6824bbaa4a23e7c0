//! `||` as a function, so that what it makes can be bounded.
//!
//! A statement that doubles a text in each of thirty nested selects asks for a gigabyte in a line. As an operator `||` has no
//! bound: its result outgrows the offsets of a column and the thread panics, at a shard as at the coordinator, or while
//! constants are folded. So each `||` becomes a call of [`NAME`], which refuses what would be larger than
//! [`MAX_BYTES`](super::bounded::MAX_BYTES), and evaluates the operator otherwise.

use std::sync::{Arc, OnceLock};

use datafusion::arrow::array::{Array, AsArray};
use datafusion::arrow::compute::cast;
use datafusion::arrow::datatypes::{DataType, Field, Schema};
use datafusion::arrow::record_batch::{RecordBatch, RecordBatchOptions};
use datafusion::common::DFSchema;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::Transformed;
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::expr_rewriter::FunctionRewrite;
use datafusion::logical_expr::type_coercion::binary::BinaryTypeCoercer;
use datafusion::logical_expr::{
    BinaryExpr, ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{BinaryExpr as PhysicalBinary, Column};

use super::bounded::MAX_BYTES;

/// Name of the function in plans.
pub const NAME: &str = "concat_operator";

/// The function.
pub fn function() -> Arc<ScalarUDF> {
    static FUNCTION: OnceLock<Arc<ScalarUDF>> = OnceLock::new();
    Arc::clone(FUNCTION.get_or_init(|| {
        let signature = Signature::user_defined(Volatility::Immutable);
        Arc::new(ScalarUDF::new_from_impl(Concat { signature }))
    }))
}

/// Makes each `||` a call.
#[derive(Debug)]
pub struct BoundedConcat;

impl FunctionRewrite for BoundedConcat {
    fn name(&self) -> &str {
        "bounded_concat"
    }

    fn rewrite(&self, expr: Expr, _: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        Ok(match expr {
            Expr::BinaryExpr(BinaryExpr { left, op: Operator::StringConcat, right }) => {
                let call = ScalarFunction::new_udf(function(), vec![*left, *right]);
                Transformed::yes(Expr::ScalarFunction(call))
            }
            expr => Transformed::no(expr),
        })
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Concat {
    signature: Signature,
}

fn two<T>(args: &[T]) -> Result<(&T, &T)> {
    match args {
        [left, right] => Ok((left, right)),
        _ => Err(DataFusionError::Plan(format!("{NAME} takes two arguments, not {}", args.len()))),
    }
}

impl ScalarUDFImpl for Concat {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let (left, right) = two(types)?;
        let (left, right) = BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_input_types()?;
        Ok(vec![left, right])
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        let (left, right) = two(types)?;
        BinaryTypeCoercer::new(left, &Operator::StringConcat, right).get_result_type()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let mut bytes = 0u128;
        for arg in &args.args {
            bytes += match arg {
                ColumnarValue::Array(array) => text_bytes(array)?,
                ColumnarValue::Scalar(value) => {
                    text_bytes(&value.to_array()?)?.saturating_mul(rows.max(1) as u128)
                }
            };
        }
        if bytes > MAX_BYTES {
            return Err(DataFusionError::ResourcesExhausted(format!(
                "|| would make {bytes} bytes at once, more than the limit of {MAX_BYTES}"
            )));
        }
        let is_scalar = args.args.iter().all(|arg| matches!(arg, ColumnarValue::Scalar(_)));
        let rows = if is_scalar { 1 } else { rows };
        let arrays = args.args.iter().map(|arg| arg.to_array(rows)).collect::<Result<Vec<_>>>()?;
        let (left, right) = two(&arrays)?;
        let fields = vec![
            Field::new("left", left.data_type().clone(), true),
            Field::new("right", right.data_type().clone(), true),
        ];
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        let (left, right) = (Column::new("left", 0), Column::new("right", 1));
        let joined =
            PhysicalBinary::new(Arc::new(left), Operator::StringConcat, Arc::new(right)).evaluate(&batch)?;
        match joined {
            ColumnarValue::Array(array) if is_scalar => {
                Ok(ColumnarValue::Scalar(datafusion::scalar::ScalarValue::try_from_array(&array, 0)?))
            }
            joined => Ok(joined),
        }
    }
}

/// Bytes of the texts of an array; of other types those that it takes.
fn text_bytes(array: &Arc<dyn Array>) -> Result<u128> {
    Ok(match array.data_type() {
        DataType::Utf8 => array.as_string::<i32>().value_data().len() as u128,
        DataType::LargeUtf8 => array.as_string::<i64>().value_data().len() as u128,
        DataType::Utf8View => array.as_string_view().lengths().map(u128::from).sum(),
        DataType::Dictionary(_, values) => return text_bytes(&cast(array, values)?),
        _ => array.get_array_memory_size() as u128,
    })
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;
    use datafusion::prelude::SessionContext;

    async fn outcome(sql: &str) -> Result<String, String> {
        let mut state = SessionStateBuilder::new().with_default_features().build();
        super::super::register_rewrites(&mut state).map_err(|e| e.to_string())?;
        let frame = SessionContext::new_with_state(state).sql(sql).await.map_err(|e| e.to_string())?;
        let batches = frame.collect().await.map_err(|e| e.to_string())?;
        let text = datafusion::arrow::util::pretty::pretty_format_batches(&batches);
        text.map(|text| text.to_string()).map_err(|e| e.to_string())
    }

    fn doubled(times: usize, source: &str) -> String {
        (0..times).fold(source.to_owned(), |inner, n| format!("select s || s as s from ({inner}) as t{n}"))
    }

    #[tokio::test]
    async fn is_the_operator_within_its_bound() {
        for (expression, result) in [
            ("'a' || 'b'", "ab"),
            ("'a' || 1", "a1"),
            ("'a' || null || 'b'", "NULL"),
            ("'é' || 'ñ' || ''", "éñ"),
        ] {
            let sql = format!("select coalesce({expression}, 'NULL') as r");
            let found = outcome(&sql).await.unwrap_or_else(|error| panic!("{expression}: {error}"));
            assert!(found.contains(&format!("| {result} ")), "{expression}: {found}");
        }
        let of_rows =
            "select column1 || '-' || column2 as r from (values ('a', 1), (null, 2), ('c', null)) order by r";
        let found = outcome(of_rows).await.expect("rows");
        assert!(found.contains("| a-1 |") && !found.contains("c-"), "{found}");
        // The name of a column is still that of the operator.
        let found = outcome("select column1 || 'x' from (values ('a'))").await.expect("a row");
        assert!(found.contains("||") && !found.contains(super::NAME), "{found}");
    }

    #[tokio::test]
    async fn refuses_what_grows_without_end() {
        let of = |times: u32| {
            [
                format!("select repeat('abcdefgh', {times}) as s"),
                format!("select repeat(column1, {times}) as s from (values ('abcdefgh'), ('x'))"),
            ]
        };
        for (small, large) in of(1000).into_iter().zip(of(4_000_000)) {
            let fine = format!("select length(s) as n from ({}) order by n", doubled(3, &small));
            let found = outcome(&fine).await.expect("some kilobytes");
            assert!(found.contains("64000"), "{found}");
            let fatal = format!("select length(s) from ({})", doubled(4, &large));
            let error = outcome(&fatal).await.expect_err("half a gigabyte");
            assert!(error.contains("more than the limit"), "{error}");
        }
    }
}
