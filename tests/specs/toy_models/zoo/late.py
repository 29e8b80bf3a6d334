"""Weight, weighed ten days after the sighting: a label that matures."""

from perennial import Cadence, Days, Gate, Model, Owner
from toy_models.zoo.weight import estimator, features


def examples(rows, as_of):
    import pandas as pd

    return pd.DataFrame(
        {
            "event_time": rows["seen_at"],
            "label_time": rows["seen_at"] + pd.Timedelta(days=10),
            "target": rows["weight"],
            "length": rows["length"],
        }
    )


late = Model(
    name="late",
    owner=Owner("keepers"),
    source="sightings",
    countries=("DE",),
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(60),
    holdout=Days(20),
    gate=Gate(floor=2.0, margin=0.05, min_rows=100, min_clusters=5, min_train_rows=50),
    cadence=Cadence(min_new_rows=20),
)
