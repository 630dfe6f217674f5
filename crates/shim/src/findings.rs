//! What connections have shown of the port, and which of it the registrar is to be told. Decisions only.
//!
//! The registrar switches this on. It is told of HTTP once. Then connections are watched further, since the same server
//! may also do what HTTP treatment does not pass on; once that was told, there is nothing left to find out.

use evidence::Finding;

/// Findings of one port.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// Whether new connections are to be watched, and findings to be told.
    observes: bool,
    /// The strongest one that the registrar does not know. Outlives the registrar.
    untold: Option<Finding>,
    /// The strongest one that this registrar was told since it switched this on.
    told: Option<Finding>,
}

impl Findings {
    /// Whether new connections are to be watched.
    #[must_use]
    pub(crate) const fn observes(&self) -> bool {
        self.observes
    }

    /// There is no registrar (any longer): the next one says what it wants.
    pub(crate) const fn lost_registrar(&mut self) {
        self.observes = false;
        self.told = None;
    }

    /// The registrar switches this on or off. On after off, or after a finding for bytes, begins anew.
    pub(crate) fn observe(&mut self, observes: bool) {
        if !observes || !self.observes {
            self.told = None;
        }
        self.observes = observes;
    }

    /// A connection has shown something.
    pub(crate) fn found(&mut self, finding: Finding) {
        if self.told.is_none_or(|told| told < finding && told == Finding::Http) {
            self.untold = self.untold.max(Some(finding));
        }
    }

    /// What the registrar is to be told now.
    #[must_use]
    pub(crate) fn next(&self) -> Option<Finding> {
        self.untold.filter(|_| self.observes)
    }

    /// It was told.
    pub(crate) fn was_told(&mut self, finding: Finding) {
        self.untold = None;
        self.told = Some(finding);
        self.observes = finding == Finding::Http;
    }
}

#[cfg(test)]
mod tests {
    use evidence::Reason;

    use super::*;

    const ICY: Finding = Finding::Tcp(Reason::Icy);

    fn tell(findings: &mut Findings) -> Option<Finding> {
        let next = findings.next();
        if let Some(finding) = next {
            findings.was_told(finding);
        }
        next
    }

    fn observing() -> Findings {
        let mut findings = Findings::default();
        findings.observe(true);
        findings
    }

    #[test]
    fn http_is_told_once_and_then_only_what_speaks_against_it() {
        let mut findings = observing();
        findings.found(Finding::Http);
        assert_eq!(tell(&mut findings), Some(Finding::Http));
        findings.found(Finding::Http);
        assert_eq!(tell(&mut findings), None);
        findings.observe(true);
        findings.found(Finding::Http);
        assert_eq!((tell(&mut findings), findings.observes()), (None, true), "on while on changes nothing");
        findings.found(ICY);
        assert_eq!((tell(&mut findings), findings.observes()), (Some(ICY), false));
        findings.found(ICY);
        findings.found(Finding::Http);
        assert_eq!(tell(&mut findings), None, "of connections that were watched already");
    }

    #[test]
    fn it_begins_anew_when_the_registrar_says_so_again() {
        let mut findings = observing();
        findings.found(ICY);
        assert_eq!(tell(&mut findings), Some(ICY));
        findings.observe(true);
        assert_eq!((tell(&mut findings), findings.observes()), (None, true));
        findings.found(Finding::Http);
        assert_eq!(tell(&mut findings), Some(Finding::Http));
        findings.observe(false);
        findings.observe(true);
        findings.found(Finding::Http);
        assert_eq!(tell(&mut findings), Some(Finding::Http));
    }

    #[test]
    fn the_strongest_finding_is_kept_until_a_registrar_wants_it() {
        let mut findings = observing();
        findings.lost_registrar();
        assert!(!findings.observes());
        for finding in [Finding::Http, ICY, Finding::Http] {
            findings.found(finding);
        }
        assert_eq!(tell(&mut findings), None, "nobody is there");
        findings.observe(false);
        assert_eq!(tell(&mut findings), None, "nobody asks");
        findings.observe(true);
        assert_eq!(tell(&mut findings), Some(ICY));
    }

    #[test]
    fn every_registrar_is_told_of_http() {
        let mut findings = observing();
        findings.found(Finding::Http);
        tell(&mut findings);
        findings.lost_registrar();
        findings.observe(true);
        findings.found(Finding::Http);
        assert_eq!(tell(&mut findings), Some(Finding::Http));
    }
}
