"""Whether a flight will arrive more than 15 minutes late, by its schedule alone."""

from models.flights import flights
from models.flights._flights import landed_at, schedule
from perennial import Cadence, Days, Gate, Model, Owner

LATE_MINUTES = 15
SHARES = ["dest", "carrier"]
PLAIN = ["distance", "hour", "weekday"]


def examples(rows, as_of):
    """One row per flight that arrived where it was going: of one that did not, nobody knows how late it would have been."""
    import pandas as pd

    flown = rows[rows["arr_delay"].notna() & rows["air_time"].notna()]
    return pd.DataFrame(
        {
            "event_time": flown["scheduled_at"],
            "label_time": landed_at(flown),
            "target": (flown["arr_delay"] > LATE_MINUTES).astype(float),
            "carrier": flown["carrier"],
            "dest": flown["dest"],
            "distance": flown["distance"],
        }
    )


def features(examples):
    """The schedule."""
    return schedule(examples)


def estimator():
    """Boosted trees over each destination's and carrier's share of late flights, learned out of fold."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.model_selection import KFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import TargetEncoder

    shares = TargetEncoder(target_type="binary", cv=KFold(5, shuffle=True, random_state=0))
    trees = HistGradientBoostingClassifier(
        max_iter=60, learning_rate=0.05, max_leaf_nodes=15, min_samples_leaf=100, early_stopping=False, random_state=0
    )
    prepare = ColumnTransformer([("shares", shares, SHARES), ("plain", "passthrough", PLAIN)])
    return Pipeline([("prepare", prepare), ("trees", trees)])


arrival_late = Model(
    name="arrival_late",
    owner=Owner("dispatch", alerts=("mailto://dispatch@example.com",)),
    source="flights",
    countries=flights.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="log_loss",
    window=Days(60),
    holdout=Days(28),
    gate=Gate(floor=0.7, min_rows=1000, min_clusters=14),
    cadence=Cadence(min_new_rows=500, max_age=Days(45)),
    columns=("scheduled_at", "carrier", "dest", "distance", "dep_delay", "arr_delay", "air_time"),
)
