"""The truth: every trip of a country, from the seed, the country's parameters and the day alone.

Each day of each country has a random generator of its own, which gives every trip its row of uniform numbers; all else is a
function of those numbers, the moment and the country. So any days can be made, in any order, and are always the same.

What is predicted depends on two causes each, in a direction that turns with the country's drift. The strength of the
dependence stays as it is: of what a model has learned, the cosine of the angle since then is still true.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, ndtri

from worlds.ride_hailing.countries import START, Country

Floats = NDArray[np.float64]
SEED = 20160101
DAY = timedelta(days=1)
LONGEST = timedelta(hours=3)
CONTACT_DELAY, CHURN_DELAY, TYPO_DELAY = timedelta(days=3), timedelta(days=14), timedelta(days=2)
MISTYPED_SHARE, MISTYPED_BY = 0.005, 10
EFFECTS = (
    "rider_demand", "driver_availability", "eta", "optimal_price", "fraud", "churn", "cancellation", "pickup_wait",
    "incentive", "support",
)  # fmt: skip
DRAWS = (
    "minute", "distance", "tenure", "payment", "nearby", "surge", "offer", "bonus", "wait", "ride", "price", "cancel",
    "take", "contact", "churn", "fraud", "typo",
)  # fmt: skip


def trips(country: Country, days: Iterable[int]) -> pd.DataFrame:
    """Every trip requested on these days (counted from START), by moment, with all that will ever be known of it.

    Beside the table's columns: ``ended_at``, when it is first written, and ``corrected_at``, from when on its price is right.
    """
    requests = _requests(country, sorted(days))
    made = _outcomes(country, _circumstances(country, requests))
    return made[~_befallen(country, "silence", made["requested_at"])].reset_index(drop=True)


def day_of(moment: datetime) -> int:
    """The day that holds a moment, counted from START."""
    return (moment - START) // DAY


def demand(country: Country, day: int) -> Floats:
    """Expected requests by zone and hour of a day, of shape (zones, 24). The peak's hour turns with the drift."""
    zones, hours = np.arange(country.zones)[:, None], np.arange(24) + 0.5
    peak = 18 + 8 * zones / country.zones + country.drift * day / 15 + _phases(country)[EFFECTS.index("rider_demand")]
    shape = np.exp(country.daily * np.cos(2 * np.pi * (hours - peak) / 24)) / (1 + zones)
    weekday = (START + day * DAY).weekday()
    return np.asarray(country.trips_a_day * (1 + country.weekly * np.cos(2 * np.pi * (weekday - 5) / 7)) * shape / shape.sum())


def _phases(country: Country) -> Floats:
    """Where each effect's direction points at START, in radians."""
    return np.random.default_rng([SEED, country.number]).uniform(0, 2 * np.pi, len(EFFECTS))


def _requests(country: Country, days: list[int]) -> dict[str, Any]:
    blocks = [_day(country, day) for day in days if day >= 0]
    if not blocks:
        blocks = [_nothing()]
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}


def _day(country: Country, day: int) -> dict[str, Any]:
    """A day's requests in the order of their moments: their zone, weather and uniform numbers."""
    random = np.random.default_rng([SEED, country.number, day])
    rain = np.maximum(0.0, random.random(24) - 0.7) * 20
    expected = demand(country, day).ravel()
    number = random.poisson(expected.sum())
    places = np.searchsorted(np.cumsum(expected / expected.sum())[:-1], random.random(number))
    draws = random.random((number, len(DRAWS)))
    seconds = places % 24 * 3600 + np.floor(draws[:, 0] * 3600)
    order = np.argsort(seconds, kind="stable")
    return {
        "trip_id": country.number * 10**11 + day * 10**6 + np.arange(number),
        "seconds": (seconds + day * 86_400)[order],
        "zone": (places // 24)[order] + 1,
        "rain_mm": rain[places % 24][order].round(1),
        "draws": draws[order],
    }


def _nothing() -> dict[str, Any]:
    empty = {"trip_id": np.empty(0, "int64"), "seconds": np.empty(0), "zone": np.empty(0, "int64"), "rain_mm": np.empty(0)}
    return {**empty, "draws": np.empty((0, len(DRAWS)))}


def _circumstances(country: Country, requests: dict[str, Any]) -> dict[str, Any]:
    """What is known when a trip is requested, and the standardised causes that its outcomes depend on."""
    draws = dict(zip(DRAWS, requests.pop("draws").T, strict=True))
    requested_at = pd.Series(pd.Timestamp(START) + pd.to_timedelta(requests["seconds"], unit="s")).astype("datetime64[us, UTC]")
    turns = _Turns(country, requests["seconds"] / 86_400)
    angle = 2 * np.pi * requests["seconds"] / 86_400
    cos, sin = np.sqrt(2) * np.cos(angle), np.sqrt(2) * np.sin(angle)
    wet, strike = requests["rain_mm"] > 0, _befallen(country, "strike", requested_at)
    distance, tenure = ndtri(draws["distance"]), ndtri(draws["tenure"])
    log_nearby = 1.7 + 0.45 * turns("driver_availability", cos, sin) - 0.25 * wet + 0.3 * ndtri(draws["nearby"])
    nearby = np.rint(np.exp(log_nearby - np.log(3) * strike))
    scarce = (1.8 - np.log1p(nearby)) / 0.5
    log_surge = 0.08 * scarce + 0.12 * ndtri(draws["surge"])
    offered = np.where(draws["offer"] < 0.6, np.floor(1 + 6 * draws["bonus"]), 0)
    return {
        **requests, "draws": draws, "requested_at": requested_at, "turns": turns, "wet": wet, "strike": strike,
        "cos": cos, "sin": sin, "distance": distance, "tenure": tenure, "nearby": nearby, "scarce": scarce,
        "surge": log_surge / 0.15, "surge_factor": np.exp(log_surge), "bonus": offered,
    }  # fmt: skip


class _Turns:
    """The effects' directions at each request."""

    def __init__(self, country: Country, days: Floats) -> None:
        self.turned, self.phases = np.radians(country.drift) * days, _phases(country)

    def __call__(self, effect: str, first: Floats, second: Floats) -> Floats:
        """The effect of two causes, of shape (n_trips,)."""
        angle = self.phases[EFFECTS.index(effect)] + self.turned
        return np.asarray(np.cos(angle) * first + np.sin(angle) * second)


def _outcomes(country: Country, asked: dict[str, Any]) -> pd.DataFrame:
    draws, turns, sizes = asked["draws"], asked["turns"], _sizes(asked)
    late, distance = sizes["late"], asked["distance"]
    cancelled = draws["cancel"] < expit(-1.5 + 1.2 * turns("cancellation", asked["scarce"], asked["surge"]))
    payment = np.where(draws["payment"] < 0.6, "card", np.where(draws["payment"] < 0.85, "wallet", "cash"))
    wave = _befallen(country, "fraud_wave", asked["requested_at"]) * np.log(7)
    taken = draws["take"] < expit(1.2 * turns("incentive", (asked["bonus"] - 3.5) / 1.7, distance))
    labels = {
        "bonus_taken": taken ^ _befallen(country, "inverted", asked["requested_at"]),
        "contacted": draws["contact"] < expit(-1.8 + 1.2 * turns("support", late, distance)),
        "churned": draws["churn"] < expit(-1 + 1.2 * turns("churn", asked["tenure"], asked["surge"])),
        "fraud": draws["fraud"] < expit(-4.2 + 1.5 * turns("fraud", asked["tenure"], distance) + (payment == "card") + wave),
    }
    made = pd.DataFrame(
        {
            "trip_id": asked["trip_id"],
            "requested_at": asked["requested_at"],
            "country": country.code,
            "zone": asked["zone"],
            "distance_km": np.exp(1.4 + 0.6 * distance).round(2),
            "rider_trips": np.floor(np.exp(2.5 + 1.1 * asked["tenure"])).astype("int64"),
            "payment": payment,
            "rain_mm": asked["rain_mm"],
            "drivers_nearby": asked["nearby"].astype("int64"),
            "surge": asked["surge_factor"].round(2),
            "bonus": asked["bonus"].astype("int64"),
            "cancelled": cancelled.astype("int64"),
            "wait_minutes": sizes["wait"],
            "ride_minutes": sizes["ride"],
            "agreed_price": sizes["price"],
            **{name: values.astype(float) for name, values in labels.items()},
        }
    )
    return _ended(country, made, draws["typo"] < MISTYPED_SHARE)


def _sizes(asked: dict[str, Any]) -> dict[str, Floats]:
    """Minutes of waiting and riding, the price agreed on, and how late the driver was, standardised."""
    draws, turns, distance = asked["draws"], asked["turns"], asked["distance"]
    log_wait = 1.5 + 0.4 * turns("pickup_wait", asked["scarce"], asked["cos"]) + 0.3 * ndtri(draws["wait"])
    log_wait = log_wait + np.log(1.8) * asked["strike"]
    log_ride = 2.1 + 0.45 * distance + 0.22 * turns("eta", asked["cos"], asked["sin"]) + 0.08 * asked["wet"]
    log_price = 2.0 + 0.45 * distance + 0.2 * turns("optimal_price", asked["scarce"], asked["sin"])
    return {
        "wait": np.clip(np.exp(log_wait), 0.1, 60).round(1),
        "ride": np.clip(np.exp(log_ride + 0.18 * ndtri(draws["ride"])), 1, 115).round(1),
        "price": np.exp(log_price + 0.12 * ndtri(draws["price"])).round(2),
        "late": (log_wait - 1.5) / 0.5,
    }


def _ended(country: Country, made: pd.DataFrame, mistyped: NDArray[np.bool_]) -> pd.DataFrame:
    """The trips with what never happened to them left out, and the moments at which things become known of them."""
    cancelled = made["cancelled"] == 1
    made.loc[cancelled, ["wait_minutes", "ride_minutes", "agreed_price", "bonus_taken", "contacted", "fraud"]] = np.nan
    made.loc[made["bonus"] == 0, "bonus_taken"] = np.nan
    minutes = (made["wait_minutes"] + made["ride_minutes"]).fillna(5.0)
    asked = made["requested_at"]
    corrected_at = (asked + TYPO_DELAY).where(mistyped & ~cancelled, asked)
    for start, end in country.spans("cents"):
        corrected_at = corrected_at.mask((asked >= start) & (asked < end), pd.Timestamp(end))
    return made.assign(
        ended_at=asked + pd.to_timedelta((minutes * 60).round(), unit="s").astype("timedelta64[us]"),
        corrected_at=corrected_at,
        settled_at=asked + country.label_delay,
    )


def _befallen(country: Country, kind: Any, moments: pd.Series) -> NDArray[np.bool_]:
    """Which moments lie in an incident of a kind."""
    found = np.zeros(len(moments), dtype=bool)
    for start, end in country.spans(kind):
        found |= ((moments >= start) & (moments < end)).to_numpy()
    return found


def known(made: pd.DataFrame, country: Country, at: datetime) -> pd.DataFrame:
    """The trips as they stand right before a moment after their end: prices may be wrong, later labels are missing."""
    asked, seen = made["requested_at"], made.copy()
    wrong = made["corrected_at"] >= at
    factor = np.where(_befallen(country, "cents", asked), 100.0, float(MISTYPED_BY))
    seen["agreed_price"] = made["agreed_price"].where(~wrong, made["agreed_price"] * factor)
    seen["contacted"] = made["contacted"].where(asked + CONTACT_DELAY < at)
    seen["churned"] = made["churned"].where(asked + CHURN_DELAY < at)
    seen["fraud"] = made["fraud"].where(made["settled_at"] < at)
    seen["settled_at"] = made["settled_at"].where((made["settled_at"] < at) & made["fraud"].notna())
    return seen


def changes(country: Country, since: datetime, until: datetime) -> pd.DataFrame:
    """Trips that something became known of in ``since <= moment < until``, each once, as it stands at ``until``.

    However the time is cut, the last of a trip's changes up to a moment is the same.
    """
    made = trips(country, _days_touched(country, since, until))
    asked, ridden = made["requested_at"], made["cancelled"] == 0
    moments = (
        made["ended_at"], made["corrected_at"], asked + CHURN_DELAY,
        (asked + CONTACT_DELAY).where(ridden), (asked + country.label_delay).where(ridden),
    )  # fmt: skip
    touched = np.logical_or.reduce([(moment >= since) & (moment < until) for moment in moments])
    return known(made[touched & (made["ended_at"] < until)].reset_index(drop=True), country, until)


def _days_touched(country: Country, since: datetime, until: datetime) -> set[int]:
    """The days whose trips may change in a span."""
    delays = (timedelta(0), TYPO_DELAY, CONTACT_DELAY, CHURN_DELAY, country.label_delay)
    spans = [(since - LONGEST, until), *((since - delay, until - delay) for delay in delays)]
    spans += [(start, end) for start, end in country.spans("cents") if since <= end < until]
    return {day for start, end in spans for day in range(max(day_of(start), 0), day_of(end) + 1)}
