//! The resources that are served, by kind and name.

use bytes::Bytes;

use crate::ResourceType;

/// One resource is set or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The resource's kind.
    pub resource_type: ResourceType,
    /// The resource's name, unique within its kind.
    pub name: String,
    /// The encoded message, or `None` to remove it.
    pub body: Option<Bytes>,
}
