//! The profiles that this build brings along: every file of `hsm-profiles/`.

use std::sync::LazyLock;

use super::Profile;

/// The name of a profile and the text of its file.
macro_rules! file {
    ($name:literal) => {
        ($name, include_str!(concat!("../../../../hsm-profiles/", $name, ".toml")))
    };
}

/// In the order of their names.
const FILES: &[(&str, &str)] = &[
    file!("aws-cloudhsm"),
    file!("azure-cloud-hsm"),
    file!("bit4id"),
    file!("fortanix"),
    file!("google-kms"),
    file!("kryoptic"),
    file!("luna"),
    file!("nethsm"),
    file!("netid"),
    file!("nshield"),
    file!("nss"),
    file!("opencryptoki"),
    file!("opensc"),
    file!("p11-kit-remote"),
    file!("safenet-etoken"),
    file!("safenet-etoken-cc"),
    file!("securosys-primus"),
    file!("smartcard-hsm"),
    file!("softhsm2"),
    file!("tpm2-pkcs11"),
    file!("utimaco"),
    file!("yubihsm2"),
    file!("yubikey-piv"),
];

/// All of them, by name.
pub(super) fn profiles() -> &'static [Profile] {
    static PROFILES: LazyLock<Vec<Profile>> = LazyLock::new(|| {
        // A profile that does not parse cannot leave the house: a test reads them all.
        FILES.iter().filter_map(|(name, text)| Profile::parse(text, name).ok()).collect()
    });
    &PROFILES
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::sign::pkcs11::profile::{Confidence, Isolation};

    #[test]
    fn every_file_of_the_folder_is_embedded_and_reads_as_what_its_name_says() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("hsm-profiles");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        let mut embedded: Vec<String> = FILES.iter().map(|(name, _)| format!("{name}.toml")).collect();
        embedded.sort();
        assert_eq!(files, embedded);
        for (name, text) in FILES {
            let profile = Profile::parse(text, name).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(&profile.name, name);
            assert!(!profile.sources.is_empty() && !profile.notes.is_empty(), "{name}");
            assert!(!profile.matching.module_file.is_empty(), "{name}");
        }
        assert_eq!(profiles().len(), FILES.len());
    }

    #[test]
    fn sources_are_addresses_issue_threads_or_runs_of_our_own() {
        let is_thread = |source: &str| {
            let place = source.split([' ', ',']).next().unwrap_or_default();
            let Some((repository, number)) = place.split_once('#') else { return false };
            repository.split('/').filter(|part| !part.is_empty()).count() == 2
                && number.bytes().all(|digit| digit.is_ascii_digit())
        };
        for profile in profiles() {
            for source in &profile.sources {
                let is_run = source.starts_with("run against ") && profile.confidence == Confidence::Tested;
                let is_source = source.starts_with("https://") || is_thread(source) || is_run;
                assert!(is_source, "{}: {source}", profile.name);
            }
            let has_run = profile.sources.iter().any(|source| source.starts_with("run against "));
            assert_eq!(has_run, profile.confidence == Confidence::Tested, "{}", profile.name);
        }
    }

    #[test]
    fn only_software_that_was_run_here_shares_our_process() {
        for profile in profiles() {
            if profile.module.isolation == Isolation::Thread {
                assert_eq!(profile.confidence, Confidence::Tested, "{}", profile.name);
            }
        }
    }

    #[test]
    fn the_files_that_a_profile_looks_for_are_those_it_is_known_by() {
        for profile in profiles() {
            for path in &profile.module.paths {
                let file = path.rsplit('/').next().unwrap_or_default();
                let known = super::super::pattern::any_fits(&profile.matching.module_file, file);
                assert!(known, "{}: {path}", profile.name);
            }
        }
    }
}
