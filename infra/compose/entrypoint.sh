#!/bin/sh
# Reads this container's secrets, files of NAME=VALUE lines, into the environment of one process.
# `with-secrets COMMAND...`
set -eu
[ "$1" = with-secrets ] && shift
for file in "${SECRETS:-/run/secrets}"/*_env; do
  [ -f "$file" ] || continue
  # The whole line: `read` with IFS='=' would drop the last character of a key in base64.
  while IFS= read -r line; do
    case "$line" in *=*) export "${line%%=*}=${line#*=}" ;; esac
  done < "$file"
done
# libpq takes passwords only from a file that nobody else can read.
if [ -n "${PGPASSFILE:-}" ]; then
  umask 077
  cp "$PGPASSFILE" "$HOME/.pgpass"
  export PGPASSFILE="$HOME/.pgpass"
fi
# A process joins Ray through a Ray node beside it; this one runs no work of others.
if [ -n "${JOIN_RAY:-}" ]; then
  ray start --address="$RAY_ADDRESS" --num-cpus=0 --disable-usage-stats > /dev/null
fi
exec "$@"
