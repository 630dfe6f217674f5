//! What Docker says of the image's own HEALTHCHECK.

use model::Status;

/// The health of a container that has a HEALTHCHECK, as Docker sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DockerHealth {
    /// Docker has not made up its mind.
    Starting,
    /// The last check was passed.
    Healthy,
    /// As many checks in a row failed as the image allows.
    Unhealthy,
}

impl DockerHealth {
    /// Docker's word, from `State.Health.Status` or behind `health_status: ` in an event; `None` for `none`,
    /// for the empty text and for any other: the container has no HEALTHCHECK.
    #[must_use]
    pub fn from_docker(word: &str) -> Option<Self> {
        match word {
            "starting" => Some(Self::Starting),
            "healthy" => Some(Self::Healthy),
            "unhealthy" => Some(Self::Unhealthy),
            _ => None,
        }
    }

    pub(crate) const fn status(self) -> Status {
        match self {
            Self::Starting => Status::Unknown,
            Self::Healthy => Status::Alive,
            Self::Unhealthy => Status::Unhealthy,
        }
    }

    pub(crate) const fn reason(self) -> &'static str {
        match self {
            Self::Starting => "Docker's HEALTHCHECK: starting",
            Self::Healthy => "Docker's HEALTHCHECK: healthy",
            Self::Unhealthy => "Docker's HEALTHCHECK: unhealthy (see docker inspect)",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dockers_words_are_statuses() {
        let status = |word| DockerHealth::from_docker(word).map(DockerHealth::status);
        assert_eq!(status("starting"), Some(Status::Unknown));
        assert_eq!(status("healthy"), Some(Status::Alive));
        assert_eq!(status("unhealthy"), Some(Status::Unhealthy));
        for none in ["none", "", "Healthy"] {
            assert_eq!(status(none), None, "{none}");
        }
    }
}
