//! The one place that knows the YAML library: it is no longer developed, and can be replaced here.

use serde::de::DeserializeOwned;
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
