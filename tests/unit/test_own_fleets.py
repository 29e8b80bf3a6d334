"""One's own fleet under `make run`: what is refused before anything starts, and the moments of its replay."""

import io
import os
import sys
import time
from datetime import UTC, date, datetime

import pytest
from rich.console import Console

from embedded import own
from embedded.__main__ import main
from embedded.errors import EmbeddedError, NothingAccepted
from embedded.examples import FLIGHTS, SHOP
from perennial.catalog import load_catalog
from perennial.errors import RequestError, SpecError
from perennial.shell.store import FolderStore


def test_a_fleet_that_is_not_there_is_named_beside_those_that_are_and_every_fault(tree):
    tree.write("models/farm/__init__.py", "1 / 0\n")
    with pytest.raises(RequestError) as refused:
        own.own_fleet(tree.catalog(), "farm")
    first, *faults = str(refused.value).splitlines()
    assert first == "There is no fleet 'farm'. There are: zoo. `make new-model FLEET=farm NAME=… SOURCE=…` makes one."
    assert "ZeroDivisionError" in faults[0]


def test_a_fleet_without_a_healthy_model_is_refused_with_its_faults(tree):
    tree.model("1 / 0\n")
    with pytest.raises(SpecError, match="ZeroDivisionError"):
        own.own_fleet(tree.catalog(), "zoo")
    tree.write("models/zoo/weight.py", "")
    for name in [name for name in sys.modules if name.startswith(f"{tree.models}.zoo.")]:
        del sys.modules[name]
    with pytest.raises(RequestError, match=r"Fleet zoo has no model\. `make new-model FLEET=zoo"):
        own.own_fleet(tree.catalog(), "zoo")


def test_a_fleet_with_one_healthy_model_runs_and_says_which_connections_it_needs(tree):
    tree.model("1 / 0\n", name="other")
    fleet = own.own_fleet(tree.catalog(), "zoo")
    assert (fleet.fleet, [source.name for source in fleet.sources]) == ("zoo", ["sightings"])
    assert fleet.connections == [fleet.sources[0].connection]


def test_an_example_is_one_of_this_trees_specs_alone(monkeypatch):
    monkeypatch.delenv("PERENNIAL_MODELS", raising=False)
    assert (own.example_of("shop"), own.example_of("flights"), own.example_of("mine")) == (SHOP, FLIGHTS, None)
    monkeypatch.setenv("PERENNIAL_MODELS", "my_models")
    assert own.example_of("shop") is None


def moments(monkeypatch, every, start=None):
    """Those of a replay of the year 2025."""
    monkeypatch.setattr(own, "_rows", lambda *_: [(date(2025, 1, 1), date(2026, 1, 1))])

    class Nothing:
        class specs:  # noqa: N801 - an attribute
            sources = ("weather",)

    return own.moments(Nothing, None, every, start)


def test_a_replay_begins_after_a_quarter_of_what_there_is_and_ends_with_it(monkeypatch):
    steps = moments(monkeypatch, "month")
    assert steps[0] == datetime(2025, 5, 1, tzinfo=UTC)
    assert steps[-2:] == [datetime(2025, 12, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]
    assert len(steps) == 9


def test_a_replay_begins_where_and_moves_as_it_is_asked_to(monkeypatch):
    steps = moments(monkeypatch, "day", datetime(2025, 12, 30, tzinfo=UTC))
    assert steps == [datetime(2025, 12, 30, tzinfo=UTC), datetime(2025, 12, 31, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)]


def test_a_step_that_does_not_exist_is_refused_with_those_that_do():
    assert (own.checked(None), own.checked("week")) == ("month", "week")
    with pytest.raises(EmbeddedError, match=r"no step EVERY=year\. Choose one of month, week, day, hour, quarter"):
        own.checked("year")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--fleet", "mine"), "There is no fleet 'mine'. There are: flights, ride_hailing, shop."),
        (("run", "--fleet", "mine", "--pace", "2"), "EVERY, START and PACE are for replays"),
        (("replay", "--fleet", "mine"), "There is no fleet 'mine'"),
        (("replay", "--fleet", "mine", "--pace", "2"), "PACE is for the examples"),
        (("replay", "--fleet", "ride_hailing"), "The world of ride_hailing has no end"),
        (("replay", "--fleet", "shop", "--every", "day"), "shop has no step EVERY=day"),
    ],
)
def test_what_cannot_run_is_said_before_anything_starts_and_ends_with_two(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PERENNIAL_STATE", str(tmp_path / "state"))
    monkeypatch.delenv("PERENNIAL_MODELS", raising=False)
    monkeypatch.setattr("sys.argv", ["embedded", *words])
    assert main() == 2
    assert said in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "state" / "postgres").exists()


@pytest.fixture
def flights():
    """The airports' source: CSV files that have lain still for two seconds."""
    return load_catalog().source("flights")


def test_a_source_without_a_file_is_named_with_the_place_and_the_names_that_it_looks_for(flights, tmp_path):
    (tmp_path / "flights").mkdir()
    (tmp_path / "flights" / "may.xlsx").touch()
    with pytest.raises(NothingAccepted, match=r"Source flights: file:.*/flights/ holds no file whose name is as the spec says"):
        own._await_files(flights, FolderStore(tmp_path), Console())


@pytest.mark.parametrize(("age", "waits"), [(0, 1), (100, 0)])
def test_a_file_that_was_just_written_is_waited_for(flights, tmp_path, monkeypatch, age, waits):
    (tmp_path / "flights").mkdir()
    file = tmp_path / "flights" / "may.csv"
    file.touch()
    os.utime(file, (time.time() - age, time.time() - age))
    slept = []
    monkeypatch.setattr(own.time, "sleep", slept.append)
    own._await_files(flights, FolderStore(tmp_path), Console(file=io.StringIO()))
    assert len(slept) == waits
    assert all(0 < seconds <= 2 for seconds in slept)


@pytest.mark.parametrize(
    ("held", "refused", "said"),
    [
        ([("EWR", 1, "too few rows")], [], "trigger quarantine_flights with `validate again`"),
        ([], [("may.csv", "It has no column dest.")], "file may.csv: It has no column dest."),
        ([], [], "No file below flights/ that has lain still for 0:00:02 holds a row."),
    ],
)
def test_why_nothing_is_accepted_is_said_with_what_to_do(flights, monkeypatch, held, refused, said):
    monkeypatch.setattr(own, "_rows", lambda *_: refused)
    text = own._nothing_accepted(flights, None, held)
    assert text.startswith("No row of source flights is accepted.\n")
    assert said in text
