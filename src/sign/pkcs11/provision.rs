//! What is written to a device: a first PIN, key pairs that are born there, and certificates.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use cryptoki::{
    context::Pkcs11,
    mechanism::Mechanism,
    object::{Attribute, AttributeType, CertificateType, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
};
use der::{Encode, asn1::IntRef};
use secrecy::SecretString;
use x509_parser::prelude::X509Certificate;

use super::{
    Pin, Uri,
    code::answered,
    job::{KeyPair, NewCertificate, NewKeyPair, StoredCertificate},
    key::{certified_key, public_key_of},
    object,
    session::{Connection, DeviceId},
    uri::trimmed,
};
use crate::{
    jose::RsaPublicKey,
    sign::{Error, PinProblem, Sought},
};

/// Bytes of a random `CKA_ID`.
const ID_LENGTH: usize = 16;

/// Longest label of a device in bytes (`CK_TOKEN_INFO`, PKCS#11 2.40 section 3.2).
const LONGEST_LABEL: usize = 32;

/// The device called `label`, made out of the first blank one when there is none. One that is in use is left as it is.
pub(super) fn provide(context: &Pkcs11, label: &str, pin: Option<&Pin>) -> Result<Uri, Error> {
    if label.is_empty() || label.len() > LONGEST_LABEL || label.trim() != label {
        return Err(Error::Uri {
            uri: format!("pkcs11:token={label}"),
            problem: format!("a device's label has 1 to {LONGEST_LABEL} bytes and no blanks around it"),
        });
    }
    let missing = || Error::NotFound {
        sought: Sought::Device,
        uri: format!("pkcs11:token={label}"),
        candidates: Vec::new(),
    };
    let devices = devices(context)?;
    match (called(&devices, label)?, devices.iter().find(|(_, info)| !info.token_initialized())) {
        (Some((_, info)), _) if info.user_pin_initialized() => return Ok(DeviceId::of(info).uri()),
        // Made, and the program ended before its user had a PIN.
        (Some((slot, info)), _) => set_first_pin(context, *slot, &read(pin, info)?)?,
        (None, Some((slot, info))) => {
            let pin = read(pin, info)?;
            context.init_token(*slot, &pin, label).map_err(|why| answered(&why))?;
            set_first_pin(context, *slot, &pin)?;
        }
        (None, None) => return Err(missing()),
    }
    let devices = self::devices(context)?;
    called(&devices, label)?.map(|(_, info)| DeviceId::of(info).uri()).ok_or_else(missing)
}

fn devices(context: &Pkcs11) -> Result<Vec<(Slot, TokenInfo)>, Error> {
    let slots = context.get_slots_with_token().map_err(|why| answered(&why))?;
    let described = slots.into_iter().map(|slot| context.get_token_info(slot).map(|info| (slot, info)));
    described.collect::<Result<_, _>>().map_err(|why| answered(&why))
}

/// The initialized device with this label.
fn called<'a>(devices: &'a [(Slot, TokenInfo)], label: &str) -> Result<Option<&'a (Slot, TokenInfo)>, Error> {
    let has_label = |info: &TokenInfo| info.token_initialized() && trimmed(info.label()) == label;
    let named: Vec<_> = devices.iter().filter(|(_, info)| has_label(info)).collect();
    match named.as_slice() {
        [] => Ok(None),
        [only] => Ok(Some(only)),
        several => Err(Error::Ambiguous {
            sought: Sought::Device,
            uri: format!("pkcs11:token={label}"),
            candidates: several.iter().map(|(_, info)| DeviceId::of(info).uri().to_string()).collect(),
        }),
    }
}

fn read(pin: Option<&Pin>, info: &TokenInfo) -> Result<SecretString, Error> {
    let problem = |problem| Error::Pin { device: DeviceId::of(info).name(), problem };
    pin.map_or(Ok(None), Pin::read).map_err(problem)?.ok_or_else(|| problem(PinProblem::Missing))
}

/// Sets the user's PIN as the security officer (PKCS#11 2.40 section 5.5, C_InitPIN).
fn set_first_pin(context: &Pkcs11, slot: Slot, pin: &SecretString) -> Result<(), Error> {
    let session = context.open_rw_session(slot).map_err(|why| answered(&why))?;
    session.login(UserType::So, Some(pin)).map_err(|why| answered(&why))?;
    let set = session.init_pin(pin).map_err(|why| answered(&why));
    // Without it, users could not log in before the session is closed.
    session.logout().map_err(|why| answered(&why))?;
    set
}

/// Generates an RSA key pair whose private half never leaves the device.
pub(super) fn generate(
    context: &Pkcs11,
    connection: &Connection,
    pair: &NewKeyPair,
) -> Result<KeyPair, Error> {
    let device = connection.device.uri();
    let id = match &pair.id {
        Some(id) if !id.is_empty() => id.clone(),
        _ => random_id()?,
    };
    let uri = device.with_object(&pair.label, &id);
    let unusable = |reason: String| Error::UnusableKey { key: uri.to_string(), reason };
    if ![2048, 3072, 4096].contains(&pair.bits) {
        return Err(unusable(format!("{} bits were asked for; 2048, 3072 or 4096 are possible", pair.bits)));
    }
    if pair.label.is_empty() {
        return Err(unusable("a key needs a label, so that people can tell it from others".into()));
    }
    let session = context.open_rw_session(connection.slot).map_err(|why| answered(&why))?;
    refuse_taken(&session, &device, pair, &id)?;
    let (public, private) = session
        .generate_key_pair(
            &Mechanism::RsaPkcsKeyPairGen,
            &public_template(pair, &id),
            &private_template(pair, &id),
        )
        .map_err(|why| answered(&why))?;
    // A device may pass over what it does not like in a template.
    let sensitive = object::flag(&session, private, AttributeType::Sensitive)? == Some(true);
    let extractable = object::flag(&session, private, AttributeType::Extractable)? != Some(false);
    if !sensitive || extractable {
        for half in [private, public] {
            session.destroy_object(half).map_err(|why| answered(&why))?;
        }
        return Err(unusable("the device would have let the private key out; it was deleted".into()));
    }
    let public_key = object::rsa_public_key(&session, public)?
        .ok_or_else(|| unusable("the device does not show its public half".into()))?;
    let spki = public_key.to_spki().map_err(|why| unusable(why.to_string()))?;
    Ok(KeyPair { uri, spki })
}

/// Stores a certificate, under the `CKA_ID` of the key that it certifies when that key is here.
pub(super) fn store(
    context: &Pkcs11,
    connection: &Connection,
    new: &NewCertificate,
) -> Result<StoredCertificate, Error> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(&new.der)
        .map_err(|why| Error::Certificate(format!("it cannot be read ({why})")))?;
    if !rest.is_empty() {
        return Err(Error::Certificate("something follows after its end".into()));
    }
    let device = connection.device.uri();
    let session = context.open_rw_session(connection.slot).map_err(|why| answered(&why))?;
    let key = match certified_key(&new.der) {
        Some(certified) => find_key(&session, &certified)?,
        None => None,
    };
    let key_uri = key.as_ref().map(|(label, id)| device.with_object(label, id));
    for there in object::all(&session, ObjectClass::CERTIFICATE)? {
        if object::bytes(&session, there, AttributeType::Value)?.as_deref() == Some(&new.der) {
            let uri = device.with_object(&object::label(&session, there)?, &object::id(&session, there)?);
            return Ok(StoredCertificate { uri: uri.of_certificate(), key: key_uri, was_there: true });
        }
    }
    let (label, id) = key.unwrap_or_else(|| {
        // A certificate of no key here is found by the key it certifies, too.
        let id =
            digest(&SHA256, certificate.public_key().raw).as_ref().iter().copied().take(ID_LENGTH).collect();
        (subject_name(&certificate), id)
    });
    let label = new.label.clone().unwrap_or(label);
    session
        .create_object(&[
            Attribute::Class(ObjectClass::CERTIFICATE),
            Attribute::CertificateType(CertificateType::X_509),
            Attribute::Token(true),
            Attribute::Private(false),
            Attribute::Label(label.as_bytes().to_vec()),
            Attribute::Id(id.clone()),
            Attribute::Subject(certificate.subject().as_raw().to_vec()),
            Attribute::Issuer(certificate.issuer().as_raw().to_vec()),
            Attribute::SerialNumber(serial_number(&certificate)?),
            Attribute::Value(new.der.clone()),
        ])
        .map_err(|why| answered(&why))?;
    let uri = device.with_object(&label, &id).of_certificate();
    Ok(StoredCertificate { uri, key: key_uri, was_there: false })
}

fn public_template(pair: &NewKeyPair, id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Verify(true),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        Attribute::ModulusBits(u64::from(pair.bits).into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Label(pair.label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
    ]
}

fn private_template(pair: &NewKeyPair, id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Label(pair.label.as_bytes().to_vec()),
        Attribute::Id(id.to_vec()),
    ]
}

/// Two keys of one label or one `CKA_ID` cannot be told apart later.
fn refuse_taken(session: &Session, device: &Uri, pair: &NewKeyPair, id: &[u8]) -> Result<(), Error> {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        for object in object::all(session, class)? {
            let (its_label, its_id) = (object::label(session, object)?, object::id(session, object)?);
            let attribute = match () {
                () if its_label == pair.label => "label",
                () if its_id == id => "id",
                () => continue,
            };
            let key = device.with_object(&its_label, &its_id).to_string();
            return Err(Error::Taken { key, attribute: attribute.into() });
        }
    }
    Ok(())
}

fn random_id() -> Result<Vec<u8>, Error> {
    let mut id = vec![0; ID_LENGTH];
    rand::fill(&mut id).map_err(|_| Error::UnusableKey {
        key: "to be made".into(),
        reason: "the machine has no random numbers for its id".into(),
    })?;
    Ok(id)
}

/// Label and `CKA_ID` of the key on the device with this public half.
fn find_key(session: &Session, wanted: &RsaPublicKey) -> Result<Option<(String, Vec<u8>)>, Error> {
    let named = |object: ObjectHandle| Ok((object::label(session, object)?, object::id(session, object)?));
    for private in object::all(session, ObjectClass::PRIVATE_KEY)? {
        if public_key_of(session, private)?.as_ref() == Some(wanted) {
            return named(private).map(Some);
        }
    }
    Ok(None)
}

fn subject_name(certificate: &X509Certificate<'_>) -> String {
    let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.map_or_else(|| certificate.subject().to_string(), str::to_owned)
}

/// `CKA_SERIAL_NUMBER` is the DER of the INTEGER (PKCS#11 2.40 section 4.6.3).
fn serial_number(certificate: &X509Certificate<'_>) -> Result<Vec<u8>, Error> {
    IntRef::new(certificate.raw_serial())
        .and_then(|serial| serial.to_der())
        .map_err(|why| Error::Certificate(format!("its serial number cannot be written ({why})")))
}
