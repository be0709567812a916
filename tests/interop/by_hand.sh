#!/usr/bin/env bash
# A grant by hand, with openssl and curl: by_hand.sh ISSUER CUSTOMS KEY KID CLIENT SCOPE prints Customs' answer.
set -euo pipefail
issuer=$1 customs=$2 key=$3 kid=$4 client=$5 scope=$6

base64url() {
    openssl base64 -A | tr '+/' '-_' | tr -d '='
}

now=$(date +%s)
header=$(printf '{"alg":"RS256","kid":"%s"}' "$kid" | base64url)
claims=$(printf '{"aud":"%s","iss":"%s","scope":"%s","iat":%d,"exp":%d,"jti":"%s"}' \
    "$issuer" "$client" "$scope" "$now" "$((now + 60))" "$(openssl rand -hex 16)" | base64url)
signature=$(printf '%s.%s' "$header" "$claims" | openssl dgst -sha256 -sign "$key" -binary | base64url)

token=$(curl --noproxy '*' --fail --silent --show-error "${issuer}token" \
    --data-urlencode grant_type=urn:ietf:params:oauth:grant-type:jwt-bearer \
    --data-urlencode "assertion=$header.$claims.$signature" | sed 's/.*"access_token":"\([^"]*\)".*/\1/')
curl --noproxy '*' --fail --silent --show-error "$customs/api/access/external/oauth/token" \
    --data grant_type=token-exchange --data subject_token_type=access_token --data-urlencode "subject_token=$token"
