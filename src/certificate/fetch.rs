//! The issuers of a certificate, fetched from where it says that they are (RFC 5280 section 4.2.2.1).
//!
//! This is for a person who sets something up, and for checks that a person asks for. The broker never does it: an address
//! out of a certificate is somebody else's wish.

use std::{
    fmt,
    time::{Duration, SystemTime},
};

use url::Url;

use super::{Certificate, Chain};
use crate::{
    call::Call,
    clock::Clock,
    http::{Http, Reach},
    language::printable,
};

/// Longest time for one answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A chain has a leaf, an issuing authority, perhaps a policy authority, and a root.
const MOST_STEPS: usize = 4;

/// Addresses that one certificate may name.
const MOST_ADDRESSES: usize = 4;

/// A chain, and what was fetched for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completed {
    /// The chain as far as it goes now: [`Chain::missing_issuer`] tells where it breaks off, if it still does.
    pub chain: Chain,
    /// What was fetched, in the order of the chain.
    pub fetched: Vec<Fetched>,
    /// Addresses that did not help.
    pub misses: Vec<Miss>,
}

/// A certificate that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fetched {
    /// The certificate, whose key verifies the signature of the one before it.
    pub certificate: Certificate,
    /// Where it was.
    pub url: Url,
}

/// An address that did not help.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Miss {
    /// As it stands in the certificate, without what a terminal would act on.
    pub address: String,
    /// Why.
    pub reason: String,
    /// Whether another try may help.
    pub again: bool,
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.address, self.reason)
    }
}

impl Chain {
    /// The same chain, with the issuers that are missing fetched from where its last certificate says, up to a root. An
    /// answer may be DER, PEM or PKCS#7; a certificate is taken when its key verifies the signature, whatever it says of
    /// itself. `reach`: whether an address may lead to this machine or into private networks. Nothing is fetched for a
    /// chain that is complete.
    pub async fn fetched(
        self,
        http: &Http,
        clock: &dyn Clock,
        reach: Reach,
        at: SystemTime,
        call: &Call,
    ) -> Completed {
        let mut completed = Completed { chain: self, fetched: Vec::new(), misses: Vec::new() };
        for _ in 0..MOST_STEPS {
            if completed.chain.missing_issuer().is_none()
                || !completed.step(http, clock, reach, at, call).await
            {
                break;
            }
        }
        completed
    }
}

impl Completed {
    /// Tries the addresses of the last certificate one by one; whether the chain has grown.
    async fn step(
        &mut self,
        http: &Http,
        clock: &dyn Clock,
        reach: Reach,
        at: SystemTime,
        call: &Call,
    ) -> bool {
        let urls: Vec<String> =
            self.chain.missing_issuer_urls().iter().take(MOST_ADDRESSES).cloned().collect();
        for text in urls {
            match self.try_one(&text, http, clock, reach, at, call).await {
                Ok(()) => return true,
                Err((reason, again)) => self.misses.push(Miss { address: plain(&text), reason, again }),
            }
        }
        false
    }

    async fn try_one(
        &mut self,
        text: &str,
        http: &Http,
        clock: &dyn Clock,
        reach: Reach,
        at: SystemTime,
        call: &Call,
    ) -> Result<(), (String, bool)> {
        let for_good = |reason: String| (reason, false);
        let url = Url::parse(text).map_err(|why| for_good(why.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(for_good("only http and https are fetched".into()));
        }
        let response = http.fetch(&url, reach, &call.clone().no_later_than(clock.now() + PATIENCE)).await;
        let response = response.map_err(|why| (why.to_string(), why.may_pass()))?;
        if !response.is_success() {
            return Err((format!("the answer was HTTP {}", response.status), response.is_unavailable()));
        }
        let found = Certificate::all_from_file(&response.body).map_err(|why| for_good(why.to_string()))?;
        let before = self.chain.len();
        self.chain = self.chain.clone().completed_from(&found, at);
        let new = self.chain.certificates().skip(before);
        let new: Vec<Fetched> = new.map(|it| Fetched { certificate: it.clone(), url: url.clone() }).collect();
        if new.is_empty() {
            let subjects: Vec<String> = found.iter().map(|it| it.subject().to_string()).collect();
            return Err(for_good(format!("what is there did not issue it: {}", subjects.join(" | "))));
        }
        self.fetched.extend(new);
        Ok(())
    }
}

/// As text that can be printed on a terminal.
fn plain(text: &str) -> String {
    printable(&text.chars().take(200).collect::<String>())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::{Router, extract::Path, http::StatusCode};
    use rcgen::CustomExtension;

    use super::*;
    use crate::{
        certificate::{
            bundle::sample::bundle,
            qualified::sample as qc,
            sample::{Authority, Pair, parameters, today},
        },
        clock::SystemClock,
        http::Options,
    };

    /// Answers by path, and what was asked for.
    type Answers = Arc<Mutex<Vec<(&'static str, Vec<u8>)>>>;

    async fn serve(answers: Answers) -> String {
        let answer = move |Path(path): Path<String>| {
            let found =
                answers.lock().unwrap().iter().find(|(name, _)| *name == path).map(|(_, body)| body.clone());
            async move { found.ok_or(StatusCode::NOT_FOUND) }
        };
        let router = Router::new().route("/{path}", axum::routing::get(answer));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        format!("http://{address}")
    }

    /// authorityInfoAccess with these addresses of the issuer.
    fn access(urls: &[String]) -> CustomExtension {
        let each: Vec<Vec<u8>> = urls
            .iter()
            .map(|url| {
                let location = [&[0x86, u8::try_from(url.len()).unwrap()][..], url.as_bytes()].concat();
                qc::sequence(&[qc::oid("1.3.6.1.5.5.7.48.2"), location])
            })
            .collect();
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 1], qc::sequence(&each))
    }

    struct House {
        leaf: Certificate,
        issuing: Authority,
        root: Authority,
    }

    /// A leaf that names `leaf_urls`, an issuer that names `issuer_urls`, and a root.
    fn house(leaf_urls: &[String], issuer_urls: &[String]) -> House {
        let root = Authority::root("Rot");
        let issuing = root.below_with("Utsteder", access(issuer_urls));
        let mut params = parameters("Virksomhet");
        params.custom_extensions.push(access(leaf_urls));
        House { leaf: issuing.issue(&params, Pair::shared()[0]), issuing, root }
    }

    async fn fetched(leaf: &Certificate, reach: Reach) -> Completed {
        let http = Http::new(Options::default(), SystemClock::shared());
        let call = Call::within(&SystemClock, Duration::from_secs(30));
        Chain::of(leaf.clone(), &[], today()).fetched(&http, &SystemClock, reach, today(), &call).await
    }

    #[tokio::test]
    async fn issuers_are_fetched_up_to_the_root_as_der_pem_and_bundle() {
        let answers = Answers::default();
        let server = serve(answers.clone()).await;
        let at = |path: &str| format!("{server}/{path}");
        let House { leaf, issuing, root } = house(&[at("issuing")], &[at("root")]);
        let (issuing, root) = (issuing.certificate, root.certificate);
        for (first, second) in [
            (issuing.der().to_vec(), root.to_pem().into_bytes()),
            (bundle(&[&root, &issuing], true), Vec::new()),
            (bundle(&[&issuing], false), root.der().to_vec()),
        ] {
            *answers.lock().unwrap() = vec![("issuing", first), ("root", second)];
            let completed = fetched(&leaf, Reach::Private).await;
            assert_eq!((completed.chain.len(), completed.chain.missing_issuer()), (3, None));
            let subjects = completed.fetched.iter().map(|it| it.certificate.common_name().unwrap());
            assert_eq!(subjects.collect::<Vec<_>>(), ["Utsteder", "Rot"]);
            assert_eq!(completed.misses, []);
        }
    }

    #[tokio::test]
    async fn what_did_not_sign_is_not_taken_and_the_next_address_is_tried() {
        let answers = Answers::default();
        let server = serve(answers.clone()).await;
        let at = |path: &str| format!("{server}/{path}");
        let urls = ["ldap://ldap.example/x".into(), at("nothing"), at("text"), at("decoy"), at("issuing")];
        let House { leaf, issuing, .. } = house(&urls[..4], &[]);
        let decoy = Authority::root("Utsteder").certificate;
        *answers.lock().unwrap() = vec![
            ("text", b"<html>".to_vec()),
            ("decoy", decoy.der().to_vec()),
            ("issuing", issuing.certificate.der().to_vec()),
        ];
        let completed = fetched(&leaf, Reach::Private).await;
        let reasons: Vec<String> = completed.misses.iter().map(Miss::to_string).collect();
        assert_eq!((completed.chain.len(), reasons.len()), (1, 4), "{reasons:?}");
        for (reason, expected) in
            reasons.iter().zip(["only http", "HTTP 404", "no certificate", "did not issue it"])
        {
            assert!(reason.contains(expected), "{reason}");
        }
        let House { leaf, issuing, .. } = house(&urls[3..], &[]);
        *answers.lock().unwrap() =
            vec![("decoy", decoy.der().to_vec()), ("issuing", issuing.certificate.der().to_vec())];
        let completed = fetched(&leaf, Reach::Private).await;
        assert_eq!((completed.chain.len(), completed.misses.len()), (2, 1));
        // The issuer names no address itself.
        assert!(completed.chain.missing_issuer().is_some());
    }

    #[tokio::test]
    async fn an_address_that_leads_inside_is_not_followed_unless_allowed() {
        let answers = Answers::default();
        let server = serve(answers.clone()).await;
        let House { leaf, issuing, .. } = house(&[format!("{server}/issuing")], &[]);
        *answers.lock().unwrap() = vec![("issuing", issuing.certificate.der().to_vec())];
        let completed = fetched(&leaf, Reach::Public).await;
        assert_eq!((completed.chain.len(), completed.fetched.len()), (1, 0));
        assert!(completed.misses[0].reason.contains("127.0.0.1"), "{}", completed.misses[0]);
        assert_eq!(fetched(&leaf, Reach::Private).await.chain.len(), 2);
    }

    #[tokio::test]
    async fn a_chain_without_end_stops_after_a_few_steps() {
        let answers = Answers::default();
        let server = serve(answers.clone()).await;
        let names = ["0", "1", "2", "3", "4", "5", "6"];
        let mut authority = Authority::root("0");
        let mut above = Vec::new();
        for name in names.iter().skip(1) {
            let url = format!("{server}/{}", above.len());
            above.push(authority.certificate.der().to_vec());
            authority = authority.below_with(name, access(&[url]));
        }
        let url = format!("{server}/{}", above.len());
        above.push(authority.certificate.der().to_vec());
        *answers.lock().unwrap() = names.into_iter().zip(above).collect();
        let mut params = parameters("Virksomhet");
        params.custom_extensions.push(access(&[url]));
        let completed = fetched(&authority.issue(&params, Pair::shared()[0]), Reach::Private).await;
        assert_eq!(completed.fetched.len(), MOST_STEPS);
        assert!(completed.chain.missing_issuer().is_some());
    }
}
