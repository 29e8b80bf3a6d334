"""Trips of the simulated ride hailing: one row per trip when it ends, revised as more of it becomes known.

Late labels are empty until then: ``contacted`` for three days, ``churned`` for fourteen, ``fraud`` until ``settled_at``.
"""

from typing import Any

from perennial import Column, Owner, Seconds, Source

CODES = (
    "US", "BR", "IN", "MX", "GB", "FR", "DE", "ID", "AU", "CA", "ES", "JP", "ZA", "NL", "PL", "SE", "CL", "PT", "NZ", "IE",
)  # fmt: skip
REQUIRED = ("country", "zone", "distance_km", "rider_trips", "payment", "drivers_nearby", "surge", "bonus", "cancelled")
FLAGS = ("cancelled", "bonus_taken", "contacted", "churned", "fraud")


def expectations() -> list[Any]:
    """What a batch must look like. One price in 200 is first mistyped tenfold; prices in cents are another matter."""
    import great_expectations.expectations as gxe

    return [
        *(gxe.ExpectColumnValuesToNotBeNull(column=name) for name in REQUIRED),
        *(gxe.ExpectColumnValuesToBeBetween(column=name, min_value=0, max_value=1) for name in FLAGS),
        gxe.ExpectColumnValuesToBeInSet(column="payment", value_set=["card", "wallet", "cash"]),
        gxe.ExpectColumnValuesToBeBetween(column="distance_km", min_value=0.05, max_value=300),
        gxe.ExpectColumnValuesToBeBetween(column="wait_minutes", min_value=0, max_value=120),
        gxe.ExpectColumnValuesToBeBetween(column="ride_minutes", min_value=0, max_value=180),
        gxe.ExpectColumnValuesToBeBetween(column="agreed_price", min_value=0.2, max_value=300, mostly=0.9),
    ]


trips = Source(
    name="trips",
    owner=Owner("rides-data", alerts=("mailto://rides-data@example.com",)),
    connection="rides_db",
    table="trips",
    key=("trip_id",),
    event_time="requested_at",
    changed_at="changed_at",
    country="country",
    countries={code: code for code in CODES},
    columns=(
        Column("trip_id", "int64", nullable=False),
        Column("changed_at", "timestamp", nullable=False),
        Column("requested_at", "timestamp", nullable=False),
        Column("country", "string"),
        Column("zone", "int64"),
        Column("distance_km", "float64"),
        Column("rider_trips", "int64"),
        Column("payment", "string"),
        Column("rain_mm", "float64"),
        Column("drivers_nearby", "int64"),
        Column("surge", "float64"),
        Column("bonus", "int64"),
        Column("cancelled", "int64"),
        Column("wait_minutes", "float64"),
        Column("ride_minutes", "float64"),
        Column("agreed_price", "float64"),
        Column("bonus_taken", "int64"),
        Column("contacted", "int64"),
        Column("churned", "int64"),
        Column("fraud", "int64"),
        Column("settled_at", "timestamp"),
    ),
    expectations=expectations,
    max_commit_lag=Seconds(2),
    schedule="*/10 * * * *",
)
