//! This host's part in the gossip: what `GET /api/v1/gossip` answers.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// This host's part in the gossip.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gossip {
    /// How this host stands to the others.
    pub standing: Standing,
    /// This host's name.
    pub host_name: String,
    /// The cluster's name; hosts of another refuse this one.
    pub cluster_name: String,
    /// Where others reach this host's gossip, by UDP and TCP; null where gossip is off.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: Option<u16>,
    /// 8 hexadecimal digits for each gossip key, the one that encrypts first. They say nothing of the key itself, and two
    /// hosts with the same key have the same fingerprint.
    pub key_fingerprints: Vec<String>,
    /// The other hosts that this one knows, in the order of their names.
    pub members: Vec<Member>,
    /// The configured seeds, in their order.
    pub seeds: Vec<Seed>,
    /// How many datagrams and streams were refused since the start, by reason; the reasons are those of the metric
    /// `envoy_docker_shim_gossip_refused_total`. `unknown_key` grows where a host with another key tries to get in.
    pub refused: BTreeMap<String, u64>,
    /// What is wrong with this host's part, with the fix where there is one.
    pub problems: Vec<String>,
}

/// What came of `POST /api/v1/gossip/believe-losses` on the admin socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BelievedLosses {
    /// How many hosts are served no longer.
    pub hosts: usize,
}

/// How a host stands to the others of its cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Gossip is off: no `--gossip-key-file`.
    Off,
    /// It looks for a way in. A host without seeds stays here until another host comes to it.
    Outside,
    /// It was inside, and hears nobody any longer.
    CutOff,
    /// It takes part.
    Inside,
    /// It takes no part, since another host has its name.
    Apart,
    /// It leaves the cluster, or has left it.
    Leaving,
}

/// Another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name.
    pub name: String,
    /// Where its gossip is reached; null while only its record is known.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: Option<u16>,
    /// `alive`, `suspect` or `down`.
    pub status: String,
    /// Since when it has this status, in milliseconds of this host's Unix time; 0 where unknown.
    pub since: u64,
}

/// A configured seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// As it is configured, with its port: `HOST:PORT`.
    pub seed: String,
    /// The best outcome of its addresses, or of looking up its name.
    pub outcome: SeedOutcome,
    /// What is wrong, with the fix; null where nothing is.
    pub problem: Option<String>,
    /// The addresses that its name leads to; those of the last successful look-up where a later one failed.
    pub addresses: Vec<SeedAddress>,
}

/// One address of a seed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedAddress {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// How the last attempt ended.
    pub outcome: SeedOutcome,
    /// The name of the host that answered; null where none did.
    pub host: Option<String>,
    /// When the last attempt ended, in milliseconds of Unix time; null where there was none.
    pub tried_ms: Option<u64>,
    /// When somebody last answered there, in milliseconds of Unix time; null where nobody ever did.
    pub reached_ms: Option<u64>,
}

/// How the last attempt to reach a seed ended, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SeedOutcome {
    /// It said who it is.
    Reached,
    /// It is this host itself: harmless, and no way in.
    Itself,
    /// It was not tried yet.
    Pending,
    /// It hung up, and is refused here itself for its gossip key: the two have no key in common.
    WrongKey,
    /// It hung up, and is refused here itself since it is of a cluster of another name.
    WrongCluster,
    /// It hung up, and is refused here itself since it speaks another version of the protocol.
    WrongVersion,
    /// It accepted the connection and hung up before it said who it is: most likely it has other gossip keys or another
    /// cluster name, or it is too busy.
    HungUp,
    /// It accepted the connection, and said nothing within 3 s.
    Silent,
    /// Something else than gossip answered.
    NotGossip,
    /// The connection was refused: nobody listens there.
    Refused,
    /// Nothing answered: a firewall drops TCP to the gossip port, or the machine is away.
    NoAnswer,
    /// There is no route to the address.
    Unreachable,
    /// The name can't be looked up.
    NoSuchName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_that_nobody_answers_at_reads_as_documented() {
        let seed = Seed {
            seed: "web1:7946".to_owned(),
            outcome: SeedOutcome::NoAnswer,
            problem: Some("why".to_owned()),
            addresses: vec![SeedAddress {
                address: "fd00::1".parse().unwrap(),
                port: 7946,
                outcome: SeedOutcome::NoAnswer,
                host: None,
                tried_ms: Some(5),
                reached_ms: None,
            }],
        };
        let json = r#"{"seed":"web1:7946","outcome":"no-answer","problem":"why","addresses":[{"address":"fd00::1","port":7946,"outcome":"no-answer","host":null,"tried_ms":5,"reached_ms":null}]}"#;
        assert_eq!(serde_json::to_string(&seed).unwrap(), json);
        assert_eq!(serde_json::from_str::<Seed>(json).unwrap(), seed);
        assert!(SeedOutcome::Reached < SeedOutcome::Pending && SeedOutcome::Pending < SeedOutcome::NoSuchName);
    }
}
