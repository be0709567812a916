//! Fetching from an address that somebody else wrote, as those in certificates. It may lead anywhere, so it is resolved
//! first, every address is looked at, and the connection goes to the addresses that were looked at: what a name server
//! says a moment later changes nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::{Host, Url};

use super::{
    Error, Http, Request, Response,
    client::{builder, with_authorities},
    host_and_port, innermost,
};
use crate::call::Call;

/// Where an address that somebody else wrote may lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reach {
    /// To the public internet only.
    Public,
    /// To this machine and to private networks, too.
    Private,
}

impl Http {
    /// Gets `url`, over http or https, within the call's deadline: no redirects, at most
    /// [`LARGEST_BODY`](super::LARGEST_BODY), nothing sent but the address. It goes the direct way, since through a
    /// proxy nobody can tell where it ends.
    ///
    /// # Errors
    /// [`Error::NotPublic`] when the host, or one of its addresses, is out of reach; [`Error`] when there is no answer.
    pub async fn fetch(&self, url: &Url, reach: Reach, call: &Call) -> Result<Response, Error> {
        let host = host_and_port(url);
        let fetching = async {
            let addresses = addresses(url, reach).await?;
            self.fetch_at(url, &addresses).await
        };
        tokio::select! {
            response = fetching => response,
            () = self.clock.sleep_until(self.deadline(call)) => Err(Error::Timeout(host)),
        }
    }

    /// The same from these addresses of its host, whatever its name resolves to.
    async fn fetch_at(&self, url: &Url, addresses: &[SocketAddr]) -> Result<Response, Error> {
        let setup = |why: reqwest::Error| Error::Setup(innermost(&why));
        let mut builder = with_authorities(builder(&self.options), &self.options)?.no_proxy();
        if let Some(Host::Domain(name)) = url.host() {
            builder = builder.resolve_to_addrs(name, addresses);
        }
        let client = builder.build().map_err(setup)?;
        let request = Request { url, accept: None, bearer: None, form: None };
        self.exchange(&client, &request, &host_and_port(url)).await
    }
}

/// All addresses of the host in `url`, each of them within `reach`.
async fn addresses(url: &Url, reach: Reach) -> Result<Vec<SocketAddr>, Error> {
    let host = host_and_port(url);
    let named = url.username().is_empty() && url.password().is_none();
    if !matches!(url.scheme(), "http" | "https") || !named {
        return Err(Error::Address(host));
    }
    let port = url.port_or_known_default().unwrap_or(443);
    let found: Vec<IpAddr> = match url.host() {
        Some(Host::Ipv4(address)) => vec![address.into()],
        Some(Host::Ipv6(address)) => vec![address.into()],
        Some(Host::Domain(name)) => {
            let unknown = |reason: String| Error::Connect { host: host.clone(), reason };
            let resolved =
                tokio::net::lookup_host((name, port)).await.map_err(|why| unknown(why.to_string()))?;
            let found: Vec<IpAddr> = resolved.map(|address| address.ip()).collect();
            if found.is_empty() {
                return Err(unknown("the name has no address".into()));
            }
            found
        }
        None => return Err(Error::Address(host)),
    };
    let refused = found.iter().find(|address| reach == Reach::Public && !is_public(**address));
    match refused {
        Some(address) => Err(Error::NotPublic { host, address: *address }),
        None => Ok(found.into_iter().map(|address| SocketAddr::new(address, port)).collect()),
    }
}

/// Whether `address` is one of the public internet (IANA special-purpose address registries, RFC 6890).
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
            | [224..=255, ..]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        // Addresses of IPv4 in the dress of IPv6: mapped, translated (RFC 6052), 6to4.
        [0, 0, 0, 0, 0, 0xffff, high, low]
        | [0x64, 0xff9b, 0, 0, 0, 0, high, low]
        | [0x2002, high, low, ..] => inner(high, low),
        [0x2001, 0..=0x1ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0xfff, ..] => false,
        [0x2000..=0x3fff, ..] => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{Router, response::Redirect, routing::get};
    use proptest::prelude::*;

    use super::*;
    use crate::{clock::SystemClock, http::Options};

    fn http() -> Http {
        Http::new(Options::default(), SystemClock::shared())
    }

    async fn fetch(url: &str, reach: Reach) -> Result<Response, Error> {
        let call = Call::within(&SystemClock, Duration::from_secs(20));
        http().fetch(&Url::parse(url).unwrap(), reach, &call).await
    }

    async fn serve(router: Router) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        address
    }

    #[test]
    fn addresses_that_lead_inside_are_not_public_in_any_dress() {
        for text in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.255",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::7f00:1",
            "64:ff9b::10.0.0.1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2002:a00:1::1",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "fec0::1",
            "ff02::1",
            "2001::1",
            "2001:db8::1",
            "3fff::1",
            "100::1",
        ] {
            assert!(!is_public(text.parse().unwrap()), "{text}");
        }
        for text in [
            "1.1.1.1",
            "100.128.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "193.0.0.1",
            "2a02:9cc::301",
            "2606:4700::1",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:200::1",
        ] {
            assert!(is_public(text.parse().unwrap()), "{text}");
        }
    }

    #[tokio::test]
    async fn this_machine_is_out_of_reach_by_any_of_its_names() {
        let address = serve(Router::new().route("/", get(|| async { "inside" }))).await;
        let port = address.port();
        for host in [
            "127.0.0.1",
            "localhost",
            "127.1",
            "2130706433",
            "0x7f.1",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "0.0.0.0",
        ] {
            let url = format!("http://{host}:{port}/");
            assert!(matches!(fetch(&url, Reach::Public).await, Err(Error::NotPublic { .. })), "{url}");
        }
        let allowed = fetch(&format!("http://localhost:{port}/"), Reach::Private).await;
        // Where localhost is ::1 alone nobody answers; it is reached for all the same.
        assert!(matches!(allowed, Ok(_) | Err(Error::Connect { .. })));
        let body = fetch(&format!("http://{address}/"), Reach::Private).await.unwrap().body;
        assert_eq!(*body, b"inside");
    }

    #[tokio::test]
    async fn the_connection_goes_to_the_addresses_that_were_looked_at_whatever_the_name_says_now() {
        let address = serve(Router::new().route("/", get(|| async { "looked at" }))).await;
        // Nothing resolves a name below .invalid (RFC 6761).
        let url = Url::parse(&format!("http://issuer.invalid:{}/", address.port())).unwrap();
        let body = http().fetch_at(&url, &[address]).await.unwrap().body;
        assert_eq!(*body, b"looked at");
    }

    #[tokio::test]
    async fn other_schemes_and_addresses_with_a_password_are_refused() {
        for url in [
            "ftp://1.1.1.1/",
            "ldap://ldap.example/x",
            "file:///etc/passwd",
            "http://user:pw@1.1.1.1/",
            "data:,x",
        ] {
            assert!(matches!(fetch(url, Reach::Private).await, Err(Error::Address(_))), "{url}");
        }
    }

    #[tokio::test]
    async fn redirects_are_not_followed_here_either() {
        let address =
            serve(Router::new().route("/", get(|| async { Redirect::temporary("http://127.0.0.1/") }))).await;
        assert_eq!(fetch(&format!("http://{address}/"), Reach::Private).await.unwrap().status, 307);
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_costs_no_more_than_the_deadline() {
        let address = serve(Router::new().route("/", get(std::future::pending::<String>))).await;
        let url = Url::parse(&format!("http://{address}/")).unwrap();
        let call = Call::within(&SystemClock, Duration::from_millis(50));
        assert!(matches!(http().fetch(&url, Reach::Private, &call).await, Err(Error::Timeout(_))));
    }

    proptest! {
        #[test]
        fn a_mapped_address_is_as_public_as_the_one_inside(bits: u32) {
            let inside = Ipv4Addr::from_bits(bits);
            prop_assert_eq!(is_public(inside.into()), is_public(inside.to_ipv6_mapped().into()));
        }
    }
}
