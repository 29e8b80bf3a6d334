"""Rules 4 and 5: judged fits are compared on the same rows, and a first model still has to pass."""

import importlib
from dataclasses import replace
from pathlib import Path

import pytest

from perennial.recipe import recipe_of
from perennial.spec import Days

NEW_ESTIMATOR = "    from sklearn.linear_model import LinearRegression\n\n    return LinearRegression()\n"


def cycles(zoo, country: str = "Britain", *, ends=(60, 90)):
    """Ingest and retrain up to each day; returns the last outcomes."""
    outcomes, start = {}, 0
    for end in ends:
        zoo.see(country, range(start, end))
        zoo.ingest()
        outcomes, start = zoo.retrain(), end
    return outcomes


def test_comparison_rows_lie_after_both_judged_marks(zoo):
    cycles(zoo)
    (row,) = zoo.sql("""SELECT v.window_start, c.judged_until AS challenger, p.judged_until AS champion FROM verdicts AS v
        JOIN versions AS c ON c.id = v.challenger JOIN releases AS r ON r.seq = v.against_seq AND r.country = v.country
        JOIN versions AS p ON p.id = r.to_version WHERE v.against_seq = 1""")
    assert row.challenger < row.window_start
    assert row.champion < row.window_start


def test_labels_that_mature_after_as_of_are_neither_learned_nor_judged(zoo):
    cycles(zoo, "Germany", ends=(90,))
    (row,) = zoo.sql("""SELECT v.as_of, v.window_end, c.judged_until, c.served_until FROM verdicts AS v
        JOIN versions AS c ON c.id = v.challenger WHERE v.model = 'late'""")
    assert row.window_end <= row.as_of - Days(10)
    assert row.judged_until < row.served_until <= row.as_of


def test_a_first_model_below_the_floor_is_kept_out(zoo):
    zoo.edit(gate=replace(zoo.catalog.fleets["zoo"].models["weight"].gate, floor=0.01))
    outcome = cycles(zoo, ends=(60,))["weight/GB"]
    assert outcome.state == "kept"
    assert "Below the floor" in outcome.reason


def test_a_first_model_no_better_than_naive_is_kept_out(zoo):
    zoo.see("Britain", range(0, 60), slope=0.0)
    zoo.ingest()
    outcome = zoo.retrain()["weight/GB"]
    assert outcome.state == "kept"
    assert "naive baseline" in outcome.reason


def test_too_few_rows_are_inconclusive_and_say_how_many_are_missing(zoo):
    zoo.see("Britain", range(0, 60), per_day=2)
    zoo.ingest()
    assert "needs 60 more rows" in zoo.retrain()["weight/GB"].reason


def test_a_refit_far_from_its_judged_fit_is_not_served(zoo):
    zoo.edit(gate=replace(zoo.catalog.fleets["zoo"].models["weight"].gate, max_refit_distance=1e-9))
    zoo.see("Britain", range(0, 60))
    zoo.ingest()
    run_id = zoo.plan()
    zoo.train(run_id)
    assert "standard deviations from the judged fit" in zoo.outcomes(run_id)["weight/GB"].reason


def test_without_refit_the_judged_fit_is_served(zoo):
    zoo.edit(refit=False)
    cycles(zoo, ends=(60,))
    (version,) = zoo.sql("SELECT judged_until, served_until FROM versions")
    assert version.judged_until == version.served_until


@pytest.fixture
def edited(zoo, tmp_path, monkeypatch):
    """A zoo whose recipe is edited after its first release, in a package of its own."""
    package = tmp_path / "past_models" / "zoo"
    package.mkdir(parents=True)
    text = importlib.import_module("toy_models.zoo.weight").__file__
    source = Path(text).read_text().replace("from toy_models", "from past_models")
    fleet = Path(importlib.import_module("toy_models.zoo").__file__).read_text()
    (tmp_path / "past_models" / "__init__.py").touch()
    (package / "__init__.py").write_text(fleet)
    monkeypatch.syspath_prepend(tmp_path)
    _load(zoo, package, source)
    zoo.see("Britain", range(0, 60))
    zoo.ingest()
    zoo.retrain()
    zoo.see("Britain", range(60, 90))
    zoo.ingest()
    old = source[source.index("    from sklearn") : source.index("\n\nweight = ")]
    _load(zoo, package, source.replace(old, NEW_ESTIMATOR))
    yield zoo, package
    _forget()


def _load(zoo, package, source: str) -> None:
    import linecache

    from perennial.catalog import load_catalog

    _forget()
    linecache.clearcache()
    (package / "weight.py").write_text(source)
    zoo.catalog = load_catalog("past_models", "toy_sources")


def _forget() -> None:
    import sys

    for name in [name for name in sys.modules if name.startswith("past_models")]:
        del sys.modules[name]
    importlib.invalidate_caches()


def test_an_edited_recipe_without_the_old_code_is_refused_with_the_fix(edited):
    zoo, _ = edited
    run_id = zoo.plan()
    zoo.train(run_id)
    outcome = zoo.outcomes(run_id)["weight/GB"]
    assert outcome.state == "failed"
    assert "make freeze" in outcome.reason
    assert zoo.sql("SELECT count(*) AS number FROM releases")[0].number == 1


def test_an_edited_recipe_is_compared_with_the_champion_by_the_champions_own_code(edited):
    zoo, package = edited
    (old,) = zoo.rows("recipes_in_force", model="weight")
    (package / "_past").mkdir()
    (package / "_past" / "__init__.py").touch()
    (package / "_past" / f"r_{old.recipe[:16]}.py").write_text(old.source)
    importlib.invalidate_caches()
    outcome = zoo.retrain()["weight/GB"]
    assert (outcome.state, outcome.against_seq) == ("published", 1)
    assert recipe_of(zoo.catalog.fleets["zoo"].models["weight"]).hash != old.recipe
