"""Data that ship in packages: what is missing or other than it should be is said, and nothing is parsed twice."""

import json as a_package
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pandas as pd
import pytest

from worlds import flights, retail
from worlds.packaged import DataError, Packaged

FILE = Path(a_package.__file__)
DATA = Packaged(
    name="lines",
    package="json",
    file=FILE.name,
    sha256=sha256(FILE.read_bytes()).hexdigest(),
    parse=lambda data: pd.DataFrame({"line": data.decode().splitlines()}),
)


def test_a_file_of_a_package_is_parsed(tmp_path):
    assert DATA.read(tmp_path)["line"].tolist() == FILE.read_text().splitlines()


def test_missing_data_say_how_to_get_them(tmp_path):
    with pytest.raises(DataError, match=r"make run.*requirements-example\.txt"):
        replace(DATA, package="no_such_package").read(tmp_path)


def test_other_data_are_refused(tmp_path):
    with pytest.raises(DataError, match="not the file"):
        replace(DATA, sha256="0" * 64).read(tmp_path)


def test_what_is_parsed_is_kept_for_the_next_time(tmp_path):
    DATA.read(tmp_path)
    again = replace(DATA, parse=lambda data: pytest.fail("the data were parsed again"))
    assert len(again.read(tmp_path)) == len(FILE.read_text().splitlines())


@pytest.mark.parametrize("world", [retail, flights], ids=lambda world: world.__name__)
def test_the_examples_data_are_installed_and_the_right_ones(world):
    assert world.DATA._verified(world.DATA._installed())
