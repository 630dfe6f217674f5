//! The kinds of resources that are served, and their order.

/// A kind of resource. The order is that of adding (make before break): an Envoy cluster, its endpoints, then
/// the listener that sends to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResourceType {
    /// CDS: where traffic can go.
    Cluster,
    /// EDS: the addresses behind a cluster; a resource has the name of its cluster.
    Endpoint,
    /// LDS: where traffic comes in.
    Listener,
}

impl ResourceType {
    /// All kinds, in the order of adding.
    pub const ALL: [Self; 3] = [Self::Cluster, Self::Endpoint, Self::Listener];

    /// The name of the kind on the wire.
    #[must_use]
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
        }
    }

    /// The kind of that name; `None` for one that is not served.
    #[must_use]
    pub fn from_type_url(type_url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|resource_type| resource_type.type_url() == type_url)
    }

    /// How operators are told of it: `cluster`, `endpoint` or `listener`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Endpoint => "endpoint",
            Self::Listener => "listener",
        }
    }
}

/// One value for each kind of resource.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PerType<T>([T; 3]);

impl<T> PerType<T> {
    pub(crate) fn new(value: impl FnMut(ResourceType) -> T) -> Self {
        Self(ResourceType::ALL.map(value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }
}

impl<T> std::ops::Index<ResourceType> for PerType<T> {
    type Output = T;

    fn index(&self, resource_type: ResourceType) -> &T {
        &self.0[resource_type as usize]
    }
}

impl<T> std::ops::IndexMut<ResourceType> for PerType<T> {
    fn index_mut(&mut self, resource_type: ResourceType) -> &mut T {
        &mut self.0[resource_type as usize]
    }
}
