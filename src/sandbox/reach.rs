use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::net::TcpListener;
use url::Url;

use super::{Authority, Error, Options, production};

/// From where the sandbox can be reached.
pub(super) struct Reach {
    pub(super) bind: IpAddr,
    pub(super) host: Option<String>,
}

impl Reach {
    pub(super) fn of(options: &Options) -> Result<Self, Error> {
        match (options.bind, &options.public_url) {
            (None, None) => Ok(Self { bind: Ipv4Addr::LOCALHOST.into(), host: None }),
            (Some(_), None) => Err(Error::HalfOpen { given: "bind", missing: "public_url" }),
            (None, Some(_)) => Err(Error::HalfOpen { given: "public_url", missing: "bind" }),
            (Some(bind), Some(url)) => Ok(Self { bind, host: Some(public_host(url)?) }),
        }
    }

    pub(super) fn address(&self, authority: Authority, listener: &TcpListener) -> Result<String, Error> {
        let address = listener.local_addr().map_err(|source| Error::Listen {
            authority,
            address: SocketAddr::new(self.bind, 0),
            source,
        })?;
        Ok(match &self.host {
            Some(host) => format!("http://{host}:{}", address.port()),
            None => format!("http://{address}"),
        })
    }
}

/// The host of `http://HOST`.
fn public_host(text: &str) -> Result<String, Error> {
    let url = Url::parse(text).map_err(|_| Error::PublicUrl { problem: "it is no URL" })?;
    let host = url.host_str().ok_or(Error::PublicUrl { problem: "it names no host" })?;
    if production::is_real_host(host) {
        return Err(Error::RealHost { host: host.into() });
    }
    if url.scheme() != "http" {
        return Err(Error::PublicUrl { problem: "its scheme is not http, and the sandbox has no TLS" });
    }
    let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if !is_bare || url.port().is_some() || !url.username().is_empty() || url.password().is_some() {
        return Err(Error::PublicUrl { problem: "it has more than scheme and host" });
    }
    Ok(host.into())
}

pub(super) async fn listen(authority: Authority, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Listen { authority, address, source })
}

/// Never on another address than loopback.
pub(super) async fn listen_for_management(port: u16) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Management { port, source };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}
