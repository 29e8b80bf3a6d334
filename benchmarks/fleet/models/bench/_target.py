"""What the ten models share: everything but the target."""

import os

from fleet.models.bench import bench
from fleet.world import FEATURES, HOLDOUT_DAYS, WINDOW_DAYS
from perennial import Cadence, Days, Gate, Model, Owner

NUMBERS = ["x0", "x1", "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14"]


def labelled(rows, name):
    """Each reading is an example, its label known at once."""
    import pandas as pd

    known = pd.DataFrame({"event_time": rows["read_at"], "label_time": rows["read_at"], "target": rows[name]})
    return pd.concat([known, rows[NUMBERS]], axis=1)


def features(examples):
    """The fifteen columns as they are."""
    return examples[NUMBERS]


def estimator():
    """A hundred boosted trees, never fewer."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(max_iter=100, early_stopping=False, random_state=0)


def model_of(name, examples):
    """The model of one target. BENCH_REFIT=1 serves refitted ones."""
    return Model(
        name=name,
        owner=Owner("bench"),
        source="readings",
        countries=bench.countries,
        examples=examples,
        features=features,
        estimator=estimator,
        metric="rmse",
        window=Days(WINDOW_DAYS),
        holdout=Days(HOLDOUT_DAYS),
        gate=Gate(floor=100.0),
        cadence=Cadence(min_new_rows=100),
        columns=("read_at", *FEATURES, name),
        refit=os.environ.get("BENCH_REFIT") == "1",
    )
