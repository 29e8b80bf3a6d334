"""The logarithm of how many free drivers are near a request, from where and when it is made."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked, clock
from perennial import Cadence, Days, Gate, Model, Owner


def examples(rows, as_of):
    """One row per request: the drivers are counted when it is made."""
    import numpy as np

    return asked(rows, np.log1p(rows["drivers_nearby"]), rows["requested_at"], ["zone", "rain_mm"])


def features(examples):
    """The zone, the time, the weather."""
    plain = examples[["zone", "rain_mm"]].astype(float)
    return clock(examples["event_time"]).join(plain)


def estimator():
    """Boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, learning_rate=0.1, min_samples_leaf=30, early_stopping=False, random_state=0
    )


driver_availability = Model(
    name="driver_availability",
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
    columns=("requested_at", "zone", "rain_mm", "drivers_nearby"),
)
