"""Rule 4: judged fits are compared, on the same rows, each through its own recipe."""

import importlib
import itertools
import re
from datetime import datetime, timedelta

import pytest
from toolbox import GB, champion, cycle, edit_gate, execute, manifest, predict, reader, releases
from toy_models.zoo import _other_target, _square, late

from perennial import recipe
from perennial.core import training
from perennial.core.artifacts import decode_estimator

NUMBERS = itertools.count()
MODEL = """
def examples(rows, as_of):
    import pandas as pd

    return pd.DataFrame(
        {"event_time": rows["seen_at"], "label_time": rows["seen_at"], "target": rows["weight"], "length": rows["length"]}
    )


def features(examples):
    return examples[["length"]] * SCALE


def estimator():
    from sklearn.linear_model import Ridge

    return Ridge(alpha=1.0)


SCALE = 1
"""


@pytest.fixture
def fleet(tmp_path, monkeypatch):
    """A fleet's package on disk, whose one model can be edited."""
    package = tmp_path / "fleets" / f"farm_{next(NUMBERS)}"
    (package / "_past").mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "_past" / "__init__.py").touch()
    monkeypatch.syspath_prepend(package.parent)
    return package


def deploy(zoo, fleet, name, text):
    """The next deployment of the model's code."""
    (fleet / f"{name}.py").write_text(text)
    module = importlib.import_module(f"{fleet.name}.{name}")
    zoo.edit(examples=module.examples, features=module.features, estimator=module.estimator)


def freeze(zoo, fleet):
    """What `make freeze` writes."""
    kept = zoo.rows("recipes_in_force", model="weight")[0]
    (fleet / "_past" / f"r_{kept.recipe[:16]}.py").write_text(kept.source)
    importlib.invalidate_caches()
    return kept.recipe


def more(zoo):
    zoo.see("Britain", range(60, 90))
    zoo.ingest()


def marks(zoo):
    """Verdicts with the judged marks of both sides."""
    return zoo.sql(
        "SELECT w.window_start, w.window_end, w.rows, w.as_of, c.judged_until AS mark, f.judged_until AS champions_mark "
        "FROM verdicts AS w JOIN versions AS c ON c.id = w.challenger "
        "LEFT JOIN releases AS r ON (r.model, r.country, r.seq) = (w.model, w.country, w.against_seq) "
        "LEFT JOIN versions AS f ON f.id = r.to_version ORDER BY w.id"
    )


def test_the_rows_compared_lie_after_both_judged_marks(zoo):
    for start in range(0, 90, 30):
        cycle(zoo, range(start, start + 30))
    found = marks(zoo)
    assert [bool(verdict.champions_mark) for verdict in found] == [False, True, True]
    assert all(verdict.mark < verdict.window_start for verdict in found)
    assert all(verdict.champions_mark < verdict.window_start for verdict in found[1:])


def test_rows_the_champion_was_trained_on_do_not_fill_up_a_comparison(zoo):
    cycle(zoo)
    edit_gate(zoo, min_clusters=15)
    outcome = cycle(zoo, range(60, 63), force=True)
    assert outcome.state == "inconclusive"
    assert "more days with rows" in outcome.reason


def test_the_served_fit_has_seen_the_rows_that_the_judged_fit_was_compared_on(zoo):
    cycle(zoo)
    version, verdict = champion(zoo), marks(zoo)[0]
    assert version.judged_until < verdict.window_start < version.served_until == verdict.as_of


def test_labels_that_mature_after_as_of_are_used_nowhere(zoo):
    zoo.edit(examples=late.examples)
    cycle(zoo)
    version, verdict = champion(zoo), marks(zoo)[0]
    assert verdict.window_end <= verdict.as_of - timedelta(days=10)
    assert version.served_until <= verdict.as_of
    assert version.judged_until < verdict.window_start
    rows_before_the_label_of_the_first_row_compared = (verdict.window_start - timedelta(days=10) - first_event(zoo)).days * 20
    assert version.metrics["train_rows"] == pytest.approx(rows_before_the_label_of_the_first_row_compared, abs=20)


def first_event(zoo) -> datetime:
    return zoo.sql("SELECT min(event_min) AS first FROM batches")[0].first


def test_the_verdict_reads_the_judged_fit_and_not_the_served_one(zoo):
    cycle(zoo)
    files = manifest(zoo)["files"]
    zoo.resources.store.put(files["served"]["key"], b"gone")
    more(zoo)
    assert zoo.retrain()["weight/GB"].decision is not None


def test_an_edited_recipe_without_the_old_code_fails_and_names_the_fix(zoo, fleet):
    deploy(zoo, fleet, "first", MODEL)
    cycle(zoo)
    deploy(zoo, fleet, "second", MODEL.replace("SCALE = 1", "SCALE = 2"))
    more(zoo)
    outcome = zoo.outcomes(zoo_run(zoo))["weight/GB"]
    assert outcome.state == "failed"
    assert outcome.reason.startswith("RecipeMissing: Model weight was edited")
    assert "Run `make freeze`" in outcome.reason
    assert len(releases(zoo)) == 1


def zoo_run(zoo, **request):
    """A run that may fail: its id."""
    run_id = zoo.plan(**request)
    zoo.train(run_id)
    return run_id


def test_a_champion_is_compared_through_its_own_frozen_recipe(zoo, fleet):
    deploy(zoo, fleet, "first", MODEL)
    cycle(zoo)
    frozen = freeze(zoo, fleet)
    deploy(zoo, fleet, "second", MODEL.replace("SCALE = 1", "SCALE = 2"))
    more(zoo)
    outcome = zoo.retrain()["weight/GB"]
    scores = champion(zoo).metrics
    assert (outcome.state, frozen != champion(zoo).recipe) == ("published", True)
    assert scores["champion"] == pytest.approx(scores["challenger"], rel=0.01)


def test_a_champion_whose_own_recipe_makes_no_examples_any_more_is_named_with_function_file_and_line(zoo, fleet):
    check = '    if rows["length"].max() > 100:\n        raise ValueError("too long")\n\n'
    asks = MODEL.replace("    return pd", f"{check}    return pd")
    deploy(zoo, fleet, "first", asks)
    cycle(zoo)
    frozen = freeze(zoo, fleet)
    deploy(zoo, fleet, "second", MODEL.replace("SCALE = 1", "SCALE = 2"))
    more(zoo)
    execute(zoo.shop, "INSERT INTO sightings VALUES (90001, now(), '2026-03-20', 'Britain', 200, 400)")
    zoo.ingest()
    outcome = zoo.outcomes(zoo_run(zoo))["weight/GB"]
    assert outcome.state == "failed"
    assert outcome.reason.startswith("ChampionFails: The champion, release 1, cannot be compared: examples() of its own recipe")
    assert "failed: ValueError: too long in examples, " in outcome.reason
    assert re.search(rf"/_past/r_{frozen[:16]}\.py:\d+$", outcome.reason)
    assert len(releases(zoo)) == 1


def test_comments_and_docstrings_do_not_change_a_recipe(zoo, fleet):
    deploy(zoo, fleet, "first", MODEL)
    cycle(zoo)
    deploy(zoo, fleet, "second", MODEL.replace("    return examples", '    """Scaled."""  # by SCALE\n    return examples'))
    more(zoo)
    assert zoo.retrain()["weight/GB"].state == "published"
    assert len(zoo.sql("SELECT 1 FROM recipes")) == 1


def test_a_frozen_recipe_that_was_edited_is_refused(zoo, fleet):
    deploy(zoo, fleet, "first", MODEL)
    cycle(zoo)
    path = fleet / "_past" / f"r_{freeze(zoo, fleet)[:16]}.py"
    path.write_text(path.read_text().replace("SCALE = 1", "SCALE = 7"))
    deploy(zoo, fleet, "second", MODEL.replace("SCALE = 1", "SCALE = 2"))
    more(zoo)
    assert "was edited: it holds recipe" in zoo.outcomes(zoo_run(zoo))["weight/GB"].reason


def test_another_target_is_not_compared_under_the_same_name(zoo, monkeypatch):
    cycle(zoo)
    original = recipe.recipe_of(zoo.catalog.fleets["zoo"].models["weight"]).hash
    zoo.edit(examples=_other_target.examples)
    freeze_in_toy_fleet(zoo, monkeypatch, original)
    more(zoo)
    assert "give the new target a model of its own" in zoo.outcomes(zoo_run(zoo))["weight/GB"].reason


def freeze_in_toy_fleet(zoo, monkeypatch, recipe_hash):
    """The toy model's own module is what a frozen copy of it would be."""
    past = importlib.import_module("toy_models.zoo.weight")
    monkeypatch.setattr(recipe, "_past_module", lambda model, wanted: past if wanted == recipe_hash else None)


def test_a_changed_recipe_that_is_worse_does_not_move_the_champion(zoo, monkeypatch):
    cycle(zoo)
    original = recipe.recipe_of(zoo.catalog.fleets["zoo"].models["weight"]).hash
    zoo.edit(features=_square.features)
    freeze_in_toy_fleet(zoo, monkeypatch, original)
    more(zoo)
    outcome = zoo.outcomes(zoo_run(zoo))["weight/GB"]
    assert outcome.state == "kept"
    assert champion(zoo).recipe == original


def test_a_worse_challenger_is_kept_out(zoo):
    cycle(zoo)
    edit_gate(zoo, floor=100, margin=0.0)
    zoo.see("Britain", range(40, 78), per_day=60, slope=-2)
    zoo.see("Britain", range(78, 90))
    zoo.ingest()
    outcome = zoo.retrain()["weight/GB"]
    assert (outcome.state, len(releases(zoo))) == ("kept", 1)


def test_without_refit_the_judged_fit_is_served(zoo):
    zoo.edit(refit=False)
    cycle(zoo)
    files = manifest(zoo)["files"]
    assert files["served"] == files["judged"]
    assert champion(zoo).served_until == champion(zoo).judged_until


def test_with_refit_the_served_fit_is_another_one(zoo):
    cycle(zoo)
    files, store = manifest(zoo)["files"], zoo.resources.store
    judged = decode_estimator(store.get(files["judged"]["key"]), ())
    served = reader(zoo).load(*GB).estimator
    assert 0 < abs(predict(judged, 9) - predict(served, 9)) < 0.5


def test_a_refit_too_far_from_its_judged_fit_leaves_the_champion(zoo):
    cycle(zoo)
    edit_gate(zoo, max_refit_distance=1e-9)
    more(zoo)
    outcome = zoo.outcomes(zoo_run(zoo))["weight/GB"]
    assert outcome.reason.startswith("SanityError: weight/GB: the refitted model's predictions lie")
    assert (outcome.state, len(releases(zoo))) == ("failed", 1)


def test_a_fit_that_predicts_beyond_reason_leaves_the_champion(zoo, monkeypatch):
    cycle(zoo)
    monkeypatch.setattr(training, "RANGE_SLACK", -0.5)
    more(zoo)
    outcome = zoo.outcomes(zoo_run(zoo))["weight/GB"]
    assert outcome.reason.startswith("SanityError: weight/GB judged fit")
    assert len(releases(zoo)) == 1


def test_too_few_rows_are_inconclusive_and_say_how_many_are_missing(zoo):
    outcome = cycle(zoo, range(3))
    assert (outcome.state, releases(zoo)) == ("inconclusive", [])
    assert outcome.reason == "Too few rows to judge on: needs 40 more rows and 2 more days with rows."


def test_too_few_rows_to_train_on_are_inconclusive_and_say_how_many_are_missing(zoo):
    edit_gate(zoo, min_train_rows=5000)
    assert "of 5000, needs" in cycle(zoo).reason


def test_a_thin_cell_is_judged_on_more_days_than_a_busy_one(zoo):
    zoo.see("Britain", range(60), per_day=40)
    zoo.see("France", range(60), per_day=6)
    zoo.ingest()
    zoo.retrain()
    days = dict(zoo.sql("SELECT country, clusters FROM verdicts"))
    assert (days["GB"], days["FR"]) == (5, 17)
