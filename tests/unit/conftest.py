"""Spec trees written for one test, forgotten afterwards."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from trees import FLEET, SOURCE, Tree

NUMBERS = itertools.count()
START = pd.Timestamp("2026-01-01", tz="UTC")


@pytest.fixture
def new_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Tree]]:
    """Makes healthy trees: fleet ``zoo``, model ``weight``, source ``sightings``."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def make() -> Tree:
        tree = Tree(tmp_path, next(NUMBERS))
        tree.write("models/zoo/__init__.py", FLEET)
        tree.model()
        tree.write("sources/sightings.py", SOURCE)
        return tree

    yield make
    for name in set(sys.modules) - before:
        if name.startswith(("models_", "sources_")):
            del sys.modules[name]


@pytest.fixture
def tree(new_tree: Callable[[], Tree]) -> Tree:
    """A healthy tree."""
    return new_tree()


@pytest.fixture
def make_rows() -> Callable[..., pd.DataFrame]:
    """Rows of the toy source: ``weight = 2 × length + noise``, ``per_day`` a day from 1 January 2026, indexed by key."""

    def make(days: int, per_day: int = 20, seed: int = 0) -> pd.DataFrame:
        random, number = np.random.default_rng(seed), days * per_day
        seen_at = START + pd.to_timedelta(np.arange(number) / per_day, unit="D").round("us")
        length = random.uniform(0, 10, number)
        weight = 2 * length + random.normal(0, 0.5, number)
        index = pd.RangeIndex(number, name="id")
        return pd.DataFrame({"seen_at": seen_at, "country": "Britain", "length": length, "weight": weight}, index=index)

    return make
