//! Names of severities, as people write them and as OpenTelemetry numbers them.

/// First and last number of a level.
pub type Numbers = (u8, u8);

/// Canonical name, numbers, and other spellings; all in lower case.
const LEVELS: [(&str, Numbers, &[&str]); 6] = [
    ("trace", (1, 4), &["trc"]),
    ("debug", (5, 8), &["dbg"]),
    ("info", (9, 12), &["inf", "information", "informational", "notice"]),
    ("warn", (13, 16), &["wrn", "warning"]),
    ("error", (17, 20), &["err", "eror"]),
    ("fatal", (21, 24), &["ftl", "critical", "crit", "alert", "emergency", "emerg", "panic"]),
];

/// Numbers of a level by one of its names, or of one of its four steps (`info2`); case does not matter.
pub fn numbers(name: &str) -> Option<Numbers> {
    let name = name.to_ascii_lowercase();
    if let Some((_, numbers, _)) = level_named(&name) {
        return Some(*numbers);
    }
    let (word, step) = name.split_at_checked(name.len().checked_sub(1)?)?;
    let step: u8 = step.parse().ok().filter(|step| (2..=4).contains(step))?;
    let (_, (first, _), _) = LEVELS.iter().find(|(level, ..)| *level == word)?;
    Some((first + step - 1, first + step - 1))
}

fn level_named(name: &str) -> Option<&'static (&'static str, Numbers, &'static [&'static str])> {
    LEVELS.iter().find(|(level, _, others)| *level == name || others.contains(&name))
}

/// Canonical name of a level by any of its names.
pub fn canonical(name: &str) -> Option<&'static str> {
    level_named(&name.to_ascii_lowercase()).map(|(level, ..)| *level)
}

/// Canonical name of a number; none for 0 and what is no severity.
pub fn name(number: u8) -> Option<&'static str> {
    LEVELS.iter().find(|(_, (first, last), _)| (*first..=*last).contains(&number)).map(|(level, ..)| *level)
}

/// The spellings of all levels that have a number in a range, in lower case, upper case and with a capital.
pub fn spellings(first: u8, last: u8) -> Vec<String> {
    let mut out = Vec::new();
    for (level, (from, to), others) in &LEVELS {
        if *from > last || *to < first {
            continue;
        }
        for name in std::iter::once(level).chain(others.iter()) {
            let mut capital = name.to_string();
            capital[..1].make_ascii_uppercase();
            out.extend([name.to_string(), name.to_ascii_uppercase(), capital]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        assert_eq!(numbers("WARN"), Some((13, 16)));
        assert_eq!(numbers("warning"), Some((13, 16)));
        assert_eq!(numbers("info2"), Some((10, 10)));
        assert_eq!(numbers("info5"), None);
        assert_eq!(numbers("é"), None);
        assert_eq!(numbers(""), None);
        assert_eq!(name(24), Some("fatal"));
        assert_eq!((name(0), name(25)), (None, None));
        assert_eq!(canonical("Critical"), Some("fatal"));
        assert!(spellings(17, 24).contains(&"Error".to_owned()));
        assert!(!spellings(17, 24).contains(&"warn".to_owned()));
    }
}
