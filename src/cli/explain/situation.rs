use serde::Serialize;

use crate::{
    advice::Advice,
    cli::{Context, failure::Failure},
    config::{Client, Config, Exchange, Realm, Token},
    language::Language,
    pipeline,
    scope::{self, Holder},
};

/// What the configuration says of one token: all that can be said without asking anybody.
#[derive(Debug, Serialize)]
pub(super) struct Situation {
    name: String,
    client: String,
    /// `None` with an eSeal, which is registered nowhere.
    client_id: Option<String>,
    environment: String,
    #[serde(skip)]
    realm: Realm,
    exchange: Option<&'static str>,
    consumer_org: bool,
    system_user: bool,
    scopes: Vec<Asked>,
    /// The questions of Customs' documentation.
    answers: Vec<Answer>,
}

/// A scope that is asked for.
#[derive(Debug, Serialize)]
struct Asked {
    name: String,
    known: bool,
    fits_client: bool,
    caution: Option<String>,
}

/// What is known of one question.
#[derive(Debug, Serialize)]
struct Answer {
    check: &'static str,
    /// `None`: a person has to look.
    holds: Option<bool>,
}

impl Situation {
    /// Of the token `name` in the configuration at hand.
    pub(super) fn of(name: &str, context: &Context) -> Result<Self, Failure> {
        let config = context.configuration()?;
        let token = config.tokens.get(name).ok_or_else(|| unknown(name, &config))?;
        let client = config.clients.get(&token.client).ok_or_else(|| unknown(name, &config))?;
        Ok(Self::between(token, client))
    }

    fn between(token: &Token, client: &Client) -> Self {
        let holder = if client.is_eseal() { Holder::Eseal } else { Holder::Client };
        let scopes: Vec<Asked> = token.scopes.iter().map(|name| Asked::by(name, holder)).collect();
        let exchange = token.exchange.as_ref().map(|exchange| match exchange {
            Exchange::Altinn { .. } => "altinn",
            Exchange::Customs { .. } => "customs",
        });
        let answer = |check, holds| Answer { check, holds };
        let answers = match exchange {
            Some("customs") => vec![
                answer("family", Some(scopes.iter().all(|asked| asked.fits_client))),
                answer("registered", None),
                answer("integration", client.is_eseal().then_some(true)),
                answer("granted", None),
            ],
            _ => Vec::new(),
        };
        Self {
            name: token.name.clone(),
            client: client.name.clone(),
            client_id: client.client_id().map(ToOwned::to_owned),
            environment: client.environment.name.clone(),
            realm: client.environment.realm,
            exchange,
            consumer_org: token.consumer_org.is_some(),
            system_user: token.authorization_details.is_some(),
            scopes,
            answers,
        }
    }

    /// What this token may be refused for, when nothing else is said.
    pub(super) fn topics(&self) -> impl Iterator<Item = &'static str> {
        let access = if self.consumer_org { "MP-251" } else { "MP-250" };
        let of_maskinporten = if self.client_id.is_some() { vec!["MP-200", access] } else { vec!["MP-120"] };
        let customs = (self.exchange == Some("customs")).then_some("customs-scope");
        let system_user = self.system_user.then_some("MP-303");
        customs.into_iter().chain(of_maskinporten).chain(system_user)
    }

    /// One line on each thing that is known.
    pub(super) fn lines(&self, language: Language) -> Vec<String> {
        let Self { name, client, environment, .. } = self;
        let client_id = self.client_id.as_deref().unwrap_or("eSeal");
        let exchange = self.exchange.unwrap_or("-");
        let mut lines = match language {
            Language::English => vec![format!(
                "tokens.{name}: client {client} ({client_id}), environment {environment}, exchange {exchange}"
            )],
            Language::Bokmal => vec![format!(
                "tokens.{name}: klient {client} ({client_id}), miljø {environment}, veksling {exchange}"
            )],
        };
        lines.extend(self.scopes.iter().map(|asked| asked.line(language)));
        lines
    }

    /// What is known of the question `check` of `advice`.
    pub(super) fn answer(&self, advice: &Advice, check: &str, language: Language) -> Option<String> {
        let answer = self.answers.iter().find(|answer| answer.check == check)?;
        let names: Vec<&str> = self.scopes.iter().map(|asked| asked.name.as_str()).collect();
        let (names, client_id) = (names.join(" "), self.client_id.as_deref().unwrap_or_default());
        let write_to = advice.write_to.as_deref().unwrap_or_default();
        Some(match (answer.holds, check, language) {
            (Some(true), "integration", Language::English) => {
                "Not needed: an eSeal is registered nowhere.".into()
            }
            (Some(true), "integration", Language::Bokmal) => {
                "Ikke nødvendig: et eSegl er ikke registrert noe sted.".into()
            }
            (Some(true), _, Language::English) => "Yes, as it is configured.".into(),
            (Some(true), _, Language::Bokmal) => "Ja, slik det er satt opp.".into(),
            (Some(false), _, Language::English) => "No: see the scopes above.".into(),
            (Some(false), _, Language::Bokmal) => "Nei: se scopene over.".into(),
            (None, "integration", Language::English) => {
                format!(
                    "Look at client {client_id} in {}: is {names} there, without Tilgang mangler?",
                    self.portal()
                )
            }
            (None, "integration", Language::Bokmal) => {
                format!(
                    "Se på klient {client_id} i {}: står {names} der, uten Tilgang mangler?",
                    self.portal()
                )
            }
            (None, "granted", Language::English) => {
                format!("Ask {write_to} about {names} ({}).", self.environment)
            }
            (None, "granted", Language::Bokmal) => {
                format!("Spør {write_to} om {names} ({}).", self.environment)
            }
            (None, _, Language::English) => format!("Only Customs knows; ask {write_to}."),
            (None, _, Language::Bokmal) => format!("Det vet bare Tolletaten; spør {write_to}."),
        })
    }

    /// Where the clients of this environment are looked after.
    fn portal(&self) -> &'static str {
        match self.realm {
            Realm::Prod => "https://sjolvbetjening.samarbeid.digdir.no",
            Realm::Test => "https://sjolvbetjening.test.samarbeid.digdir.no",
            _ => "Samarbeidsportalen",
        }
    }
}

impl Asked {
    fn by(name: &str, holder: Holder) -> Self {
        Self {
            name: name.to_owned(),
            known: scope::named(name).is_some(),
            fits_client: Holder::of(name) == holder,
            caution: scope::caution(name).map(|caution| caution.to_string()),
        }
    }

    fn line(&self, language: Language) -> String {
        let known = match (self.known, language) {
            (true, Language::English) => "known",
            (true, Language::Bokmal) => "kjent",
            (false, Language::English) => "not in the list of known scopes",
            (false, Language::Bokmal) => "ikke på listen over kjente scope",
        };
        let caution = self.caution.as_ref().map(|caution| format!("; {caution}")).unwrap_or_default();
        format!("{}: {known}{caution}", self.name)
    }
}

fn unknown(name: &str, config: &Config) -> pipeline::Error {
    pipeline::Error::Unknown {
        what: "token",
        name: name.to_owned(),
        known: config.tokens.keys().cloned().collect(),
    }
}
