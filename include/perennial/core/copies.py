"""Copies: rows like an earlier one in all but key and ``changed_at``, as a file delivered twice leaves them.

A row under a key that was there before is a revision, never a copy, whatever it looks like: to reject it would leave the
revision before it in force.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from perennial.spec import REMOVED, Source

Hashes = npt.NDArray[np.uint64]
MIX = np.uint64(0x9E3779B97F4A7C15)
SHIFT = np.uint64(29)


def content(source: Source) -> list[str]:
    """The columns in which a copy equals its original."""
    return [column.name for column in source.columns if column.name not in (*source.key, source.changed_at)]


def hashes(table: pa.Table, source: Source) -> Hashes:
    """A number per row that copies share, of all columns but key, ``changed_at`` and texts: others may share it, too."""
    plain = {column.name for column in source.columns if column.type != "string"}
    found = np.zeros(table.num_rows, dtype=np.uint64)
    for name in content(source):
        if name in plain:
            found = (found ^ _bits(table[name])) * MIX
            found ^= found >> SHIFT
    return found


def identities(table: pa.Table, source: Source) -> Hashes:
    """A number per row that rows of the same key and ``changed_at`` share: others may share it, too."""
    found = np.zeros(table.num_rows, dtype=np.uint64)
    for name in (*source.key, source.changed_at):
        values = table[name]
        bits = _text_bits(values) if pa.types.is_string(values.type) else _bits(values)
        found = (found ^ bits) * MIX
        found ^= found >> SHIFT
    return found


def _text_bits(values: pa.ChunkedArray) -> Hashes:
    coded = values.fill_null("").combine_chunks().dictionary_encode()
    numbers = pd.util.hash_array(coded.dictionary.to_numpy(zero_copy_only=False).astype(object), categorize=False)
    found: Hashes = numbers[coded.indices.to_numpy()] if len(numbers) else np.empty(0, dtype=np.uint64)
    return found


def _bits(values: pa.ChunkedArray) -> Hashes:
    kind = values.type
    if pa.types.is_floating(kind):
        numbers: npt.NDArray[np.float64] = (values.to_numpy() + 0.0).astype(np.float64)  # minus zero is zero
        return numbers.view(np.uint64)
    whole = values.cast(pa.int64()) if not pa.types.is_boolean(kind) else values.cast(pa.int8()).cast(pa.int64())
    numbers_64: npt.NDArray[np.int64] = whole.fill_null(-1).to_numpy().astype(np.int64)
    return numbers_64.view(np.uint64)


def repeated(own: Hashes, earlier: Hashes) -> npt.NDArray[np.int64]:
    """Positions of a batch's rows that share their number with another one, or with an earlier batch's row."""
    return np.flatnonzero(np.isin(own, np.concatenate([_twice(own), earlier])))


def shared(numbers: Hashes) -> npt.NDArray[np.int64]:
    """Positions of the rows that share their number with another one, those that share it beside each other."""
    found = np.flatnonzero(np.isin(numbers, _twice(numbers)))
    return found[np.argsort(numbers[found], kind="stable")]


def _twice(numbers: Hashes) -> Hashes:
    """The numbers that are there more than once, in order, each as often as it comes again."""
    ordered = np.sort(numbers)
    found: Hashes = ordered[1:][ordered[1:] == ordered[:-1]]
    return found


def contradictions(rows: pd.DataFrame, source: Source) -> int:
    """How many rows have the key and ``changed_at`` of another one among them that says otherwise."""
    said = rows.drop_duplicates()
    return int(said.duplicated([*source.key, source.changed_at], keep=False).sum())


def copies(rows: pd.DataFrame, earlier: pd.DataFrame, source: Source) -> npt.NDArray[np.int64]:
    """Positions of the rows that are copies of others among them or among earlier ones; ``rows`` is indexed by position.

    A row that says that it is removed is none, and has none.
    """
    rows, earlier = (frame[~frame[REMOVED].astype(bool)] for frame in (rows, earlier))
    both = pd.concat([earlier, rows.sort_index()])
    is_copy = both.duplicated(content(source)).to_numpy()[len(earlier) :]
    found: npt.NDArray[np.int64] = rows.sort_index().index.to_numpy()[is_copy]
    return found


def without_revisions(
    found: npt.NDArray[np.int64], keys: pd.DataFrame, earlier_keys: pd.DataFrame
) -> npt.NDArray[np.int64]:  # fmt: skip
    """The copies among them whose key was not there before: neither earlier in the batch, whose rows' keys are ``keys`` by
    position, nor among ``earlier_keys``."""
    seen = pd.concat([earlier_keys, keys]).duplicated(keep="first").to_numpy()[len(earlier_keys) :]
    fresh: npt.NDArray[np.int64] = found[~seen[found]]
    return fresh
