//! The registrar's own metrics for Prometheus: numbers that the loop answers, and how they are written.
//!
//! What passes through Envoy is counted by Envoy. Names and labels are for dashboards and alarms: they are never
//! renamed. Pure.

use std::collections::BTreeMap;
use std::fmt;

use gossip::{Counters, Refusal};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use xds::ResourceCounts;

/// What the answer's `Content-Type` says: the format is OpenMetrics, which Prometheus reads.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Each name begins with it.
const PREFIX: &str = "envoy_docker_shim";

/// All that is counted, at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Numbers {
    pub(crate) is_ready: bool,
    pub(crate) registrations: usize,
    pub(crate) envoys: usize,
    pub(crate) is_in_sync: bool,
    pub(crate) resources: ResourceCounts,
    pub(crate) nacks: u64,
    pub(crate) cluster: ClusterNumbers,
}

/// Of this host among others.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClusterNumbers {
    /// Of all hosts, by status.
    pub(crate) instances: BTreeMap<&'static str, usize>,
    /// By status.
    pub(crate) hosts: BTreeMap<&'static str, usize>,
    pub(crate) checks_passed: u64,
    pub(crate) checks_failed: u64,
    pub(crate) failing_listeners: usize,
    /// `None` where gossip is off.
    pub(crate) gossip: Option<Counters>,
}

/// The text that Prometheus reads.
pub(crate) fn text(numbers: Numbers) -> Result<String, fmt::Error> {
    let mut registry = Registry::with_prefix(PREFIX);
    registry.register_collector(Box::new(numbers));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// A metric's values: the value of its label, and the number. An empty label is none.
type Values = Vec<(&'static str, u64)>;

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.gauges().into_iter().try_for_each(|(name, help, label, values)| {
            write(&mut encoder, (name, help), MetricType::Gauge, label, values)
        })?;
        self.counters().into_iter().try_for_each(|(name, help, label, values)| {
            write(&mut encoder, (name, help), MetricType::Counter, label, values)
        })
    }
}

type Metric = (&'static str, &'static str, &'static str, Values);

impl Numbers {
    fn gauges(&self) -> Vec<Metric> {
        let Self { resources, cluster, .. } = self;
        let resources = vec![
            ("clusters", count(resources.clusters)),
            ("endpoints", count(resources.endpoints)),
            ("listeners", count(resources.listeners)),
        ];
        vec![
            ("ready", "Whether Envoy is given the world", "", one(self.is_ready)),
            ("registrations", "Shims that are registered", "", one(count(self.registrations))),
            ("envoy_streams", "Envoys that are connected", "", one(count(self.envoys))),
            ("envoy_in_sync", "Whether Envoy has acknowledged all that it is to have", "", one(self.is_in_sync)),
            ("xds_resources", "What Envoy is to have, by type", "type", resources),
            (
                "instances",
                "Instances of all hosts by status, as this host knows them",
                "status",
                by(&cluster.instances),
            ),
            ("hosts", "Hosts by status, as this host sees them", "status", by(&cluster.hosts)),
            ("listeners_failing", "Listeners that do not take changes", "", one(count(cluster.failing_listeners))),
        ]
    }

    fn counters(&self) -> Vec<Metric> {
        let checks = vec![("passed", self.cluster.checks_passed), ("failed", self.cluster.checks_failed)];
        let mut counters = vec![
            ("xds_nacks", "What Envoy rejected", "", one(self.nacks)),
            ("checks", "Health checks made, by what came of them", "result", checks),
        ];
        if let Some(gossip) = &self.cluster.gossip {
            let datagrams = vec![("sent", gossip.datagrams_sent), ("received", gossip.datagrams_received)];
            let streams = vec![("opened", gossip.streams_opened), ("accepted", gossip.streams_accepted)];
            let bytes = vec![("datagrams", gossip.datagram_bytes_sent), ("streams", gossip.stream_bytes_sent)];
            let refused = Refusal::ALL.map(|why| (why.as_str(), gossip.refused(why))).to_vec();
            counters.extend([
                ("gossip_datagrams", "Gossip datagrams; received ones were accepted", "direction", datagrams),
                ("gossip_streams", "Gossip streams", "direction", streams),
                ("gossip_sent_bytes", "Bytes of gossip sent", "by", bytes),
                ("gossip_refused", "Gossip from the network that was dropped, by reason", "reason", refused),
            ]);
        }
        counters
    }
}

fn write(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help): (&str, &str),
    metric_type: MetricType,
    label: &'static str,
    values: Values,
) -> fmt::Result {
    let mut metric = encoder.encode_descriptor(name, help, None, metric_type)?;
    for (value_of_label, number) in values {
        if label.is_empty() {
            return write_number(metric, metric_type, number);
        }
        write_number(metric.encode_family(&[(label, value_of_label)])?, metric_type, number)?;
    }
    Ok(())
}

fn write_number(encoder: MetricEncoder<'_>, metric_type: MetricType, number: u64) -> fmt::Result {
    match metric_type {
        MetricType::Counter => ConstCounter::new(number).encode(encoder),
        _ => ConstGauge::new(i64::try_from(number).unwrap_or(i64::MAX)).encode(encoder),
    }
}

fn one(number: impl Into<u64>) -> Values {
    vec![("", number.into())]
}

fn by(counts: &BTreeMap<&'static str, usize>) -> Values {
    counts.iter().map(|(label, number)| (*label, count(*number))).collect()
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_has_its_name_its_help_and_its_labels() {
        let mut gossip = Counters::default();
        gossip.datagrams_sent = 9;
        let cluster = ClusterNumbers {
            instances: [("alive", 3), ("unhealthy", 0)].into(),
            checks_failed: 7,
            gossip: Some(gossip),
            ..ClusterNumbers::default()
        };
        let text = text(Numbers { registrations: 2, is_ready: true, cluster, ..Numbers::default() }).unwrap();
        for line in [
            "# HELP envoy_docker_shim_registrations Shims that are registered",
            "# TYPE envoy_docker_shim_registrations gauge",
            "envoy_docker_shim_registrations 2",
            "envoy_docker_shim_ready 1",
            "envoy_docker_shim_instances{status=\"alive\"} 3",
            "envoy_docker_shim_instances{status=\"unhealthy\"} 0",
            "envoy_docker_shim_xds_nacks_total 0",
            "envoy_docker_shim_checks_total{result=\"failed\"} 7",
            "envoy_docker_shim_gossip_datagrams_total{direction=\"sent\"} 9",
            "envoy_docker_shim_gossip_refused_total{reason=\"unknown_key\"} 0",
            "envoy_docker_shim_gossip_refused_total{reason=\"replayed\"} 0",
            "# EOF",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
    }

    #[test]
    fn without_gossip_nothing_is_said_of_it() {
        assert!(!text(Numbers::default()).unwrap().contains("gossip"));
    }
}
