"""Bloom filters of keys (Bloom, 1970): whether a batch may hold a key, told without opening it.

A filter never says no of a key that it was made of. Of other keys it says yes in about one of 400
cases.
"""

import hashlib

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from perennial.spec import Source

Hashes = npt.NDArray[np.uint64]
BITS_PER_KEY, PROBES = 16, 4
LEAST_BITS, MOST_BITS = 64, 1 << 23
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
FIRST, SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def key_types(source: Source) -> str:
    """The key's columns and their types: filters of other ones cannot be asked."""
    types = {column.name: column.type for column in source.columns}
    return ", ".join(f"{name} {types[name]}" for name in source.key)


def key_hashes(table: pa.Table, source: Source) -> Hashes:
    """A number per row that rows of one key share, today and after any upgrade of a library."""
    found = np.zeros(table.num_rows, dtype=np.uint64)
    for name in source.key:
        found = _mixed((found + GOLDEN) ^ _bits(table[name]))
    return found


def key_filter(hashes: Hashes) -> bytes:
    """The filter of some keys, at most 1 MB long: one of more than 500,000 says yes more often."""
    distinct = np.unique(hashes)
    wanted = min(max(len(distinct) * BITS_PER_KEY, LEAST_BITS), MOST_BITS)
    bits = np.zeros(1 << (wanted - 1).bit_length(), dtype=bool)
    bits[_places(distinct, len(bits))] = True
    return np.packbits(bits).tobytes()


def may_hold(filter_: bytes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Of which keys a filter may have been made."""
    bits = np.unpackbits(np.frombuffer(filter_, dtype=np.uint8)).astype(bool)
    return np.asarray(bits[_places(hashes, len(bits))].all(axis=0), dtype=np.bool_)


def _places(hashes: Hashes, length: int) -> npt.NDArray[np.int64]:
    """Shape (PROBES, keys). Two halves of one number stand for any number of hash functions
    (Kirsch and Mitzenmacher, 2006)."""
    low = hashes & np.uint64(0xFFFFFFFF)
    high = (hashes >> np.uint64(32)) | np.uint64(1)
    probes = np.arange(PROBES, dtype=np.uint64)[:, None]
    return ((low + probes * high) & np.uint64(length - 1)).astype(np.int64)


def _mixed(values: Hashes) -> Hashes:
    """The last steps of SplitMix64: each bit of a number changes about half of the bits."""
    values = (values ^ (values >> np.uint64(30))) * FIRST
    values = (values ^ (values >> np.uint64(27))) * SECOND
    return values ^ (values >> np.uint64(31))


def _bits(values: pa.ChunkedArray) -> Hashes:
    kind = values.type
    if pa.types.is_string(kind):
        return _text_bits(values)
    if pa.types.is_floating(kind):
        numbers: npt.NDArray[np.float64] = values.fill_null(0).to_numpy().astype(np.float64)
        numbers = numbers + 0.0  # minus zero is zero
        return numbers.view(np.uint64)
    whole = values.cast(pa.int8()) if pa.types.is_boolean(kind) else values
    found: npt.NDArray[np.int64] = whole.cast(pa.int64()).fill_null(-1).to_numpy().astype(np.int64)
    return found.view(np.uint64)


def _text_bits(values: pa.ChunkedArray) -> Hashes:
    encoded = values.fill_null("").combine_chunks().dictionary_encode()
    texts = (text.encode("utf-8", "surrogatepass") for text in encoded.dictionary.to_pylist())
    digests = (hashlib.blake2b(text, digest_size=8).digest() for text in texts)
    numbers = np.frombuffer(b"".join(digests), dtype="<u8")
    found: Hashes = numbers.astype(np.uint64)[encoded.indices.to_numpy()]
    return found
