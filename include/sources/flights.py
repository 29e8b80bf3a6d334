"""Flights from New York's airports, in files that are dropped into a store once their flights are over."""

from typing import Any

from perennial import Column, FileSource, Owner, Seconds

REQUIRED = ("carrier", "flight", "origin", "dest", "distance")


def expectations() -> list[Any]:
    """What a batch must look like. A cancelled flight has no delays, a diverted one no delay of arrival."""
    import great_expectations.expectations as gxe

    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in REQUIRED),
        gxe.ExpectColumnValuesToMatchRegex(column="carrier", regex=r"^[A-Z0-9]{2}$"),
        gxe.ExpectColumnValuesToMatchRegex(column="dest", regex=r"^[A-Z]{3}$"),
        gxe.ExpectColumnValuesToBeBetween(column="distance", min_value=10, max_value=10_000),
        gxe.ExpectColumnValuesToBeBetween(column="air_time", min_value=10, max_value=1_000, mostly=0.99),
        gxe.ExpectColumnValuesToBeBetween(column="arr_delay", min_value=-180, max_value=3_000, mostly=0.99),
    ]


flights = FileSource(
    name="flights",
    owner=Owner("flight-data", alerts=("mailto://flight-data@example.com",)),
    connection="landing_store",
    prefix="flights/",
    format="csv",
    key=("flight_id",),
    event_time="scheduled_at",
    country="origin",
    countries={"EWR": "EWR", "JFK": "JFK", "LGA": "LGA"},
    columns=(
        Column("flight_id", "int64", nullable=False),
        Column("scheduled_at", "timestamp", nullable=False),
        Column("carrier", "string"),
        Column("flight", "int64"),
        Column("origin", "string"),
        Column("dest", "string"),
        Column("distance", "float64"),
        Column("dep_delay", "float64"),
        Column("arr_delay", "float64"),
        Column("air_time", "float64"),
    ),
    expectations=expectations,
    quiet=Seconds(2),
    schedule="*/10 * * * *",
)
