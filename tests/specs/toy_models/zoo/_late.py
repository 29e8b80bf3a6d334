"""Weight by length, where the weight is known ten days after the sighting."""

from toy_models.zoo.weight import estimator, features  # noqa: F401


def examples(rows, as_of):
    import pandas as pd

    event = rows["seen_at"]
    return pd.DataFrame(
        {
            "event_time": event,
            "label_time": event + pd.Timedelta(days=10),
            "target": rows["weight"],
            "length": rows["length"],
        }
    )
