//! Whether published ports are diverted, and why: decided from facts alone, said in the operator's words.

use std::collections::BTreeSet;

use nix::errno::Errno;

use crate::docker_rules::DockerRules;
use crate::element::Element;
use crate::socket::NetfilterError;

/// What the operator asked for: `--capture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Divert where that is needed and does no harm.
    Auto,
    /// Divert, whatever Docker's firewall does.
    Divert,
    /// Leave every packet its own way.
    None,
}

impl Asked {
    /// `auto`, `divert` or `none`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Divert => "divert",
            Self::None => "none",
        }
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Traffic for published ports is brought to the ports' own sockets.
    Divert,
    /// There is nothing to do: traffic comes to the sockets by itself, or nobody wants it to.
    Off,
    /// It would be of use, but is not done; the reason says why.
    LeftAlone,
}

impl Mode {
    /// `divert`, `off` or `left-alone`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Divert => "divert",
            Self::Off => "off",
            Self::LeftAlone => "left-alone",
        }
    }
}

/// A decision, and its explanation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice {
    /// What is done.
    pub mode: Mode,
    /// Why, in a sentence for the operator.
    pub reason: String,
    /// What the operator should mend, if anything.
    pub problem: Option<String>,
}

/// What stands in the way of seeing or changing rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The process lacks `CAP_NET_ADMIN`.
    NoNetAdmin,
    /// The kernel lacks something that is needed; which.
    Kernel(String),
    /// Something that may pass by itself.
    Failure(String),
}

impl From<&NetfilterError> for Obstacle {
    fn from(error: &NetfilterError) -> Self {
        match error.errno() {
            Errno::EPERM | Errno::EACCES => Self::NoNetAdmin,
            // ENOENT: a type of chain, set or expression for which there is no module.
            Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT | Errno::EAFNOSUPPORT | Errno::ENOENT | Errno::EINVAL => {
                Self::Kernel(error.to_string())
            }
            _ => Self::Failure(error.to_string()),
        }
    }
}

impl Obstacle {
    fn reason(&self) -> String {
        match self {
            Self::NoNetAdmin => "without CAP_NET_ADMIN neither Docker's firewall can be looked at nor \
                traffic diverted; give the registrar that capability, or set --capture none"
                .to_owned(),
            Self::Kernel(what) => format!("this kernel lacks what is needed ({what})"),
            Self::Failure(what) => format!("for now, and tried again: {what}"),
        }
    }
}

/// What a choice is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    /// What Docker's firewall does, or why that can't be seen.
    pub(crate) rules: Result<&'a DockerRules, &'a Obstacle>,
    /// The published ports that the registrar wants to be diverted.
    pub(crate) wanted: &'a BTreeSet<Element>,
    /// Those of them that Docker's rules were seen to translate since they are wanted.
    pub(crate) once_translated: &'a BTreeSet<Element>,
}

/// What is to be done.
pub(crate) fn choose(asked: Asked, facts: &Facts<'_>) -> Choice {
    if asked == Asked::None {
        return choice(Mode::Off, "off by --capture none: traffic takes Docker's own path");
    }
    if facts.wanted.is_empty() {
        return choice(Mode::Off, "no published TCP port yet: nothing to do");
    }
    let rules = match facts.rules {
        Ok(rules) => rules,
        Err(obstacle) => {
            let problem = (asked == Asked::Divert).then(|| "--capture divert can't be done".to_owned());
            return Choice { mode: Mode::LeftAlone, reason: obstacle.reason(), problem };
        }
    };
    let translates_any = |ports: &BTreeSet<Element>| ports.iter().any(|port| rules.translates(port.port()));
    let translates = translates_any(facts.wanted);
    let are_gone = !facts.once_translated.is_empty() && !translates_any(facts.once_translated);
    match asked {
        Asked::Auto if rules.user_rules > 0 && (translates || are_gone) => left_to_the_user(rules),
        Asked::Auto if !translates && !are_gone => choice(
            Mode::Off,
            "Docker's firewall is off (no rule of Docker's translates a published port): traffic comes to the \
             ports' own sockets by itself",
        ),
        Asked::Auto | Asked::Divert | Asked::None => Choice {
            mode: Mode::Divert,
            reason: divert_reason(asked, rules),
            problem: if are_gone { Some(missing_rules()) } else { unheard_rules(rules) },
        },
    }
}

fn choice(mode: Mode, reason: &str) -> Choice {
    Choice { mode, reason: reason.to_owned(), problem: None }
}

fn left_to_the_user(rules: &DockerRules) -> Choice {
    let reason = format!(
        "DOCKER-USER holds {} of yours, which diverted traffic would no longer meet; move them to the \
         chain INPUT (there they see published ports as they are) and set --capture divert",
        number_of_rules(rules.user_rules)
    );
    Choice { mode: Mode::LeftAlone, reason, problem: None }
}

fn divert_reason(asked: Asked, rules: &DockerRules) -> String {
    if asked == Asked::Divert {
        return "by --capture divert".to_owned();
    }
    let backends: Vec<_> = rules.backends.iter().map(ToString::to_string).collect();
    if backends.is_empty() {
        return "Docker's firewall was on when these ports were published: they stay diverted".to_owned();
    }
    let by = backends.join(" and ");
    format!("Docker's firewall is on, by {by}: traffic for published ports is diverted to the ports' own sockets")
}

fn missing_rules() -> String {
    "Docker's rules for published ports are gone, as after nft flush ruleset; published ports are served, but \
     containers may have lost their way out and their isolation: restart dockerd"
        .to_owned()
}

fn unheard_rules(rules: &DockerRules) -> Option<String> {
    (rules.user_rules > 0).then(|| {
        let number = number_of_rules(rules.user_rules);
        format!("DOCKER-USER holds {number} of yours, which diverted traffic does not meet: move them to INPUT")
    })
}

fn number_of_rules(number: usize) -> String {
    if number == 1 { "1 rule".to_owned() } else { format!("{number} rules") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::docker_rules::Backend;
    use model::{Protocol, PublishedPort};

    fn rules(translated: &[u16], user_rules: usize) -> DockerRules {
        let backends = if translated.is_empty() { [].into() } else { [Backend::IptablesNft].into() };
        DockerRules { translated: translated.iter().copied().collect(), backends, user_rules, ..Default::default() }
    }

    fn ports(ports: &[u16]) -> BTreeSet<Element> {
        let published = |port| PublishedPort { address: [0, 0, 0, 0].into(), port, protocol: Protocol::Tcp };
        ports.iter().map(|port| Element::of(&published(*port)).unwrap()).collect()
    }

    fn chosen(asked: Asked, rules: &DockerRules, wanted: &[u16], once_translated: &[u16]) -> Choice {
        choose(asked, &Facts { rules: Ok(rules), wanted: &ports(wanted), once_translated: &ports(once_translated) })
    }

    #[test]
    fn a_published_port_that_docker_translates_is_diverted() {
        let choice = chosen(Asked::Auto, &rules(&[8080], 0), &[8080, 9090], &[]);
        assert_eq!((choice.mode, choice.problem), (Mode::Divert, None));
        assert!(choice.reason.contains("iptables (nf_tables)"), "{}", choice.reason);
    }

    #[test]
    fn without_a_translation_there_is_nothing_to_do() {
        assert_eq!(chosen(Asked::Auto, &rules(&[], 0), &[8080], &[]).mode, Mode::Off);
    }

    #[test]
    fn a_translation_of_another_port_is_a_leftover() {
        assert_eq!(chosen(Asked::Auto, &rules(&[7070], 0), &[8080], &[]).mode, Mode::Off);
    }

    #[test]
    fn without_ports_there_is_nothing_to_do() {
        assert_eq!(chosen(Asked::Auto, &rules(&[7070], 0), &[], &[]).mode, Mode::Off);
        assert_eq!(chosen(Asked::Divert, &rules(&[7070], 0), &[], &[]).mode, Mode::Off);
    }

    #[test]
    fn rules_of_the_users_are_not_passed_by() {
        let choice = chosen(Asked::Auto, &rules(&[8080], 2), &[8080], &[]);
        assert_eq!(choice.mode, Mode::LeftAlone);
        assert!(choice.reason.contains("DOCKER-USER holds 2 rules"), "{}", choice.reason);
    }

    #[test]
    fn rules_of_the_users_do_not_matter_while_the_firewall_is_off() {
        assert_eq!(chosen(Asked::Auto, &rules(&[], 2), &[8080], &[]).mode, Mode::Off);
    }

    #[test]
    fn forced_it_is_done_and_the_harm_is_said() {
        let choice = chosen(Asked::Divert, &rules(&[8080], 1), &[8080], &[]);
        assert_eq!(choice.mode, Mode::Divert);
        assert!(choice.problem.unwrap().contains("DOCKER-USER holds 1 rule of yours"));
        assert_eq!(chosen(Asked::Divert, &rules(&[], 0), &[8080], &[]).mode, Mode::Divert);
    }

    #[test]
    fn dockers_rules_that_vanished_are_a_problem_and_no_reason_to_stop() {
        for asked in [Asked::Auto, Asked::Divert] {
            let choice = chosen(asked, &rules(&[], 0), &[8080, 9090], &[8080]);
            assert_eq!(choice.mode, Mode::Divert);
            assert!(choice.problem.unwrap().contains("restart dockerd"));
        }
    }

    #[test]
    fn some_of_dockers_rules_gone_is_the_course_of_things() {
        assert_eq!(chosen(Asked::Auto, &rules(&[8080], 0), &[8080, 9090], &[8080, 9090]).problem, None);
    }

    #[test]
    fn what_can_not_be_seen_is_left_alone() {
        let wanted = ports(&[8080]);
        for obstacle in [Obstacle::NoNetAdmin, Obstacle::Kernel("no fib".into()), Obstacle::Failure("ENOMEM".into())] {
            let facts = Facts { rules: Err(&obstacle), wanted: &wanted, once_translated: &BTreeSet::new() };
            assert_eq!(choose(Asked::Auto, &facts).mode, Mode::LeftAlone);
            assert!(choose(Asked::Divert, &facts).problem.is_some());
            assert_eq!(choose(Asked::None, &facts).mode, Mode::Off);
        }
    }

    #[test]
    fn errors_of_the_kernels_are_told_apart() {
        let refused = |errno| Obstacle::from(&NetfilterError::Refused { what: "chain output".into(), errno });
        assert_eq!(refused(Errno::EPERM), Obstacle::NoNetAdmin);
        assert!(matches!(refused(Errno::EOPNOTSUPP), Obstacle::Kernel(what) if what.contains("chain output")));
        assert!(matches!(refused(Errno::ENOMEM), Obstacle::Failure(_)));
    }
}
