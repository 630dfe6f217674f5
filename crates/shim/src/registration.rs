//! What the shim says to the registrar, and when it tries again: decisions only.
//!
//! The socket is in `registrar_link`, which reports what happened and does what it is told. The shim serves its port
//! whatever happens here.
//!
//! ```text
//!  Away ── connected ──▶ Greeting ── Hello ──▶ Registering ── Registered ──▶ Registered
//!   ▲                                                                            │ stop
//!   └── lost, rejected, garbage ◀──────────────────────────── Releasing ◀────────┘
//! ```

use std::net::IpAddr;
use std::time::Duration;

use model::Protocol;
use shim_wire::{FromRegistrar, FromShim, Register, VERSION};

use crate::args::Mapping;

/// The first wait before another try. Each is a quarter longer than the one before, so that a registrar is found before
/// it was away for a quarter longer.
const RETRY_FIRST: Duration = Duration::from_millis(10);
/// The longest wait. A try costs 0.1 ms of CPU time: for 1,000 shims without a registrar 10 % of a core.
const RETRY_LIMIT: Duration = Duration::from_secs(1);
/// The wait after a registration was refused, or somebody else than root sits on the socket.
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// Nobody is there; or the connection ended, or was ended for garbage.
    Failed,
    /// The registrar refused the registration, or is not to be trusted.
    Refused,
}

/// What a message from the registrar asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Nothing,
    /// Give the socket to this uid, report the outcome to [`Registration::given`], and send what that yields.
    GiveSocket {
        /// Envoy's.
        uid: u32,
    },
    /// Hang up and try again later; the reason is for the log.
    Refused {
        /// The registrar's words.
        reason: String,
    },
    /// The release was heard; Envoy is waited for.
    Releasing,
    /// Envoy has let go of the port.
    Released,
    /// Have the kernel give new connections to Envoy, or to us.
    Steer {
        /// Envoy.
        to_envoy: bool,
    },
    /// Have the kernel give us the new connections of these clients, whoever gets the others.
    Bypass {
        /// All of them; those of before are forgotten.
        clients: Vec<IpAddr>,
    },
    /// Look at the first bytes of new connections, or no longer.
    Observe {
        /// Look.
        observes: bool,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Away,
    Greeting,
    Registering,
    Registered,
    Releasing,
}

/// One shim's side of the conversation.
#[derive(Debug)]
pub(crate) struct Registration {
    mapping: Mapping,
    /// What was wrong from the start.
    problems: Vec<String>,
    /// Whether Envoy could join the port's group.
    steerable: bool,
    /// The inode of the port's socket.
    socket_inode: u32,
    phase: Phase,
    /// The last announcement, to be repeated as it is.
    announced: Option<Register>,
    /// The next wait, where nobody is there.
    retry: Duration,
}

impl Registration {
    /// A registration of `mapping` that has not been announced to anybody.
    #[must_use]
    pub(crate) const fn new(mapping: Mapping, problems: Vec<String>, steerable: bool, socket_inode: u32) -> Self {
        Self { mapping, problems, steerable, socket_inode, phase: Phase::Away, announced: None, retry: RETRY_FIRST }
    }

    /// A connection stands; the registrar speaks first.
    pub(crate) fn connected(&mut self) {
        self.phase = Phase::Greeting;
    }

    /// Takes in a message.
    pub(crate) fn take(&mut self, message: FromRegistrar) -> Step {
        match (message, self.phase) {
            (FromRegistrar::Hello { version, envoy_uid }, Phase::Greeting) => {
                self.announced = Some(self.announcement(version));
                Step::GiveSocket { uid: envoy_uid }
            }
            (FromRegistrar::Registered, Phase::Registering) => {
                self.phase = Phase::Registered;
                self.retry = RETRY_FIRST;
                Step::Nothing
            }
            (FromRegistrar::Rejected { reason }, _) => Step::Refused { reason },
            (FromRegistrar::Steer { to_envoy }, Phase::Registered) if self.steerable => Step::Steer { to_envoy },
            (FromRegistrar::Bypass { clients }, Phase::Registered) if self.steerable => Step::Bypass { clients },
            (FromRegistrar::Observe { observes }, Phase::Registered) => Step::Observe { observes },
            (FromRegistrar::Releasing, Phase::Releasing) => Step::Releasing,
            (FromRegistrar::Released, Phase::Releasing) => Step::Released,
            // Out of turn: of no consequence.
            (_, _) => Step::Nothing,
        }
    }

    /// The socket was given to Envoy's uid, or it could not be; yields the announcement.
    pub(crate) fn given(&mut self, outcome: Result<(), String>) -> Option<FromShim> {
        if let (Err(problem), Some(register)) = (outcome, self.announced.as_mut()) {
            register.shareable = false;
            add_problem(&mut register.problem, &problem);
        }
        self.phase = Phase::Registering;
        self.announce()
    }

    /// The announcement, if it may be made now ("announce again").
    #[must_use]
    pub(crate) fn announce(&self) -> Option<FromShim> {
        match self.phase {
            Phase::Registering | Phase::Registered => self.announced.clone().map(FromShim::Register),
            Phase::Away | Phase::Greeting | Phase::Releasing => None,
        }
    }

    /// The message by which Envoy is made to let go of the port, if anybody is there to hear it.
    pub(crate) fn release(&mut self) -> Option<FromShim> {
        match self.phase {
            Phase::Registering | Phase::Registered => {
                self.phase = Phase::Releasing;
                Some(FromShim::Release)
            }
            Phase::Away | Phase::Greeting | Phase::Releasing => None,
        }
    }

    /// There is no connection (any longer): how long to wait before the next try.
    pub(crate) fn lost(&mut self, why: Loss) -> Duration {
        self.phase = Phase::Away;
        let wait = self.retry;
        self.retry = (wait + wait / 4).min(RETRY_LIMIT);
        match why {
            Loss::Refused => RETRY_REFUSED,
            Loss::Failed => wait,
        }
    }

    fn announcement(&self, registrars_version: u16) -> Register {
        let mut problem = String::new();
        for other in &self.problems {
            add_problem(&mut problem, other);
        }
        Register {
            version: VERSION.min(registrars_version),
            published: self.mapping.published,
            container: self.mapping.container,
            problem,
            shareable: self.steerable,
            socket_inode: self.socket_inode,
            observes: self.mapping.published.protocol == Protocol::Tcp,
        }
    }
}

fn add_problem(problem: &mut String, other: &str) {
    if !problem.is_empty() {
        problem.push_str("; ");
    }
    problem.push_str(other);
}

#[cfg(test)]
mod tests {
    use model::PublishedPort;

    use super::*;

    const HELLO: FromRegistrar = FromRegistrar::Hello { version: VERSION, envoy_uid: 101 };

    const INODE: u32 = 7;

    fn mapping() -> Mapping {
        let published = PublishedPort { address: [0, 0, 0, 0].into(), port: 8080, protocol: Protocol::Tcp };
        Mapping { published, container: "172.17.0.2:80".parse().unwrap() }
    }

    fn register(shareable: bool, problem: &str) -> FromShim {
        let Mapping { published, container } = mapping();
        FromShim::Register(Register {
            version: VERSION,
            published,
            container,
            problem: problem.to_owned(),
            shareable,
            socket_inode: INODE,
            observes: true,
        })
    }

    fn registered() -> Registration {
        let mut registration = Registration::new(mapping(), Vec::new(), true, INODE);
        registration.connected();
        assert_eq!(registration.take(HELLO), Step::GiveSocket { uid: 101 });
        assert_eq!(registration.given(Ok(())), Some(register(true, "")));
        assert_eq!(registration.take(FromRegistrar::Registered), Step::Nothing);
        registration
    }

    #[test]
    fn the_socket_is_given_away_before_the_port_is_announced() {
        let mut registration = Registration::new(mapping(), Vec::new(), true, INODE);
        assert_eq!(registration.announce(), None, "nobody is there");
        registration.connected();
        assert_eq!(registration.announce(), None, "the registrar speaks first");
        assert_eq!(registration.take(HELLO), Step::GiveSocket { uid: 101 });
        assert_eq!(registration.announce(), None, "the socket is not Envoy's yet");
        assert_eq!(registration.given(Ok(())), Some(register(true, "")));
    }

    #[test]
    fn a_socket_that_cannot_be_given_away_is_announced_as_not_shareable() {
        let problems = vec!["one".to_owned(), "two".to_owned()];
        let mut registration = Registration::new(mapping(), problems, true, INODE);
        registration.connected();
        registration.take(HELLO);
        assert_eq!(registration.given(Err("three".to_owned())), Some(register(false, "one; two; three")));
        registration.lost(Loss::Failed);
        registration.connected();
        registration.take(HELLO);
        assert_eq!(registration.given(Ok(())), Some(register(true, "one; two")), "the problem is gone");
    }

    #[test]
    fn a_port_without_steering_is_not_shareable() {
        let mut registration = Registration::new(mapping(), Vec::new(), false, INODE);
        registration.connected();
        registration.take(HELLO);
        assert_eq!(registration.given(Ok(())), Some(register(false, "")));
    }

    #[test]
    fn the_older_of_both_versions_is_spoken() {
        for (registrars, spoken) in [(VERSION + 1, VERSION), (0, 0)] {
            let mut registration = Registration::new(mapping(), Vec::new(), true, INODE);
            registration.connected();
            registration.take(FromRegistrar::Hello { version: registrars, envoy_uid: 0 });
            let Some(FromShim::Register(register)) = registration.given(Ok(())) else { panic!("nothing announced") };
            assert_eq!(register.version, spoken);
        }
    }

    #[test]
    fn release_is_asked_for_once_and_only_of_whom_it_was_announced_to() {
        let mut registration = Registration::new(mapping(), Vec::new(), true, INODE);
        registration.connected();
        assert_eq!(registration.release(), None);
        let mut registration = registered();
        assert_eq!(registration.take(FromRegistrar::Released), Step::Nothing, "not asked for");
        assert_eq!(registration.take(FromRegistrar::Releasing), Step::Nothing, "not asked for");
        assert_eq!(registration.release(), Some(FromShim::Release));
        assert_eq!(registration.release(), None);
        assert_eq!(registration.announce(), None, "a port that ends is not announced again");
        assert_eq!(registration.take(FromRegistrar::Releasing), Step::Releasing);
        assert_eq!(registration.take(FromRegistrar::Released), Step::Released);
    }

    #[test]
    fn a_second_hello_on_the_same_connection_changes_nothing() {
        let mut registration = registered();
        assert_eq!(registration.take(HELLO), Step::Nothing);
        assert_eq!(registration.announce(), Some(register(true, "")));
    }

    #[test]
    fn only_a_registered_port_that_can_be_steered_is() {
        let order = FromRegistrar::Steer { to_envoy: false };
        assert_eq!(registered().take(order.clone()), Step::Steer { to_envoy: false });
        let mut early = Registration::new(mapping(), Vec::new(), true, INODE);
        early.connected();
        assert_eq!(early.take(order.clone()), Step::Nothing);
        let mut unsteerable = Registration::new(mapping(), Vec::new(), false, INODE);
        unsteerable.connected();
        unsteerable.take(HELLO);
        unsteerable.given(Ok(()));
        unsteerable.take(FromRegistrar::Registered);
        assert_eq!(unsteerable.take(order), Step::Nothing);
    }

    #[test]
    fn what_the_registrar_wants_of_connections_counts_once_the_port_is_registered() {
        let clients = vec!["192.0.2.7".parse().unwrap()];
        let orders = [
            (FromRegistrar::Observe { observes: true }, Step::Observe { observes: true }),
            (FromRegistrar::Bypass { clients: clients.clone() }, Step::Bypass { clients }),
        ];
        for (order, step) in orders {
            assert_eq!(registered().take(order.clone()), step);
            let mut early = Registration::new(mapping(), Vec::new(), true, INODE);
            early.connected();
            assert_eq!(early.take(order), Step::Nothing);
        }
    }

    #[test]
    fn a_rejection_is_waited_out() {
        let mut registration = registered();
        let rejected = FromRegistrar::Rejected { reason: "no".to_owned() };
        assert_eq!(registration.take(rejected), Step::Refused { reason: "no".to_owned() });
        assert_eq!(registration.lost(Loss::Refused), RETRY_REFUSED);
    }

    #[test]
    fn waits_grow_to_a_bound_and_are_short_again_after_a_success() {
        let mut registration = Registration::new(mapping(), Vec::new(), true, INODE);
        let waits: Vec<_> = (0..40).map(|_| registration.lost(Loss::Failed)).collect();
        assert_eq!((waits[0], waits[39]), (RETRY_FIRST, RETRY_LIMIT));
        let mut away = Duration::ZERO;
        for wait in waits {
            assert!(wait <= away / 4 + RETRY_FIRST, "{wait:?} after {away:?}");
            away += wait;
        }
        assert_eq!(registered().lost(Loss::Failed), RETRY_FIRST);
    }
}
