"""Made-up rows of a source, in the types and bounds of its spec: enough to fit a recipe once.

What is learned from them is worth nothing. Which types a fit consists of hardly depends on them.
"""

import re
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import pandas as pd

from perennial.spec import Column, Source

LEVELS = 12  # distinct texts of a column: rows have to meet again
USUAL = (0.0, 20.0)  # numbers, as far as the spec lets them be: few recipes fail on small ones
SOON = timedelta(days=2)  # how long after its event anything else happens to a row


def made_up_rows(
    source: Source,
    number: int,
    until: datetime,
    span: timedelta,
    country: str,
) -> dict[str, list[Any]]:
    """Columns of ``number`` rows of a country, whose events lie within the ``span`` up to ``until``.

    They are always the same.
    """
    random = np.random.default_rng(0)
    events = sorted(until - span * float(share) for share in random.random(number))
    made = {column.name: _values(column, events, random) for column in source.columns}
    keys = {column.name: column for column in source.columns if column.name in source.key}
    made |= {name: _distinct(column, events) for name, column in keys.items()}
    made[source.event_time] = events
    own = [value for value, code in source.countries.items() if code == country]
    made[source.country] = (own or list(source.countries))[:1] * number
    if source.deleted:
        kinds = {column.name: column.type for column in source.columns}
        made[source.deleted] = [False if kinds[source.deleted] == "bool" else None] * number
    return made


def _values(column: Column, events: list[datetime], random: np.random.Generator) -> list[Any]:
    number = len(events)
    if column.value_set:
        places = random.integers(len(column.value_set), size=number)
        return [column.value_set[place] for place in places]
    if column.type == "timestamp":
        shares = random.random(number)
        return [event + SOON * float(share) for event, share in zip(events, shares, strict=True)]
    if column.type == "string":
        return [_text(column, int(level)) for level in random.integers(LEVELS, size=number)]
    if column.type == "bool":
        return [bool(value) for value in random.random(number) < 0.5]
    low, high = _bounds(column)
    if column.type == "int64":
        return _whole(int(np.ceil(low)), int(high), random, number)
    return [float(value) for value in random.uniform(low, high, number)]


def _whole(low: int, high: int, random: np.random.Generator, number: int) -> list[Any]:
    """Whole numbers, half of them 0 or 1 where these are allowed: many are flags."""
    values = random.integers(low, high + 1, size=number)
    is_flag = (random.random(number) < 0.5) & (low <= 0) & (high >= 1)
    return [int(value) for value in np.where(is_flag, values % 2, values)]


def _bounds(column: Column) -> tuple[float, float]:
    """Usual numbers within the column's bounds; where there are none, some beside the nearest."""
    least = -np.inf if column.min_value is None else float(column.min_value)
    most = np.inf if column.max_value is None else float(column.max_value)
    low, high = max(USUAL[0], least), min(USUAL[1], most)
    if low <= high:
        return low, high
    breadth = USUAL[1] - USUAL[0]
    if least > USUAL[1]:
        return least, min(most, least + breadth)
    return max(least, most - breadth), most


def _text(column: Column, level: int) -> str:
    """A text of digits, with letters before it where the pattern asks for some."""
    digits = (f"{10_000 + level}", f"{100_000 + level}")
    lettered = (f"{letters}{each}" for letters in ("A", "AB", "AB-") for each in digits)
    candidates = (*digits, *lettered, f"level {level}", "AB", "A")
    return next((text for text in candidates if re.search(column.regex, text)), digits[0])


def _distinct(column: Column, events: list[datetime]) -> list[Any]:
    """Values of a key: no two are the same."""
    if column.type == "timestamp":
        return list(events)
    least = int(column.min_value or 0) if column.type != "string" else 100_000
    numbers = range(least, least + len(events))
    return [str(each) for each in numbers] if column.type == "string" else list(numbers)


def made_up_features(like: pd.DataFrame, number: int) -> pd.DataFrame:
    """Features with the columns and types of others, which may have no row."""
    random = np.random.default_rng(0)
    made = {name: _like(like[name], random, number) for name in like.columns}
    return pd.DataFrame(made, columns=like.columns)


def _like(column: pd.Series, random: np.random.Generator, number: int) -> Any:
    kind, values = column.dtype, random.integers(int(USUAL[1]), size=number)
    if isinstance(kind, pd.CategoricalDtype):
        levels = kind.categories if len(kind.categories) else pd.Index(["a", "b"])
        return pd.Categorical(levels.take(values % len(levels)), categories=levels)
    if pd.api.types.is_bool_dtype(kind):
        return pd.Series(values % 2 == 0).astype(kind)
    if pd.api.types.is_numeric_dtype(kind):
        return pd.Series(values).astype(kind)
    if pd.api.types.is_datetime64_any_dtype(kind):
        return pd.Series(pd.Timestamp(0, tz="UTC") + pd.to_timedelta(values, unit="D")).astype(kind)
    return pd.Series([str(value) for value in values], dtype=kind)


def made_up_target(number: int, is_class: bool) -> np.ndarray:
    """A target: 0 and 1 in turn, or numbers."""
    if is_class:
        return np.arange(number) % 2 * 1.0
    return np.random.default_rng(1).uniform(*USUAL, number)
