//! Laws of service ports, whatever the service.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::IpAddr;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::HealthStatus;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::config::route::v3::{RetryPolicy, route};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::RouteSpecifier;
use envoy_types::pb::envoy::extensions::filters::network::tcp_proxy::v3::TcpProxy;
use model::{
    Endpoint, EnvironmentName, ProxiedPort, ProxiedServicePort, PublishedPort, Service, ServiceName, Status, Treatment,
};
use proptest::prelude::*;
use prost::{Message, Name};
use xds::resources::service::{self, Binding, ServiceSettings};
use xds::resources::{self, Settings};
use xds::{Change, ResourceType};

fn any_service() -> impl Strategy<Value = Service> {
    ("[a-zA-Z0-9._-]{1,63}", "[a-zA-Z0-9._-]{0,63}").prop_map(|(name, environment)| Service {
        name: ServiceName::corrected(&name).unwrap().0,
        environment: EnvironmentName::corrected(&environment).0,
    })
}

fn any_mode() -> impl Strategy<Value = Treatment> {
    prop::sample::select(vec![Treatment::Http, Treatment::Tcp])
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let status = prop::sample::select(Status::ALL.to_vec());
    (any::<IpAddr>(), 1u16.., status, any::<bool>()).prop_map(|(address, port, status, is_local)| Endpoint {
        instance: "a-host/aabbccddeeff".parse().unwrap(),
        address: (address, port).into(),
        status,
        is_local,
    })
}

fn any_service_port() -> impl Strategy<Value = ProxiedServicePort> {
    (1u16.., any_service(), any_mode(), prop::collection::vec(any_endpoint(), 0..8))
        .prop_map(|(port, service, mode, endpoints)| ProxiedServicePort { port, service, treatment: mode, endpoints })
}

fn any_services() -> impl Strategy<Value = ServiceSettings> {
    let binding = prop_oneof![(1u16..).prop_map(|catch_port| Binding::Captured { catch_port }), Just(Binding::Bound)];
    (prop::collection::vec(any::<IpAddr>(), 1..4), binding, any::<bool>())
        .prop_map(|(addresses, binding, prefer_local)| ServiceSettings { addresses, binding, prefer_local })
}

fn of_type(changes: &[Change], resource_type: ResourceType) -> Vec<&Change> {
    changes.iter().filter(|change| change.resource_type == resource_type).collect()
}

fn decoded<M: Message + Default>(changes: &[Change], resource_type: ResourceType) -> M {
    let change = of_type(changes, resource_type)[0];
    M::decode(change.body.clone().unwrap()).unwrap()
}

fn keys(changes: &[Change]) -> Vec<(ResourceType, &str)> {
    let mut keys: Vec<_> = changes.iter().map(|change| (change.resource_type, change.name.as_str())).collect();
    keys.sort_unstable();
    keys
}

/// The filters of this kind in a port's listener.
fn filters<M: Message + Name + Default>(changes: &[Change]) -> Vec<M> {
    use envoy_types::pb::envoy::config::listener::v3::filter::ConfigType;
    let listener: Listener = decoded(changes, ResourceType::Listener);
    let chains = listener.filter_chains.into_iter().chain(listener.default_filter_chain);
    let configs = chains.flat_map(|chain| chain.filters).filter_map(|filter| match filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url == M::type_url() => Some(M::decode(&*any.value).unwrap()),
        _ => None,
    });
    configs.collect()
}

fn retries(changes: &[Change]) -> Vec<Option<RetryPolicy>> {
    let routes =
        filters::<HttpConnectionManager>(changes).into_iter().flat_map(|manager| match manager.route_specifier {
            Some(RouteSpecifier::RouteConfig(config)) => {
                config.virtual_hosts.into_iter().flat_map(|host| host.routes).collect()
            }
            _ => Vec::new(),
        });
    let actions = routes.map(|route| match route.action {
        Some(route::Action::Route(action)) => action.retry_policy,
        action => panic!("{action:?}"),
    });
    actions.collect()
}

/// As the listener of a published port has it, so that nothing but name, address and retries differs.
fn as_published(port: &ProxiedServicePort) -> ProxiedPort {
    ProxiedPort {
        published: PublishedPort { address: [0, 0, 0, 0].into(), port: port.port, protocol: model::Protocol::Tcp },
        container: "172.17.0.2:80".parse().unwrap(),
        service: port.service.clone(),
        treatment: port.treatment,
        is_bound: true,
    }
}

proptest! {
    #[test]
    fn a_change_of_instances_changes_endpoints_alone(
        port in any_service_port(),
        endpoints in prop::collection::vec(any_endpoint(), 0..8),
        services in any_services(),
    ) {
        let settings = Settings::default();
        let before = service::set(&port, &services, &settings);
        let after = service::replace(&port, &ProxiedServicePort { endpoints: endpoints.clone(), ..port.clone() }, &services, &settings);
        let changed: Vec<_> = after.iter().filter(|change| !before.contains(change)).collect();
        prop_assert!(changed.iter().all(|change| change.resource_type == ResourceType::Endpoint), "{changed:?}");
        let names: Vec<_> = before.iter().map(|change| &change.name).collect();
        prop_assert!(after.iter().all(|change| change.body.is_some() && names.contains(&&change.name)));
    }

    #[test]
    fn all_resources_of_a_service_port_have_one_name_and_go_together(port in any_service_port(), services in any_services()) {
        let set = service::set(&port, &services, &Settings::default());
        let name = resources::names::service_port(port.port, &port.service);
        prop_assert!(set.iter().all(|change| change.name == name));
        let cluster: Cluster = decoded(&set, ResourceType::Cluster);
        let assignment: ClusterLoadAssignment = decoded(&set, ResourceType::Endpoint);
        let listener: Listener = decoded(&set, ResourceType::Listener);
        prop_assert_eq!((&cluster.name, &assignment.cluster_name, &listener.name), (&name, &name, &name));
        let removed = service::remove(&port);
        prop_assert_eq!(keys(&set), keys(&removed));
        prop_assert!(removed.iter().all(|change| change.body.is_none()));
    }

    #[test]
    fn only_what_is_alive_is_healthy_and_nobody_is_left_out(port in any_service_port(), services in any_services()) {
        let set = service::set(&port, &services, &Settings::default());
        let assignment: ClusterLoadAssignment = decoded(&set, ResourceType::Endpoint);
        let healths: Vec<_> = assignment.endpoints.iter().flat_map(|group| &group.lb_endpoints).map(|e| e.health_status).collect();
        prop_assert_eq!(healths.len(), port.endpoints.len());
        let healthy = healths.iter().filter(|health| **health == i32::from(HealthStatus::Healthy)).count();
        prop_assert_eq!(healthy, port.endpoints.iter().filter(|endpoint| endpoint.status == Status::Alive).count());
        prop_assert!(!healths.contains(&HealthStatus::Unknown.into()), "Envoy would take it for healthy");
        let groups = if services.prefer_local { 2 } else { 1 };
        prop_assert_eq!(assignment.endpoints.len(), groups);
    }

    #[test]
    fn a_listener_is_at_every_service_address_and_holds_a_port_only_when_bound(port in any_service_port(), services in any_services()) {
        let set = service::set(&port, &services, &Settings::default());
        let listener: Listener = decoded(&set, ResourceType::Listener);
        prop_assert_eq!(1 + listener.additional_addresses.len(), services.addresses.len());
        let is_bound = services.binding == Binding::Bound;
        prop_assert_eq!(listener.bind_to_port.unwrap().value, is_bound);
        prop_assert_eq!(listener.freebind.is_some_and(|freebind| freebind.value), is_bound);
    }

    #[test]
    fn service_ports_are_as_transparent_as_published_ports(port in any_service_port(), services in any_services()) {
        let settings = Settings::default();
        let published = resources::set(&as_published(&port), &settings);
        let served = service::set(&port, &services, &settings);
        let managers = |changes: &[Change]| {
            let neutral = |manager| HttpConnectionManager { stat_prefix: String::new(), route_specifier: None, ..manager };
            filters::<HttpConnectionManager>(changes).into_iter().map(neutral).collect::<Vec<_>>()
        };
        prop_assert_eq!(managers(&published), managers(&served));
        let proxies = |changes: &[Change]| {
            let neutral = |proxy| TcpProxy {
                stat_prefix: String::new(),
                cluster_specifier: None,
                max_connect_attempts: None,
                ..proxy
            };
            filters::<TcpProxy>(changes).into_iter().map(neutral).collect::<Vec<_>>()
        };
        prop_assert_eq!(proxies(&published), proxies(&served));
    }

    #[test]
    fn service_ports_retry_and_published_ports_never_do(port in any_service_port(), services in any_services()) {
        let settings = Settings::default();
        let published = resources::set(&as_published(&port), &settings);
        prop_assert!(retries(&published).iter().all(Option::is_none));
        prop_assert!(filters::<TcpProxy>(&published).iter().all(|proxy| proxy.max_connect_attempts.is_none()));

        let served = service::set(&port, &services, &settings);
        let policies: Vec<_> = retries(&served).into_iter().flatten().collect();
        let is_http = port.treatment != Treatment::Tcp;
        prop_assert_eq!(policies.len(), if is_http { 2 } else { 0 }, "safe requests, and others; CONNECT has none");
        prop_assert!(policies.iter().all(|policy| policy.retry_host_predicate.len() == 1));
        let may_repeat = |policy: &RetryPolicy| policy.retry_on.split(',').any(|on| on == "reset");
        prop_assert_eq!(policies.iter().filter(|policy| may_repeat(policy)).count(), usize::from(is_http));
        prop_assert!(filters::<TcpProxy>(&served).iter().all(|proxy| proxy.max_connect_attempts.unwrap().value > 1));
    }

    #[test]
    fn a_port_that_changes_hands_is_set_and_removed_in_one_step(
        old in any_service_port(),
        new in any_service_port(),
        services in any_services(),
    ) {
        prop_assume!(old.service != new.service);
        let new = ProxiedServicePort { port: old.port, ..new };
        let changes = service::replace(&old, &new, &services, &Settings::default());
        let (set, removed): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.body.is_some());
        prop_assert_eq!(set, service::set(&new, &services, &Settings::default()));
        let expected = service::remove(&old);
        prop_assert_eq!(keys(&removed), keys(&expected));
    }

    #[test]
    fn what_one_binding_needs_the_other_takes_away(services in any_services(), catch_port in 1u16..) {
        let captured = ServiceSettings { binding: Binding::Captured { catch_port }, ..services.clone() };
        let bound = ServiceSettings { binding: Binding::Bound, ..services };
        let (set, removed) = (service::common(&captured), service::common(&bound));
        prop_assert_eq!(keys(&set), keys(&removed));
        prop_assert!(set.iter().all(|change| change.body.is_some()) && removed.iter().all(|change| change.body.is_none()));
    }

    #[test]
    fn without_a_service_address_there_is_nothing(port in any_service_port(), services in any_services()) {
        let none = ServiceSettings { addresses: Vec::new(), ..services };
        let mut changes = service::common(&none);
        changes.extend(service::set(&port, &none, &Settings::default()));
        prop_assert!(changes.iter().all(|change| change.body.is_none()));
    }
}
