"""One stack for all kills, with the shop's fleet and one of toys. These tests need a pytest process of their own."""

import atexit
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import models
import sources

HERE = Path(__file__).parent
DEPLOYED = HERE / "deployed"
# Installed, as it were: estimator() may then import its class in its body, as the library's.
INSTALLED = Path(tempfile.mkdtemp(prefix="perennial-")) / "site-packages"
shutil.copytree(DEPLOYED, INSTALLED, ignore=shutil.ignore_patterns("__pycache__"))
atexit.register(shutil.rmtree, INSTALLED.parent)
sys.path.insert(0, str(INSTALLED))
models.__path__.append(str(INSTALLED / "models"))
sources.__path__.append(str(INSTALLED / "sources"))

from drill import Told  # noqa: E402
from killed_world import SIGHTINGS, World, tree  # noqa: E402
from kills import Kill, keep, table  # noqa: E402 - the fleet of these tests is on its path only now

from embedded.running import Stack  # noqa: E402

KILLS: list[Kill] = []
TOLD: list[Told] = []


@pytest.fixture(scope="session")
def told() -> list[Told]:
    """What people are told in drills."""
    return TOLD


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The running stack, with sightings of sixty days and nothing trained yet."""
    os.environ["PERENNIAL_TEST_FOLDER"] = str(tmp_path_factory.mktemp("signs"))
    folder = tmp_path_factory.mktemp("repo") / "site-packages"
    repo = tree(HERE.parents[1], DEPLOYED, HERE.parent / "specs", folder)
    world = World(Stack(tmp_path_factory.mktemp("state"), repo), kills=KILLS)
    try:
        world.stack.start(print)
        with world.session("shop") as cursor:
            cursor.execute(SIGHTINGS)
        world.see(60)
        world.stack.api.wait_for_dag("retrain_zoo")
        world.stack.api.unpause("retrain_zoo")
        yield world
    finally:
        world.stack.stop()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Show what was told in drills and the kills, and keep them where PERENNIAL_KILLS names a file."""
    for each in TOLD:
        terminalreporter.write_line(f"{each.broken} broken: {each.who}: {each.words}")
    if KILLS:
        terminalreporter.write_line(table(KILLS))
    if KILLS and os.environ.get("PERENNIAL_KILLS"):
        keep(KILLS, Path(os.environ["PERENNIAL_KILLS"]))
