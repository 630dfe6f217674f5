//! Laws of the resources, whatever the port.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::endpoint::v3::ClusterLoadAssignment;
use envoy_types::pb::envoy::config::listener::v3::{Listener, filter};
use envoy_types::pb::envoy::extensions::filters::network::http_connection_manager::v3::HttpConnectionManager;
use envoy_types::pb::envoy::r#type::tracing::v3::custom_tag;
use model::{EnvironmentName, ProxiedPort, PublishedPort, Service, ServiceName, Treatment};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use prost::{Message, Name};
use xds::resources::{self, AccessLog, Settings, Tracing, TracingProtocol};
use xds::{Change, ResourceType};

fn any_port() -> impl Strategy<Value = ProxiedPort> {
    let mode = prop::sample::select(vec![Treatment::Http, Treatment::Tcp, Treatment::LearnedHttp]);
    let container: BoxedStrategy<(std::net::IpAddr, u16)> = (any::<std::net::IpAddr>(), 1u16..).boxed();
    (any::<std::net::IpAddr>(), 1u16.., container, "[a-zA-Z0-9._-]{1,63}", "[a-zA-Z0-9._-]{0,63}", mode, any::<bool>())
        .prop_map(|(address, port, container, name, environment, mode, is_bound)| ProxiedPort {
            published: PublishedPort { address, port, protocol: model::Protocol::Tcp },
            container: container.into(),
            service: Service {
                name: ServiceName::corrected(&name).unwrap().0,
                environment: EnvironmentName::corrected(&environment).0,
            },
            treatment: mode,
            is_bound,
        })
}

fn any_settings() -> impl Strategy<Value = Settings> {
    let protocol =
        prop::sample::select(vec![TracingProtocol::OtlpGrpc, TracingProtocol::OtlpHttp, TracingProtocol::Zipkin]);
    let tracing = (protocol, "[a-z.]{1,20}", any::<u16>(), any::<f64>()).prop_map(
        |(protocol, collector_host, collector_port, sampling_percent)| Tracing {
            protocol,
            collector_host,
            collector_port,
            sampling_percent,
        },
    );
    let access_log = prop::sample::select(vec![AccessLog::None, AccessLog::Stdout]);
    (prop::option::of(tracing), access_log).prop_map(|(tracing, access_log)| Settings {
        tracing,
        access_log,
        hops: None,
        refusals: None,
    })
}

fn inner_name(change: &Change) -> String {
    let body = change.body.clone().unwrap();
    match change.resource_type {
        ResourceType::Cluster => Cluster::decode(body).unwrap().name,
        ResourceType::Endpoint => ClusterLoadAssignment::decode(body).unwrap().cluster_name,
        ResourceType::Listener => Listener::decode(body).unwrap().name,
    }
}

fn keys(changes: &[Change]) -> BTreeSet<(ResourceType, &str)> {
    changes.iter().map(|change| (change.resource_type, change.name.as_str())).collect()
}

/// The HTTP filters of a port's listener.
fn managers(changes: &[Change]) -> Vec<HttpConnectionManager> {
    let listener = changes.iter().find(|change| change.resource_type == ResourceType::Listener).unwrap();
    let listener = Listener::decode(listener.body.clone().unwrap()).unwrap();
    let filters = listener.filter_chains.into_iter().flat_map(|chain| chain.filters);
    let configs = filters.filter_map(|filter| match filter.config_type {
        Some(filter::ConfigType::TypedConfig(any)) if any.type_url == HttpConnectionManager::type_url() => {
            Some(HttpConnectionManager::decode(&*any.value).unwrap())
        }
        _ => None,
    });
    configs.collect()
}

proptest! {
    #[test]
    fn d27_a_resource_is_called_what_it_calls_itself(port in any_port(), settings in any_settings()) {
        let mut changes = resources::set(&port, &settings);
        changes.extend(resources::common(&settings).into_iter().filter(|change| change.body.is_some()));
        for change in &changes {
            prop_assert_eq!(&inner_name(change), &change.name);
        }
    }

    #[test]
    fn d35_the_same_port_has_the_same_bytes_each_time(port in any_port(), settings in any_settings()) {
        let first = (resources::set(&port, &settings), resources::common(&settings));
        for _ in 0..20 {
            prop_assert_eq!(&(resources::set(&port, &settings), resources::common(&settings)), &first);
        }
    }

    #[test]
    fn what_is_set_is_what_is_removed(port in any_port(), settings in any_settings()) {
        let (set, removed) = (resources::set(&port, &settings), resources::remove(&port));
        prop_assert_eq!(keys(&set), keys(&removed));
        prop_assert!(removed.iter().all(|change| change.body.is_none()));
    }

    #[test]
    fn replacing_leaves_what_setting_alone_would(old in any_port(), new in any_port(), settings in any_settings()) {
        let new = ProxiedPort { published: old.published, ..new };
        let changes = resources::replace(&old, &new, &settings);
        let (set, removed): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.body.is_some());
        prop_assert_eq!(&set, &resources::set(&new, &settings));
        let before = resources::set(&old, &settings);
        let gone: BTreeSet<_> = keys(&before).difference(&keys(&set)).copied().collect();
        prop_assert_eq!(keys(&removed), gone);
    }

    #[test]
    fn d37_services_that_trade_ports_change_listeners_in_place(one in any_port(), two in any_port()) {
        prop_assume!(one.published != two.published);
        let settings = Settings::default();
        let traded = [
            ProxiedPort { published: two.published, is_bound: two.is_bound, ..one.clone() },
            ProxiedPort { published: one.published, is_bound: one.is_bound, ..two.clone() },
        ];
        let listeners = |ports: &[ProxiedPort]| -> BTreeSet<(String, String)> {
            let changes = ports.iter().flat_map(|port| resources::set(port, &settings));
            let listeners = changes.filter(|change| change.resource_type == ResourceType::Listener);
            let address = |change: &Change| Listener::decode(change.body.clone().unwrap()).unwrap().address;
            listeners.map(|change| (format!("{:?}", address(&change)), change.name)).collect()
        };
        prop_assert_eq!(listeners(&[one, two]), listeners(&traded));
    }

    #[test]
    fn no_tag_of_a_span_is_empty(port in any_port(), settings in any_settings()) {
        let bare = ProxiedPort {
            service: Service { environment: EnvironmentName::default(), ..port.service.clone() },
            ..port.clone()
        };
        for port in [port, bare] {
            for manager in managers(&resources::set(&port, &settings)) {
                let tags = manager.tracing.map(|tracing| tracing.custom_tags).unwrap_or_default();
                let value = |tag: custom_tag::Type| match tag {
                    custom_tag::Type::Literal(literal) => literal.value,
                    other => panic!("{other:?}"),
                };
                let values: Vec<String> = tags.into_iter().map(|tag| value(tag.r#type.unwrap())).collect();
                prop_assert!(values.iter().all(|value| !value.is_empty()), "{values:?}");
                prop_assert_eq!(values.is_empty(), settings.tracing.is_none());
            }
        }
    }
}

#[test]
fn without_tracing_requests_get_no_id() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let port = any_port().new_tree(&mut runner).unwrap().current();
    let port = ProxiedPort { treatment: Treatment::Http, ..port };
    let [manager] = &managers(&resources::set(&port, &Settings::default()))[..] else { panic!("one filter") };
    assert!(!manager.generate_request_id.unwrap().value);
    assert!(manager.tracing.is_none());
}
