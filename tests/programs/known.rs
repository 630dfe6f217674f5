//! What is not the same, and why: with `http` limits of Envoy, as in `docs/transparency.md`. The line of `auto` is to go.

use crate::compared::Way;

const HALF_CLOSE: &str = "a client that ends its half is cut off, in an upgraded connection, too";
const UPGRADE: &str = "an upgrade to what Envoy was not told is refused";
const H2C: &str = "an upgrade to h2c is taken out of the request";
const ABSOLUTE: &str = "an absolute target becomes origin form";
const NO_LENGTH: &str = "a body without a length is dropped";

const IDLE: &str =
    "the shim ends an idle connection as the port becomes HTTP, and a request that is on its way is lost";

/// The way, the program and the reason. The test fails where one of them is the same after all.
pub(crate) const KNOWN_DIFFERENCES: &[(Way, &str, &str)] = &[
    (Way::Http, "nginx, half-closing netcat", HALF_CLOSE),
    (Way::Http, "Node, Node", UPGRADE),
    (Way::Http, "Squid, curl", ABSOLUTE),
    (Way::Http, "Icecast, a source and a listener", NO_LENGTH),
    (Way::Http, "Docker's API, docker", HALF_CLOSE),
    (Way::Http, "Docker's API, BuildKit", H2C),
    (Way::Auto, "Docker's API, docker", IDLE),
];

/// The programs of which one request may be refused where the port is known to be HTTP; when they ask again, all is the
/// same.
pub(crate) const REFUSED_ONCE: &[&str] = &["Node, Node"];
