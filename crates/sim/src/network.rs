//! What carries things between hosts, and how badly.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

/// How long a sender waits before it sends a lost piece of a stream again.
const RETRANSMIT: Duration = Duration::from_millis(200);

/// How good the whole network is.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// How likely each datagram is lost, 0 to 1.
    pub loss: f64,
    /// How likely each datagram arrives twice, 0 to 1.
    pub duplication: f64,
    /// The shortest way, one way.
    pub delay_min: Duration,
    /// The longest way; what is sent later may overtake.
    pub delay_max: Duration,
}

impl Default for Conditions {
    /// A quiet local network.
    fn default() -> Self {
        Self { loss: 0.0, duplication: 0.0, delay_min: Duration::from_micros(200), delay_max: Duration::from_millis(1) }
    }
}

/// How good one host's own connection is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attachment {
    /// How likely a datagram to this host is lost on its last metre, 0 to 1.
    pub loss_in: f64,
    /// How likely a datagram from this host is lost on its first metre, 0 to 1.
    pub loss_out: f64,
    /// How much longer everything to this host takes.
    pub delay: Duration,
    /// Whether a firewall drops all datagrams from and to this host; streams pass.
    pub no_datagrams: bool,
}

/// The network. Hosts are known by their numbers.
#[derive(Debug)]
pub struct Network {
    /// What holds for all.
    pub conditions: Conditions,
    /// What holds for some hosts besides.
    pub attachments: BTreeMap<usize, Attachment>,
    groups: BTreeMap<usize, usize>,
    cut: BTreeSet<(usize, usize)>,
    rng: StdRng,
}

impl Network {
    /// A network without troubles but `conditions`.
    #[must_use]
    pub const fn new(conditions: Conditions, rng: StdRng) -> Self {
        Self { conditions, attachments: BTreeMap::new(), groups: BTreeMap::new(), cut: BTreeSet::new(), rng }
    }

    /// Lets hosts of different groups hear nothing of each other; hosts not named are of group 0.
    pub fn partition(&mut self, groups: impl IntoIterator<Item = (usize, usize)>) {
        self.groups = groups.into_iter().collect();
    }

    /// Lets nothing pass from one host to another; the way back stays open.
    pub fn cut(&mut self, from: usize, to: usize) {
        self.cut.insert((from, to));
    }

    /// Ends all partitions, cuts and troubles of single hosts.
    pub fn heal(&mut self) {
        self.groups.clear();
        self.cut.clear();
        self.attachments.clear();
    }

    /// Whether anything passes from one host to another.
    #[must_use]
    pub fn passes(&self, from: usize, to: usize) -> bool {
        let group = |host| self.groups.get(&host).copied().unwrap_or(0);
        group(from) == group(to) && !self.cut.contains(&(from, to))
    }

    fn attachment(&self, host: usize) -> Attachment {
        self.attachments.get(&host).copied().unwrap_or_default()
    }

    fn is_lost(&mut self, from: usize, to: usize) -> bool {
        let chances = [self.conditions.loss, self.attachment(from).loss_out, self.attachment(to).loss_in];
        chances.iter().any(|chance| *chance > 0.0 && self.rng.random_bool(*chance))
    }

    /// How long one way takes now.
    pub fn delay(&mut self, to: usize) -> Duration {
        let Conditions { delay_min, delay_max, .. } = self.conditions;
        self.rng.random_range(delay_min..=delay_max) + self.attachment(to).delay
    }

    /// When the copies of a datagram arrive: none, one or two.
    pub fn datagram(&mut self, from: usize, to: usize) -> Vec<Duration> {
        let firewall = self.attachment(from).no_datagrams || self.attachment(to).no_datagrams;
        if firewall || !self.passes(from, to) || self.is_lost(from, to) {
            return Vec::new();
        }
        let copies =
            if self.conditions.duplication > 0.0 && self.rng.random_bool(self.conditions.duplication) { 2 } else { 1 };
        (0..copies).map(|_| self.delay(to)).collect()
    }

    /// When a piece of a stream arrives: lost ones are sent again. `None` where nothing passes.
    pub fn stream(&mut self, from: usize, to: usize) -> Option<Duration> {
        if !self.passes(from, to) {
            return None;
        }
        let mut delay = self.delay(to);
        // A connection gives up at some time; ten losses in a row are that.
        for _ in 0..10 {
            if !self.is_lost(from, to) {
                return Some(delay);
            }
            delay += RETRANSMIT;
        }
        None
    }

    /// When a first packet of a connection arrives, if it does: it is sent once only within the time-out.
    pub fn connect(&mut self, from: usize, to: usize) -> Option<Duration> {
        let arrives =
            self.passes(from, to) && self.passes(to, from) && !self.is_lost(from, to) && !self.is_lost(to, from);
        arrives.then(|| self.delay(to))
    }
}
