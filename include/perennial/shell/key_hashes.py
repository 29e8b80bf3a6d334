"""Hashes of keys: 64 bits a row, the same in every process and with every version of the libraries below.

They are stored, so they are our own arithmetic over the values: no library's hash function that its next release may change.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

VERSION = 1  # of this arithmetic: whoever stores hashes stores it beside them, and makes them again after a change

Words = npt.NDArray[np.uint64]
Hashes = npt.NDArray[np.int64]
GOLDEN, FIRST, SECOND = (np.uint64(number) for number in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
NULL = np.uint64(0xD6E8FEB86659FD93)
ROWS = 8_192  # of texts at a time: what is made of each byte stays in the processor's cache


def key_hashes(table: pa.Table, key: Sequence[str]) -> Hashes:
    """A number per row that rows with the same key share, as signed 64 bits; other keys may share it by chance."""
    found = np.zeros(table.num_rows, dtype=np.uint64)
    for name in key:
        found = _mixed(found * GOLDEN + _words(table[name]))
    return found.view(np.int64)


def _mixed(words: Words) -> Words:
    """The finaliser of SplitMix64: each bit of a word decides about all bits of the result."""
    words = (words ^ (words >> np.uint64(30))) * FIRST
    words = (words ^ (words >> np.uint64(27))) * SECOND
    return words ^ (words >> np.uint64(31))


BYTES: Words = _mixed(np.arange(1, 257, dtype=np.uint64) * GOLDEN)


def _words(column: pa.ChunkedArray) -> Words:
    """A word per value, NULL where there is none."""
    if pa.types.is_string(column.type):
        slices = (chunk.slice(first, ROWS) for chunk in column.chunks for first in range(0, len(chunk), ROWS))
        parts = [_text_words(texts) for texts in slices]
        words = np.concatenate([np.empty(0, dtype=np.uint64), *parts])
    elif pa.types.is_floating(column.type):
        numbers = column.fill_null(0.0).to_numpy() + 0.0  # minus zero is zero
        words = np.where(np.isnan(numbers), np.nan, numbers).view(np.uint64)
    else:
        whole = column.cast(pa.int8()) if pa.types.is_boolean(column.type) else column
        words = whole.cast(pa.int64()).fill_null(0).to_numpy().view(np.uint64)
    return np.where(column.is_valid().to_numpy(), words, NULL) if column.null_count else words


def _text_words(texts: pa.StringArray) -> Words:
    """Per text the sum of its bytes' words times a power for each byte's place, modulo 2^64, mixed with its length."""
    texts = pc.fill_null(texts, "") if texts.null_count else texts
    ends = np.frombuffer(texts.buffers()[1], dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1].astype(np.int64)
    if not len(texts) or ends[0] == ends[-1]:
        return np.zeros(len(texts), dtype=np.uint64)

    lengths, starts = np.diff(ends), ends[:-1] - ends[0]
    places = np.arange(ends[-1] - ends[0]) - np.repeat(starts, lengths)
    powers = np.cumprod(np.full(int(lengths.max()), GOLDEN))
    content = np.frombuffer(texts.buffers()[2], dtype=np.uint8)[ends[0] : ends[-1]]
    sums = np.concatenate([np.zeros(1, dtype=np.uint64), np.cumsum(BYTES[content] * powers[places])])
    return _mixed(sums[starts + lengths] - sums[starts] + lengths.astype(np.uint64) * GOLDEN)
