#!/bin/bash
# Run once by PostgreSQL's image, on an empty volume: a role and a database for each server.
set -euo pipefail
create() { # ROLE DATABASE...
  local role="$1" database
  shift
  # The password comes from a file, by psql's backquotes: on no command line.
  psql --set ON_ERROR_STOP=1 --username postgres <<SQL
\set password \`cat /run/secrets/${role}_database\`
CREATE ROLE ${role} LOGIN PASSWORD :'password';
SQL
  for database in "$@"; do
    createdb --username postgres --owner "$role" "$database"
  done
}
create prefect prefect
create mlflow mlflow mlflow_auth
