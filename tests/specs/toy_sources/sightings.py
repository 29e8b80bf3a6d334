"""Sightings of animals: a table that the tests write."""

from perennial import Column, Owner, Seconds, Source


def expectations():
    import great_expectations.expectations as gxe

    return [
        gxe.ExpectColumnValuesToNotBeNull(column="weight", mostly=0.9),
        gxe.ExpectColumnValuesToBeBetween(column="weight", min_value=-1000, max_value=1000),
    ]


sightings = Source(
    name="sightings",
    owner=Owner("rangers"),
    connection="zoo_db",
    table="sightings",
    key=("id",),
    event_time="seen_at",
    changed_at="changed_at",
    country="country",
    countries={"Britain": "GB", "France": "FR", "Germany": "DE"},
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
