"""The logarithm of the minutes until a driver picks the rider up."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked, clock, ended
from perennial import Cadence, Days, Gate, Model, Owner


def examples(rows, as_of):
    """One row per ride that was made."""
    import numpy as np

    rides = rows[rows["cancelled"] == 0]
    return asked(rides, np.log(rides["wait_minutes"]), ended(rides), ["drivers_nearby", "rain_mm"])


def features(examples):
    """The drivers there are, the time, the weather."""
    plain = examples[["drivers_nearby", "rain_mm"]].astype(float)
    return clock(examples["event_time"]).join(plain)


def estimator():
    """Boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, learning_rate=0.1, min_samples_leaf=30, early_stopping=False, random_state=0
    )


pickup_wait = Model(
    name="pickup_wait",
    owner=Owner("marketplace", alerts=("mailto://marketplace@example.com",)),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(42),
    holdout=Days(28),
    gate=Gate(floor=0.6, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "drivers_nearby", "rain_mm", "cancelled", "wait_minutes", "ride_minutes"),
)
