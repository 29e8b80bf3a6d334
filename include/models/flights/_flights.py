"""What the airports' models share: when a flight's end is known, and what is known of it before."""


def landed_at(rows):
    """When a flight was down: its schedule, its delay, its time in the air. NaT where it never arrived as planned."""
    import pandas as pd

    return rows["scheduled_at"] + pd.to_timedelta(rows["dep_delay"] + rows["air_time"], unit="min")


def schedule(examples):
    """Carrier, destination, distance, hour and weekday in New York."""
    import pandas as pd

    there = examples["event_time"].dt.tz_convert("America/New_York")
    return pd.DataFrame(
        {
            "carrier": examples["carrier"],
            "dest": examples["dest"],
            "distance": examples["distance"],
            "hour": there.dt.hour.astype(float),
            "weekday": there.dt.dayofweek.astype(float),
        },
        index=examples.index,
    )
