//! The one place that knows the YAML library: it is no longer developed, and can be replaced here.

use std::fmt;

use serde::de::{DeserializeOwned, Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
pub(crate) use serde_yaml::Value;

/// A value that is not of the shape that was asked for; names the field.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub(crate) struct ShapeError {
    pub(crate) field: String,
    reason: String,
}

/// Reads JSON or YAML. What is neither gives a message that names the line.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    // Most JSON is YAML, but not all: escaped pairs of surrogates are not.
    if let Ok(value) = serde_json::from_str(text) {
        return Ok(value);
    }
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// Makes a `T` of a value.
pub(crate) fn shaped<T: DeserializeOwned>(value: Value) -> Result<T, ShapeError> {
    serde_path_to_error::deserialize(value)
        .map_err(|error| ShapeError { field: error.path().to_string(), reason: error.into_inner().to_string() })
}

/// Makes a `T` of a whole text. Where a text is asked for, any scalar is one, as it was written: `42`, `yes`, `1e3`.
pub(crate) fn typed<T: DeserializeOwned>(text: &str) -> Result<T, ShapeError> {
    serde_path_to_error::deserialize(serde_yaml::Deserializer::from_str(text))
        .map_err(|error| ShapeError { field: error.path().to_string(), reason: error.into_inner().to_string() })
}

/// A yes or a no, in all the words that YAML, systemd and Docker know for it. An empty text is a no.
pub(crate) fn yes_or_no(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "yes" | "y" | "on" | "t" | "1" => Ok(true),
        "false" | "no" | "n" | "off" | "f" | "0" | "" => Ok(false),
        _ => Err("expected yes or no (or true, false, on, off)".to_owned()),
    }
}

/// A yes or a no of a file; nothing where it is null.
pub(crate) fn switch<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<bool>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| yes_or_no(&text).map_err(D::Error::custom)).transpose()
}

/// A list of texts. A scalar is the list's only item, or several with commas between them, as in the environment.
pub(crate) fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    deserializer.deserialize_any(List)
}

struct List;

impl<'de> Visitor<'de> for List {
    type Value = Vec<String>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of texts, or one text")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        std::iter::from_fn(|| items.next_element().transpose()).collect()
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect())
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        Ok(vec![value.to_string()])
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Self::Value, E> {
        Ok(vec![number.to_string()])
    }
}

/// A text of a value that was read already: numbers and truth values are texts too.
pub(crate) fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match Value::deserialize(deserializer)? {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(value) => Ok(value.to_string()),
        Value::Null => Ok(String::new()),
        _ => Err(D::Error::custom("expected a text")),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    struct Outer {
        #[expect(dead_code, reason = "only its name matters")]
        inner: Vec<u16>,
    }

    #[test]
    fn json_and_yaml_are_read() {
        let json = parse("[{\"a\": \"\\ud83d\\ude00\", \"b\": [1, 2]}]").unwrap();
        assert_eq!(json, parse("- a: 😀\n  b: [1, 2]\n").unwrap());
        assert_eq!(parse("[1, 2,]").unwrap(), parse("[1, 2]").unwrap(), "a comma too many is YAML");
        let error = parse("- a\n- [1, 2\n").unwrap_err();
        assert!(error.contains("line 3"), "{error}");
    }

    #[test]
    fn a_field_of_another_shape_is_named() {
        let error = shaped::<Outer>(parse("inner: [80, web]").unwrap()).unwrap_err();
        assert_eq!(error.field, "inner[1]");
        assert!(error.to_string().contains("web"), "{error}");
    }
}
