"""Readings: a table that the benchmark writes."""

from fleet.world import COUNTRIES, FEATURES, TARGETS
from perennial import Column, Owner, Seconds, Source


def expectations():
    """Complete rows, and no value that a reading cannot have."""
    import great_expectations.expectations as gxe

    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in ("id", "country", *TARGETS)),
        *(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=-100, max_value=100) for name in ("x0", *TARGETS)),
    ]


readings = Source(
    name="readings",
    owner=Owner("bench"),
    connection="bench_db",
    table="readings",
    key=("id",),
    event_time="read_at",
    changed_at="changed_at",
    country="country",
    countries={country: country for country in COUNTRIES},
    columns=(
        Column("id", "int64", nullable=False),
        Column("changed_at", "timestamp", nullable=False),
        Column("country", "string"),
        Column("read_at", "timestamp", nullable=False),
        *(Column(name, "float64") for name in (*FEATURES, *TARGETS)),
    ),
    expectations=expectations,
    max_commit_lag=Seconds(2),
    schedule="0 0 1 1 *",
)
