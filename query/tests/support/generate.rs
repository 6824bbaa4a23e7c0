//! Random queries over the demo metrics, in the part of PromQL that Prometheus 2 knows too.

/// A generator that repeats itself for a seed.
pub struct Generator(u64);

const METRICS: [&str; 7] = [
    "demo_cpu_usage_seconds_total",
    "demo_memory_usage_bytes",
    "demo_disk_usage_bytes",
    "demo_num_cpus",
    "demo_batch_last_success_timestamp_seconds",
    "demo_intermittent_metric",
    "demo_api_request_duration_seconds_count",
];
const LABELS: [&str; 5] = ["instance", "job", "mode", "type", "path"];
const RANGES: [&str; 6] = ["20s", "1m", "2m30s", "5m", "11m", "1h"];

impl Generator {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % below
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.next(from.len())]
    }

    fn labels(&mut self) -> String {
        let count = self.next(3);
        let mut names: Vec<&str> = (0..count).map(|_| self.pick(&LABELS)).collect();
        names.sort_unstable();
        names.dedup();
        names.join(", ")
    }

    fn selector(&mut self) -> String {
        let metric = self.pick(&METRICS);
        match self.next(6) {
            0 => format!("{metric}{{instance=~\".*[12]\"}}"),
            1 => format!("{metric}{{type!=\"free\", mode!~\"idle|user\"}}"),
            2 => format!("{{__name__=\"{metric}\", path=\"\"}}"),
            _ => metric.to_owned(),
        }
    }

    fn modifiers(&mut self) -> &'static str {
        match self.next(8) {
            0 => " offset 7m",
            1 => " @ 1700007777.5",
            2 => " @ end()",
            3 => " offset -90s",
            _ => "",
        }
    }

    fn range(&mut self, depth: usize) -> String {
        let range = self.pick(&RANGES);
        if depth > 0 && self.next(4) == 0 {
            let inner = self.vector(depth - 1);
            // Subqueries in subqueries would meet their ranges' ends, which Prometheus 2 counted in on the left.
            if inner.contains(":") {
                return self.range(0);
            }
            let step = self.pick(&["10s", "30s", "1m", ""]);
            let range = self.pick(&["1m", "4m"]);
            return format!("({inner})[{range}:{step}]{}", self.modifiers());
        }
        format!("{}[{range}]{}", self.selector(), self.modifiers())
    }

    fn scalar(&mut self, depth: usize) -> String {
        match self.next(6) {
            0 => "time()".to_owned(),
            1 if depth > 0 => format!("scalar({})", self.vector(depth - 1)),
            2 => "-0.5".to_owned(),
            3 => format!("{}", self.next(1000)),
            4 => "1e9".to_owned(),
            _ => "3".to_owned(),
        }
    }

    /// An expression that gives an instant vector.
    pub fn vector(&mut self, depth: usize) -> String {
        if depth == 0 {
            return format!("{}{}", self.selector(), self.modifiers());
        }
        match self.next(10) {
            0 | 1 => {
                let f = self.pick(&[
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "idelta",
                    "deriv",
                    "changes",
                    "resets",
                    "avg_over_time",
                    "sum_over_time",
                    "min_over_time",
                    "max_over_time",
                    "count_over_time",
                    "last_over_time",
                    "stddev_over_time",
                    "stdvar_over_time",
                    "present_over_time",
                    "absent_over_time",
                ]);
                format!("{f}({})", self.range(depth - 1))
            }
            2 => {
                let range = self.range(depth - 1);
                match self.next(3) {
                    0 => format!("quantile_over_time(0.{}, {range})", self.next(10)),
                    // Prometheus 2 moved fixed ranges along with the steps here.
                    1 if !range.contains('@') => format!("predict_linear({range}, {})", self.next(1000)),
                    _ => format!("max_over_time({range})"),
                }
            }
            3 => {
                let f = self.pick(&[
                    "abs",
                    "ceil",
                    "floor",
                    "sqrt",
                    "ln",
                    "sgn",
                    "round",
                    "timestamp",
                    "absent",
                    "-",
                ]);
                format!("{f}({})", self.vector(depth - 1))
            }
            4 | 5 => {
                let op = self.pick(&["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"]);
                let grouping = match self.next(3) {
                    0 => String::new(),
                    1 => format!(" by ({})", self.labels()),
                    _ => format!(" without ({})", self.labels()),
                };
                format!("{op}{grouping} ({})", self.vector(depth - 1))
            }
            6 => {
                let (op, k) = (self.pick(&["topk", "bottomk"]), self.next(5));
                let by = format!("by ({})", self.labels());
                // Ties would be cut at random.
                format!("count {by} ({op} {by} ({k}, {}))", self.vector(depth - 1))
            }
            7 => {
                let op = self.pick(&["+", "-", "*", "/", "%", "^", "> bool", "<", ">=", "!="]);
                format!("({} {op} {})", self.vector(depth - 1), self.scalar(depth - 1))
            }
            8 => {
                let op = self.pick(&["and", "or", "unless"]);
                let on = match self.next(3) {
                    0 => String::new(),
                    1 => format!(" on ({})", self.labels()),
                    _ => format!(" ignoring ({})", self.labels()),
                };
                format!("({} {op}{on} {})", self.vector(depth - 1), self.vector(depth - 1))
            }
            _ => {
                let op = self.pick(&["+", "-", "*", "/", "> bool"]);
                let matching = match self.next(4) {
                    0 => String::new(),
                    1 => " on (instance)".to_owned(),
                    2 => " on (instance) group_left".to_owned(),
                    _ => " on (instance) group_right (job)".to_owned(),
                };
                format!("({} {op}{matching} {})", self.vector(depth - 1), self.vector(depth - 1))
            }
        }
    }
}
