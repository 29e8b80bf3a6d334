"""A table of a few hundred rows per country, which the benchmark writes."""

from perennial import Column, Owner, Seconds, Source
from scale_models.grid import COUNTRIES


def expectations():
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToNotBeNull(column="weight")]


pebbles = Source(
    name="pebbles",
    owner=Owner("bench"),
    connection="shop_db",
    table="pebbles",
    key=("id",),
    event_time="seen_at",
    changed_at="changed_at",
    country="country",
    countries={country: country for country in COUNTRIES},
    columns=(
        Column("id", "int64", nullable=False),
        Column("changed_at", "timestamp", nullable=False),
        Column("seen_at", "timestamp", nullable=False),
        Column("country", "string"),
        Column("length", "float64"),
        Column("weight", "float64"),
    ),
    expectations=expectations,
    max_commit_lag=Seconds(0),
)
