//! What is written to a device: a first PIN, key pairs that are born there, and certificates.

use aws_lc_rs::{
    digest::{SHA256, digest},
    rand,
};
use der::{Encode, asn1::IntRef};
use secrecy::SecretString;
use x509_parser::prelude::X509Certificate;

use super::{
    Uri,
    calls::{Access, Attribute, AttributeType, DeviceInfo, Library, ObjectClass, Session, Slot, User},
    code::answered,
    find::{certified_key, public_key_of},
    job::{KeyPair, NewCertificate, NewKeyPair, StoredCertificate},
    login::{DeviceId, Login, LoginOutcome, LoginRequest, Logins},
    object::{self, NAME, RSA_PUBLIC},
    session::Connection,
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
pub(super) fn provide(library: &dyn Library, label: &str, logins: &dyn Logins) -> Result<Uri, Error> {
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
    let devices = devices(library)?;
    match (called(&devices, label)?, devices.iter().find(|(_, info)| !info.is_initialized())) {
        (Some((_, info)), _) if info.has_user_pin() => return Ok(DeviceId::of(info).uri()),
        // Made, and the program ended before its user had a PIN.
        (Some((slot, info)), _) => {
            with_first_pin(info, logins, |pin| set_first_pin(library, *slot, pin))?;
        }
        (None, Some((slot, info))) => with_first_pin(info, logins, |pin| {
            library.initialize_device(*slot, pin, label).map_err(|why| answered(&why))?;
            set_first_pin(library, *slot, pin)
        })?,
        (None, None) => return Err(missing()),
    }
    let devices = self::devices(library)?;
    called(&devices, label)?.map(|(_, info)| DeviceId::of(info).uri()).ok_or_else(missing)
}

fn devices(library: &dyn Library) -> Result<Vec<(Slot, DeviceInfo)>, Error> {
    let slots = library.slots().map_err(|why| answered(&why))?;
    let described = slots.into_iter().map(|slot| library.device_info(slot).map(|info| (slot, info)));
    described.collect::<Result<_, _>>().map_err(|why| answered(&why))
}

/// The initialized device with this label.
fn called<'a>(
    devices: &'a [(Slot, DeviceInfo)],
    label: &str,
) -> Result<Option<&'a (Slot, DeviceInfo)>, Error> {
    let has_label = |info: &DeviceInfo| info.is_initialized() && trimmed(&info.label) == label;
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

/// Does `act` with the PIN that a device is to have from now on.
fn with_first_pin(
    info: &DeviceInfo,
    logins: &dyn Logins,
    act: impl FnOnce(&SecretString) -> Result<(), Error>,
) -> Result<(), Error> {
    let request = LoginRequest::new(info, Login::User);
    let problem = |problem| Error::Pin { device: request.device.name(), problem };
    let _turn = logins.turn();
    let pin = logins.authorize(&request).map_err(problem)?.ok_or_else(|| problem(PinProblem::Missing))?;
    act(&pin)?;
    logins.ended(&request, &LoginOutcome::Done);
    Ok(())
}

/// Sets the user's PIN as the security officer (PKCS#11 2.40 section 5.5, C_InitPIN).
fn set_first_pin(library: &dyn Library, slot: Slot, pin: &SecretString) -> Result<(), Error> {
    let session = library.open(slot, Access::ReadWrite).map_err(|why| answered(&why))?;
    session.login(User::SecurityOfficer, Some(pin)).map_err(|why| answered(&why))?;
    let set = session.initialize_pin(pin).map_err(|why| answered(&why));
    // Without it, users could not log in before the session is closed.
    session.logout().map_err(|why| answered(&why))?;
    set
}

/// Generates an RSA key pair whose private half never leaves the device.
pub(super) fn generate(connection: &Connection, pair: &NewKeyPair) -> Result<KeyPair, Error> {
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
    let public_key = connection.writing(|session| {
        refuse_taken(session, &device, pair, &id)?;
        let make = |public: &[Attribute]| {
            session.generate_rsa_pair(public, &private_template(pair, &id)).map_err(|why| answered(&why))
        };
        let (public, private) = match make(&public_template(pair, &id)) {
            Err(why) if refuses_template(&why) => {
                // Nothing is asked for twice where the first try has left something behind.
                refuse_taken(session, &device, pair, &id)?;
                make(&bare_public_template(pair, &id)).map_err(|_| why)?
            }
            made => made?,
        };
        // A device may pass over what it does not like in a template.
        let made = object::read(session, private, &[AttributeType::Sensitive, AttributeType::Extractable])?;
        let sensitive = made.flag(AttributeType::Sensitive) == Some(true);
        if !sensitive || made.flag(AttributeType::Extractable) != Some(false) {
            for half in [private, public] {
                session.destroy(half).map_err(|why| answered(&why))?;
            }
            return Err(unusable("the device would have let the private key out; it was deleted".into()));
        }
        object::read(session, public, RSA_PUBLIC)?
            .rsa_public_key()
            .ok_or_else(|| unusable("the device does not show its public half".into()))
    })?;
    let spki = public_key.to_spki().map_err(|why| unusable(why.to_string()))?;
    Ok(KeyPair { uri, spki })
}

/// Stores a certificate, under the `CKA_ID` of the key that it certifies when that key is here.
pub(super) fn store(connection: &Connection, new: &NewCertificate) -> Result<StoredCertificate, Error> {
    let (rest, certificate) = x509_parser::parse_x509_certificate(&new.der)
        .map_err(|why| Error::Certificate(format!("it cannot be read ({why})")))?;
    if !rest.is_empty() {
        return Err(Error::Certificate("something follows after its end".into()));
    }
    connection.writing(|session| store_in(session, &connection.device.uri(), new, &certificate))
}

fn store_in(
    session: &dyn Session,
    device: &Uri,
    new: &NewCertificate,
    certificate: &X509Certificate<'_>,
) -> Result<StoredCertificate, Error> {
    let key = match certified_key(&new.der) {
        Some(certified) => find_key(session, &certified)?,
        None => None,
    };
    let key_uri = key.as_ref().map(|(label, id)| device.with_object(label, id));
    for there in object::all(session, ObjectClass::Certificate)? {
        let value = object::read(session, there, &[AttributeType::Value])?;
        if value.bytes(AttributeType::Value) == Some(&new.der) {
            let name = object::read(session, there, NAME)?;
            let uri = device.with_object(&name.label(), &name.id());
            return Ok(StoredCertificate { uri: uri.of_certificate(), key: key_uri, was_there: true });
        }
    }
    let (label, id) = key.unwrap_or_else(|| {
        // A certificate of no key here is found by the key it certifies, too.
        let id =
            digest(&SHA256, certificate.public_key().raw).as_ref().iter().copied().take(ID_LENGTH).collect();
        (subject_name(certificate), id)
    });
    let label = new.label.clone().unwrap_or(label);
    session
        .create(&[
            Attribute::class(ObjectClass::Certificate),
            Attribute::number(AttributeType::CertificateType, X_509),
            Attribute::flag(AttributeType::Token, true),
            Attribute::flag(AttributeType::Private, false),
            Attribute::bytes(AttributeType::Label, label.as_str()),
            Attribute::bytes(AttributeType::Id, id.as_slice()),
            Attribute::bytes(AttributeType::Subject, certificate.subject().as_raw()),
            Attribute::bytes(AttributeType::Issuer, certificate.issuer().as_raw()),
            Attribute::bytes(AttributeType::SerialNumber, serial_number(certificate)?),
            Attribute::bytes(AttributeType::Value, new.der.as_slice()),
        ])
        .map_err(|why| answered(&why))?;
    let uri = device.with_object(&label, &id).of_certificate();
    Ok(StoredCertificate { uri, key: key_uri, was_there: false })
}

/// `CKC_X_509`
const X_509: u64 = 0;

fn public_template(pair: &NewKeyPair, id: &[u8]) -> Vec<Attribute> {
    let mut template = bare_public_template(pair, id);
    template.extend([
        Attribute::flag(AttributeType::Verify, true),
        Attribute::flag(AttributeType::Encrypt, false),
        Attribute::flag(AttributeType::Wrap, false),
    ]);
    template
}

/// Says nothing of what the public half is for: tpm2-pkcs11 holds CKA_VERIFY to be the same as CKA_DECRYPT of the
/// private half, and CKA_ENCRYPT the same as its CKA_SIGN; others know only some of these attributes. Nothing is lost,
/// since anybody can use a public key for anything.
fn bare_public_template(pair: &NewKeyPair, id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::flag(AttributeType::Token, true),
        Attribute::flag(AttributeType::Private, false),
        Attribute::number(AttributeType::ModulusBits, pair.bits.into()),
        Attribute::bytes(AttributeType::PublicExponent, [1, 0, 1]),
        Attribute::bytes(AttributeType::Label, pair.label.as_str()),
        Attribute::bytes(AttributeType::Id, id),
    ]
}

/// Whether the device may have stumbled over an attribute; some have no better word for it than that they failed.
fn refuses_template(error: &Error) -> bool {
    const CODES: &[&str] = &[
        "CKR_ATTRIBUTE_READ_ONLY",
        "CKR_ATTRIBUTE_TYPE_INVALID",
        "CKR_ATTRIBUTE_VALUE_INVALID",
        "CKR_TEMPLATE_INCONSISTENT",
        "CKR_GENERAL_ERROR",
        "CKR_FUNCTION_FAILED",
        "CKR_ARGUMENTS_BAD",
    ];
    matches!(error, Error::Device { code, .. } if CODES.contains(&code.as_str()))
}

fn private_template(pair: &NewKeyPair, id: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::flag(AttributeType::Token, true),
        Attribute::flag(AttributeType::Private, true),
        Attribute::flag(AttributeType::Sensitive, true),
        Attribute::flag(AttributeType::Extractable, false),
        Attribute::flag(AttributeType::Sign, true),
        Attribute::flag(AttributeType::Decrypt, false),
        Attribute::flag(AttributeType::Unwrap, false),
        Attribute::bytes(AttributeType::Label, pair.label.as_str()),
        Attribute::bytes(AttributeType::Id, id),
    ]
}

/// Two keys of one label or one `CKA_ID` cannot be told apart later.
fn refuse_taken(session: &dyn Session, device: &Uri, pair: &NewKeyPair, id: &[u8]) -> Result<(), Error> {
    for class in [ObjectClass::PrivateKey, ObjectClass::PublicKey] {
        for object in object::all(session, class)? {
            let name = object::read(session, object, NAME)?;
            let (its_label, its_id) = (name.label(), name.id());
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
fn find_key(session: &dyn Session, wanted: &RsaPublicKey) -> Result<Option<(String, Vec<u8>)>, Error> {
    for private in object::all(session, ObjectClass::PrivateKey)? {
        if public_key_of(session, private)?.as_ref() == Some(wanted) {
            let name = object::read(session, private, NAME)?;
            return Ok(Some((name.label(), name.id())));
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
