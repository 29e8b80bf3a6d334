"""Flights for the tests of the airports' models, as a model sees them: indexed by number."""

import numpy as np
import pandas as pd

START = pd.Timestamp("2013-01-01", tz="UTC")
FLIGHT = {"carrier": "UA", "dest": "IAH", "distance": 1400.0, "dep_delay": 2.0, "arr_delay": 11.0, "air_time": 227.0}


def some_flights(*changes: dict[str, object]) -> pd.DataFrame:
    """One flight an hour from midnight on, each the usual one with changes."""
    made = [{**FLIGHT, "scheduled_at": START + pd.Timedelta(hours=hour), **change} for hour, change in enumerate(changes)]
    index = pd.RangeIndex(1, len(changes) + 1, name="flight_id")
    rows = pd.DataFrame(made, index=index, columns=[*FLIGHT, "scheduled_at"])
    return rows.astype({"carrier": "str", "dest": "str", "scheduled_at": "datetime64[us, UTC]"})


def an_airport(days: int = 200) -> pd.DataFrame:
    """Four flights a day to four places; some late, some cancelled, some diverted."""
    random = np.random.default_rng(0)
    made: list[dict[str, object]] = []
    for number in range(4 * days):
        place = int(random.integers(4))
        delay = float(random.exponential(20) - 10)
        flown = random.random() > 0.05
        made.append(
            {
                "scheduled_at": START + pd.Timedelta(days=number // 4, hours=11 + 3 * (number % 4)),
                "carrier": "AB"[number % 2] * 2,
                "dest": f"XY{'ABCD'[place]}",
                "distance": 500.0 * (place + 1),
                "dep_delay": delay if flown else np.nan,
                "arr_delay": delay + float(random.normal(0, 5)) if flown else np.nan,
                "air_time": 60.0 * (place + 1) + float(random.normal(0, 5)) if flown else np.nan,
            }
        )
    return some_flights(*made)
