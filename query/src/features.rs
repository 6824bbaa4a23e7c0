//! Feature switches, by Prometheus' own names.
//!
//! Syntax and functions that change nothing for a query that does not use them are always on. What changes the
//! answer of an existing query is off until it is named, per node or per tenant.

/// What may change the results of existing queries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Features {
    /// `promql-delayed-name-removal`: metric names are dropped when the query ends, not by each function.
    pub delayed_name_removal: bool,
    /// `type-and-unit-labels`: `rate` judges by `__type__`, where a series has it, instead of by the metric's name
    /// whether it is a counter.
    pub type_and_unit_labels: bool,
    /// `use-start-timestamps`: start timestamps tell counter resets in `rate`, `increase` and `irate`.
    pub start_timestamps: bool,
}

/// The names that are known, with what they switch. The rest of Prometheus' names are accepted: they switch on
/// what is on here anyway.
const SWITCHES: [(&str, fn(&mut Features)); 3] = [
    ("promql-delayed-name-removal", |f| f.delayed_name_removal = true),
    ("type-and-unit-labels", |f| f.type_and_unit_labels = true),
    ("use-start-timestamps", |f| f.start_timestamps = true),
];

/// Prometheus' names for what is always on.
const ALWAYS_ON: [&str; 5] = [
    "promql-experimental-functions",
    "promql-duration-expr",
    "promql-extended-range-selectors",
    "promql-binop-fill-modifiers",
    "promql-per-step-stats",
];

/// A feature name that nobody knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown feature {0:?}; known are: {list}", list = Features::names().join(", "))]
pub struct UnknownFeature(pub String);

impl Features {
    /// Everything switched on.
    pub fn all() -> Self {
        Self::from_names(["all"]).unwrap_or_default()
    }

    /// Reads names as they stand behind `--enable-feature`; `all` switches everything on.
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Result<Self, UnknownFeature> {
        let mut features = Self::default();
        for name in names {
            match SWITCHES.iter().find(|(known, _)| *known == name) {
                Some((_, switch)) => switch(&mut features),
                None if name == "all" => SWITCHES.iter().for_each(|(_, switch)| switch(&mut features)),
                None if ALWAYS_ON.contains(&name) => {}
                None => return Err(UnknownFeature(name.to_owned())),
            }
        }
        Ok(features)
    }

    /// All names that are accepted.
    pub fn names() -> Vec<&'static str> {
        let mut names: Vec<_> =
            SWITCHES.iter().map(|(name, _)| *name).chain(ALWAYS_ON).chain(["all"]).collect();
        names.sort_unstable();
        names
    }

    /// The names of what is switched on.
    pub fn enabled(&self) -> Vec<&'static str> {
        let on = |name: &str| {
            let mut one = Self::default();
            SWITCHES.iter().filter(|(known, _)| *known == name).for_each(|(_, switch)| switch(&mut one));
            (self.delayed_name_removal && one.delayed_name_removal)
                || (self.type_and_unit_labels && one.type_and_unit_labels)
                || (self.start_timestamps && one.start_timestamps)
        };
        SWITCHES.iter().map(|(name, _)| *name).filter(|name| on(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_switch_and_come_back() {
        let features = Features::from_names(["promql-delayed-name-removal", "promql-duration-expr"]).unwrap();
        assert!(features.delayed_name_removal && !features.type_and_unit_labels);
        assert_eq!(features.enabled(), ["promql-delayed-name-removal"]);
        assert_eq!(Features::from_names(Features::all().enabled()), Ok(Features::all()));
        assert!(Features::from_names(["nonsense"]).unwrap_err().to_string().contains("promql-duration-expr"));
    }
}
