"""Whether the rider cancels before being picked up."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked, ended
from perennial import Cadence, Days, Gate, Model, Owner


def examples(rows, as_of):
    """One row per request."""
    return asked(rows, rows["cancelled"], ended(rows), ["drivers_nearby", "surge", "rain_mm", "distance_km"])


def features(examples):
    """The drivers there are and the surge, on a scale on which a share more is as much everywhere."""
    import numpy as np

    logs = np.log1p(examples[["drivers_nearby", "distance_km"]].astype(float))
    return logs.assign(log_surge=np.log(examples["surge"]), rain_mm=examples["rain_mm"])


def estimator():
    """Boosted trees, few and small: the world is nearly linear here."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, learning_rate=0.1, min_samples_leaf=40, early_stopping=False, random_state=0
    )


cancellation = Model(
    name="cancellation",
    owner=Owner("rider-experience", alerts=("mailto://rider-experience@example.com",)),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="log_loss",
    window=Days(42),
    holdout=Days(28),
    gate=Gate(floor=0.65, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "drivers_nearby", "surge", "rain_mm", "distance_km", "cancelled", "wait_minutes", "ride_minutes"),
)
