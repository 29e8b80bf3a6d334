"""What the fleet's models share: how an example of a trip is made, what is known at the request, and usual bounds."""


def asked(trips, target, label_time, columns):
    """One example per trip: the target, when it is known, and what was known when the trip was requested."""
    import pandas as pd

    known = {name: trips[name] for name in columns}
    moments = {"event_time": trips["requested_at"], "label_time": label_time}
    return pd.DataFrame({**moments, "target": target.astype(float), **known})


def ended(trips):
    """When a trip was over and written: its outcome is known then. A cancelled one takes five minutes."""
    import pandas as pd

    minutes = (trips["wait_minutes"] + trips["ride_minutes"]).fillna(5.0)
    return trips["requested_at"] + pd.to_timedelta((minutes * 60).round(), unit="s").astype("timedelta64[us]")


def clock(moments):
    """The time of day as a circle, so that midnight has neighbours on both sides, and the day of the week."""
    import numpy as np
    import pandas as pd

    seconds = moments.dt.hour * 3600 + moments.dt.minute * 60
    angle = 2 * np.pi * seconds.to_numpy() / 86_400
    parts = {"cos_hour": np.cos(angle), "sin_hour": np.sin(angle), "weekday": moments.dt.weekday.astype(float)}
    return pd.DataFrame(parts, index=moments.index)
