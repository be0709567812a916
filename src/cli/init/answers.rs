use std::{fmt, str::FromStr};

use super::{Command, Who, dialogue::Dialogue, from::Taken};
use crate::{
    cli::{Context, failure::Failure, keys},
    scope::{self, Exchange},
};

/// All that a configuration of one token takes.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) who: Who,
    /// `test` or `prod`, or an issuer that is neither.
    pub(super) environment: Environment,
    pub(super) key: String,
    pub(super) profile: Option<String>,
    pub(super) pin: Vec<String>,
    pub(super) identity: Identity,
    /// Client identifier; the company's name for an eSeal.
    pub(super) client: String,
    pub(super) scopes: Vec<String>,
    pub(super) exchange: Option<&'static str>,
    /// What the person should know.
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Environment {
    Named(String),
    Issuer(String),
}

/// A day, as TOML has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date(toml::value::Date);

impl FromStr for Date {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<toml::value::Datetime>() {
            Ok(toml::value::Datetime { date: Some(date), time: None, offset: None }) => Ok(Self(date)),
            _ => Err("a day is written as YYYY-MM-DD".to_owned()),
        }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    Kid { kid: String, expires: Option<Date> },
    Certificate(String),
}

impl Answers {
    /// Each answer from its option, else from what another tool was told, else from the person.
    pub(super) async fn gather(
        command: &Command,
        taken: &Taken,
        dialogue: &mut Dialogue,
        context: &Context,
    ) -> Result<Self, Failure> {
        let mut notes = Vec::new();
        let who = who(command, dialogue)?;
        check_options(command, who)?;
        let environment = environment(command, taken, dialogue)?;
        let Key { key, profile } = key(command, taken, dialogue, context).await?;
        let pin = pin(command, taken, &key, dialogue)?;
        let identity = identity(command, taken, who, &key, dialogue)?;
        let client = client(command, taken, who, dialogue)?;
        let scopes = scopes(command, taken, who, dialogue)?;
        let mut exchange = exchange(&scopes);
        if let (Some(authority), Environment::Issuer(_)) = (exchange, &environment) {
            notes.push(format!(
                "The API wants {authority}'s token: add {authority} = \"https://…\" to [environments.other], and exchange = \
                 \"{authority}\" to the token."
            ));
            exchange = None;
        }
        for scope in &scopes {
            if scope::named(scope).is_none() && scope::caution(scope).is_none() {
                notes.push(format!("{scope} is not among the known scopes, so no exchange is set for it."));
            }
        }
        Ok(Self { who, environment, key, profile, pin, identity, client, scopes, exchange, notes })
    }
}

/// Refuses options that would be passed over in silence.
fn check_options(command: &Command, who: Who) -> Result<(), Failure> {
    let is_foreign = who == Who::Foreign;
    let unfit = [
        ("--client-id", is_foreign && command.client_id.is_some()),
        ("--kid", is_foreign && command.kid.is_some()),
        ("--name", !is_foreign && command.name.is_some()),
    ];
    match unfit.into_iter().find(|(_, is_unfit)| *is_unfit) {
        None => Ok(()),
        Some((option, _)) if is_foreign => Err(Failure::needs_person(
            format!("{option} does not go with an eSeal, which says by itself who it is"),
            format!("Leave {option} out, or --eseal."),
        )),
        Some((option, _)) => Err(Failure::needs_person(
            format!("{option} is for companies outside Norway"),
            format!("Leave {option} out, or add --eseal."),
        )),
    }
}

fn who(command: &Command, dialogue: &mut Dialogue) -> Result<Who, Failure> {
    if let Some(who) = command.who() {
        return Ok(who);
    }
    dialogue.say("Who asks for tokens?");
    dialogue.say("  1  a Norwegian company or public body, for itself");
    dialogue.say("  2  a supplier, for its customers");
    dialogue.say("  3  a company outside Norway, with an eSeal");
    dialogue.ask_until("Number", Some("1"), "--who", |answer| match answer {
        "1" => Ok(Who::Company),
        "2" => Ok(Who::Supplier),
        "3" => Ok(Who::Foreign),
        _ => Err("1, 2 or 3".to_owned()),
    })
}

fn environment(command: &Command, taken: &Taken, dialogue: &mut Dialogue) -> Result<Environment, Failure> {
    if let Some(name) = &command.environment {
        return Ok(Environment::Named(name.clone()));
    }
    if let Some(environment) = &taken.environment {
        return Ok(environment.clone());
    }
    dialogue.ask_until("Environment: test or prod", Some("test"), "--environment", |answer| match answer {
        "test" | "prod" => Ok(Environment::Named(answer.to_owned())),
        _ => {
            Err("test or prod; the sandbox writes a configuration of its own: segl sandbox --write-config"
                .into())
        }
    })
}

struct Key {
    key: String,
    profile: Option<String>,
}

async fn key(
    command: &Command,
    taken: &Taken,
    dialogue: &mut Dialogue,
    context: &Context,
) -> Result<Key, Failure> {
    if let Some(key) = command.key.as_ref().or(taken.key.as_ref()) {
        return Ok(Key { key: key.clone(), profile: None });
    }
    // Nobody would choose: looking through every library of the machine would be for nothing.
    let found = if dialogue.has_person() { keys::usable(context).await? } else { keys::Usable::default() };
    for (index, found) in found.keys.iter().enumerate() {
        dialogue.say(&format!("  {}  {}", index + 1, found.what));
    }
    for device in &found.hiding {
        dialogue.say(&format!(
            "  Private keys may be hidden on {device} until login: segl keys --login shows them."
        ));
    }
    let usual = (!found.keys.is_empty()).then_some("1");
    let question = if found.keys.is_empty() {
        "No key is to be seen on a device. Key (a line of `segl keys`, or file:PATH)"
    } else {
        "Key: a number, a line of `segl keys`, or file:PATH"
    };
    dialogue.ask_until(question, usual, "--key", |answer| {
        let number = answer.parse::<usize>().ok().and_then(|number| number.checked_sub(1));
        match number.map(|index| found.keys.get(index)) {
            Some(Some(found)) => Ok(Key { key: found.uri.clone(), profile: found.profile.clone() }),
            Some(None) => Err("there is no such number".to_owned()),
            None if answer.starts_with("pkcs11:") || answer.starts_with("file:") => {
                Ok(Key { key: answer.to_owned(), profile: None })
            }
            None => Err("a key begins with pkcs11: or file:".to_owned()),
        }
    })
}

fn pin(command: &Command, taken: &Taken, key: &str, dialogue: &mut Dialogue) -> Result<Vec<String>, Failure> {
    if let Some(pin) = command.pin.as_ref().or(taken.pin.as_ref()) {
        return Ok(vec![pin.clone()]);
    }
    let is_device = key.starts_with("pkcs11:");
    let question = if is_device {
        "PIN: credential:NAME, file:PATH, exec:COMMAND or prompt (never the PIN itself)"
    } else {
        "Password of the file: credential:NAME, file:PATH, exec:COMMAND or prompt; empty for none"
    };
    let usual = is_device.then_some("credential:hsm-pin");
    let Some(answer) = dialogue.ask_maybe(question, usual)?.or_else(|| usual.map(str::to_owned)) else {
        return Ok(Vec::new());
    };
    if answer.parse::<crate::secret::Source>().is_err() {
        // It may be the PIN: it is not repeated.
        return Err(Failure::needs_person(
            "that is no place where a PIN is found",
            "Answer credential:NAME, file:PATH, exec:COMMAND, prompt or env:NAME; never the PIN itself.",
        ));
    }
    // A person at a terminal can try it before the credential is there.
    let with_prompt = is_device && answer != "prompt";
    Ok(if with_prompt { vec![answer, "prompt".into()] } else { vec![answer] })
}

fn identity(
    command: &Command,
    taken: &Taken,
    who: Who,
    key: &str,
    dialogue: &mut Dialogue,
) -> Result<Identity, Failure> {
    let by_kid = |kid: &String| Identity::Kid { kid: kid.clone(), expires: command.kid_expires };
    let by_certificate = |place: &String| Identity::Certificate(place.clone());
    // An option goes before what another tool was told, which had no eSeal.
    let given = command.kid.as_ref().map(by_kid).or_else(|| command.certificate.as_ref().map(by_certificate));
    let taken_kid = taken.kid.as_ref().filter(|_| who != Who::Foreign);
    let found =
        given.or_else(|| taken_kid.map(by_kid)).or_else(|| taken.certificate.as_ref().map(by_certificate));
    if let Some(identity) = found {
        return Ok(identity);
    }
    let usual_place = key.starts_with("pkcs11:") || key.ends_with(".p12") || key.ends_with(".pfx");
    let usual_place = usual_place.then_some("token");
    if who == Who::Foreign {
        let question = "Certificate: token (beside the key) or a PEM file with the whole chain";
        return dialogue
            .ask(question, usual_place.or(Some("token")), "--certificate")
            .map(Identity::Certificate);
    }
    dialogue.say("How does Maskinporten know the client?");
    dialogue.say("  kid          a public key is registered on it");
    dialogue.say("  certificate  by the virksomhetssertifikat; no key is registered");
    let by_kid =
        dialogue.ask_until("kid or certificate", None, "--kid or --certificate", |answer| match answer {
            "kid" => Ok(true),
            "certificate" => Ok(false),
            _ => Err("kid or certificate".to_owned()),
        })?;
    if !by_kid {
        let question = "Certificate: token (beside the key) or a PEM file";
        return dialogue.ask(question, usual_place, "--certificate").map(Identity::Certificate);
    }
    let kid = dialogue.ask("kid, as Samarbeidsportalen shows it", None, "--kid")?;
    let expires = loop {
        let question = "Day on which it expires (YYYY-MM-DD); empty if you do not know";
        match dialogue.ask_maybe(question, None)?.map(|day| day.parse()).transpose() {
            Ok(expires) => break expires,
            Err(why) => dialogue.say(&format!("  {why}")),
        }
    };
    Ok(Identity::Kid { kid, expires })
}

fn client(command: &Command, taken: &Taken, who: Who, dialogue: &mut Dialogue) -> Result<String, Failure> {
    if who == Who::Foreign {
        return match &command.name {
            Some(name) => Ok(name.clone()),
            None => dialogue.ask("Name of the company", None, "--name"),
        };
    }
    match command.client_id.as_ref().or(taken.client_id.as_ref()) {
        Some(id) => Ok(id.clone()),
        None => dialogue.ask("Client id, from Samarbeidsportalen", None, "--client-id"),
    }
}

/// Needs no registration and opens nothing: a first token for whoever has an eSeal.
const FIRST_FOR_ESEALS: &str = "digdir:verksemd.eu";

fn scopes(
    command: &Command,
    taken: &Taken,
    who: Who,
    dialogue: &mut Dialogue,
) -> Result<Vec<String>, Failure> {
    if !command.scope.is_empty() {
        return Ok(command.scope.clone());
    }
    if !taken.scopes.is_empty() {
        return Ok(taken.scopes.clone());
    }
    let usual = (who == Who::Foreign).then_some(FIRST_FOR_ESEALS);
    if who == Who::Foreign {
        dialogue
            .say(&format!("{FIRST_FOR_ESEALS} opens nothing and needs no registration: a good first token."));
    }
    dialogue.say("Scope: its name, or a word to look for (road, melding, systembruker).");
    dialogue.ask_until("Scope", usual, "--scope", |answer| {
        if scope::named(answer).is_some() || answer.contains(':') && scope::meant(answer).is_none() {
            return Ok(answer.split_whitespace().map(str::to_owned).collect());
        }
        let found: Vec<String> = scope::search(answer)
            .into_iter()
            .map(|scope| {
                format!("{}: {}", scope.name, scope.purpose.in_language(crate::language::Language::English))
            })
            .collect();
        let meant = scope::meant(answer).map(|scope| format!("did you mean {}?", scope.name));
        Err(match (meant, found.is_empty()) {
            (Some(meant), _) => meant,
            (None, true) => {
                "no scope that is known has this word in it; a scope's whole name is taken as it is".into()
            }
            (None, false) => found.join("\n  "),
        })
    })
}

/// The exchange that the APIs of all of these scopes want.
fn exchange(scopes: &[String]) -> Option<&'static str> {
    let mut wanted = scopes.iter().map(|name| match scope::named(name).map(|scope| scope.exchange) {
        Some(Exchange::Customs) => Some("customs"),
        Some(Exchange::Altinn) => Some("altinn"),
        _ => None,
    });
    let first = wanted.next()??;
    wanted.all(|other| other == Some(first)).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::exchange;

    #[test]
    fn the_exchange_is_the_one_that_all_scopes_want() {
        for (scopes, expected) in [
            (&["toll:movement/road/v2"][..], Some("customs")),
            (&["toll:movement/road/v2", "toll:movement/air"], Some("customs")),
            (&["toll:movement/road/v2", "somebody:else"], None),
            (&["somebody:else"], None),
            (&[], None),
        ] {
            let scopes: Vec<String> = scopes.iter().map(ToString::to_string).collect();
            assert_eq!(exchange(&scopes), expected, "{scopes:?}");
        }
    }
}
