"""Verifies a grant with joserfc and cryptography, which share no code with Segl. Prints header, claims and chain."""

import base64
import json
import sys

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from joserfc import jwt
from joserfc.jwk import RSAKey
from joserfc.jws import JWSRegistry

with open(sys.argv[1], encoding="utf-8") as file:
    given = json.load(file)

public_pem = given["public_key"].encode()
registry = JWSRegistry(algorithms=[given["algorithm"]])
# Its own limit is 512 bytes, and a chain of certificates has thousands.
registry.max_header_length = 64 * 1024
verified = jwt.decode(given["grant"], RSAKey.import_key(public_pem), registry=registry)

chain = [x509.load_der_x509_certificate(base64.b64decode(der, validate=True)) for der in verified.header.get("x5c", [])]
for lower, upper in zip(chain, chain[1:]):
    # Raises when the upper one did not issue the lower one, whatever the kinds of their keys.
    lower.verify_directly_issued_by(upper)
if chain:
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    certified = chain[0].public_key().public_bytes(*form)
    assert certified == load_pem_public_key(public_pem).public_bytes(*form), "the certificate is of another key"

print(
    json.dumps(
        {
            "header": {name: value for name, value in verified.header.items() if name != "x5c"},
            "claims": verified.claims,
            "subjects": [certificate.subject.rfc4514_string() for certificate in chain],
            "has_root": bool(chain) and chain[-1].issuer == chain[-1].subject,
        }
    )
)
