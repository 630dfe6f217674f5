//! A host's power and its cable: cut at once, and given back.

use std::sync::PoisonError;
use std::time::Duration;

use super::Host;
use crate::{eventually, network};

/// How long the kernel may take to end all that was killed.
const KILL_LIMIT: Duration = Duration::from_secs(10);

/// What a boot finds empty: `/run`, the network but for its own cable, the firewall. The disk (`/var/lib/docker`) stays.
const FORGET: &str = r#"
set -e
mounted() { awk '$2 ~ /^\/run\// && $2 !~ /^\/run\/lab\// || $2 ~ /^\/var\/lib\/docker\// {print $2}' /proc/mounts; }
mounted | sort -r | while read -r path; do umount -l "$path" 2>/dev/null || true; done
find /run -mindepth 1 -maxdepth 1 ! -name lab ! -name lock -exec rm -rf {} +
for link in $(ls /sys/class/net); do
  case $link in lo|eth0) ;; *) ip link del "$link" 2>/dev/null || true ;; esac
done
nft flush ruleset
ip address flush dev lo scope global
"#;

impl Host {
    /// Cuts the host off from all others, without a word to anybody.
    pub fn pull_cable(&self) {
        network::pull_cable(&self.namespace);
    }

    /// Joins it again.
    pub fn plug_cable_in(&self) {
        network::plug_cable_in(&self.namespace, self.number);
    }

    /// Kills all that runs on the host at once: dockerd, Envoy, the registrar, shims and containers. Its kernel lives on
    /// and tells others that their connections have ended.
    ///
    /// # Panics
    /// Something goes on running.
    pub fn crash(&self) {
        self.namespace.kill_all();
        for slot in [&self.dockerd, &self.registrar, &self.envoy] {
            slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        }
        eventually(&format!("nothing runs on {} any longer", self.name), KILL_LIMIT, || {
            let left = self.namespace.inside_ids();
            self.namespace.kill_all();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        });
    }

    /// As [`Self::crash`], but nobody hears a word of it.
    ///
    /// # Panics
    /// Something goes on running.
    pub fn cut_power(&self) {
        self.pull_cable();
        self.crash();
    }

    /// Boots a host that crashed or whose power was cut: the same disk and address, and all of its programs started anew. It waits until
    /// they are ready. Containers start by their restart policy.
    ///
    /// # Panics
    /// A program does not start.
    pub fn boot(&self) {
        self.namespace.run("sh", &["-c", FORGET]);
        self.plug_cable_in();
        self.start_programs();
    }
}
