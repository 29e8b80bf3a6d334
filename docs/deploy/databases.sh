#!/bin/sh
# Runs once, when the Postgres volume is empty: a database and a role each for Airflow and for Perennial.
set -eu
for name in airflow perennial; do
    case $name in
        airflow) password=$AIRFLOW_DB_PASSWORD ;;
        perennial) password=$PERENNIAL_DB_PASSWORD ;;
    esac
    psql -v ON_ERROR_STOP=1 --username postgres -v name="$name" -v password="$password" <<'SQL'
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
SQL
done
