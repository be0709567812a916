//! How the clients of the HTTP library are set up: what holds for every connection, and what for those to this machine.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Error, Options, innermost};

/// The client for this machine (`loopback`), or for all others.
pub(super) fn build(options: &Options, loopback: bool) -> Result<reqwest::Client, Error> {
    let setup = |why: reqwest::Error| Error::Setup(innermost(&why));
    let mut builder = with_authorities(builder(options), options)?;
    if loopback {
        let here = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), SocketAddr::from((Ipv6Addr::LOCALHOST, 0))];
        builder = builder.no_proxy().resolve_to_addrs("localhost", &here);
        if options.extra_ca.is_empty() {
            // Plain HTTP needs no authorities, and looking for the system's costs more than the request.
            builder = builder.tls_certs_only([]);
        }
    } else {
        builder = builder.https_only(true);
        if let Some(url) = &options.proxy {
            let except = options.no_proxy.as_deref().and_then(reqwest::NoProxy::from_string);
            builder = builder.proxy(reqwest::Proxy::all(url.clone()).map_err(setup)?.no_proxy(except));
        }
    }
    builder.build().map_err(setup)
}

/// What holds for every connection.
pub(super) fn builder(options: &Options) -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(concat!("segl/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        // A grant must not be sent twice; who wants another try mints another grant.
        .retry(reqwest::retry::never())
        .referer(false)
        .connect_timeout(options.connect_timeout)
}

/// The system's authorities for TLS, and those of the options.
pub(super) fn with_authorities(
    builder: reqwest::ClientBuilder,
    options: &Options,
) -> Result<reqwest::ClientBuilder, Error> {
    let read = reqwest::Certificate::from_pem_bundle(&options.extra_ca);
    let ca = read.map_err(|why| Error::Setup(innermost(&why)))?;
    if !ca.is_empty() {
        Ok(builder.tls_certs_merge(ca))
    } else if options.extra_ca.is_empty() {
        Ok(builder)
    } else {
        Err(Error::Setup("extra_ca holds no certificate".into()))
    }
}
