"""What the scripts beside this one share: a stand of the sandbox, and grants made with PyJWT."""

import json
import sys
import time
import uuid
from pathlib import Path

import jwt
import requests

JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"

with open(sys.argv[1], encoding="utf-8") as file:
    STAND = json.load(file)

KEY = Path(STAND["key"]).read_text(encoding="ascii")

SESSION = requests.Session()
# The sandbox is on this machine, whatever the environment says of proxies.
SESSION.trust_env = False


def claims(**changes):
    """The claims of a good grant, with changes; None takes one away."""
    now = int(time.time())
    good = {
        "aud": STAND["issuer"],
        "iss": STAND["key_client"],
        "scope": STAND["scope"],
        "iat": now,
        "exp": now + 60,
        "jti": str(uuid.uuid4()),
    }
    good.update(changes)
    return {name: value for name, value in good.items() if value is not None}


def signed(payload, algorithm="RS256", key=KEY, **headers):
    """A grant under a kid, unless the headers name the key in another way. PyJWT adds typ, as many clients do."""
    headers = headers or {"kid": STAND["kid"]}
    return jwt.encode(payload, key, algorithm=algorithm, headers=headers)


def by_certificate(chain, **changes):
    """A grant of the client with a certificate."""
    return signed(claims(iss=STAND["certificate_client"], **changes), x5c=chain)


def by_seal(chain, **changes):
    """A grant of a business with an eSeal."""
    changes = {"scope": "toll:eu/movement/road/v2", **changes}
    return signed(claims(iss="Norrbottens Akeri AB", **changes), x5c=chain)


def send(assertion):
    """Asks Maskinporten for a token."""
    form = {"grant_type": JWT_BEARER, "assertion": assertion}
    return SESSION.post(STAND["issuer"] + "token", data=form, timeout=60)


def token(assertion):
    """The token that Maskinporten gives."""
    answer = send(assertion)
    answer.raise_for_status()
    return answer.json()["access_token"]


def exchange_at_customs(subject, grant_type="token-exchange", token_type="access_token"):
    """Asks Customs for its own token."""
    form = {"grant_type": grant_type, "subject_token_type": token_type, "subject_token": subject}
    return SESSION.post(STAND["customs"] + "/api/access/external/oauth/token", data=form, timeout=60)


def exchange_at_altinn(subject, method="GET", **headers):
    """Asks Altinn for its own token."""
    url = STAND["altinn"] + "/authentication/api/v1/exchange/maskinporten"
    headers["Authorization"] = "Bearer " + subject
    return SESSION.request(method, url, headers=headers, timeout=60)
