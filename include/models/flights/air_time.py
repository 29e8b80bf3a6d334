"""How many minutes a flight will be in the air, by its schedule alone: what changes is the wind."""

from models.flights import flights
from models.flights._flights import landed_at, schedule
from perennial import Cadence, Days, Gate, Model, Owner

MEANS = ["dest", "carrier"]
PLAIN = ["distance", "hour"]


def examples(rows, as_of):
    """One row per flight that arrived where it was going."""
    import pandas as pd

    flown = rows[rows["air_time"].notna() & rows["dep_delay"].notna()]
    return pd.DataFrame(
        {
            "event_time": flown["scheduled_at"],
            "label_time": landed_at(flown),
            "target": flown["air_time"],
            "carrier": flown["carrier"],
            "dest": flown["dest"],
            "distance": flown["distance"],
        }
    )


def features(examples):
    """The schedule."""
    return schedule(examples)


def estimator():
    """Boosted trees over each destination's and carrier's mean time, learned out of fold."""
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingRegressor
    from sklearn.model_selection import KFold
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import TargetEncoder

    means = TargetEncoder(target_type="continuous", cv=KFold(5, shuffle=True, random_state=0))
    trees = HistGradientBoostingRegressor(
        max_iter=60, learning_rate=0.15, min_samples_leaf=20, early_stopping=False, random_state=0
    )
    prepare = ColumnTransformer([("means", means, MEANS), ("plain", "passthrough", PLAIN)])
    return Pipeline([("prepare", prepare), ("trees", trees)])


air_time = Model(
    name="air_time",
    owner=Owner("dispatch", alerts=("mailto://dispatch@example.com",)),
    source="flights",
    countries=flights.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(45),
    holdout=Days(21),
    gate=Gate(floor=25.0, min_rows=1000),
    cadence=Cadence(min_new_rows=500, max_age=Days(45)),
    columns=("scheduled_at", "carrier", "dest", "distance", "dep_delay", "air_time"),
)
