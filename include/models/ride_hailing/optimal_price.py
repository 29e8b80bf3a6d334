"""The logarithm of the price that rider and driver agree on by bidding: what a quote should say."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked, clock, ended
from perennial import Cadence, Days, Gate, Model, Owner


def examples(rows, as_of):
    """One row per ride that was made."""
    import numpy as np

    rides = rows[rows["cancelled"] == 0]
    return asked(rides, np.log(rides["agreed_price"]), ended(rides), ["distance_km", "drivers_nearby"])


def features(examples):
    """The way, the time, the drivers there are."""
    import numpy as np

    plain = np.log1p(examples[["distance_km", "drivers_nearby"]].astype(float))
    return clock(examples["event_time"]).join(plain)


def estimator():
    """Boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, learning_rate=0.1, min_samples_leaf=30, early_stopping=False, random_state=0
    )


optimal_price = Model(
    name="optimal_price",
    owner=Owner("pricing", alerts=("mailto://pricing@example.com",), tier=1),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(42),
    holdout=Days(28),
    gate=Gate(floor=0.4, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "distance_km", "drivers_nearby", "cancelled", "wait_minutes", "ride_minutes", "agreed_price"),
)
