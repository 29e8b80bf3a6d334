"""As many models as a fleet may have, each a straight line: all but a few milliseconds of a cell is Perennial's own."""

from perennial import Cadence, Days, Gate, Model, Owner
from scale_models.grid import COUNTRIES

NUMBER = 310


def examples(rows, as_of):
    import pandas as pd

    return pd.DataFrame(
        {"event_time": rows["seen_at"], "label_time": rows["seen_at"], "target": rows["weight"], "length": rows["length"]}
    )


def features(examples):
    return examples[["length"]]


def estimator():
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


for number in range(NUMBER):
    globals()[f"line_{number:03}"] = Model(
        name=f"line_{number:03}", owner=Owner("bench"), source="pebbles", countries=COUNTRIES, examples=examples,
        features=features, estimator=estimator, metric="rmse", window=Days(60), holdout=Days(20), refit=False,
        gate=Gate(floor=2.0, margin=0.05, min_rows=50, min_clusters=5, min_train_rows=50), cadence=Cadence(min_new_rows=20),
    )  # fmt: skip
