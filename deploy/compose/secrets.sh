#!/usr/bin/env bash
# Makes the secrets of the compose installation, once; a second run changes nothing. A
# lost salt master cannot be made again: back the volume up.
set -euo pipefail
umask 077

random() { head -c 24 /dev/urandom | base64 | tr '+/' '-_'; }
at=postgres:5432/sealstream?sslmode=disable

# An installation from before there were verification jobs gets this one later.
if [ ! -e /secrets/jobs.url ]; then
	printf 'postgres://sealstream_jobs:%s@%s\n' "$(random)" "$at" >/secrets/jobs.url
	chown 65532:65532 /secrets/jobs.url
fi
if [ -e /secrets/complete ]; then
	exit 0
fi

owner=$(random)
writer=$(random)
reader=$(random)

# PostgreSQL's own user reads this one.
printf '%s' "$owner" >/postgres-secrets/password

cd /secrets
printf 'postgres://postgres:%s@%s\n' "$owner" "$at" >owner.url
printf 'postgres://sealstream_writer:%s@%s\n' "$writer" "$at" >writer.url
printf 'postgres://sealstream_reader:%s@%s\n' "$reader" "$at" >reader.url
mkdir -p salt
head -c 32 /dev/urandom >salt/1.key
head -c 32 /dev/urandom >pseudonym.key
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj /CN=localhost \
	-addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout api.key -out api.crt
cp api.crt /postgres-secrets/
touch complete
chown -R 65532:65532 /secrets
chown -R postgres:postgres /postgres-secrets
