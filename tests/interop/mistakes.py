"""The usual mistakes of clients, made on purpose with PyJWT. Prints what the sandbox answers to each."""

import base64
import json
import time
import uuid

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, utils
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from stand import (
    JWT_BEARER,
    KEY,
    SESSION,
    STAND,
    by_certificate,
    by_seal,
    claims,
    exchange_at_altinn,
    exchange_at_customs,
    send,
    signed,
    token,
)

CHAIN = STAND["chain"]
NOW = int(time.time())


def with_signature(sign):
    """A good grant whose signature is made otherwise."""
    message, _, _ = signed(claims()).rpartition(".")
    signature = base64.urlsafe_b64encode(sign(message.encode())).rstrip(b"=").decode()
    return message + "." + signature


def pss(message):
    private = load_pem_private_key(KEY.encode(), None)
    salt = padding.PSS(padding.MGF1(hashes.SHA256()), padding.PSS.DIGEST_LENGTH)
    return private.sign(message, salt, hashes.SHA256())


def another_hash(message):
    """As a device signs that is told another hash than the header says."""
    digest = hashes.Hash(hashes.SHA512())
    digest.update(message)
    private = load_pem_private_key(KEY.encode(), None)
    return private.sign(digest.finalize(), padding.PKCS1v15(), utils.Prehashed(hashes.SHA512()))


def system_user(*details, **changes):
    organisation = {"authority": "iso6523-actorid-upis", "ID": "0192:" + STAND["customer"]}
    one = {"type": "urn:altinn:systemuser", "systemuser_org": organisation, **changes}
    return send(signed(claims(authorization_details=list(details) or [one])))


def replayed():
    grant = signed(claims())
    send(grant).raise_for_status()
    return send(grant)


def constant_jti():
    jti = str(uuid.uuid4())
    send(signed(claims(jti=jti))).raise_for_status()
    return send(signed(claims(jti=jti)))


def grant(**changes):
    return lambda: send(signed(claims(**changes)))


def certified(chain, **changes):
    return lambda: send(by_certificate(chain, **changes))


def sealed(chain, **changes):
    return lambda: send(by_seal(chain, **changes))


def other_form():
    form = {"grant_type": JWT_BEARER, "assertion": signed(claims()), "scope": STAND["scope"]}
    return SESSION.post(STAND["issuer"] + "token", data=form, timeout=60)


LEAF = base64.b64decode(CHAIN[0])
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
PEM = "-----BEGIN CERTIFICATE-----\n" + CHAIN[0] + "\n-----END CERTIFICATE-----"
OTHER = {"authority": "iso6523-actorid-upis", "ID": STAND["customer"]}

MISTAKES = {
    "1 aud without its slash": grant(aud=STAND["issuer"].rstrip("/")),
    "1 aud of the token endpoint": grant(aud=STAND["issuer"] + "token"),
    "1 aud of another environment": grant(aud="https://test.maskinporten.no/"),
    "2 client of another environment": grant(iss=str(uuid.uuid4())),
    "3 certificate of another environment": certified(STAND["elsewhere"]),
    "3 seal of an issuer that is not listed": sealed(STAND["seal_elsewhere"]),
    "4 certificate of a client with keys": lambda: send(signed(claims(), x5c=CHAIN)),
    "4 kid of a client with a certificate": grant(iss=STAND["certificate_client"]),
    "4 kid and certificate": lambda: send(signed(claims(), x5c=CHAIN, kid=STAND["kid"])),
    "4 neither": lambda: send(signed(claims(iss=STAND["certificate_client"]), typ="JWT")),
    "5 x5c is text": certified(CHAIN[0]),
    "5 x5c is base64url": certified([base64.urlsafe_b64encode(LEAF).decode().rstrip("=") + "_"]),
    "5 x5c is PEM": certified([PEM]),
    "5 x5c in the wrong order": certified(CHAIN[::-1]),
    "5 seal without its chain": sealed(STAND["seal"][:1]),
    "6 certificate of another organisation": certified(STAND["other_organisation"]),
    "6 seal without organizationIdentifier": sealed(STAND["seal_nameless"]),
    "7 certificate for encryption": certified(STAND["encryption"]),
    "7 certificate that has ended": certified(STAND["expired"]),
    "7 certificate of another key": certified(STAND["other_key_chain"]),
    "8 PS256": lambda: send(signed(claims(), algorithm="PS256")),
    "8 PSS under RS256": lambda: send(with_signature(pss)),
    "8 another hash under RS256": lambda: send(with_signature(another_hash)),
    "9 too long a life": grant(exp=NOW + 181, iat=NOW + 1),
    "9 seconds with a fraction": grant(iat=time.time() + 0.25),
    "9 milliseconds": grant(iat=NOW * 1000, exp=NOW * 1000 + 60),
    "9 clock ahead": grant(iat=NOW + 3600, exp=NOW + 3660),
    "9 expired": grant(iat=NOW - 120, exp=NOW - 60),
    "10 sent twice": replayed,
    "10 constant jti": constant_jti,
    "11 misspelt claim": grant(consumer_orgno=STAND["customer"]),
    "11 claim of tokens": grant(client_id=STAND["key_client"]),
    "11 consumer_org with its prefix": grant(consumer_org="0192:" + STAND["customer"]),
    "11 consumer_org is oneself": grant(consumer_org=STAND["organisation"]),
    "11 consumer_org that delegated nothing": grant(consumer_org=STAND["stranger"]),
    "11 system user of a bare number": lambda: system_user(systemuser_org=OTHER),
    "11 system user misspelt": lambda: system_user(systemuserorg=OTHER),
    "11 unknown kind of details": lambda: system_user(type="urn:other"),
    "11 two details": lambda: system_user({}, {}),
    "11 details are no array": grant(authorization_details={"type": "urn:altinn:systemuser"}),
    "12 scopes separated by commas": grant(scope=STAND["scope"] + ",toll:movement/air"),
    "12 scopes in an array": grant(scope=[STAND["scope"]]),
    "12 scope not on the client": grant(scope=STAND["not_registered"]),
    "12 scope not granted": grant(scope=STAND["not_granted"]),
    "12 scope of seals on a client": grant(scope="toll:eu/movement/road/v2"),
    "12 scope of clients on a seal": sealed(STAND["seal"], scope=STAND["scope"]),
    "12 scope that was replaced": grant(scope="toll:movement/road"),
    "13 key that has expired": lambda: send(signed(claims(), kid=STAND["expired_kid"])),
    "13 key that is not registered": lambda: send(signed(claims(), kid="never-uploaded")),
    "14 RFC 8693 at Customs": lambda: exchange_at_customs(token(signed(claims())), EXCHANGE),
    "14 digdir:verksemd.eu at Customs": lambda: exchange_at_customs(
        token(by_seal(STAND["seal"], scope="digdir:verksemd.eu"))
    ),
    "14 Customs gets another's token": lambda: exchange_at_customs(signed(claims())),
    "14 POST to Altinn": lambda: exchange_at_altinn(token(signed(claims())), "POST"),
    "14 enterprise user at Altinn": lambda: exchange_at_altinn(
        token(signed(claims())), **{"X-Altinn-EnterpriseUser-Authentication": "eDp5"}
    ),
    "14 seal at Altinn": lambda: exchange_at_altinn(token(by_seal(STAND["seal"]))),
    "14 quoted token at Altinn": lambda: exchange_at_altinn('"' + token(signed(claims())) + '"'),
    "form with more fields": other_form,
}

answers = {}
for name, make in MISTAKES.items():
    answer = make()
    answers[name] = {"status": answer.status_code, "body": answer.text}
print(json.dumps(answers))
