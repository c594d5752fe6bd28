#!/bin/sh
# Reads this container's secrets, files of NAME=VALUE lines, into the environment of one process.
# `with-secrets COMMAND...`
set -eu
[ "$1" = with-secrets ] && shift
for file in /run/secrets/*_env; do
  [ -f "$file" ] || continue
  while IFS='=' read -r name value; do
    [ -n "$name" ] && export "$name=$value"
  done < "$file"
done
# libpq takes passwords only from a file that nobody else can read.
if [ -n "${PGPASSFILE:-}" ]; then
  umask 077
  cp "$PGPASSFILE" "$HOME/.pgpass"
  export PGPASSFILE="$HOME/.pgpass"
fi
exec "$@"
