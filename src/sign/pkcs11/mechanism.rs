//! The two ways to ask a device for an RSASSA-PKCS1-v1_5 signature.

use aws_lc_rs::digest::{self, SHA256, SHA384, SHA512, digest};
use cryptoki::{
    mechanism::{Mechanism, MechanismType},
    object::ObjectHandle,
    session::Session,
};

use crate::{jose::Algorithm, sign::Error};

/// Hash function of an RSA signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

/// How the device is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `CKM_SHA256_RSA_PKCS` and its sisters: the device hashes. Some refuse every other form (FIPS 140 level 3).
    HashAndSign,
    /// `CKM_RSA_PKCS` over a DigestInfo (RFC 8017 section 9.2) that is made here. Some know only this one.
    Raw,
}

/// In the order in which they are tried.
const LADDER: [Form; 2] = [Form::HashAndSign, Form::Raw];

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

    /// The forms to try: those that the device lists, or all when it lists neither (some list too little).
    pub(super) fn ladder(self, listed: &[MechanismType]) -> Vec<Form> {
        let known: Vec<Form> = LADDER
            .into_iter()
            .filter(|form| listed.contains(&self.mechanism(*form).mechanism_type()))
            .collect();
        if known.is_empty() { LADDER.to_vec() } else { known }
    }

    fn mechanism(self, form: Form) -> Mechanism<'static> {
        match (form, self) {
            (Form::Raw, _) => Mechanism::RsaPkcs,
            (Form::HashAndSign, Self::Sha256) => Mechanism::Sha256RsaPkcs,
            (Form::HashAndSign, Self::Sha384) => Mechanism::Sha384RsaPkcs,
            (Form::HashAndSign, Self::Sha512) => Mechanism::Sha512RsaPkcs,
        }
    }

    /// C_SignInit and C_Sign.
    pub(super) fn sign(
        self,
        form: Form,
        session: &Session,
        key: ObjectHandle,
        message: &[u8],
    ) -> Result<Vec<u8>, cryptoki::error::Error> {
        let mechanism = self.mechanism(form);
        match form {
            Form::HashAndSign => session.sign(&mechanism, key, message),
            Form::Raw => session.sign(&mechanism, key, &self.digest_info(message)),
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
    fn hash_and_sign_goes_first_and_what_is_not_listed_is_not_tried() {
        let both = [MechanismType::RSA_PKCS, MechanismType::SHA256_RSA_PKCS];
        assert_eq!(Hash::Sha256.ladder(&both), [Form::HashAndSign, Form::Raw]);
        assert_eq!(Hash::Sha384.ladder(&both), [Form::Raw]);
        assert_eq!(Hash::Sha256.ladder(&[]), [Form::HashAndSign, Form::Raw]);
    }

    #[test]
    fn algorithms_that_maskinporten_does_not_take_are_refused_by_name() {
        assert_eq!(Hash::of(Algorithm::ES256), Err(Error::Algorithm(Algorithm::ES256)));
        assert_eq!(Hash::of(Algorithm::PS256), Err(Error::Algorithm(Algorithm::PS256)));
    }
}
