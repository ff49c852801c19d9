#!/usr/bin/env bash
# Makes a throw-away test CA and the certificates the fixtures need in the directory that is named. Idempotent.
# Needs: openssl (Debian 12).
set -euo pipefail
mkdir -p "$1"; cd "$1"
[ -s ca.pem ] && [ -s elsewhere.pem ] && [ -s proxy.pem ] && [ -s origin.pem ] && [ -s expired.pem ] && [ -s wrongname.pem ] && [ -s otherca-leaf.pem ] && exit 0
mk_ca() { # name cn
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 3650 -subj "/CN=$2" -keyout "$1.key" -out "$1.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign,cRLSign 2>/dev/null; }
leaf() { # name ca san
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  printf 'subjectAltName=%s\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' "$3" > "$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 825 -extfile "$1.ext" -out "$1.crt" 2>/dev/null
  cat "$1.crt" "$1.key" > "$1.pem"; rm -f "$1.csr" "$1.ext"; }
mk_ca ca "MCP gateway test CA"
mk_ca otherca "A CA the gateway does not trust"
leaf proxy ca "DNS:localhost,IP:127.0.0.1,IP:::1"                    # https proxies
leaf origin ca "DNS:localhost,DNS:origin.test,IP:127.0.0.1,IP:::1"   # https MCP upstream
leaf elsewhere ca "IP:127.0.0.2"                                  # upstream at another address than the proxy
leaf wrongname ca "DNS:wrong.example"                                # must be rejected: name mismatch
leaf otherca-leaf otherca "DNS:localhost,IP:127.0.0.1"               # must be rejected: unknown issuer
# An expired leaf, without faketime: `openssl ca` takes explicit dates.
openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=expired" -keyout expired.key -out expired.csr 2>/dev/null
printf 'subjectAltName=DNS:localhost,IP:127.0.0.1\nextendedKeyUsage=serverAuth\nbasicConstraints=CA:FALSE\n' > expired.ext
printf '[ca]\ndefault_ca=d\n[d]\ndatabase=expired.idx\nserial=expired.srl\nnew_certs_dir=.\ndefault_md=sha256\npolicy=p\nrand_serial=yes\n[p]\ncommonName=supplied\n' > expired.cnf
: > expired.idx
openssl ca -batch -config expired.cnf -cert ca.pem -keyfile ca.key -in expired.csr -out expired.crt -notext -extfile expired.ext \
  -startdate 20200101000000Z -enddate 20200201000000Z -outdir . >/dev/null 2>&1
cat expired.crt expired.key > expired.pem
rm -f expired.csr expired.ext expired.cnf expired.idx* expired.srl* [0-9A-F]*[0-9A-F].pem
chmod 600 ./*.key ./*.pem; chmod 644 ca.pem proxy.crt origin.crt
