//! What a running dockerd was told: its command line, and its configuration file. dockerd starts with no setting
//! in both.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::facts::DockerSettings;

const DEFAULT_CONFIG_FILE: &str = "/etc/docker/daemon.json";

/// The configuration file that a dockerd with these arguments reads.
pub(crate) fn config_file(arguments: &[String]) -> PathBuf {
    flag(arguments, "config-file").map_or_else(|| Path::new(DEFAULT_CONFIG_FILE).to_owned(), PathBuf::from)
}

/// Why dockerd does not start with a configuration file of this text.
pub(crate) fn problem(config_file: &str) -> Option<String> {
    match serde_json::from_str::<Value>(config_file) {
        Ok(Value::Object(_)) => None,
        Ok(_) => Some("it is no object in braces".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

/// The settings that follow from its arguments and its configuration file's text, `{}` where there is none.
/// A file that is no JSON says nothing: see [`problem`].
pub(crate) fn settings(arguments: &[String], config_file: &str) -> DockerSettings {
    let file: Value = serde_json::from_str(config_file).unwrap_or_default();
    let is_on = |name: &str| match flag(arguments, name) {
        Some(value) => !matches!(value, "false" | "0" | "f" | "F" | "FALSE" | "False"),
        None => file[name].as_bool().unwrap_or(true),
    };
    let path = flag(arguments, "userland-proxy-path").or_else(|| file["userland-proxy-path"].as_str());
    DockerSettings {
        userland_proxy: is_on("userland-proxy"),
        userland_proxy_path: path.map(str::to_owned),
        iptables: is_on("iptables"),
    }
}

/// The value of `--name value` or `--name=value`; the last one counts. A flag alone is true.
fn flag<'a>(arguments: &'a [String], name: &str) -> Option<&'a str> {
    let value = |(index, argument): (usize, &'a String)| {
        let rest = argument.strip_prefix("--").or_else(|| argument.strip_prefix('-'))?.strip_prefix(name)?;
        match rest.strip_prefix('=') {
            Some(value) => Some(value),
            None if rest.is_empty() => {
                let next = arguments.get(index + 1).map(String::as_str);
                next.filter(|next| !next.starts_with('-')).or(Some("true"))
            }
            None => None,
        }
    };
    arguments.iter().enumerate().rev().find_map(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(command_line: &str, file: &str) -> DockerSettings {
        settings(&command_line.split(' ').map(str::to_owned).collect::<Vec<_>>(), file)
    }

    #[test]
    fn without_a_word_docker_runs_its_own_proxy_and_its_firewall() {
        let expected = DockerSettings { userland_proxy: true, userland_proxy_path: None, iptables: true };
        assert_eq!(of("dockerd -H fd://", "{}"), expected);
        assert_eq!(of("dockerd", "no JSON"), expected);
    }

    #[test]
    fn settings_come_from_flags_in_every_form_or_from_the_file() {
        let expected = DockerSettings {
            userland_proxy: false,
            userland_proxy_path: Some("/usr/local/bin/envoy-docker-shim".to_owned()),
            iptables: false,
        };
        let path = "/usr/local/bin/envoy-docker-shim";
        let flags = format!("dockerd --userland-proxy=false --userland-proxy-path {path} --iptables=false --ipv6");
        assert_eq!(of(&flags, "{}"), expected);
        let file = format!(r#"{{"userland-proxy":false,"userland-proxy-path":"{path}","iptables":false}}"#);
        assert_eq!(of("dockerd -H fd://", &file), expected);
    }

    #[test]
    fn a_file_that_dockerd_does_not_start_with_is_named_with_the_place() {
        assert_eq!(problem(r#"{"debug": true}"#), None);
        let missing_comma = "{\n  \"debug\": true\n  \"ipv6\": true\n}";
        let problem_of = |text| problem(text).unwrap();
        assert!(problem_of(missing_comma).contains("line 3"), "{}", problem_of(missing_comma));
        assert!(problem(missing_comma).unwrap().contains("expected `,`"));
        assert!(problem("[]").is_some() && problem("").is_some());
    }

    #[test]
    fn the_last_of_two_flags_counts_and_a_flag_alone_is_true() {
        assert!(of("dockerd --iptables=false --iptables=true", "{}").iptables);
        assert!(of("dockerd --iptables --userland-proxy=true", r#"{"iptables":false}"#).iptables);
    }

    #[test]
    fn the_configuration_file_may_be_another() {
        let arguments = ["dockerd", "--config-file=/etc/other.json"].map(str::to_owned);
        assert_eq!(config_file(&arguments), Path::new("/etc/other.json"));
        assert_eq!(config_file(&[]), Path::new(DEFAULT_CONFIG_FILE));
    }
}
