//! Addresses that other hosts announce and that can't be theirs: logged once whenever they change, and in words for
//! the operator. Which ones those are is decided in the crate `gossip`; they are not used.

use std::collections::HashMap;
use std::net::IpAddr;

use gossip::{Disbelief, HostView};
use model::HostName;
use tracing::{info, warn};

/// The most addresses of one host that are named.
const NAMED_MAX: usize = 8;

/// What was logged last of each host of which anything is not believed.
#[derive(Debug, Default)]
pub(crate) struct Disbelieved {
    logged: HashMap<HostName, String>,
}

impl Disbelieved {
    /// The host is seen so now; `None`: it is no longer known.
    pub(crate) fn look(&mut self, host: &HostName, view: Option<&HostView>) {
        let problem = view.and_then(|view| in_words(&view.disbelieved));
        match (self.is_news(host, problem.as_deref()), problem) {
            (true, Some(problem)) => warn!(%host, problem, "a host announces what can't be its own"),
            (true, None) => info!(%host, "all addresses that the host announces are believed again"),
            (false, _) => {}
        }
    }

    fn is_news(&mut self, host: &HostName, problem: Option<&str>) -> bool {
        if self.logged.get(host).map(String::as_str) == problem {
            return false;
        }
        match problem {
            Some(problem) => self.logged.insert(host.clone(), problem.to_owned()),
            None => self.logged.remove(host),
        };
        true
    }
}

/// What is wrong with a host that announces these, for the operator of the host that does not believe them.
pub(crate) fn in_words(disbelieved: &[(IpAddr, Disbelief)]) -> Option<String> {
    let named = disbelieved.iter().take(NAMED_MAX);
    let mut words: Vec<_> = named.map(|(address, why)| format!("{address} ({why})")).collect();
    if disbelieved.len() > NAMED_MAX {
        words.push(format!("{} more", disbelieved.len() - NAMED_MAX));
    }
    (!words.is_empty()).then(|| format!("announces instances at {}: not used from here", words.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_believed_is_named_with_the_reason_and_bounded() {
        let address = |last| IpAddr::from([127, 0, 0, last]);
        assert_eq!(in_words(&[]), None);
        assert_eq!(
            in_words(&[(address(1), Disbelief::NotOneHost)]).unwrap(),
            "announces instances at 127.0.0.1 (it is not the address of any one host): not used from here"
        );
        let many: Vec<_> = (0..20).map(|last| (address(last), Disbelief::OwnAddress)).collect();
        let words = in_words(&many).unwrap();
        assert!(words.contains("127.0.0.7 (") && !words.contains("127.0.0.8") && words.contains("12 more"), "{words}");
    }

    #[test]
    fn it_is_logged_once_per_change() {
        let (mut disbelieved, liar, other) =
            (Disbelieved::default(), "liar".parse().unwrap(), "other".parse().unwrap());
        let mut news = |host, problem| disbelieved.is_news(host, problem);
        assert!(!news(&liar, None), "nothing is wrong and never was");
        assert!(news(&liar, Some("a")) && !news(&liar, Some("a")) && news(&liar, Some("a, b")));
        assert!(news(&other, Some("a")));
        assert!(news(&liar, None) && !news(&liar, None) && news(&liar, Some("a")));
    }
}
