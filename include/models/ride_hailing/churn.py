"""Whether the rider gives up the account, known two weeks after the request."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked
from perennial import Cadence, Days, Gate, Model, Owner

KNOWN_AFTER_DAYS = 14


def examples(rows, as_of):
    """One row per request; the label is empty for fourteen days."""
    return asked(rows, rows["churned"], rows["requested_at"] + Days(KNOWN_AFTER_DAYS), ["rider_trips", "surge", "rain_mm"])


def features(examples):
    """The rider's past, and what the request met with."""
    import numpy as np

    parts = {"log_trips": np.log1p(examples["rider_trips"].astype(float)), "log_surge": np.log(examples["surge"])}
    return examples[["rain_mm"]].assign(**parts)


def estimator():
    """Logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


churn = Model(
    name="churn",
    owner=Owner("rider-experience", alerts=("mailto://rider-experience@example.com",)),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="log_loss",
    window=Days(42),
    lookback=Days(KNOWN_AFTER_DAYS),
    holdout=Days(28),
    gate=Gate(floor=0.69, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "rider_trips", "surge", "rain_mm", "churned"),
)
