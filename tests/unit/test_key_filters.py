"""A key filter never says no of a key that is there, and seldom yes of another one."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from toy_files import sightings_files

from perennial.core.key_filters import MOST_BITS, key_filter, key_hashes, key_types, may_hold

NUMBERS = np.random.default_rng(0).integers(0, 2**63, 200_000).astype(np.uint64)


def hashes(**columns):
    """The numbers of rows with an id of any type."""
    return key_hashes(pa.table(columns), sightings_files)


@pytest.mark.parametrize("number", [0, 1, 2, 1000, 99_000])
def test_no_key_that_is_there_is_denied(number):
    assert may_hold(key_filter(NUMBERS[:number]), NUMBERS[:number]).all()


@pytest.mark.parametrize("number", [1, 1000, 99_000])
def test_other_keys_are_mostly_denied(number):
    assert may_hold(key_filter(NUMBERS[:number]), NUMBERS[100_000:]).mean() < 0.005


def test_no_filter_is_larger_than_a_megabyte():
    many = np.arange(1_000_000, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert len(key_filter(many)) == MOST_BITS // 8
    assert may_hold(key_filter(many), many[::1000]).all()


def test_neighbours_and_texts_that_are_almost_alike_have_numbers_far_apart():
    for values in (np.arange(50_000), [f"order-{number:06}" for number in range(50_000)]):
        found = hashes(id=values)
        assert len(np.unique(found)) == len(found)
        assert may_hold(key_filter(found[:25_000]), found[25_000:]).mean() < 0.005


def test_a_keys_number_is_the_same_after_every_upgrade():
    assert hashes(id=[7, -1]).tolist() == [17824971123127853533, 15999695513772384452]
    assert hashes(id=["seven", ""]).tolist() == [2254492781754148087, 6075628805720700440]
    assert hashes(id=pa.array([pd.Timestamp("2026-01-01", tz="UTC")], pa.timestamp("us", "UTC"))).tolist() == [
        2159432012475234189
    ]


def test_a_key_is_one_number_however_its_rows_are_chunked():
    whole = pa.table({"id": ["a", "b", "a", "c"]})
    parts = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert key_hashes(whole, sightings_files).tolist() == key_hashes(parts, sightings_files).tolist()


def test_the_types_of_a_key_are_told():
    assert key_types(sightings_files) == "id int64"
