#!/usr/bin/env bash
# Makes tests/data/tls: a certificate authority that nobody trusts but the tests, and a server of it on loopback. The
# authority's key is thrown away; the server's key is no secret.
set -euo pipefail
cd "$(dirname "$0")"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p tls
curve=(-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes)
openssl req -x509 "${curve[@]}" -keyout "$work/ca.key" -out tls/ca.pem -days 36500 -subj "/CN=pg_rag test authority" \
    -addext "basicConstraints=critical,CA:TRUE" -addext "keyUsage=critical,keyCertSign"
openssl req "${curve[@]}" -keyout tls/server.key -out "$work/server.csr" -subj "/CN=localhost"
printf '%s\n' "basicConstraints=critical,CA:FALSE" "subjectAltName=DNS:localhost,IP:127.0.0.1" \
    "extendedKeyUsage=serverAuth" >"$work/extensions"
: >"$work/index"
printf '%s\n' "[ca]" "default_ca=it" "[it]" "database=$work/index" "new_certs_dir=$work" "rand_serial=yes" \
    "default_md=sha256" "policy=any" "[any]" "commonName=supplied" >"$work/ca.conf"
# Valid whatever a machine's clock says.
openssl ca -batch -notext -config "$work/ca.conf" -cert tls/ca.pem -keyfile "$work/ca.key" -in "$work/server.csr" \
    -out tls/server.pem -extfile "$work/extensions" -startdate 20000101000000Z -enddate 20991231235959Z
chmod 644 tls/server.key
