"""Spec trees written for one test, forgotten afterwards."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from trees import FLEET, SOURCE, Tree

NUMBERS = itertools.count()


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
