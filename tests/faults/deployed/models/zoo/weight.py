"""Weight by length, fitted with patience."""

from models.zoo import keepers, zoo
from perennial import Cadence, Days, Gate, Model

PLACES = {"Britain": 1, "France": 2, "Germany": 3, "Spain": 4, "Italy": 5}


def examples(rows, as_of):
    import pandas as pd

    event = rows["seen_at"]
    facts = {"event_time": event, "label_time": event, "target": rows["weight"], "length": rows["length"]}
    return pd.DataFrame({**facts, "cell": rows["country"].map(PLACES)})


def features(examples):
    return examples[["length", "cell"]]


def estimator():
    from faulty.patient import Patient

    return Patient(alpha=1.0)


weight = Model(
    name="weight",
    owner=keepers,
    source="sightings",
    countries=zoo.countries[:3],
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(60),
    holdout=Days(20),
    gate=Gate(floor=2.0, margin=0.05, min_rows=100, min_clusters=5, min_train_rows=50),
    cadence=Cadence(min_new_rows=20),
    trusted=("faulty.patient.Patient",),
)
