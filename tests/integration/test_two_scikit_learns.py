"""A new scikit-learn is an ordinary thing: two real versions of it, one store, one registry.

The former one is installed into a folder and put first on the path of a process of its own; the one
of the lock is that of this process. What the former has fitted as trees cannot be loaded by the
other, a straight line can.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn
from other_process import boosted, read
from toolbox import GB, reader, releases

from perennial.cell import Cell
from perennial.errors import OtherLibrary
from perennial.steps.audit import audit, examine
from perennial.steps.succession import check_champions

FORMER = "1.8.0"
BOOSTED = Cell("boosted", "GB")
HERE = Path(__file__).parent
PATHS = (HERE, HERE.parent, HERE.parent / "specs", HERE.parents[1] / "include", HERE.parents[1] / "plugins")


@pytest.fixture(scope="module")
def former(tmp_path_factory):
    """A folder with the former scikit-learn; all that it needs is installed beside the other one."""
    folder = tmp_path_factory.mktemp("former") / "site-packages"  # as libraries are: no code of the tree
    wanted = [f"scikit-learn=={FORMER}", "--target", str(folder), "--no-deps", "--only-binary=:all:", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", *wanted]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    if done.returncode:
        pytest.fail(f"scikit-learn {FORMER} cannot be installed. Is the package index reached?\n{done.stderr}")
    return folder


@pytest.fixture
def elsewhere(zoo, former):
    """Does steps of the zoo in a process that has the former scikit-learn; its answer."""

    runs = itertools.count()

    def run(*steps):
        facts = {
            "database": zoo.resources.database,
            "store": zoo.resources.store.url,
            "signing_key": str(zoo.resources.signing_key),
            "public_keys": str(zoo.resources.public_keys),
            "run_id": f"zoo/former-{next(runs)}",
            "steps": steps,
        }
        path = os.pathsep.join(map(str, (former, *PATHS)))
        process = subprocess.run(
            [sys.executable, str(HERE / "other_process.py")],
            input=json.dumps(facts),
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert process.returncode == 0, process.stderr
        answer = json.loads(process.stdout.splitlines()[-1])
        assert answer["scikit-learn"] == FORMER
        return answer

    return run


@pytest.fixture
def upgraded(zoo, elsewhere):
    """Champions of both models that the former scikit-learn has published, and no cycle since."""
    boosted(zoo)
    zoo.see("Britain", range(60))
    zoo.ingest()
    done = elsewhere("retrain", "read")
    assert {state for state, _ in done["retrain"].values()} == {"published"}
    zoo.first = done["read"]
    return zoo


@pytest.fixture
def carried(upgraded):
    """The same after a cycle here, which finds no new rows: its outcomes are in ``outcomes``."""
    return upgraded, upgraded.retrain()


def test_nothing_of_another_scikit_learn_is_read_unseen(upgraded):
    with pytest.raises(OtherLibrary, match=f"was fitted by scikit-learn {FORMER}; {sklearn.__version__} is installed here"):
        reader(upgraded).load(*GB)
    found = check_champions(upgraded.resources, upgraded.catalog)
    assert found == {"champions": 2, "unreadable": 0, "replaced by a former one": 0}
    assert examine(upgraded.resources, upgraded.catalog, deep=True).violations == []


def test_what_predicts_the_same_is_read_and_what_cannot_be_loaded_is_rebuilt(carried):
    zoo, outcomes = carried
    line, trees = outcomes["weight/GB"], outcomes["boosted/GB"]
    assert line.state == "skipped"
    assert line.reason.startswith(f"Release 1 was fitted by scikit-learn {FORMER} and reads the same by {sklearn.__version__}.")
    assert (trees.state, trees.kind, trees.release_seq) == ("published", "rebuild", 2)
    assert trees.reason.startswith(f"Rebuilt for scikit-learn {sklearn.__version__}. Release 1 was fitted by")
    assert [each.kind for each in releases(zoo, BOOSTED)] == ["publish", "rebuild"]
    assert [each.kind for each in releases(zoo)] == ["publish"]
    findings = examine(zoo.resources, zoo.catalog, deep=True)
    assert (findings.violations, findings.unseen) == ([], [])


def test_a_rebuilt_champion_is_one_like_any_other(carried):
    zoo, _ = carried
    assert zoo.retrain() == {}
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    outcomes = zoo.retrain()
    assert {outcome.against_seq for outcome in outcomes.values()} == {1, 2}
    assert all(outcome.gates for outcome in outcomes.values())
    assert audit(zoo.resources, zoo.catalog) == []


def test_readers_keep_theirs_through_the_change_and_back(carried, elsewhere):
    zoo, first = carried[0], carried[0].first
    here, there = read(zoo, "weight", "boosted"), elsewhere("read")["read"]
    assert here["weight"] == first["weight"] == there["weight"]
    assert there["boosted"] == {**first["boosted"], "is_former": True}
    assert (here["boosted"]["seq"], here["boosted"]["is_former"]) == (2, False)
    assert here["boosted"]["predicted"] == pytest.approx(first["boosted"]["predicted"], abs=0.5)

    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    assert zoo.retrain()["weight/GB"].release_seq == 2
    former = {name: {**each, "is_former": True} for name, each in first.items()}
    assert elsewhere("read")["read"] == former

    back = elsewhere("retrain", "read")
    assert back["retrain"]["weight/GB"][1].startswith(
        f"Release 2 was fitted by scikit-learn {sklearn.__version__} and reads the same by {FORMER}."
    )
    assert back["read"]["weight"] == read(zoo, "weight")["weight"]
    assert back["read"]["boosted"]["is_former"] is False
    assert back["read"]["boosted"]["predicted"] == pytest.approx(first["boosted"]["predicted"], abs=0.5)
    assert read(zoo, "boosted")["boosted"]["version"] == here["boosted"]["version"]
    assert audit(zoo.resources, zoo.catalog) == []
