//! Compensated sums (Neumaier's form of Kahan's), as Prometheus sums.

/// Adds to a sum whose lost low bits are carried aside: returns the new (sum, low).
#[inline]
pub fn add(value: f64, sum: f64, low: f64) -> (f64, f64) {
    let total = sum + value;
    if total.is_infinite() {
        return (total, 0.0);
    }
    let low =
        if sum.abs() >= value.abs() { low + ((sum - total) + value) } else { low + ((value - total) + sum) };
    (total, low)
}

/// A running compensated sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sum {
    /// The sum as floats give it.
    pub high: f64,
    /// What it lost.
    pub low: f64,
}

impl Sum {
    /// Adds a value.
    #[inline]
    pub fn add(&mut self, value: f64) {
        (self.high, self.low) = add(value, self.high, self.low);
    }

    /// The best float. An infinite sum stays infinite.
    #[inline]
    pub fn total(self) -> f64 {
        if self.high.is_infinite() { self.high } else { self.high + self.low }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_values_survive_large_ones() {
        let mut sum = Sum::default();
        [1.0, 1e100, 1.0, -1e100].iter().for_each(|v| sum.add(*v));
        assert_eq!(sum.total(), 2.0);
        [f64::INFINITY, 1.0].iter().for_each(|v| sum.add(*v));
        assert_eq!(sum.total(), f64::INFINITY);
    }
}
