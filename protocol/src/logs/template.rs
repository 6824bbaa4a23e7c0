//! A text as a template and the values in its slots.
//!
//! ```text
//! "user 77 took 1.25s from 10.0.0.7"  ──split──►  "user ␣ took ␣s from ␣"  +  Int 77, Decimal 1.25, Address 10.0.0.7
//! ```
//!
//! A template is the text with a byte for each slot, [`Kind::marker`]: bytes that no UTF-8 text holds, so that nothing in
//! a text needs escaping. A slot's kind says how its values are kept. Splitting goes by rule and looks at one text
//! alone; putting a value into its slot gives back each byte, leading zeros and case included, or the rule does not
//! make it a slot.
//!
//! | kind | what becomes one |
//! |---|---|
//! | Int | up to 17 digits, leading zeros counted |
//! | Decimal | digits, a point, digits; 17 in all, no leading zeros in front |
//! | Address | an IPv4 address as it is usually written |
//! | Uuid | 8-4-4-4-12 lower-case hexadecimal digits |
//! | HexLower, HexUpper | 8 and more hexadecimal digits of one case, letters among them; after `0x` any |
//! | Word | letters after `=`, text of a JSON string, a mixture of letters and digits |

/// What a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A whole number.
    Int,
    /// A number with a point.
    Decimal,
    /// An IPv4 address.
    Address,
    /// A UUID in lower case.
    Uuid,
    /// Hexadecimal digits, lower case.
    HexLower,
    /// Hexadecimal digits, upper case.
    HexUpper,
    /// Other text.
    Word,
}

const FIRST_MARKER: u8 = 0xf8;

/// Most slots of a template. A text with more is kept as it is.
pub const MAX_SLOTS: usize = 48;
/// Longer texts are kept as they are.
pub const MAX_TEXT: usize = 16 << 10;
/// Most digits of a number.
pub const MAX_DIGITS: usize = 17;
/// Longest word of a slot.
const MAX_WORD: usize = 64;

impl Kind {
    const ALL: [Self; 7] =
        [Self::Int, Self::Decimal, Self::Address, Self::Uuid, Self::HexLower, Self::HexUpper, Self::Word];

    /// The byte that stands for a slot of the kind.
    pub const fn marker(self) -> u8 {
        FIRST_MARKER + self as u8
    }

    /// The kind of a byte of a template, `None` for text.
    pub fn of(byte: u8) -> Option<Self> {
        Self::ALL.get(usize::from(byte.checked_sub(FIRST_MARKER)?)).copied()
    }

    /// How people see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Int => "<int>",
            Self::Decimal => "<decimal>",
            Self::Address => "<ip>",
            Self::Uuid => "<uuid>",
            Self::HexLower | Self::HexUpper => "<hex>",
            Self::Word => "<word>",
        }
    }

    /// Whether its values are looked for by themselves: filters know them.
    pub const fn is_id(self) -> bool {
        matches!(self, Self::Uuid | Self::HexLower | Self::HexUpper)
    }

    /// Whether a value of the kind may hold the byte.
    pub const fn may_hold(self, byte: u8) -> bool {
        match self {
            Self::Int => byte.is_ascii_digit(),
            Self::Decimal | Self::Address => byte.is_ascii_digit() || byte == b'.',
            Self::Uuid => matches!(byte, b'0'..=b'9' | b'a'..=b'f' | b'-'),
            Self::HexLower => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
            Self::HexUpper => matches!(byte, b'0'..=b'9' | b'A'..=b'F'),
            Self::Word => true,
        }
    }
}

/// Kinds of a template's slots, in order.
pub fn kinds(template: &[u8]) -> impl Iterator<Item = Kind> + '_ {
    template.iter().filter_map(|byte| Kind::of(*byte))
}

/// The template as people see it.
pub fn display(template: &[u8]) -> String {
    let mut out = Vec::with_capacity(template.len() + 16);
    for &byte in template {
        match Kind::of(byte) {
            Some(kind) => out.extend_from_slice(kind.as_str().as_bytes()),
            None => out.push(byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A part of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Text.
    Text(&'a [u8]),
    /// A slot.
    Slot(Kind),
}

/// The parts of a template, in order; texts are not empty.
pub fn pieces(template: &[u8]) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = template;
    std::iter::from_fn(move || {
        let first = *rest.first()?;
        if let Some(kind) = Kind::of(first) {
            rest = &rest[1..];
            return Some(Piece::Slot(kind));
        }
        let end = rest.iter().position(|byte| Kind::of(*byte).is_some()).unwrap_or(rest.len());
        let (text, tail) = rest.split_at(end);
        rest = tail;
        Some(Piece::Text(text))
    })
}

/// The hash by which filters know a text that is an identifier and nothing else, for whoever looks for it where words
/// end before and behind it. `None` for other texts, and for digits that may be a part of a UUID.
pub fn id_of(text: &str) -> Option<u64> {
    let mut split = Split::default();
    let kind = kinds(split.split(text).then_some(&split.template)?).next().filter(|kind| kind.is_id())?;
    let whole = split.template.len() == 1 && !(kind != Kind::Uuid && matches!(text.len(), 8 | 12));
    whole.then(|| super::rows::id_hash(text.as_bytes()))
}

/// Whether a text can have `needle` in it, as far as its template says. `start` and `end` say whether the needle must
/// begin and end where the text does.
pub fn may_contain(template: &[u8], needle: &[u8], start: bool, end: bool) -> bool {
    if needle.is_empty() {
        return true;
    }
    // Of words, only the text of a JSON string holds more than letters and digits.
    let holds_all = |place: usize| {
        Kind::of(template[place]) != Some(Kind::Word) || (place > 0 && template[place - 1] == b'"')
    };
    // Where in the template the next byte of the needle may stand. A slot holds as many bytes as are wanted.
    let mut places: Vec<usize> = if start { vec![0] } else { (0..template.len()).collect() };
    let mut next = Vec::new();
    for &byte in needle {
        next.clear();
        for &place in &places {
            let Some(&unit) = template.get(place) else { continue };
            match Kind::of(unit) {
                Some(kind) if kind.may_hold(byte) && (byte.is_ascii_alphanumeric() || holds_all(place)) => {
                    next.extend([place, place + 1]);
                }
                None if unit == byte => next.push(place + 1),
                _ => {}
            }
        }
        next.dedup();
        std::mem::swap(&mut places, &mut next);
        if places.is_empty() {
            return false;
        }
    }
    !end || places.contains(&template.len())
}

/// A text that was split. Keeps its buffers from one text to the next.
#[derive(Debug, Default)]
pub struct Split {
    /// The template.
    pub template: Vec<u8>,
    /// Where each slot's value lies in the text.
    pub slots: Vec<(u32, u32)>,
}

impl Split {
    /// Splits a text; `false` if it is to be kept as it is.
    pub fn split(&mut self, text: &str) -> bool {
        self.template.clear();
        self.slots.clear();
        if text.len() > MAX_TEXT {
            return false;
        }
        let bytes = text.as_bytes();
        let (mut at, mut copied) = (0, 0);
        while at < bytes.len() {
            if !bytes[at].is_ascii_alphanumeric() {
                // A JSON string: its text is a word, however many words it has.
                if bytes[at] == b'"' && opens_json_string(bytes, at) {
                    let end = json_string_end(bytes, at + 1);
                    if end > at + 1 {
                        self.slot(bytes, &mut copied, at + 1, end, Kind::Word);
                        at = end;
                        continue;
                    }
                }
                at += 1;
                continue;
            }
            let mut end = at + 1;
            let mut run = Run { digits: 0, lower_hex: true, upper_hex: true };
            run.note(bytes[at]);
            while end < bytes.len() && bytes[end].is_ascii_alphanumeric() {
                run.note(bytes[end]);
                end += 1;
            }
            at = self.run(bytes, &mut copied, at, end, run);
            if self.slots.len() > MAX_SLOTS {
                return false;
            }
        }
        self.template.extend_from_slice(&bytes[copied..]);
        true
    }

    fn slot(&mut self, bytes: &[u8], copied: &mut usize, start: usize, end: usize, kind: Kind) {
        self.template.extend_from_slice(&bytes[*copied..start]);
        self.template.push(kind.marker());
        self.slots.push((start as u32, end as u32));
        *copied = end;
    }

    /// Takes a longest run of ASCII letters and digits; returns where to go on.
    fn run(&mut self, bytes: &[u8], copied: &mut usize, start: usize, end: usize, run: Run) -> usize {
        let len = end - start;
        if run.digits == 0 {
            if start > 0 && bytes[start - 1] == b'=' && len <= MAX_WORD {
                self.slot(bytes, copied, start, end, Kind::Word);
            }
            return end;
        }
        if len == 8 && run.lower_hex && is_uuid(bytes, start) {
            self.slot(bytes, copied, start, start + 36, Kind::Uuid);
            return start + 36;
        }
        if run.digits as usize == len {
            return self.number(bytes, copied, start, end, run);
        }
        if len >= 8 && (run.lower_hex || run.upper_hex) {
            let kind = if run.lower_hex { Kind::HexLower } else { Kind::HexUpper };
            self.slot(bytes, copied, start, end, kind);
            return end;
        }
        if let Some(digits) = bytes[start..end].strip_prefix(b"0x")
            && !digits.is_empty()
        {
            let lower = digits.iter().all(|b| Kind::HexLower.may_hold(*b));
            if lower || digits.iter().all(|b| Kind::HexUpper.may_hold(*b)) {
                let kind = if lower { Kind::HexLower } else { Kind::HexUpper };
                self.slot(bytes, copied, start + 2, end, kind);
                return end;
            }
        }
        // Letters with a number behind or before them ("worker12", "15ms"); a wilder mixture is a word.
        let changes = bytes[start..end].windows(2).filter(|w| w[0].is_ascii_digit() != w[1].is_ascii_digit());
        if changes.count() > 3 {
            if len <= MAX_WORD {
                self.slot(bytes, copied, start, end, Kind::Word);
            }
            return end;
        }
        let mut at = start;
        while at < end {
            let is_digit = bytes[at].is_ascii_digit();
            let len = bytes[at..end].iter().take_while(|b| b.is_ascii_digit() == is_digit).count();
            if is_digit {
                at = self.number(bytes, copied, at, at + len, Run { digits: len as u32, ..run });
                if at > end {
                    return at;
                }
            } else {
                at += len;
            }
        }
        at
    }

    /// Takes digits, and what follows them if together they are more than a number.
    fn number(&mut self, bytes: &[u8], copied: &mut usize, start: usize, end: usize, run: Run) -> usize {
        let after_point = start >= 2 && bytes[start - 1] == b'.' && bytes[start - 2].is_ascii_digit();
        if !after_point && bytes.get(end) == Some(&b'.') {
            if let Some(end) = address_end(bytes, start) {
                self.slot(bytes, copied, start, end, Kind::Address);
                return end;
            }
            let fraction = bytes[end + 1..].iter().take_while(|b| b.is_ascii_digit()).count();
            let stop = end + 1 + fraction;
            let is_more =
                bytes.get(stop) == Some(&b'.') && bytes.get(stop + 1).is_some_and(u8::is_ascii_digit);
            let canonical = end - start == 1 || bytes[start] != b'0';
            if fraction > 0 && !is_more && canonical && end - start + fraction <= MAX_DIGITS {
                self.slot(bytes, copied, start, stop, Kind::Decimal);
                return stop;
            }
        }
        if end - start <= MAX_DIGITS {
            self.slot(bytes, copied, start, end, Kind::Int);
        } else if run.lower_hex && run.digits as usize == end - start && end - start <= MAX_WORD {
            self.slot(bytes, copied, start, end, Kind::HexLower);
        }
        end
    }
}

#[derive(Clone, Copy)]
struct Run {
    digits: u32,
    lower_hex: bool,
    upper_hex: bool,
}

impl Run {
    #[inline]
    fn note(&mut self, byte: u8) {
        self.digits += u32::from(byte.is_ascii_digit());
        self.lower_hex &= Kind::HexLower.may_hold(byte);
        self.upper_hex &= Kind::HexUpper.may_hold(byte);
    }
}

/// Whether the quote at `at` begins a JSON string value: `":"` or `": "` lies before it.
fn opens_json_string(bytes: &[u8], at: usize) -> bool {
    let before = &bytes[..at];
    let before = before.strip_suffix(b" ").unwrap_or(before);
    before.ends_with(b"\":")
}

/// The end of a JSON string that is short and has neither digits nor escapes, else `start`.
fn json_string_end(bytes: &[u8], start: usize) -> usize {
    for (at, byte) in bytes.iter().enumerate().skip(start).take(MAX_WORD + 1) {
        match byte {
            b'"' => return at,
            b'\\' | b'0'..=b'9' => return start,
            _ => {}
        }
    }
    start
}

fn is_uuid(bytes: &[u8], start: usize) -> bool {
    let Some(text) = bytes.get(start..start + 36) else { return false };
    let is_part = |(at, byte): (usize, &u8)| match at {
        8 | 13 | 18 | 23 => *byte == b'-',
        _ => Kind::HexLower.may_hold(*byte),
    };
    text.iter().enumerate().all(is_part) && !bytes.get(start + 36).is_some_and(u8::is_ascii_alphanumeric)
}

/// The end of an IPv4 address that begins at `start`.
fn address_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    for part in 0..4 {
        if part > 0 {
            if bytes.get(at) != Some(&b'.') {
                return None;
            }
            at += 1;
        }
        let len = bytes[at..].iter().take(4).take_while(|b| b.is_ascii_digit()).count();
        let digits = &bytes[at..at + len];
        let value = digits.iter().fold(0u32, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        if !(1..=3).contains(&len) || (len > 1 && digits[0] == b'0') || value > 255 {
            return None;
        }
        at += len;
    }
    let more = bytes.get(at) == Some(&b'.') && bytes.get(at + 1).is_some_and(u8::is_ascii_digit);
    (!more && !bytes.get(at).is_some_and(u8::is_ascii_alphanumeric)).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> (String, Vec<&str>) {
        let mut split = Split::default();
        assert!(split.split(text));
        let values = split.slots.iter().map(|(a, b)| &text[*a as usize..*b as usize]).collect();
        (display(&split.template), values)
    }

    #[test]
    fn slots_are_what_the_rules_say() {
        for (text, template, values) in [
            ("user 77 took 1.25s", "user <int> took <decimal>s", vec!["77", "1.25"]),
            ("from 10.0.0.7:80", "from <ip>:<int>", vec!["10.0.0.7", "80"]),
            (
                "v1.2.3 of 2024-01-07",
                "v<int>.<int>.<int> of <int>-<int>-<int>",
                vec!["1", "2", "3", "2024", "01", "07"],
            ),
            ("256.1.1.1", "<int>.<int>.<int>.<int>", vec!["256", "1", "1", "1"]),
            ("00.5 0.05 1.", "<int>.<int> <decimal> <int>.", vec!["00", "5", "0.05", "1"]),
            ("id 3f2a9c0de1 0xAB 0X1", "id <hex> 0x<hex> <int>X<int>", vec!["3f2a9c0de1", "AB", "0", "1"]),
            (
                "6ba7b810-9dad-11d1-80b4-00c04fd430c8 x",
                "<uuid> x",
                vec!["6ba7b810-9dad-11d1-80b4-00c04fd430c8"],
            ),
            ("worker12 a1b2c3z9 15ms", "worker<int> <word> <int>ms", vec!["12", "a1b2c3z9", "15"]),
            ("level=warn x=", "level=<word> x=", vec!["warn"]),
            (r#"{"m":"no such file","n":7}"#, r#"{"m":"<word>","n":<int>}"#, vec!["no such file", "7"]),
            ("12.5ms", "<decimal>ms", vec!["12.5"]),
            ("é1é", "é<int>é", vec!["1"]),
            ("123456789012345678", "<hex>", vec!["123456789012345678"]),
            ("plain words only", "plain words only", vec![]),
            ("", "", vec![]),
        ] {
            assert_eq!(split(text), (template.to_owned(), values), "{text}");
        }
    }

    #[test]
    fn long_and_busy_texts_are_left_alone() {
        let mut split = Split::default();
        assert!(!split.split(&"x".repeat(MAX_TEXT + 1)));
        assert!(!split.split(&"1 ".repeat(MAX_SLOTS + 1)));
        assert!(split.split(&"1 ".repeat(MAX_SLOTS)));
    }

    #[test]
    fn a_needle_may_lie_across_text_and_slots() {
        let mut split = Split::default();
        assert!(split.split("user 77 took 1.25s"));
        let may = |needle: &str, start, end| may_contain(&split.template, needle.as_bytes(), start, end);
        for needle in ["user", "user 1", "r 12 t", "99 took 1", "took 0.1s", "5", "", "user 77 took 1.25s"] {
            assert!(may(needle, false, false), "{needle}");
        }
        for needle in ["users", "user x", "took s", "5 s", "77 77"] {
            assert!(!may(needle, false, false), "{needle}");
        }
        assert!(may("user 1", true, false) && !may("ser 1", true, false));
        assert!(may("3s", false, true) && !may("3", false, true));
        assert!(may("user 1 took 2.0s", true, true) && !may("user 1 took 2.0", true, true));
    }

    #[test]
    fn a_word_has_no_blanks_unless_it_is_the_text_of_a_json_string() {
        let may = |text: &str, needle: &str| {
            let mut split = Split::default();
            assert!(split.split(text));
            may_contain(&split.template, needle.as_bytes(), false, false)
        };
        assert!(may("rows db=orders", "other"));
        assert!(may("rows db=orders", "db=other"));
        assert!(!may("rows db=orders", "no such table"));
        assert!(may(r#"{"m":"all is well"}"#, "no such table"));
    }

    proptest::proptest! {
        #[test]
        fn what_is_in_a_text_its_template_allows(
            text in "([a-z]{1,3}|[0-9]{1,9}|[ =.:\"{}-]|\":\"|0x[0-9a-f]{1,9}|[0-9a-f]{8,20}|é){0,24}",
            (from, len) in (0usize..80, 0usize..30),
        ) {
            let mut split = Split::default();
            let has_template = split.split(&text);
            let bytes = text.as_bytes();
            let from = from.min(bytes.len());
            let end = (from + len).min(bytes.len());
            let needle = &bytes[from..end];
            let may = |start, end| may_contain(&split.template, needle, start, end);
            if has_template {
                proptest::prop_assert!(may(false, false));
                proptest::prop_assert!(from > 0 || may(true, false));
                proptest::prop_assert!(end < bytes.len() || needle.is_empty() || may(false, true));
            }
        }
    }

    #[test]
    fn identifiers_are_known_by_themselves_alone() {
        assert!(id_of("6ba7b810-9dad-11d1-80b4-00c04fd430c8").is_some());
        assert!(id_of("4bf92f3577b34da6a3ce929d0e0e4736").is_some());
        for text in ["", "6ba7b810", "id 4bf92f3577b34da6", "123456789", "4bf92f3577b34da6 x", "00c04fd430c8"]
        {
            assert_eq!(id_of(text), None, "{text}");
        }
    }

    #[test]
    fn a_byte_that_stands_for_nothing_is_text() {
        let list: Vec<_> = pieces(b"a\xff\xf8\xff").collect();
        assert_eq!(list, [Piece::Text(b"a\xff"), Piece::Slot(Kind::Int), Piece::Text(b"\xff")]);
    }

    #[test]
    fn pieces_give_the_template_again() {
        let mut split = Split::default();
        assert!(split.split("a 1 2.5"));
        let list: Vec<_> = pieces(&split.template).collect();
        let expected =
            [Piece::Text(b"a "), Piece::Slot(Kind::Int), Piece::Text(b" "), Piece::Slot(Kind::Decimal)];
        assert_eq!(list, expected);
    }
}
