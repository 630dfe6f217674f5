//! What a container's labels say of one of its ports.
//!
//! This file is the reference for the labels. Labels come from anybody who builds an image, so nothing in
//! them can fail: a bad one is reported and its default applies.
//!
//! | label | meaning | default |
//! |---|---|---|
//! | `ServiceName` | service name | `com.docker.compose.service`, else `--name-pattern` applied to the container's name, else the image's last path part without tag |
//! | `EnvironmentName` | environment | `com.docker.compose.project`, else empty |
//! | `ProxyMode`, `ProxyMode_N` | `http`, `ws`, `tcp`, `auto`, `none`; `_N` for container port N alone | the registrar's `--default-proxy-mode` |

use std::collections::HashMap;
use std::str::FromStr;

use crate::name::Correction;
use crate::{EnvironmentName, ProxyMode, Service, ServiceName};

/// Names the service.
pub const SERVICE_NAME: &str = "ServiceName";
/// Names the environment.
pub const ENVIRONMENT_NAME: &str = "EnvironmentName";
/// Says how traffic is treated; with `_N` for container port N alone.
pub const PROXY_MODE: &str = "ProxyMode";

const COMPOSE_SERVICE: &str = "com.docker.compose.service";
const COMPOSE_PROJECT: &str = "com.docker.compose.project";

/// The service name of a container whose image has no usable name either.
const NAMELESS: &str = "unnamed";

/// A regular expression whose first group is the service name in a container's name.
#[derive(Clone, Debug)]
pub struct NamePattern(regex_lite::Regex);

/// Why a text is no [`NamePattern`].
#[derive(Clone, Debug, thiserror::Error)]
pub enum NamePatternError {
    /// It is no regular expression.
    #[error("not a regular expression: {0}")]
    Syntax(#[from] regex_lite::Error),
    /// Nothing says which part of the name is meant.
    #[error("the expression has no group: put the part that is the service name in parentheses, as in ^([a-z]+)-")]
    NoGroup,
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        let regex = regex_lite::Regex::new(text)?;
        // The whole match counts as the first group.
        if regex.captures_len() < 2 { Err(NamePatternError::NoGroup) } else { Ok(Self(regex)) }
    }
}

impl NamePattern {
    fn service_in<'a>(&self, container_name: &'a str) -> Option<&'a str> {
        self.0.captures(container_name)?.get(1).map(|group| group.as_str())
    }
}

/// What holds where a container's labels say nothing.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// How traffic is treated.
    pub mode: ProxyMode,
    /// Where in the container's name the service is named.
    pub name_pattern: Option<NamePattern>,
}

/// What Docker says of a container, as far as it decides how its ports are served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerFacts {
    /// The name that Docker shows, without the leading slash.
    pub name: String,
    /// The image as it was asked for, or its id where it has no name.
    pub image: String,
    /// What runs in it, the same for containers that run the same: the image's id and the command. Names of images come to
    /// mean other images, and one image runs many programs. Empty where it is not known.
    pub program: String,
    /// All labels, those of the image included.
    pub labels: HashMap<String, String>,
}

/// What the labels mean for one container port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMeaning {
    /// Whose port it is.
    pub service: Service,
    /// How its traffic is treated.
    pub mode: ProxyMode,
    /// What was wrong with the labels, in words for the operator.
    pub problems: Vec<String>,
}

impl ContainerFacts {
    /// What the labels mean for `container_port`.
    #[must_use]
    pub fn meaning_for(&self, container_port: u16, defaults: &Defaults) -> PortMeaning {
        let mut problems = Vec::new();
        let name = self.service_name(defaults.name_pattern.as_ref(), &mut problems);
        let service = Service { name, environment: self.environment(&mut problems) };
        let mode = self.mode(container_port, defaults.mode, &mut problems);
        problems.extend(self.service_port_problem(container_port));
        PortMeaning { service, mode, problems }
    }

    fn label(&self, key: &str) -> Option<(&str, &str)> {
        self.labels.get_key_value(key).map(|(key, value)| (key.as_str(), value.as_str()))
    }

    fn service_name(&self, pattern: Option<&NamePattern>, problems: &mut Vec<String>) -> ServiceName {
        let in_name = pattern.and_then(|pattern| pattern.service_in(&self.name)).map(|part| ("container name", part));
        let image = ("image", image_base_name(&self.image));
        [self.label(SERVICE_NAME), self.label(COMPOSE_SERVICE), in_name, Some(image), Some(("", NAMELESS))]
            .into_iter()
            .flatten()
            .find_map(|(source, text)| ServiceName::corrected(text).map(|name| (source, name)))
            .map(|(source, (name, correction))| {
                report(source, correction, problems);
                name
            })
            .expect("the last candidate is never empty")
    }

    fn environment(&self, problems: &mut Vec<String>) -> EnvironmentName {
        let label = self.label(ENVIRONMENT_NAME).or_else(|| self.label(COMPOSE_PROJECT));
        let Some((source, text)) = label else { return EnvironmentName::default() };
        let (name, correction) = EnvironmentName::corrected(text);
        report(source, correction, problems);
        name
    }

    fn mode(&self, container_port: u16, default: ProxyMode, problems: &mut Vec<String>) -> ProxyMode {
        let own = format!("{PROXY_MODE}_{container_port}");
        let Some((source, text)) = self.label(&own).or_else(|| self.label(PROXY_MODE)) else { return default };
        text.parse().unwrap_or_else(|error| {
            problems.push(format!("label {source}: {error}; treated as auto"));
            ProxyMode::Auto
        })
    }
}

fn report(source: &str, correction: Option<Correction>, problems: &mut Vec<String>) {
    problems.extend(correction.map(|correction| format!("{source}: {correction}")));
}

/// The last path part of an image's name, without tag and digest: `whoami` of `jwilder/whoami:1`.
fn image_base_name(image: &str) -> &str {
    let without_digest = image.split_once('@').map_or(image, |(name, _)| name);
    let last_part = without_digest.rsplit('/').next().unwrap_or_default();
    let name = last_part.split(':').next().unwrap_or_default();
    // An image without a name is known by its id, which says nothing to a reader.
    if name == "sha256" { "" } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(image: &str, labels: &[(&str, &str)]) -> ContainerFacts {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        ContainerFacts { name: "happy_turing".to_owned(), image: image.to_owned(), program: String::new(), labels }
    }

    fn meaning(labels: &[(&str, &str)]) -> PortMeaning {
        container("shop/web:1.2", labels).meaning_for(80, &Defaults::default())
    }

    #[test]
    fn the_labels_name_the_service() {
        let meaning = meaning(&[("ServiceName", "web"), ("EnvironmentName", "test"), ("ProxyMode", "tcp")]);
        assert_eq!(meaning.service.name.as_str(), "web");
        assert_eq!(meaning.service.environment.as_str(), "test");
        assert_eq!(meaning.mode, ProxyMode::Tcp);
        assert!(meaning.problems.is_empty());
    }

    #[test]
    fn compose_names_the_service_where_the_labels_do_not() {
        let compose = [(COMPOSE_SERVICE, "api"), (COMPOSE_PROJECT, "shop")];
        let meaning = meaning(&compose);
        assert_eq!(meaning.service.name.as_str(), "api");
        assert_eq!(meaning.service.environment.as_str(), "shop");
    }

    #[test]
    fn the_image_names_the_service_last() {
        let cases = [
            ("jwilder/whoami:1", "whoami"),
            ("registry.example:5000/a/b/db@sha256:00ff", "db"),
            ("nginx", "nginx"),
            ("sha256:00ff", "unnamed"),
            ("", "unnamed"),
        ];
        for (image, name) in cases {
            assert_eq!(
                container(image, &[]).meaning_for(80, &Defaults::default()).service.name.as_str(),
                name,
                "{image}"
            );
        }
    }

    #[test]
    fn a_pattern_finds_the_service_in_the_containers_name() {
        let pattern: NamePattern = "^happy_(.*)$".parse().unwrap();
        let defaults = Defaults { name_pattern: Some(pattern), ..Defaults::default() };
        let named = |labels| container("web", labels).meaning_for(80, &defaults).service.name.to_string();
        assert_eq!(named(&[]), "turing");
        assert_eq!(named(&[(COMPOSE_SERVICE, "api")]), "api");
    }

    #[test]
    fn a_pattern_needs_a_group() {
        assert!(matches!("^happy".parse::<NamePattern>(), Err(NamePatternError::NoGroup)));
        assert!(matches!("(".parse::<NamePattern>(), Err(NamePatternError::Syntax(_))));
    }

    #[test]
    fn an_empty_label_counts_as_none_for_the_service_and_as_empty_for_the_environment() {
        let meaning = meaning(&[("ServiceName", ""), ("EnvironmentName", ""), (COMPOSE_PROJECT, "shop")]);
        assert_eq!(meaning.service.name.as_str(), "web");
        assert_eq!(meaning.service.environment.as_str(), "");
    }

    #[test]
    fn a_mode_for_one_port_beats_the_mode_for_all() {
        let labels = [("ProxyMode", "http"), ("ProxyMode_5432", "tcp")];
        let container = container("x", &labels);
        assert_eq!(container.meaning_for(80, &Defaults::default()).mode, ProxyMode::Http);
        assert_eq!(container.meaning_for(5432, &Defaults::default()).mode, ProxyMode::Tcp);
    }

    #[test]
    fn a_service_port_that_can_be_none_is_named_at_its_port_and_no_other() {
        let container =
            container("x", &[("ServicePort_80", "http"), ("ServicePort_81", "0"), ("ServicePort_82", "9500")]);
        let problems = |port| container.meaning_for(port, &Defaults::default()).problems;
        assert!(problems(80)[0].starts_with("label ServicePort_80=\"http\": expected a port"), "{:?}", problems(80));
        assert_eq!([81, 82, 0].map(|port| problems(port).len()), [0; 3]);
    }

    #[test]
    fn a_bad_label_is_reported_and_the_port_is_served_all_the_same() {
        let meaning = meaning(&[("ServiceName", "my web"), ("ProxyMode", "grpc")]);
        assert_eq!(meaning.service.name.as_str(), "my-web");
        assert_eq!(meaning.mode, ProxyMode::Auto);
        assert_eq!(meaning.problems.len(), 2);
        assert!(meaning.problems[0].starts_with("ServiceName: "), "{:?}", meaning.problems);
        assert!(meaning.problems[1].contains("\"grpc\""), "{:?}", meaning.problems);
    }
}
