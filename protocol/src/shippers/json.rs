//! JSON into values, keys in their order, text borrowed where it has no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, MapAccess, SeqAccess, Visitor};

use crate::logs::LogValue;

/// Most values of one record. Read, a value takes many times the two bytes that it may have as text.
pub const MAX_RECORD_VALUES: usize = 1 << 16;

/// Reads one JSON value of at most so many, those inside of it counted. Nesting is limited by the parser, to 128
/// levels.
pub fn read(text: &[u8], max_values: usize) -> Result<LogValue<'_>, String> {
    let mut left = max_values;
    let mut json = serde_json::Deserializer::from_slice(text);
    let value = Json(&mut left).deserialize(&mut json).map_err(|error| error.to_string())?;
    json.end().map_err(|error| error.to_string())?;
    Ok(value)
}

/// Reads a value, and counts it.
pub(super) struct Json<'l>(pub &'l mut usize);

impl<'de> DeserializeSeed<'de> for Json<'_> {
    type Value = LogValue<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<LogValue<'de>, D::Error> {
        *self.0 = self.0.checked_sub(1).ok_or_else(|| D::Error::custom("more values than allowed"))?;
        deserializer.deserialize_any(self)
    }
}

/// Reads a key, borrowed where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(text.to_owned()))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(text))
    }
}

impl<'de> Visitor<'de> for Json<'_> {
    type Value = LogValue<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(LogValue::Empty)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(LogValue::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(LogValue::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        // What is too large for a number of ours keeps its digits.
        Ok(i64::try_from(value).map_or_else(|_| LogValue::String(value.to_string().into()), LogValue::Int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(LogValue::Float(value))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(LogValue::String(Cow::Owned(text.to_owned())))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(LogValue::String(Cow::Borrowed(text)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element_seed(Json(self.0))? {
            values.push(value);
        }
        Ok(LogValue::List(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry_seed(Key, Json(self.0))? {
            entries.push(entry);
        }
        Ok(LogValue::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_keep_their_order_and_kind() {
        let value = read(br#"{"z":1,"a":[true,null,-2.5,"x\n"],"big":18446744073709551615,"z":{}}"#, 9)
            .expect("JSON");
        let expected = LogValue::Map(vec![
            ("z".into(), LogValue::Int(1)),
            (
                "a".into(),
                LogValue::List(vec![
                    LogValue::Bool(true),
                    LogValue::Empty,
                    LogValue::Float(-2.5),
                    LogValue::String("x\n".into()),
                ]),
            ),
            ("big".into(), LogValue::String("18446744073709551615".into())),
            ("z".into(), LogValue::Map(vec![])),
        ]);
        assert_eq!(value, expected);
        for bad in ["", "{", "{} {}", "{\"a\":}", "\"\u{1}\""] {
            assert!(read(bad.as_bytes(), 99).is_err(), "{bad}");
        }
        assert!(read(&b"[".repeat(1000), 9999).is_err());
        assert!(read(b"[1,[2]]", 4).is_ok());
        assert_eq!(read(b"[1,[2]]", 3).map_err(|error| error.contains("more values")), Err(true));
    }
}
