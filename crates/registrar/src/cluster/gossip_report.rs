//! What `GET /api/v1/gossip` answers: this host's part in the gossip, and how each seed fares, in the operator's words.

use std::net::SocketAddr;
use std::time::Instant;

use admin_api::gossip::{Gossip, Member, Seed, SeedAddress, SeedOutcome, Standing};
use gossip::{HostView, OpenFailure, Part, Refusal, SeedView};

use super::{Cluster, status_word};
use crate::host::unix_ms;
use crate::seed_names::SeedLookup;

impl Cluster {
    pub(crate) fn gossip_report(&self, now: Instant) -> Gossip {
        let own = self.gossip.as_ref().map(|(gossip, _)| gossip);
        let tried: Vec<_> = own.iter().flat_map(|gossip| gossip.seeds(now)).collect();
        let refused = own
            .iter()
            .flat_map(|gossip| Refusal::ALL.map(|why| (why.as_str().to_owned(), gossip.counters().refused(why))));
        Gossip {
            standing: own.map_or(Standing::Off, |gossip| standing(gossip.part())),
            host_name: self.name.to_string(),
            cluster_name: self.cluster_name.as_str().to_owned(),
            address: own.map(|gossip| gossip.address().ip()),
            port: own.map(|gossip| gossip.address().port()),
            key_fingerprints: own.iter().flat_map(|gossip| gossip.key_names()).collect(),
            members: own.iter().flat_map(|gossip| gossip.hosts()).map(|view| self.member(&view)).collect(),
            seeds: self.seeds.iter().map(|lookup| self.seed(lookup, &tried)).collect(),
            refused: refused.collect(),
            problems: own.iter().flat_map(|gossip| gossip.problems()).map(|problem| problem.to_string()).collect(),
        }
    }

    fn member(&self, view: &HostView) -> Member {
        Member {
            name: view.name.to_string(),
            address: view.address.map(|address| address.ip()),
            port: view.address.map(|address| address.port()),
            status: status_word(view.status).to_owned(),
            since: view.since.map_or(0, |since| self.in_unix_ms(since)),
        }
    }

    fn seed(&self, lookup: &SeedLookup, tried: &[SeedView]) -> Seed {
        let views = lookup.addresses.iter().filter_map(|address| tried.iter().find(|view| view.address == *address));
        let addresses: Vec<_> = views.map(|view| self.seed_address(view)).collect();
        let best = addresses.iter().min_by_key(|address| address.outcome);
        let outcome = match best {
            Some(best) => best.outcome,
            None if lookup.problem.is_some() => SeedOutcome::NoSuchName,
            None => SeedOutcome::Pending,
        };
        let at = best.map(|best| SocketAddr::new(best.address, best.port));
        Seed { seed: lookup.seed.clone(), outcome, problem: problem(outcome, at, lookup.problem.as_deref()), addresses }
    }

    fn seed_address(&self, view: &SeedView) -> SeedAddress {
        let (outcome, host) = outcome(&view.outcome);
        SeedAddress {
            address: view.address.ip(),
            port: view.address.port(),
            outcome,
            host,
            tried_ms: view.tried.map(|at| self.in_unix_ms(at)),
            reached_ms: view.reached.map(|at| self.in_unix_ms(at)),
        }
    }

    /// By one origin, so that the same moment is always the same number.
    pub(super) fn in_unix_ms(&self, at: Instant) -> u64 {
        unix_ms(self.started_at + at.saturating_duration_since(self.started))
    }
}

const fn standing(part: Part) -> Standing {
    match part {
        Part::Outside => Standing::Outside,
        Part::CutOff => Standing::CutOff,
        Part::Inside => Standing::Inside,
        Part::Apart => Standing::Apart,
        Part::Leaving => Standing::Leaving,
    }
}

/// The outcome, and who answered.
fn outcome(outcome: &gossip::SeedOutcome) -> (SeedOutcome, Option<String>) {
    let outcome = match outcome {
        gossip::SeedOutcome::Reached(host) => return (SeedOutcome::Reached, Some(host.to_string())),
        gossip::SeedOutcome::Untried => SeedOutcome::Pending,
        gossip::SeedOutcome::Itself => SeedOutcome::Itself,
        gossip::SeedOutcome::NotConnected(OpenFailure::Refused) => SeedOutcome::Refused,
        gossip::SeedOutcome::NotConnected(OpenFailure::TimedOut) => SeedOutcome::NoAnswer,
        gossip::SeedOutcome::NotConnected(OpenFailure::Unreachable) => SeedOutcome::Unreachable,
        gossip::SeedOutcome::Silent => SeedOutcome::Silent,
        gossip::SeedOutcome::Mismatch(Refusal::OtherCluster) => SeedOutcome::WrongCluster,
        gossip::SeedOutcome::Mismatch(Refusal::OtherVersion) => SeedOutcome::WrongVersion,
        gossip::SeedOutcome::Mismatch(_) => SeedOutcome::WrongKey,
        gossip::SeedOutcome::HungUp => SeedOutcome::HungUp,
        gossip::SeedOutcome::NotGossip => SeedOutcome::NotGossip,
    };
    (outcome, None)
}

/// What is wrong with a seed, with the fix.
fn problem(outcome: SeedOutcome, at: Option<SocketAddr>, lookup: Option<&str>) -> Option<String> {
    let at = at.map_or_else(String::new, |at| at.to_string());
    let words = match outcome {
        SeedOutcome::Reached | SeedOutcome::Itself | SeedOutcome::Pending => return None,
        SeedOutcome::NoSuchName => format!(
            "the name can't be looked up ({}): correct --seed, or the name server",
            lookup.unwrap_or("no address is known")
        ),
        SeedOutcome::WrongKey => format!(
            "the host at {at} has none of this host's gossip keys: give both the same --gossip-key-file \
             (`key_fingerprints` of /api/v1/gossip must agree)"
        ),
        SeedOutcome::WrongCluster => {
            format!("the host at {at} is of another cluster: give both the same --cluster-name")
        }
        SeedOutcome::WrongVersion => {
            format!("the host at {at} speaks another version of the protocol: upgrade the older of the two")
        }
        SeedOutcome::HungUp => format!(
            "the host at {at} hangs up before it says who it is: most likely its --gossip-key-file or --cluster-name is \
             another; its log and its own /api/v1/gossip say more"
        ),
        SeedOutcome::Silent => format!("{at} accepts connections and says nothing: its registrar hangs, or is none"),
        SeedOutcome::NotGossip => format!("another program than a registrar answers at {at}: correct --seed"),
        SeedOutcome::Refused => format!(
            "nobody listens at {at}: start the registrar there, with gossip on and --gossip-listen at this port"
        ),
        SeedOutcome::NoAnswer => format!(
            "nothing answers at {at}: is the machine up, and does its firewall let TCP and UDP pass to this port?"
        ),
        SeedOutcome::Unreachable => format!("there is no route to {at}: correct --seed, or the network"),
    };
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_wrong_with_a_seed_is_said_with_its_address_and_the_fix() {
        let at = Some("10.0.0.2:7946".parse().unwrap());
        let words = |outcome| problem(outcome, at, None).unwrap();
        for (outcome, fix) in [
            (SeedOutcome::WrongKey, "--gossip-key-file"),
            (SeedOutcome::HungUp, "--gossip-key-file"),
            (SeedOutcome::WrongCluster, "--cluster-name"),
            (SeedOutcome::WrongVersion, "upgrade"),
            (SeedOutcome::Silent, "registrar hangs"),
            (SeedOutcome::NotGossip, "correct --seed"),
            (SeedOutcome::Refused, "start the registrar"),
            (SeedOutcome::NoAnswer, "firewall"),
            (SeedOutcome::Unreachable, "no route"),
        ] {
            let said = words(outcome);
            assert!(said.contains(fix) && said.contains("10.0.0.2:7946"), "{outcome:?}: {said}");
        }
        assert!(problem(SeedOutcome::NoSuchName, None, Some("not known")).unwrap().contains("(not known)"));
        for fine in [SeedOutcome::Reached, SeedOutcome::Itself, SeedOutcome::Pending] {
            assert_eq!(problem(fine, at, None), None);
        }
    }
}
