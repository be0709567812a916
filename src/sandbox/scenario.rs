use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Clients, Error, Fault, Knobs, clients};

/// A run that is planned: how the authorities answer, who is registered, and what goes wrong when.
///
/// ```
/// let scenario = segl::sandbox::Scenario::from_toml(r#"
/// schema = 1
/// preset = "strict"  # or "as-2024"; optional
///
/// [knobs]  # over the preset
/// token_lifetime = 60
///
/// [registry.clients."5e610000-0000-4000-8000-0000000000aa"]  # as in a file of clients; optional
/// organisation = "312700018"
/// scopes = ["toll:movement/road/v2"]
///
/// [registry.scopes."toll:movement/road/v2"]
/// granted_to = ["312700018"]
///
/// [[faults]]
/// at = 30  # seconds after the start
/// for = 20  # seconds; without it, until the end
/// outage = ["maskinporten"]  # also: metadata, customs, altinn
///
/// [[faults]]
/// at = 60
/// for = 60
/// knobs = { clock_offset = -20 }
/// "#)?;
/// assert_eq!(scenario.faults.len(), 2);
/// # Ok::<(), segl::sandbox::Error>(())
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// How the authorities answer at first.
    pub knobs: Knobs,
    /// Who is registered; `None`: whoever is otherwise.
    pub clients: Option<Clients>,
    /// What goes wrong, and when.
    pub faults: Vec<Fault>,
}

/// The largest file taken, in bytes.
const LONGEST_FILE: usize = 1024 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    schema: u32,
    preset: Option<Preset>,
    #[serde(default)]
    knobs: Map<String, Value>,
    registry: Option<clients::Tables>,
    #[serde(default)]
    faults: Vec<Fault>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Preset {
    Strict,
    #[serde(rename = "as-2024")]
    As2024,
}

impl Scenario {
    /// Reads one; unknown keys are refused.
    ///
    /// # Errors
    /// [`Error::Scenario`] with the place and the problem, [`Error::Clients`] and [`Error::OrganisationNumber`] for its
    /// clients.
    pub fn from_toml(text: &str) -> Result<Self, Error> {
        if text.len() > LONGEST_FILE {
            return Err(Error::Scenario("the file is larger than 1 MiB".into()));
        }
        let file: File = toml::from_str(text).map_err(|error| Error::Scenario(error.to_string()))?;
        if file.schema != 1 {
            return Err(Error::Scenario(format!("schema = {} is unknown; this is schema 1", file.schema)));
        }
        let preset = match file.preset {
            None => Knobs::default(),
            Some(Preset::Strict) => Knobs::strict(),
            Some(Preset::As2024) => Knobs::as_2024(),
        };
        let knobs = preset.with(&file.knobs).map_err(|why| Error::Scenario(format!("knobs: {why}")))?;
        for fault in &file.faults {
            fault.check()?;
        }
        let clients = file.registry.map(Clients::from_tables).transpose()?;
        Ok(Self { knobs, clients, faults: file.faults })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sandbox::ErrorStyle;

    #[test]
    fn knobs_stand_over_the_preset() {
        let text = "schema = 1\npreset = \"as-2024\"\n[knobs]\naud_unspecified = false\n";
        let knobs = Scenario::from_toml(text).unwrap().knobs;
        assert_eq!((knobs.error_style, knobs.aud_unspecified), (ErrorStyle::Of2022, false));
        assert_eq!(Scenario::from_toml("schema = 1\npreset = \"strict\"").unwrap().knobs, Knobs::strict());
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        for (line, why) in [
            ("speed = 1", "unknown field `speed`"),
            ("preset = \"lax\"", "unknown variant `lax`"),
            ("[knobs]\nspeed = 1", "unknown field `speed`"),
            ("[registry]\nusers = 1", "unknown field `users`"),
            ("[registry]\nschema = 2", "schema = 2 is unknown"),
            ("[registry.clients.x]\norganisation = \"312700019\"", "no organisation number"),
            ("[[faults]]\nwhen = 1", "unknown field `when`"),
            ("[[faults]]\nat = 1", "neither outage nor knobs"),
            ("[[faults]]\noutage = [\"moon\"]", "unknown variant `moon`"),
        ] {
            let error = Scenario::from_toml(&format!("schema = 1\n{line}\n")).unwrap_err();
            assert!(error.to_string().contains(why), "{line}: {error}");
            assert!(!error.remedy().is_empty());
        }
        assert!(Scenario::from_toml("schema = 2").is_err());
    }

    proptest! {
        #[test]
        fn no_value_in_any_place_makes_the_reader_panic(
            key in prop_oneof![Just("preset".to_owned()), Just("knobs.delay".to_owned()), Just("faults".to_owned()), "[a-z]{1,8}"],
            value in prop_oneof!["[-0-9a-z.\"]{1,9}", Just("[{ at = 1, knobs = { delay = -1 } }]".to_owned())],
        ) {
            let _ = Scenario::from_toml(&format!("schema = 1\n{key} = {value}\n"));
        }
    }
}
