//! What a certificate is, and whether Maskinporten takes it: as that of a Norwegian organisation, or as an eSeal.
//!
//! A judgement says what can be known before the authority is asked. It trusts nobody: revocation, the trust lists of
//! Europe and the register of organisations are the authority's to look at.

mod finding;
mod kind;

use std::{
    fmt,
    time::{Duration, SystemTime},
};

pub use self::{
    finding::{Finding, Who},
    kind::{Kind, Level, Seal, Stranger},
};
use super::{
    Certificate, Chain, Environment, Error, Issuer, OrganisationIdentifier, OrganisationNumber, Purpose,
    Storage, date, issuers::Authority,
};

/// An expiry that is nearer than this wants attention: ordering a certificate takes days to weeks.
pub const NEAR_EXPIRY: Duration = Duration::from_secs(90 * DAY);

const DAY: u64 = 24 * 60 * 60;

/// Extensions that may be critical, for Digdir's validator: key usage and basic constraints.
const MAY_BE_CRITICAL: [&str; 2] = ["2.5.29.15", "2.5.29.19"];

/// What is to be said of a certificate at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Judgement {
    /// What it is.
    pub kind: Kind,
    /// Its seal: that of an eSeal, and of a Norwegian certificate that is an eSeal, too.
    pub seal: Option<Seal>,
    /// Where it belongs; `None` when nothing says so.
    pub environment: Option<Environment>,
    /// The Norwegian organisation number, its check digit checked.
    pub organisation_number: Option<OrganisationNumber>,
    /// The organizationIdentifier, when it has the form of ETSI EN 319 412-1.
    pub identifier: Option<OrganisationIdentifier>,
    /// The organisation's name or, where there is none, the common name.
    pub holder: Option<String>,
    /// The last moment at which it, and every issuer behind it, is valid (wall time).
    pub until: SystemTime,
    /// Whole days from the moment of the judgement to `until`; negative once that has passed.
    pub days_left: i64,
    /// The issuer at which the chain breaks off; `None` when it ends in a root.
    pub missing_issuer: Option<String>,
    /// Whether Maskinporten takes it for a Norwegian organisation.
    pub business: Fitness,
    /// Whether Maskinporten takes it for an eSeal.
    pub eseal: Fitness,
}

/// Whether Maskinporten takes a certificate in one of the two ways.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fitness {
    /// What stands in the way; nothing does when this is empty.
    pub obstacles: Vec<Finding>,
    /// What should be known, and changed where it can be.
    pub cautions: Vec<Finding>,
}

impl Fitness {
    /// Whether nothing that can be known here stands in the way.
    #[must_use]
    pub fn works(&self) -> bool {
        self.obstacles.is_empty()
    }
}

/// The two ways in which Maskinporten knows the holder of a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Way {
    /// By the organisation number, for a client of that organisation.
    Business,
    /// By the seal alone.
    Eseal,
}

impl Chain {
    /// Judges the leaf at `at` (wall time), with the issuers that stand behind it.
    #[must_use]
    pub fn judge(&self, at: SystemTime) -> Judgement {
        Judgement::of(self, at)
    }
}

impl Judgement {
    fn of(chain: &Chain, at: SystemTime) -> Self {
        let leaf = chain.leaf();
        let authority = Authority::named(leaf.issuer());
        let kind = Kind::of(leaf, authority);
        let seal = Seal::of(leaf).filter(|seal| match kind {
            Kind::Eseal(_) | Kind::Psd2Seal(_) => true,
            // A Norwegian certificate is a seal when it says so.
            Kind::Virksomhetssertifikat { .. } => seal.level != Level::Unmarked,
            _ => false,
        });
        let environment = match authority {
            Some(authority) => Some(authority.environment),
            None if kind::looks_like_test(leaf.issuer()) => Some(Environment::Test),
            None if seal.is_some() => Some(Environment::Production),
            None => None,
        };
        let until = chain.certificates().map(Certificate::not_after).min().unwrap_or(leaf.not_after());
        let days_left = whole_days(at, until);
        let common = common(chain, at, days_left);
        let business = business(chain, &kind, authority, common.clone());
        let eseal = eseal(chain, seal.as_ref(), environment, common);
        Self {
            kind,
            seal,
            environment,
            organisation_number: leaf.organisation_number().ok(),
            identifier: leaf.identifier(),
            holder: leaf.organisation().or(leaf.common_name()).map(str::to_owned),
            until,
            days_left,
            missing_issuer: chain.missing_issuer(),
            business,
            eseal,
        }
    }

    /// The way in which Maskinporten takes it; a Norwegian organisation's before an eSeal's.
    #[must_use]
    pub fn way(&self) -> Option<Way> {
        match (self.business.works(), self.eseal.works()) {
            (true, _) => Some(Way::Business),
            (false, true) => Some(Way::Eseal),
            (false, false) => None,
        }
    }

    /// The way that is open or, when none is, the one that a certificate of this kind is meant for.
    #[must_use]
    pub fn nearest_way(&self) -> Way {
        self.way().unwrap_or(match self.kind {
            Kind::Eseal(_) | Kind::Psd2Seal(_) => Way::Eseal,
            _ => Way::Business,
        })
    }

    /// Whether Maskinporten takes it in this way.
    #[must_use]
    pub fn fitness_as(&self, way: Way) -> &Fitness {
        match way {
            Way::Business => &self.business,
            Way::Eseal => &self.eseal,
        }
    }

    /// Whether Maskinporten takes it in the [nearest](Self::nearest_way) way.
    #[must_use]
    pub fn fitness(&self) -> &Fitness {
        self.fitness_as(self.nearest_way())
    }
}

/// `works at Maskinporten for …, as …, until …`, or what stands in the way first.
impl fmt::Display for Judgement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(way) = self.way() else {
            f.write_str("does not work at Maskinporten")?;
            return self.fitness().obstacles.first().map_or(Ok(()), |why| write!(f, ": {why}"));
        };
        match (way, self.environment) {
            (_, Some(Environment::Sandbox)) => f.write_str("works at the sandbox only")?,
            (Way::Business, Some(environment)) => write!(f, "works at Maskinporten in {environment}")?,
            _ => f.write_str("works at Maskinporten in test and production")?,
        }
        write!(f, " for {}", self.holder.as_deref().unwrap_or("its holder"))?;
        match (way, self.organisation_number, &self.identifier) {
            (Way::Business, Some(number), _) => write!(f, " ({number}), as a Norwegian business")?,
            (_, _, Some(identifier)) => write!(f, " ({identifier}), as an eSeal")?,
            _ => {}
        }
        write!(f, ", until {}", date(&self.until))
    }
}

/// What counts in both ways.
fn common(chain: &Chain, at: SystemTime, days_left: i64) -> Fitness {
    let leaf = chain.leaf();
    let mut found = Fitness::default();
    if !leaf.key().is_taken() {
        found.obstacles.push(Finding::Key(leaf.key().clone()));
    }
    if leaf.purpose().suitability().is_none() {
        found.obstacles.push(Finding::Purpose(leaf.purpose()));
    }
    let forged = chain.certificates().find_map(|issuer| {
        Authority::named(issuer.subject()).filter(|authority| authority.is_forged_by(issuer)).map(|_| issuer)
    });
    if let Some(issuer) = forged {
        found.obstacles.push(Finding::ForgedIssuer(issuer.subject().to_string()));
    }
    match chain.check_validity(at) {
        Ok(()) if days_left < i64::try_from(NEAR_EXPIRY.as_secs() / DAY).unwrap_or(i64::MAX) => {
            found.cautions.push(Finding::ExpiresSoon { days: days_left });
        }
        Ok(()) => {}
        Err(Error::Expired { until, .. }) if leaf.not_after() < at => {
            found.obstacles.push(Finding::Expired(until));
        }
        Err(Error::NotYetValid { from, .. }) if leaf.not_before() > at => {
            found.obstacles.push(Finding::NotYetValid(from));
        }
        Err(issuer) => found.obstacles.push(Finding::IssuerValidity(issuer.to_string())),
    }
    found
}

fn business(chain: &Chain, kind: &Kind, authority: Option<&'static Authority>, common: Fitness) -> Fitness {
    let leaf = chain.leaf();
    let (Kind::Virksomhetssertifikat { environment, storage, .. }, Some(authority)) = (kind, authority)
    else {
        return Fitness { obstacles: vec![Finding::NotBusiness(kind.clone())], cautions: Vec::new() };
    };
    let mut found = common;
    match leaf.organisation_number() {
        Ok(_) => {}
        Err(Error::OrganisationNumber { found: number, reason, .. }) => {
            found.obstacles.push(Finding::OrganisationNumber(number, reason));
        }
        Err(_) => found.obstacles.push(Finding::NoOrganisationNumber),
    }
    if !environment.accepts(leaf.policies()) {
        found.obstacles.push(Finding::Policies(leaf.policies().to_vec()));
    }
    if authority.anchor.is_none() && authority.issuer != Issuer::Sandbox {
        found.cautions.push(match (environment, storage) {
            (Environment::Test, Some(Storage::Hard)) => Finding::HardInTest,
            _ => Finding::RetiredIssuer(leaf.issuer().to_string()),
        });
    }
    if leaf.purpose() == Purpose::Signing {
        found.cautions.push(Finding::Signing);
    }
    let critical = leaf.critical_extensions();
    if !critical.iter().any(|it| it == MAY_BE_CRITICAL[0]) {
        found.cautions.push(Finding::KeyUsageNotCritical);
    }
    let others: Vec<String> =
        critical.iter().filter(|it| !MAY_BE_CRITICAL.contains(&it.as_str())).cloned().collect();
    if !others.is_empty() {
        found.cautions.push(Finding::Critical(others));
    }
    found
}

fn eseal(chain: &Chain, seal: Option<&Seal>, environment: Option<Environment>, common: Fitness) -> Fitness {
    let Some(seal) = seal else {
        return Fitness { obstacles: vec![Finding::NotSeal], cautions: Vec::new() };
    };
    let mut found = common;
    if let Some(issuer) = chain.missing_issuer() {
        found.obstacles.push(Finding::Incomplete { issuer, urls: chain.missing_issuer_urls().to_vec() });
    }
    if environment == Some(Environment::Test) {
        found.obstacles.push(Finding::TestSeal);
    }
    if seal.level == Level::Unmarked {
        found.cautions.push(Finding::Unmarked);
    }
    if !seal.legislation.is_empty() {
        found.cautions.push(Finding::Legislation(seal.legislation.clone()));
    }
    if seal.psd2.is_some() {
        found.cautions.push(Finding::Psd2(seal.identifier.to_string()));
    }
    if seal.identifier.is_norwegian() {
        found.cautions.push(Finding::NorwegianSeal);
    }
    found
}

fn whole_days(from: SystemTime, until: SystemTime) -> i64 {
    let days = |distance: Duration| i64::try_from(distance.as_secs() / DAY).unwrap_or(i64::MAX);
    match until.duration_since(from) {
        Ok(left) => days(left),
        Err(past) => -days(past.duration()) - 1,
    }
}

#[cfg(test)]
mod tests;
