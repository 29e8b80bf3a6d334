"""A champion of another scikit-learn: what becomes of it where it cannot be read, case by case.

Its version says that another one has fitted it; that it cannot be read is pretended, and two real
versions are those of test_two_scikit_learns.py.
"""

from dataclasses import replace

import psycopg2
import pytest
import sklearn
from toolbox import GB, champion, cycle, manifest, reader, releases, write_keys

from perennial import Days
from perennial.errors import ObjectMissing, StoreError
from perennial.steps import publishing, rebuild
from perennial.steps.audit import audit
from perennial.steps.manifests import pointer_key
from perennial.steps.pointers import repair_pointers
from perennial.steps.quarantine import retract_batch
from perennial.steps.resign import resign
from perennial.steps.succession import check_champions

FORMER, HERE = "1.0.0", sklearn.__version__
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'versions' ORDER BY ordinal_position"
KEPT = f"Readers with {FORMER} keep it, those with {HERE} have no model until a challenger wins."


@pytest.fixture
def as_former(monkeypatch):
    """Within it, this process says that it has the former scikit-learn."""

    def enter():
        pretended = pytest.MonkeyPatch()
        pretended.setattr(sklearn, "__version__", FORMER)
        return pretended

    return enter


@pytest.fixture
def upgraded(zoo, as_former):
    """A zoo whose one champion the former scikit-learn has fitted."""
    pretended = as_former()
    cycle(zoo)
    pretended.undo()
    return zoo


@pytest.fixture
def unreadable(upgraded, monkeypatch):
    """The same, where that champion cannot be read here."""
    monkeypatch.setattr(rebuild, "is_read_alike", lambda sample, predicted: False)
    return upgraded


@pytest.fixture
def unlike(unreadable, monkeypatch):
    """The same, where it would not predict alike if it were fitted again."""
    monkeypatch.setattr(rebuild, "REBUILT_ALIKE", -1.0)
    return unreadable


def messages(zoo):
    return zoo.sql("SELECT * FROM messages ORDER BY created_at")


def refused(zoo):
    """How a champion that is not rebuilt ends, and why it is not."""
    outcome = zoo.retrain()["weight/GB"]
    (row,) = zoo.sql("SELECT * FROM rebuilds_refused")
    assert outcome.reason.startswith(row.reason)
    assert (outcome.state, [each.kind for each in releases(zoo)]) == ("published", ["publish", "publish"])
    assert "Judged as a first model is. First model: rmse" in outcome.reason
    assert row.reason.startswith(
        f"Release 1 was fitted by scikit-learn {FORMER}, cannot be read by {HERE} and is not rebuilt: "
    )
    assert row.reason.endswith(KEPT)
    return row.reason


def test_a_champion_that_reads_the_same_is_shown_to_be_and_stays(upgraded):
    outcome = upgraded.retrain()["weight/GB"]
    assert outcome.reason.startswith(f"Release 1 was fitted by scikit-learn {FORMER} and reads the same by {HERE}. Not due: ")
    assert (manifest(upgraded)["environment"]["scikit-learn"], len(releases(upgraded))) == (FORMER, 1)
    assert reader(upgraded).load(*GB).is_former is False
    assert upgraded.retrain() == {}
    assert audit(upgraded.resources, upgraded.catalog) == []


def test_what_was_shown_once_outlives_a_key(upgraded, tmp_path):
    upgraded.retrain()
    private, public = write_keys(tmp_path)
    former, upgraded.resources = upgraded.resources, replace(upgraded.resources, signing_key=private, public_keys=public)
    assert resign(upgraded.resources, [former.public_keys]).manifests == 1
    assert reader(upgraded).load(*GB).seq == 1
    assert upgraded.retrain() == {}


def test_a_rebuild_is_the_same_recipe_rows_and_seed_in_another_environment(unreadable):
    before = champion(unreadable)
    outcome = unreadable.retrain()["weight/GB"]
    after = champion(unreadable)
    assert (outcome.state, outcome.kind, outcome.version) == ("published", "rebuild", after.id)
    same = ("snapshot", "recipe", "parameters", "seed", "judged_until", "served_until")
    assert [getattr(after, name) for name in same] == [getattr(before, name) for name in same]
    assert (after.metrics["rebuilt_from"], after.metrics["train_rows"]) == (before.id, before.metrics["train_rows"])
    assert after.environment["scikit-learn"] == HERE
    assert audit(unreadable.resources, unreadable.catalog) == []


def test_the_owner_is_told_of_a_rebuild_in_plain_words(unreadable):
    unreadable.retrain()
    told = messages(unreadable)[-1]
    assert told.subject == "[zoo] 1 of 1 cell rebuilt"
    assert told.body.startswith(f"Rebuilt:\n- weight: GB: Rebuilt for scikit-learn {HERE}. Release 1 was fitted by")
    assert "the same champion as before, fitted again by the scikit-learn that is installed now" in told.body


def test_a_reader_of_the_former_one_keeps_the_release_before_and_goes_back_no_further(unreadable, as_former):
    unreadable.retrain()
    first, second = (each.to_version for each in releases(unreadable))
    assert (reader(unreadable).load(*GB).version, reader(unreadable).load(*GB).is_former) == (second, False)
    pretended = as_former()
    kept = reader(unreadable).load(*GB)
    pretended.undo()
    assert (kept.version, kept.seq, kept.is_former, kept.mark.seq) == (first, 1, True, 2)


def test_what_was_taken_back_is_nobodys_to_keep(unreadable, as_former):
    unreadable.retrain()
    unreadable.sql(
        "INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason) "
        "SELECT model, country, 3, to_version, from_version, 'rollback', 'ann', 'worse' FROM releases WHERE seq = 2"
    )
    assert repair_pointers(unreadable.resources, unreadable.catalog) == 1
    pointer = reader(unreadable)
    pretended = as_former()
    assert pointer.load(*GB).seq == 3
    pretended.undo()
    with pytest.raises(Exception, match=f"{HERE} is installed here"):
        reader(unreadable).load(*GB)


def test_a_pointer_that_lacks_what_others_keep_is_repaired(unreadable):
    unreadable.retrain()
    store = unreadable.resources.store
    document = store.get(pointer_key(GB))
    (store.root / pointer_key(GB)).unlink()
    assert repair_pointers(unreadable.resources, unreadable.catalog) == 1
    assert store.get(pointer_key(GB)) == document
    assert repair_pointers(unreadable.resources, unreadable.catalog) == 0


def test_the_next_cycle_judges_against_the_rebuild(unreadable):
    unreadable.retrain()
    outcome = cycle(unreadable, range(60, 90))
    assert (outcome.against_seq, outcome.state) == (2, "published")
    assert "champion" in champion(unreadable).metrics
    assert audit(unreadable.resources, unreadable.catalog) == []


def test_a_rebuild_of_a_rebuild_is_made_of_the_same_rows(unreadable, as_former):
    pretended = pytest.MonkeyPatch()
    pretended.setattr(sklearn, "__version__", "2.0.0")
    pretended.setattr("perennial.steps.plan.version", lambda name: "2.0.0")
    unreadable.retrain()
    pretended.undo()
    assert unreadable.retrain()["weight/GB"].kind == "rebuild"
    assert [each.fitted_by for each in releases(unreadable)] == [FORMER, "2.0.0", HERE]
    assert audit(unreadable.resources, unreadable.catalog) == []


def test_on_the_way_back_what_was_fitted_before_is_taken_as_it_is(unreadable, monkeypatch):
    unreadable.retrain()
    pretended = pytest.MonkeyPatch()
    pretended.setattr(sklearn, "__version__", FORMER)
    pretended.setattr("perennial.steps.plan.version", lambda name: FORMER)
    pretended.setattr(rebuild, "fit", None)
    assert unreadable.retrain()["weight/GB"].kind == "rebuild"
    pretended.undo()
    first, _, third = releases(unreadable)
    assert (third.to_version, third.kind) == (first.to_version, "rebuild")
    assert audit(unreadable.resources, unreadable.catalog) == []


def test_a_hold_keeps_no_rebuild_back(unreadable):
    unreadable.rows("hold", model="weight", country="GB", version=None, kind="hold", person="ada", reason="wait", until=None)
    assert unreadable.retrain()["weight/GB"].kind == "rebuild"
    assert cycle(unreadable, range(60, 90)).state == "blocked"
    assert audit(unreadable.resources, unreadable.catalog) == []


def test_a_dry_run_changes_nothing(unreadable):
    outcome = unreadable.retrain(dry_run=True, force=True)["weight/GB"]
    assert outcome.state == "skipped"
    assert f"Release 1 was fitted by scikit-learn {FORMER}, and no run has carried it over yet." in outcome.reason
    assert (len(releases(unreadable)), unreadable.sql("SELECT 1 FROM rebuilds_refused")) == (1, [])


def test_predictions_that_do_not_agree_make_no_rebuild(unlike):
    assert "fitted again on its own rows, it predicts its stored sample otherwise: " in refused(unlike)


def test_who_keeps_what_and_what_to_do_is_told_at_once(unlike):
    refused(unlike)
    told = messages(unlike)[-2]
    assert told.subject == "[zoo] 1 champion cannot be read, 1 without a successor"
    assert KEPT.split(",", maxsplit=1)[0] in told.body
    assert "docs/upgrade.md says for each reason what to do; then trigger retrain_zoo" in told.body
    assert "Restore its objects" not in told.body


def test_a_champion_without_a_sample_is_not_rebuilt(zoo, as_former, monkeypatch):
    monkeypatch.setattr(publishing, "encode_sample", lambda sample: None)
    pretended = as_former()
    cycle(zoo)
    pretended.undo()
    assert "no sample of its predictions is stored with it" in refused(zoo)


def test_a_sample_that_is_lost_is_named(unreadable):
    (unreadable.resources.store.root / manifest(unreadable)["sample"]["key"]).unlink()
    assert "its stored sample cannot be read: " in refused(unreadable)


def test_rows_that_were_taken_back_make_no_rebuild(unreadable):
    unreadable.see("Britain", range(60, 120))
    unreadable.ingest()
    retract_batch(unreadable.resources, "sightings", "GB", 1, "ada", "wrong")
    assert "a batch that it was trained on, or had to do without, was decided about since" in refused(unreadable)


def test_rows_that_are_lost_make_no_rebuild(unreadable, monkeypatch):
    def missing(job, snapshot):
        raise ObjectMissing("lake/sightings/GB/1 is not in the store.")

    monkeypatch.setattr(rebuild, "read_again", missing)
    assert "a batch that it was trained on cannot be read: lake/sightings/GB/1" in refused(unreadable)


def test_a_window_that_was_edited_makes_no_rebuild(unreadable):
    unreadable.edit(window=Days(20))
    assert "window, lookback or holdout were edited since" in refused(unreadable)


def test_a_recipe_that_the_new_one_cannot_fit_makes_no_rebuild(unreadable, monkeypatch):
    def raising(model, rows):
        raise TypeError("Ridge() has no parameter solver")

    monkeypatch.setattr(rebuild, "fit", raising)
    assert "its recipe cannot be fitted again here: TypeError: Ridge() has no parameter solver" in refused(unreadable)


def test_a_challenger_that_may_not_follow_leaves_the_cell_failed_and_is_asked_again_with_new_rows(unlike):
    gate = unlike.catalog.fleets["zoo"].models["weight"].gate
    unlike.edit(gate=replace(gate, floor=1e-9))
    run_id = unlike.plan()
    unlike.train(run_id)
    assert unlike.outcomes(run_id)["weight/GB"].state == "failed"
    assert unlike.retrain() == {}
    assert check_champions(unlike.resources, unlike.catalog)["unreadable"] == 1
    unlike.edit(gate=gate)
    outcome = cycle(unlike, range(60, 62))
    assert (outcome.state, outcome.kind) == ("published", "publish")
    assert sum("cannot be read" in each.subject for each in messages(unlike)) == 2  # by its run, and by the day's look


def test_force_tries_what_was_refused_again(unlike, monkeypatch):
    gate = unlike.catalog.fleets["zoo"].models["weight"].gate
    unlike.edit(gate=replace(gate, floor=1e-9))
    unlike.train(unlike.plan())
    monkeypatch.setattr(rebuild, "REBUILT_ALIKE", 0.15)
    assert unlike.retrain(force=True)["weight/GB"].kind == "rebuild"


def test_a_store_that_is_away_refuses_nothing(unreadable, monkeypatch):
    def away(job, snapshot):
        raise StoreError("the store cannot be reached")

    monkeypatch.setattr(rebuild, "read_again", away)
    run_id = unreadable.plan()
    unreadable.train(run_id)
    assert unreadable.outcomes(run_id)["weight/GB"].reason.startswith("StoreError: the store cannot be reached")
    assert unreadable.sql("SELECT 1 FROM rebuilds_refused") == []


def test_a_lost_champion_of_the_former_one_is_lost(unreadable):
    (unreadable.resources.store.root / manifest(unreadable)["files"]["judged"]["key"]).unlink()
    outcome = unreadable.retrain()["weight/GB"]
    assert outcome.state == "published"
    assert outcome.reason.startswith("The champion, release 1, cannot be read: ")


def test_an_interrupted_rebuild_is_the_outcome_of_its_run(unreadable, monkeypatch):
    write, failures = rebuild.write_pointer, iter([StoreError("the disk is full")])

    def failing(*given):
        for failure in failures:
            raise failure
        write(*given)

    monkeypatch.setattr(rebuild, "write_pointer", failing)
    outcome = unreadable.retrain()["weight/GB"]
    assert (outcome.state, outcome.release_seq, outcome.kind) == ("published", 2, "rebuild")
    assert repair_pointers(unreadable.resources, unreadable.catalog) == 1


def test_a_move_meanwhile_makes_the_rebuild_start_again(unreadable, monkeypatch):
    release, moved = rebuild.release_rebuild, iter(["once"])

    def late(database, cell, **facts):
        for _ in moved:
            unreadable.sql(
                "INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason) "
                "SELECT model, country, 2, to_version, to_version, 'rollback', 'ann', 'to be sure' FROM releases"
            )
        return release(database, cell, **facts)

    monkeypatch.setattr(rebuild, "release_rebuild", late)
    outcome = unreadable.retrain()["weight/GB"]
    assert (outcome.release_seq, [each.kind for each in releases(unreadable)]) == (3, ["publish", "rollback", "rebuild"])


def test_rows_that_are_taken_back_while_it_is_fitted_make_no_rebuild(unreadable, monkeypatch):
    unreadable.see("Britain", range(60, 120))
    unreadable.ingest()
    release, taken_back = rebuild.release_rebuild, iter(["once"])

    def late(database, cell, **facts):
        for _ in taken_back:
            retract_batch(unreadable.resources, "sightings", "GB", 1, "ada", "wrong")
        return release(database, cell, **facts)

    monkeypatch.setattr(rebuild, "release_rebuild", late)
    assert "was decided about since" in refused(unreadable)


@pytest.mark.parametrize("change", ["seed = seed + 1", "judged_until = now()", 'environment = \'{"scikit-learn": "1.0.0"}\''])
def test_the_database_refuses_as_a_rebuild_what_is_another_model_or_the_same_environment(upgraded, change):
    column, _, value = change.partition(" = ")
    columns = [row.column_name for row in upgraded.sql(COLUMNS)]
    values = {**{name: name for name in columns}, "id": "repeat('r', 64)", "environment": "'{}'", column: value}
    chosen = ", ".join(values[name] for name in columns)
    upgraded.sql(f"INSERT INTO versions ({', '.join(columns)}) SELECT {chosen} FROM versions")
    with pytest.raises(psycopg2.errors.RestrictViolation, match="fitted by another scikit-learn"):
        upgraded.sql(
            "INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason) "
            "SELECT model, country, 2, to_version, repeat('r', 64), 'rebuild', 'perennial', '' FROM releases"
        )


def test_only_cells_of_another_scikit_learn_are_due(upgraded):
    upgraded.see("France", range(60))
    upgraded.ingest()
    upgraded.train(upgraded.plan(countries=("FR",)))
    assert [row.country for row in upgraded.rows("pending", run_id=upgraded.plan())] == ["GB"]
