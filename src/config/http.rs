use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use super::{document::Report, error::Fault, is_text, wire};

/// How the authorities are reached.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Http {
    /// The proxy; when absent, `HTTPS_PROXY` holds. Never used for loopback.
    pub proxy: Option<Url>,
    /// Hosts that are reached without the proxy; when absent, `NO_PROXY` holds.
    pub no_proxy: Option<Vec<String>>,
    /// PEM file with certificate authorities that are trusted beside the system's.
    pub extra_ca: Option<PathBuf>,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

impl Default for Http {
    fn default() -> Self {
        Self {
            proxy: None,
            no_proxy: None,
            extra_ca: None,
            connect_timeout: Duration::from_secs(5),
            timeout: Duration::from_secs(10),
        }
    }
}

/// Checks `[http]`; what is wrong goes into the report.
pub(super) fn check(wire: wire::Http, base: &Path, report: &mut Report) -> Http {
    let defaults = Http::default();
    let mut refuse = |key: &str, fault| report.refuse(&format!("http.{key}"), fault);
    let proxy = wire.proxy.and_then(|text| proxy(&text).map_err(|fault| refuse("proxy", fault)).ok());
    if wire.no_proxy.iter().flatten().any(|host| !is_text(host) || host.contains([' ', ','])) {
        refuse("no_proxy", Fault::Text);
    }
    let mut seconds = |key, written: Option<i64>, default| match written {
        None => default,
        Some(seconds) => match u64::try_from(seconds).ok().filter(|seconds| (1..=300).contains(seconds)) {
            Some(seconds) => Duration::from_secs(seconds),
            None => {
                refuse(key, Fault::Timeout { seconds });
                default
            }
        },
    };
    Http {
        proxy,
        no_proxy: wire.no_proxy,
        extra_ca: wire.extra_ca.map(|path| base.join(path)),
        connect_timeout: seconds(
            "connect_timeout_seconds",
            wire.connect_timeout_seconds,
            defaults.connect_timeout,
        ),
        timeout: seconds("timeout_seconds", wire.timeout_seconds, defaults.timeout),
    }
}

fn proxy(text: &str) -> Result<Url, Fault> {
    let url = Url::parse(text).map_err(|_| Fault::Proxy)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Fault::AddressPassword);
    }
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
    if fits { Ok(url) } else { Err(Fault::Proxy) }
}
