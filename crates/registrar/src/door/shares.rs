//! How many clients each listener may have, as parts of what the process may open.
//!
//! A descriptor that one listener takes is missing elsewhere. So each has its own part, and together they leave an
//! eighth for everything else: health checks, gossip, Docker, the listeners themselves. Pure, but for the limit.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// The most connections that are forwarded for an Envoy that is away: about 80 MB of buffers.
const STANDBY_MAX: usize = 4096;
/// The most readers over HTTP.
const HTTP_MAX: usize = 256;
/// The most connections to the xDS server.
const XDS_MAX: usize = 64;
/// The most connections to the admin socket.
const ADMIN_MAX: usize = 32;
/// The most who watch changes over HTTP.
const WATCHERS_MAX: usize = 64;
/// Each listener can have this many, however low the limit.
const LEAST: usize = 8;

/// One listener's part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Share {
    /// What is listened for, for the log.
    pub(crate) listener: &'static str,
    /// The most clients.
    pub(crate) most: usize,
}

impl Share {
    /// The most from other hosts, all together: a quarter stays this host's own.
    pub(crate) const fn of_others(&self) -> usize {
        self.most - self.most / 4
    }

    /// The most from one other host.
    pub(crate) const fn of_one_source(&self) -> usize {
        self.most.div_ceil(2)
    }
}

/// The parts of all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    pub(crate) shims: Share,
    pub(crate) standby: Share,
    pub(crate) http: Share,
    pub(crate) xds: Share,
    pub(crate) admin: Share,
    /// The most who watch changes; they are among HTTP's clients.
    pub(crate) watchers: usize,
}

impl Shares {
    /// Of all that the process may open, once its limit is raised as far as it may be.
    pub(crate) fn of_this_process() -> Self {
        Self::of(raise_descriptor_limit())
    }

    fn of(descriptors: u64) -> Self {
        let part = |of: u64, most| usize::try_from(descriptors / of).unwrap_or(most).clamp(LEAST, most);
        let http = part(32, HTTP_MAX);
        Self {
            shims: Share { listener: "shims", most: part(2, usize::MAX) },
            // Each takes two.
            standby: Share { listener: "service ports", most: part(8, STANDBY_MAX) },
            http: Share { listener: "HTTP", most: http },
            xds: Share { listener: "xDS", most: part(32, XDS_MAX) },
            admin: Share { listener: "admin", most: part(32, ADMIN_MAX) },
            watchers: WATCHERS_MAX.min(http / 2),
        }
    }
}

/// Raises the soft limit of open files to the hard one; yields what it is then.
fn raise_descriptor_limit() -> u64 {
    match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_err() => soft,
        Ok((_, hard)) => hard,
        Err(_) => 1024, // cannot fail; the traditional limit
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_together_leave_an_eighth_of_the_descriptors_to_everything_else() {
        for descriptors in [256, 1024, 4096, 65_536, 1 << 20] {
            let shares = Shares::of(descriptors);
            let clients = [shares.shims, shares.http, shares.xds, shares.admin].map(|share| share.most as u64);
            let taken = clients.iter().sum::<u64>() + 2 * shares.standby.most as u64;
            assert!(taken <= descriptors - descriptors / 8, "{taken} of {descriptors}");
            assert!(shares.watchers < shares.http.most);
        }
    }

    #[test]
    fn nobody_elsewhere_can_take_what_this_host_itself_needs() {
        let share = Share { listener: "HTTP", most: 8 };
        assert_eq!((share.of_others(), share.of_one_source()), (6, 4));
    }
}
