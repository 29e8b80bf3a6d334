"""Weight by length: a straight line plus noise, labels at once."""

from perennial import Cadence, Days, Gate, Model, Owner
from toy_models.zoo import zoo


def examples(rows, as_of):
    import pandas as pd

    known = rows[rows["weight"].notna()]
    return pd.DataFrame(
        {
            "event_time": known["seen_at"],
            "label_time": known["seen_at"],
            "target": known["weight"],
            "length": known["length"],
        }
    )


def features(examples):
    return examples[["length"]]


def estimator():
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


weight = Model(
    name="weight",
    owner=Owner("keepers"),
    source="sightings",
    countries=zoo.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(60),
    holdout=Days(20),
    gate=Gate(floor=2.0, margin=0.05, min_rows=100, min_clusters=5, min_train_rows=50),
    cadence=Cadence(min_new_rows=20),
)
