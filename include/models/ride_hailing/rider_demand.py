"""How many trips are requested in a zone within three hours, as twice the root of the count."""

from models.ride_hailing import ride_hailing
from models.ride_hailing._trips import clock
from perennial import Cadence, Days, Gate, Model, Owner

SPAN = Days(0.125)


def examples(rows, as_of):
    """One row per zone and three hours, from the zone's first trip on, also where nobody asked.

    The target is Anscombe's transform of the count, whose noise is about 1 in a large country as in a small one. A count
    is known three hours after its end: the longest trip requested in it is written by then.
    """
    import numpy as np
    import pandas as pd

    starts = rows["requested_at"].dt.floor("3h")
    index = spans(rows.groupby("zone")["requested_at"].min().dt.ceil("3h"), as_of)
    counts = rows.groupby(["zone", starts]).size().rename_axis(["zone", "start"]).reindex(index, fill_value=0)
    moments = pd.Series(index.get_level_values("start"), index=index)
    return pd.DataFrame(
        {
            "event_time": moments,
            "label_time": moments + SPAN + SPAN,
            "target": 2 * np.sqrt(counts + 3 / 8),
            "zone": index.get_level_values("zone"),
        }
    )


def spans(firsts, as_of):
    """Each zone with every three hours from its first on, as an index."""
    import pandas as pd

    made = [(zone, start) for zone, first in firsts.items() for start in pd.date_range(first, as_of, freq="3h", unit="us")]
    types = {"zone": "int64", "start": "datetime64[us, UTC]"}
    return pd.MultiIndex.from_frame(pd.DataFrame(made, columns=list(types)).astype(types))


def features(examples):
    """The zone, the time of day, the day of the week."""
    return clock(examples["event_time"]).assign(zone=examples["zone"].astype(float))


def estimator():
    """Boosted trees."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    return HistGradientBoostingRegressor(
        max_iter=80, max_leaf_nodes=15, learning_rate=0.1, min_samples_leaf=30, early_stopping=False, random_state=0
    )


rider_demand = Model(
    name="rider_demand",
    owner=Owner("marketplace", alerts=("mailto://marketplace@example.com",)),
    source="trips",
    countries=ride_hailing.countries,
    examples=examples,
    features=features,
    estimator=estimator,
    metric="rmse",
    window=Days(42),
    holdout=Days(28),
    gate=Gate(floor=1.5, min_rows=150),
    cadence=Cadence(min_new_rows=100, max_age=Days(30)),
    columns=("requested_at", "zone"),
)
