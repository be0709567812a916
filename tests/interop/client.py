"""A client that is not Segl: requests and PyJWT. Goes the whole way and prints what it got."""

import json

import jwt

from stand import (
    SESSION,
    STAND,
    by_certificate,
    by_seal,
    claims,
    exchange_at_altinn,
    exchange_at_customs,
    signed,
    token,
)

metadata = SESSION.get(STAND["issuer"] + ".well-known/oauth-authorization-server", timeout=60).json()
keys = jwt.PyJWKClient(metadata["jwks_uri"])


def verified(access_token):
    """The claims of a token, as an API reads them: with the keys that the authority publishes."""
    key = keys.get_signing_key_from_jwt(access_token)
    options = {"verify_aud": False}
    return jwt.decode(access_token, key, ["RS256"], issuer=metadata["issuer"], options=options)


with_kid = token(signed(claims()))
customs = exchange_at_customs(with_kid)
customs.raise_for_status()
test_auth = SESSION.get(
    STAND["customs"] + "/api/movement/road/v2/test-auth",
    headers={"Authorization": "Bearer " + customs.json()["access_token"]},
    timeout=60,
)
altinn = exchange_at_altinn(token(signed(claims(scope="altinn:serviceowner/instances.read"))))
altinn.raise_for_status()
seal = token(by_seal(STAND["seal"]))

print(
    json.dumps(
        {
            "kid": verified(with_kid),
            "certificate": verified(token(by_certificate(STAND["chain"]))),
            "seal": verified(seal),
            "seal_at_customs": exchange_at_customs(seal).status_code,
            "customs": customs.json()["expires_in"],
            "test_auth": test_auth.status_code,
            "altinn": jwt.decode(altinn.text, options={"verify_signature": False}),
        }
    )
)
