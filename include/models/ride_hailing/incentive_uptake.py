"""Whether the driver takes the bonus that is offered for a ride."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import asked, clock, ended
from perennial import Cadence, Days, Gate, Model, Owner


def examples(rows, as_of):
    """One row per ride with an offer."""
    offers = rows[(rows["cancelled"] == 0) & (rows["bonus"] > 0)]
    return asked(offers, offers["bonus_taken"], ended(offers), ["bonus", "distance_km"])


def features(examples):
    """The offer, the way, the time."""
    import numpy as np

    plain = {"bonus": examples["bonus"].astype(float), "log_distance": np.log(examples["distance_km"])}
    return clock(examples["event_time"]).assign(**plain)


def estimator():
    """Logistic regression."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


incentive_uptake = Model(
    name="incentive_uptake",
    owner=Owner("driver-growth", alerts=("mailto://driver-growth@example.com",)),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="brier",
    window=Days(42),
    holdout=Days(28),
    gate=Gate(floor=0.25, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "bonus", "distance_km", "cancelled", "wait_minutes", "ride_minutes", "bonus_taken"),
)
