"""Whether each key of a source of a table is in force once: in one country, and there in one row. An audit asks."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from perennial.resources import Resources
from perennial.shell.key_hashes import key_hashes
from perennial.shell.lake import Reader
from perennial.spec import UNKNOWN_COUNTRY, Source

FIRST, LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def keys_in_force_twice(resources: Resources, source: Source, batches: Sequence[Any]) -> Iterator[str]:
    """What is wrong, one sentence each, with the first key as an example. ``batches``: accepted ones by country in their order.

    Memory holds one country's keys, and a hash of each key of the others. Raises StoreError and SourceMismatch.
    """
    hashes: dict[str, Any] = {}
    countries = {country: list(group) for country, group in groupby(batches, key=lambda batch: batch.country)}
    for country in sorted(set(countries) - {UNKNOWN_COUNTRY}):
        keys = _keys(resources, source, countries[country])
        again = keys[keys.duplicated()]
        if len(again):
            yield f"{len(again)} keys are in force twice in {country}, such as {_named(again)}"
        hashes[country] = np.unique(_hashes(keys, source))
    yield from _in_two_countries(resources, source, countries, hashes)


def _in_two_countries(
    resources: Resources, source: Source, countries: dict[str, list[Any]], hashes: dict[str, Any]
) -> Iterator[str]:
    """Keys that share a hash are compared themselves."""
    values, numbers = np.unique(np.concatenate([np.empty(0, dtype=np.int64), *hashes.values()]), return_counts=True)
    several = values[numbers > 1]
    seen: list[pd.DataFrame] = []
    for country, own in hashes.items():
        if len(several) and np.isin(several, own, assume_unique=True).any():
            keys = _keys(resources, source, countries[country]).drop_duplicates()
            seen.append(keys[np.isin(_hashes(keys, source), several)].assign(**{"in country": country}))
    together = pd.concat(seen) if seen else pd.DataFrame(columns=[*source.key])
    again = together[together.duplicated(list(source.key))]
    if len(again):
        yield (
            f"{len(again)} keys are in force in two countries, such as {_named(again)}. Give their rows a new "
            f"{source.changed_at} at the source: with it they leave the countries they were in"
        )


def _keys(resources: Resources, source: Source, batches: list[Any]) -> pd.DataFrame:
    return Reader(resources.store, source, source.key).rows(batches, source.key, FIRST, LAST)[list(source.key)]


def _hashes(keys: pd.DataFrame, source: Source) -> Any:
    return key_hashes(pa.Table.from_pandas(keys, preserve_index=False), source.key)


def _named(keys: pd.DataFrame) -> str:
    return ", ".join(f"{name} {value}" for name, value in keys.iloc[0].items())
