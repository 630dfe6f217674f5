//! Fills in `{{ host }}`, `{{ container }}`, `{{ tcp P }}` and `{{ udp P }}` in a check's argument.
//!
//! The spelling is that of Go's text/template, as Sidecar has it, with `{{-` and `-}}` that take the white
//! space beside them along. The rest of that language is absent: what is not understood is refused by name.

use std::net::IpAddr;

use model::Protocol;

/// What is filled in.
pub(crate) struct Values<'a> {
    /// `host`: the address that this host is announced at.
    pub(crate) host: IpAddr,
    /// Whether an IPv6 address is put in brackets, as in front of a port.
    pub(crate) in_brackets: bool,
    /// `container`: this host's name, whatever the word says; so it is in Sidecar.
    pub(crate) container: &'a str,
    /// `tcp` and `udp`: the host's port that is published for a service port.
    pub(crate) port: &'a dyn Fn(Protocol, u16) -> Option<u16>,
}

/// Why a text can't be filled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("{{{{ without }}}}")]
    Unclosed,
    #[error("unknown function {0:?}: there are host, container, tcp PORT and udp PORT")]
    UnknownFunction(String),
    #[error("{{{{ {0} }}}} takes nothing behind it")]
    NoArgument(&'static str),
    #[error("{{{{ {0} PORT }}}} takes one service port, 1 to 65535")]
    OnePort(Protocol),
    #[error("no {0} port of this instance is published for the service port {1}")]
    NoSuchPort(Protocol, u16),
}

/// The text with everything filled in.
pub(crate) fn expand(text: &str, values: &Values<'_>) -> Result<String, TemplateError> {
    let mut expanded = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("{{") {
        let (action, after) = after.split_once("}}").ok_or(TemplateError::Unclosed)?;
        // A mark is parted from the action by white space; without it, it is part of the action.
        let opened = action.strip_prefix('-').filter(|action| action.starts_with(char::is_whitespace));
        let action = opened.unwrap_or(action);
        let closed = action.strip_suffix('-').filter(|action| action.ends_with(char::is_whitespace));
        let action = closed.unwrap_or(action);
        expanded.push_str(if opened.is_some() { before.trim_end() } else { before });
        expanded.push_str(&evaluate(action, values, expanded.ends_with('['))?);
        rest = if closed.is_some() { after.trim_start() } else { after };
    }
    expanded.push_str(rest);
    Ok(expanded)
}

fn evaluate(action: &str, values: &Values<'_>, is_in_brackets: bool) -> Result<String, TemplateError> {
    let words: Vec<_> = action.split_whitespace().collect();
    match words[..] {
        ["host"] if values.host.is_ipv6() && values.in_brackets && !is_in_brackets => Ok(format!("[{}]", values.host)),
        ["host"] => Ok(values.host.to_string()),
        ["container"] => Ok(values.container.to_owned()),
        ["host", ..] => Err(TemplateError::NoArgument("host")),
        ["container", ..] => Err(TemplateError::NoArgument("container")),
        ["tcp", ref port @ ..] => published(Protocol::Tcp, port, values),
        ["udp", ref port @ ..] => published(Protocol::Udp, port, values),
        _ => Err(TemplateError::UnknownFunction(action.trim().chars().take(32).collect())),
    }
}

fn published(protocol: Protocol, words: &[&str], values: &Values<'_>) -> Result<String, TemplateError> {
    let [word] = words else { return Err(TemplateError::OnePort(protocol)) };
    let service_port = word.parse().ok().filter(|port| *port != 0).ok_or(TemplateError::OnePort(protocol))?;
    let port = (values.port)(protocol, service_port).ok_or(TemplateError::NoSuchPort(protocol, service_port))?;
    Ok(port.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn expanded_at(host: &str, text: &str) -> Result<String, TemplateError> {
        let port = |protocol, port| match (protocol, port) {
            (Protocol::Tcp, 9500) => Some(32_768),
            (Protocol::Udp, 53) => Some(5353),
            _ => None,
        };
        let host = host.parse().unwrap();
        expand(text, &Values { host, in_brackets: true, container: "host-1", port: &port })
    }

    fn expanded(text: &str) -> Result<String, TemplateError> {
        expanded_at("10.0.0.5", text)
    }

    #[test]
    fn sidecars_functions_are_filled_in() {
        assert_eq!(expanded("http://{{ host }}:{{ tcp 9500 }}/").unwrap(), "http://10.0.0.5:32768/");
        assert_eq!(expanded("dig @{{ container }} -p {{ udp 53 }}").unwrap(), "dig @host-1 -p 5353");
        assert_eq!(expanded("no template } } { {").unwrap(), "no template } } { {");
    }

    #[test]
    fn gos_spacing_is_understood() {
        for text in ["{{tcp 9500}}", "{{ tcp\t9500 }}", "{{\ntcp  9500}}"] {
            assert_eq!(expanded(text).unwrap(), "32768", "{text}");
        }
        assert_eq!(expanded("a  {{- host -}}  b").unwrap(), "a10.0.0.5b");
        assert_eq!(expanded("a  {{- host}} b").unwrap(), "a10.0.0.5 b");
        for bad in ["{{-host }}", "{{ host-}}", "{{- -}}", "{{-}}"] {
            assert!(matches!(expanded(bad), Err(TemplateError::UnknownFunction(_))), "{bad}");
        }
    }

    #[test]
    fn what_is_not_understood_is_refused_by_name() {
        assert_eq!(expanded("{{ .Name }}").unwrap_err(), TemplateError::UnknownFunction(".Name".to_owned()));
        assert_eq!(expanded("{{ }}").unwrap_err(), TemplateError::UnknownFunction(String::new()));
        assert_eq!(expanded("{{ tcp 9500 | printf }}").unwrap_err(), TemplateError::OnePort(Protocol::Tcp));
        assert_eq!(expanded("{{ host 1 }}").unwrap_err(), TemplateError::NoArgument("host"));
        assert_eq!(expanded("x {{ host").unwrap_err().to_string(), "{{ without }}");
        for bad in ["{{ tcp }}", "{{ tcp 0 }}", "{{ tcp http }}", "{{ tcp 65536 }}"] {
            assert_eq!(expanded(bad).unwrap_err().to_string(), "{{ tcp PORT }} takes one service port, 1 to 65535");
        }
        let missing = expanded("{{ tcp 80 }}").unwrap_err().to_string();
        assert_eq!(missing, "no tcp port of this instance is published for the service port 80");
    }

    #[test]
    fn an_ipv6_address_stands_in_one_pair_of_brackets() {
        assert_eq!(expanded_at("fd00::1", "http://{{ host }}:80").unwrap(), "http://[fd00::1]:80");
        assert_eq!(expanded_at("fd00::1", "http://[{{ host }}]:80").unwrap(), "http://[fd00::1]:80");
    }

    proptest! {
        #[test]
        fn any_text_is_filled_in_or_refused(text in "([{}a-z .-]|\\{\\{|\\}\\}| host | tcp 9500 ){0,40}") {
            if let Ok(expanded) = expanded(&text) {
                prop_assert!(expanded.len() <= 10 * text.len(), "what is filled in stays in proportion");
            }
        }

        #[test]
        fn a_text_without_templates_stays_as_it_is(text in "[^{]{0,80}") {
            prop_assert_eq!(expanded(&text).unwrap(), text);
        }
    }
}
