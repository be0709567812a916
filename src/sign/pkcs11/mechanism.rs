//! The two ways to ask a device for an RSASSA-PKCS1-v1_5 signature.

use std::borrow::Cow;

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512, digest};

use super::{calls::Mechanism, profile::SignForm as Form};
use crate::{jose::Algorithm, sign::Error};

/// Hash function of an RSA signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The hash of `algorithm`.
    pub(super) fn of(algorithm: Algorithm) -> Result<Self, Error> {
        match algorithm {
            Algorithm::RS256 => Ok(Self::Sha256),
            Algorithm::RS384 => Ok(Self::Sha384),
            Algorithm::RS512 => Ok(Self::Sha512),
            other => Err(Error::Algorithm(other)),
        }
    }

    /// The forms of `ladder` to try: those that the device lists and the key allows, or all when the device lists
    /// none of them (some list too little). A key that names what it allows means it.
    pub(super) fn ladder(self, ladder: &[Form], listed: &[u64], allowed: Option<&[u64]>) -> Vec<Form> {
        let number = |form: &Form| self.mechanism(*form).number();
        let permitted = |form: &Form| allowed.is_none_or(|allowed| allowed.contains(&number(form)));
        let permitted: Vec<Form> = ladder.iter().copied().filter(permitted).collect();
        let known: Vec<Form> =
            permitted.iter().copied().filter(|form| listed.contains(&number(form))).collect();
        if known.is_empty() { permitted } else { known }
    }

    /// The mechanism of a form.
    pub(super) fn mechanism(self, form: Form) -> Mechanism {
        match (form, self) {
            (Form::Raw, _) => Mechanism::RsaPkcs,
            (Form::HashAndSign, Self::Sha256) => Mechanism::Sha256RsaPkcs,
            (Form::HashAndSign, Self::Sha384) => Mechanism::Sha384RsaPkcs,
            (Form::HashAndSign, Self::Sha512) => Mechanism::Sha512RsaPkcs,
        }
    }

    /// What is given to C_Sign.
    pub(super) fn input(self, form: Form, message: &[u8]) -> Cow<'_, [u8]> {
        match form {
            Form::HashAndSign => Cow::Borrowed(message),
            Form::Raw => Cow::Owned(self.digest_info(message)),
        }
    }

    /// DER of the DigestInfo: a prefix that names the hash (RFC 8017 section 9.2, note 1), then the hash.
    fn digest_info(self, message: &[u8]) -> Vec<u8> {
        let (algorithm, last_arc): (&'static digest::Algorithm, u8) = match self {
            Self::Sha256 => (&SHA256, 0x01),
            Self::Sha384 => (&SHA384, 0x02),
            Self::Sha512 => (&SHA512, 0x03),
        };
        let length = algorithm.output_len() as u8;
        let mut info = vec![
            0x30,
            17 + length, // DigestInfo
            0x30,
            0x0d, // AlgorithmIdentifier
            0x06,
            0x09,
            0x60,
            0x86,
            0x48,
            0x01,
            0x65,
            0x03,
            0x04,
            0x02,
            last_arc, // the hash's identifier
            0x05,
            0x00, // no parameters
            0x04,
            length, // the hash
        ];
        info.extend_from_slice(digest(algorithm, message).as_ref());
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_info_prefixes_are_those_of_rfc_8017_section_9_2() {
        for (hash, prefix) in [
            (Hash::Sha256, "3031300d060960864801650304020105000420"),
            (Hash::Sha384, "3041300d060960864801650304020205000430"),
            (Hash::Sha512, "3051300d060960864801650304020305000440"),
        ] {
            let info = hash.digest_info(b"message");
            assert_eq!(hex::encode(&info[..19]), prefix);
            assert_eq!(info.len(), 2 + usize::from(info[1]));
        }
    }

    #[test]
    fn the_ladder_keeps_to_what_is_listed_and_allowed() {
        const LADDER: &[Form] = &[Form::HashAndSign, Form::Raw];
        let (raw, sha256) = (Mechanism::RsaPkcs.number(), Mechanism::Sha256RsaPkcs.number());
        let both = [raw, sha256];
        assert_eq!(Hash::Sha256.ladder(LADDER, &both, None), LADDER);
        assert_eq!(Hash::Sha256.ladder(&[Form::Raw, Form::HashAndSign], &both, None)[0], Form::Raw);
        assert_eq!(Hash::Sha384.ladder(LADDER, &both, None), [Form::Raw]);
        assert_eq!(Hash::Sha256.ladder(LADDER, &[], None), LADDER);
        assert_eq!(Hash::Sha256.ladder(LADDER, &both, Some(&[raw])), [Form::Raw]);
        assert_eq!(Hash::Sha256.ladder(LADDER, &[], Some(&[sha256])), [Form::HashAndSign]);
        assert_eq!(Hash::Sha512.ladder(LADDER, &both, Some(&[sha256])), []);
    }

    #[test]
    fn algorithms_that_maskinporten_does_not_take_are_refused_by_name() {
        assert_eq!(Hash::of(Algorithm::ES256), Err(Error::Algorithm(Algorithm::ES256)));
        assert_eq!(Hash::of(Algorithm::PS256), Err(Error::Algorithm(Algorithm::PS256)));
    }
}
