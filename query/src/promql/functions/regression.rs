//! deriv, predict_linear, double_exponential_smoothing: lines through the samples of a range.

use super::window::{Answer, Call, Window};
use crate::error::QueryError;
use crate::kahan::Sum;

/// Slope, and value at a time, of the line of least squares.
fn least_squares(window: &Window<'_>, intercept_at: i64) -> (f64, f64) {
    let values = window.values;
    if values.iter().all(|value| *value == values[0]) {
        return if values[0].is_infinite() { (f64::NAN, f64::NAN) } else { (0.0, values[0]) };
    }
    let [mut sum_x, mut sum_y, mut sum_xy, mut sum_xx] = [Sum::default(); 4];
    for (time, y) in window.times.iter().zip(values) {
        let x = (time - intercept_at) as f64 / 1000.0;
        sum_x.add(x);
        sum_y.add(*y);
        sum_xy.add(x * y);
        sum_xx.add(x * x);
    }
    let whole = |sum: Sum| sum.high + sum.low;
    let (sum_x, sum_y, sum_xy, sum_xx) = (whole(sum_x), whole(sum_y), whole(sum_xy), whole(sum_xx));
    let n = values.len() as f64;
    let covariance = sum_xy - sum_x * sum_y / n;
    let variance = sum_xx - sum_x * sum_x / n;
    let slope = covariance / variance;
    (slope, sum_y / n - slope * sum_x / n)
}

/// Whether there are at least two floats; says so when histograms stand beside.
fn has_line(window: &Window<'_>, call: &Call<'_>) -> bool {
    if !window.values.is_empty() && !window.histograms.is_empty() {
        call.notes.borrow_mut().histogram_ignored_in_mixed_range(call.metric, call.span);
    }
    window.values.len() >= 2
}

/// Slope per second.
pub fn deriv(window: &Window<'_>, call: &Call<'_>) -> Answer {
    if !has_line(window, call) {
        return Answer::Nothing;
    }
    // A time near the samples keeps the products small.
    Answer::Float(least_squares(window, window.times[0]).0)
}

/// Value so many seconds after the evaluation time.
pub fn predict_linear(window: &Window<'_>, call: &Call<'_>) -> Answer {
    if !has_line(window, call) {
        return Answer::Nothing;
    }
    let (slope, intercept) = least_squares(window, window.at);
    Answer::Float(slope * call.params[0] + intercept)
}

/// Smoothed value at the end of the range, by a smoothing and a trend factor.
pub fn double_exponential_smoothing(window: &Window<'_>, call: &Call<'_>) -> Result<Answer, QueryError> {
    let [smoothing, trend] = call.params;
    let refuse = |what: &str, short: &str, value: f64| {
        let message = format!("invalid {what} factor. Expected: 0 < {short} < 1, got: {value:.6}");
        Err(QueryError::Execution(message))
    };
    if !(smoothing > 0.0 && smoothing < 1.0) {
        return refuse("smoothing", "sf", smoothing);
    }
    if !(trend > 0.0 && trend < 1.0) {
        return refuse("trend", "tf", trend);
    }
    if !has_line(window, call) {
        return Ok(Answer::Nothing);
    }
    let values = window.values;
    let (mut before, mut level) = (0.0, values[0]);
    let mut slope = values[1] - values[0];
    for (i, value) in values.iter().enumerate().skip(1) {
        if i > 1 {
            slope = trend * (level - before) + (1.0 - trend) * slope;
        }
        let next = smoothing * value + (1.0 - smoothing) * (level + slope);
        (before, level) = (level, next);
    }
    Ok(Answer::Float(level))
}
