"""Whether the rider turns to support within three days of a ride."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked
from perennial import Cadence, Days, Gate, Model, Owner

KNOWN_AFTER_DAYS = 3


def examples(rows, as_of):
    """One row per ride that was made; the label is empty for three days. It is asked at the end of the ride."""
    rides = rows[rows["cancelled"] == 0]
    known = rides["requested_at"] + Days(KNOWN_AFTER_DAYS)
    return asked(rides, rides["contacted"], known, ["wait_minutes", "distance_km", "agreed_price"])


def features(examples):
    """The wait, the way, the price."""
    import numpy as np

    return np.log(examples[["wait_minutes", "distance_km", "agreed_price"]])


def estimator():
    """Boosted trees, few and small: the world is nearly linear here."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    return HistGradientBoostingClassifier(
        max_iter=60, max_leaf_nodes=8, learning_rate=0.1, min_samples_leaf=40, early_stopping=False, random_state=0
    )


support_contact = Model(
    name="support_contact",
    owner=Owner("support", alerts=("mailto://support@example.com",)),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="brier",
    window=Days(42),
    lookback=Days(KNOWN_AFTER_DAYS),
    holdout=Days(28),
    gate=Gate(floor=0.22, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "wait_minutes", "distance_km", "agreed_price", "cancelled", "contacted"),
)
