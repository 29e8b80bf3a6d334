"""Whether a ride's payment is fraudulent, known when the time for a chargeback has passed, weeks later."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked
from perennial import Cadence, Days, Gate, Model, Owner


def examples(rows, as_of):
    """One row per ride that was made; the label is empty until the payment is settled."""
    rides = rows[(rows["cancelled"] == 0) & rows["settled_at"].notna()]
    return asked(rides, rides["fraud"], rides["settled_at"], ["distance_km", "rider_trips", "payment"])


def features(examples):
    """The way, the rider's past, the payment."""
    import numpy as np

    logs = np.log1p(examples[["distance_km", "rider_trips"]].astype(float))
    return logs.assign(card=(examples["payment"] == "card").astype(float))


def estimator():
    """Logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


fraud = Model(
    name="fraud",
    owner=Owner("trust", alerts=("mailto://trust@example.com",), tier=1),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="log_loss",
    window=Days(42),
    lookback=Days(40),
    holdout=Days(28),
    gate=Gate(floor=0.35, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "distance_km", "rider_trips", "payment", "cancelled", "settled_at", "fraud"),
)
