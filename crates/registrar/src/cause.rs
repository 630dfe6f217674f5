//! What really happened, out of an error that only says that something did.

use std::error::Error;

/// The words of the innermost cause.
pub(crate) fn deepest_cause(error: &dyn Error) -> String {
    error.source().map_or_else(|| error.to_string(), deepest_cause)
}
