"""How many minutes the ride will take."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked, clock, ended
from perennial import Cadence, Days, Gate, Model, Owner


def examples(rows, as_of):
    """One row per ride that was made."""
    rides = rows[rows["cancelled"] == 0]
    return asked(rides, rides["ride_minutes"], ended(rides), ["zone", "distance_km", "rain_mm"])


def features(examples):
    """The way, the time, the weather."""
    plain = examples[["zone", "distance_km", "rain_mm"]].astype(float)
    return clock(examples["event_time"]).join(plain)


def estimator():
    """Boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, learning_rate=0.1, min_samples_leaf=30, early_stopping=False, random_state=0
    )


eta = Model(
    name="eta",
    owner=Owner("navigation", alerts=("mailto://navigation@example.com",), tier=1),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="mae",
    window=Days(42),
    holdout=Days(28),
    gate=Gate(floor=3.0, min_rows=150, max_refit_distance=0.8),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "zone", "distance_km", "rain_mm", "cancelled", "wait_minutes", "ride_minutes"),
)
