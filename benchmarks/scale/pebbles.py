"""The rows that the small cells are trained on."""

from contextlib import closing

import psycopg2

from perennial.catalog import Catalog
from perennial.resources import Resources
from perennial.steps import ingest, validate

ROWS = 300
TABLE = """
CREATE TABLE IF NOT EXISTS pebbles (
    id bigint PRIMARY KEY, changed_at timestamptz NOT NULL DEFAULT now(), seen_at timestamptz, country text,
    length double precision, weight double precision);
INSERT INTO pebbles (id, seen_at, country, length, weight)
SELECT row_number() OVER (), now() - number * interval '60 days' / %(rows)s, country, length, 2 * length + random_normal(0, 0.5)
FROM unnest(%(countries)s::text[]) AS country, generate_series(1, %(rows)s) AS number, LATERAL (
    SELECT 10 * random() + 0 * number AS length) AS drawn;
"""


def write_pebbles(dsn: str, countries: tuple[str, ...]) -> None:
    """A few hundred rows per country over the last sixty days."""
    with closing(psycopg2.connect(dsn)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(TABLE, {"rows": ROWS, "countries": list(countries)})


def take_in(resources: Resources, catalog: Catalog) -> None:
    """Land and accept them."""
    source = catalog.source("pebbles")
    ingest.land(resources, source)
    validate.validate(resources, source)
