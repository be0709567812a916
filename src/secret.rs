//! Where PINs and passwords come from: a systemd credential, a file, a helper program, a prompt, or the environment.
//! Never the command line, never the configuration itself.
//!
//! A [`Source`] is written as one word (`credential:hsm-pin`); [`Sources`] are one or several, of which the first that
//! *exists* is taken. "Exists" is meant narrowly: a file that is absent is passed over, a file that is there but cannot
//! be read, or that others can read, is an error. Otherwise a wrong mode would silently lead to another PIN.

mod error;
mod exec;
mod origin;
mod prompt;
mod read;
mod shield;

use std::{
    ffi::OsString,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::SecretString;
use serde::{Deserialize, Deserializer, de};

pub use self::{
    error::{Error, Malformed},
    origin::Origin,
    prompt::{MOST_TRIES, Question},
    shield::shield,
};

/// The longest secret taken, in bytes.
pub const LONGEST: usize = 4 * 1024;

/// One place where a secret may be found. Holds no secret itself.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Source {
    /// A systemd credential: a file of this name in `$CREDENTIALS_DIRECTORY` (systemd.exec(5), `LoadCredential=`).
    Credential(String),
    /// A file that only its owner can read. A symbolic link is followed, as Kubernetes mounts secrets behind one.
    File(PathBuf),
    /// A helper program and its arguments; its first output is the secret. No shell is involved.
    Exec(Vec<String>),
    /// The person at the terminal.
    Prompt,
    /// An environment variable. Allowed, but other processes of the same user can read it.
    Env(String),
}

/// One source, or several in the order in which they are looked for.
#[derive(Clone, PartialEq, Eq)]
pub struct Sources(Vec<Source>);

/// A secret, and whether a person has just typed it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The secret.
    pub secret: SecretString,
    /// Whether it was typed: asked for again, it may be another one.
    pub typed: bool,
    /// Where it came from.
    pub origin: Origin,
}

impl Sources {
    /// `sources` in the order in which they are looked for.
    #[must_use]
    pub fn new(sources: Vec<Source>) -> Self {
        Self(sources)
    }

    /// Each source, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Source> {
        self.0.iter()
    }

    /// Whether none of the sources needs a person at the terminal.
    #[must_use]
    pub fn are_unattended(&self) -> bool {
        !self.0.contains(&Source::Prompt)
    }

    /// Reads the secret from the first source that exists; `None` when none does. `what` names the secret to the
    /// person at the prompt ("PIN of device CUSTOMS-A"), who is asked at most [`MOST_TRIES`] times for it.
    ///
    /// Blocks: on a helper for up to 10 s, on a person for as long as that takes.
    ///
    /// # Errors
    /// [`Error`] when the first source that exists cannot be used. The others are not tried then.
    pub fn read(&self, what: &str) -> Result<Option<SecretString>, Error> {
        self.read_with(what, &|name| std::env::var_os(name))
    }

    /// The same for who counts tries themselves, as the keeper of a device's PIN does: the person at the prompt may be
    /// asked as often as the caller likes, and is told what the caller knows.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn answer(&self, question: &Question) -> Result<Option<Answer>, Error> {
        for source in &self.0 {
            let typed = *source == Source::Prompt;
            let secret = if typed {
                let typed = prompt::ask(question)?.map(|typed| read::text(source, &typed)).transpose()?;
                typed.map(|secret| (secret, None))
            } else {
                read::read_stamped(source, &question.what, &|name| std::env::var_os(name))?
            };
            if let Some((secret, stamp)) = secret {
                return Ok(Some(Answer { secret, typed, origin: Origin::new(source, stamp) }));
            }
        }
        Ok(None)
    }

    fn read_with(
        &self,
        what: &str,
        variable: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Option<SecretString>, Error> {
        for source in &self.0 {
            if let Some(secret) = read::read(source, what, variable)? {
                return Ok(Some(secret));
            }
        }
        Ok(None)
    }

    /// The same sources with relative paths taken from `directory`.
    #[must_use]
    pub fn relative_to(self, directory: &Path) -> Self {
        let anchored = |source| match source {
            Source::File(path) => Source::File(directory.join(path)),
            other => other,
        };
        Self(self.0.into_iter().map(anchored).collect())
    }

    /// What an operator should know about this choice, one sentence each; empty for the good ones.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.0.iter().filter_map(Source::warning).collect()
    }
}

/// Asks the person at the terminal for a secret that is being made; `None` when nobody can be asked. `what` names it.
///
/// Blocks for as long as the person takes.
///
/// # Errors
/// [`Error`] when what is typed is no secret: empty, too long, no text.
pub fn ask(what: &str) -> Result<Option<SecretString>, Error> {
    let question = Question::new(what);
    prompt::ask(&question)?.map(|typed| read::text(&Source::Prompt, &typed)).transpose()
}

/// How many tries are left of what [`Sources::read`] has asked for at the terminal, at most [`MOST_TRIES`] for each
/// secret. `None` when it has asked for nothing, and when this process has read a secret in any other way: to do all over
/// again would then mean to try that one twice.
#[must_use]
pub fn tries_left() -> Option<u32> {
    prompt::tries_left()
}

impl Source {
    fn warning(&self) -> Option<String> {
        match self {
            Self::Env(name) => Some(format!(
                "The secret in the environment variable {name} can be read by every process of this user; \
                 prefer credential: or file:."
            )),
            _ => None,
        }
    }
}

/// The schemes that a secret's place can be written with.
pub(crate) const SCHEMES: &str = "credential:NAME, file:PATH, exec:PROGRAM ARGUMENTS, prompt, env:NAME";

impl FromStr for Source {
    type Err = Malformed;

    /// Parses the written form. The text never appears in the error: it may be a secret written in the wrong place.
    fn from_str(text: &str) -> Result<Self, Malformed> {
        if text == "prompt" {
            return Ok(Self::Prompt);
        }
        let (scheme, rest) = text.split_once(':').ok_or(Malformed::Scheme)?;
        match scheme {
            "credential" => credential_name(rest).map(Self::Credential),
            "file" => file_path(rest).map(Self::File),
            "exec" => Self::exec(shlex::split(rest).ok_or(Malformed::Quotes)?),
            "env" => variable_name(rest).map(Self::Env),
            _ => Err(Malformed::Scheme),
        }
    }
}

impl Source {
    fn exec(argv: Vec<String>) -> Result<Self, Malformed> {
        match argv.first() {
            Some(program) if !program.is_empty() && !argv.iter().any(|word| word.contains('\0')) => {
                Ok(Self::Exec(argv))
            }
            _ => Err(Malformed::Program),
        }
    }
}

fn credential_name(name: &str) -> Result<String, Malformed> {
    let fits = !name.is_empty()
        && name.len() <= 255
        && !matches!(name, "." | "..")
        && name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
    if fits { Ok(name.to_owned()) } else { Err(Malformed::CredentialName) }
}

fn variable_name(name: &str) -> Result<String, Malformed> {
    let fits = !name.is_empty()
        && !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if fits { Ok(name.to_owned()) } else { Err(Malformed::VariableName) }
}

/// The path of a `file:` value, which may be written as a URI without a host (RFC 8089 appendix B).
pub(crate) fn file_path(rest: &str) -> Result<PathBuf, Malformed> {
    let path = match rest.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(Malformed::FileHost),
        None => rest,
    };
    if path.is_empty() || path.contains('\0') {
        return Err(Malformed::Path);
    }
    Ok(PathBuf::from(path))
}

impl fmt::Display for Source {
    /// The written form; of a helper only the program, as its arguments are nobody's business.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Credential(name) => write!(f, "credential:{name}"),
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Exec(argv) => {
                let ellipsis = if argv.len() > 1 { " …" } else { "" };
                write!(f, "exec:{}{ellipsis}", argv.first().map_or("", String::as_str))
            }
            Self::Prompt => f.write_str("prompt"),
            Self::Env(name) => write!(f, "env:{name}"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, source) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { ", " };
            write!(f, "{comma}{source}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.0).finish()
    }
}

impl<'de> Deserialize<'de> for Sources {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourcesVisitor)
    }
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SourceVisitor)
    }
}

struct SourceVisitor;

/// Refuses what is no source without repeating it: serde's own messages would print a PIN written as a number.
macro_rules! refuse_silently {
    ($($method:ident($kind:ty)),*) => {
        $(fn $method<E: de::Error>(self, _: $kind) -> Result<Self::Value, E> {
            Err(E::custom(Malformed::Scheme))
        })*
    };
}

impl<'de> de::Visitor<'de> for SourceVisitor {
    type Value = Source;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {SCHEMES}")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Source, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Source, A::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct ExecTable {
            exec: Words,
        }
        let table = ExecTable::deserialize(de::value::MapAccessDeserializer::new(map))
            .map_err(|_| de::Error::custom(Malformed::Scheme))?;
        Source::exec(table.exec.0).map_err(de::Error::custom)
    }

    refuse_silently!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_i128(i128), visit_u128(u128));
    refuse_silently!(visit_f64(f64), visit_bytes(&[u8]));
}

/// The argument list of `{ exec = [...] }`.
#[derive(Deserialize)]
struct Words(Vec<String>);

struct SourcesVisitor;

impl<'de> de::Visitor<'de> for SourcesVisitor {
    type Value = Sources;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "one of {SCHEMES}, or a list of them")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Sources, E> {
        SourceVisitor.visit_str(text).map(|source| Sources(vec![source]))
    }

    fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Sources, A::Error> {
        SourceVisitor.visit_map(map).map(|source| Sources(vec![source]))
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut list: A) -> Result<Sources, A::Error> {
        let mut sources = Vec::new();
        while let Some(source) = list.next_element()? {
            sources.push(source);
        }
        if sources.is_empty() { Err(de::Error::custom(Malformed::EmptyList)) } else { Ok(Sources(sources)) }
    }

    refuse_silently!(visit_bool(bool), visit_i64(i64), visit_u64(u64), visit_i128(i128), visit_u128(u128));
    refuse_silently!(visit_f64(f64), visit_bytes(&[u8]));
}

impl JsonSchema for Sources {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SecretSources".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let one = json_schema!({
            "anyOf": [
                { "type": "string", "pattern": "^(prompt|(credential|file|exec|env):.+)$" },
                {
                    "type": "object",
                    "properties": { "exec": { "type": "array", "items": { "type": "string" }, "minItems": 1 } },
                    "required": ["exec"],
                    "additionalProperties": false
                }
            ]
        });
        json_schema!({
            "description": "Where a secret is found; of a list, the first that exists is taken.",
            "anyOf": [one, { "type": "array", "items": one, "minItems": 1 }]
        })
    }
}

#[cfg(test)]
mod tests;
