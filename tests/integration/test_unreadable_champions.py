"""A champion that cannot be read or cannot predict is not the end: of its cell, nor of its readers."""

from dataclasses import replace

import pytest
from toolbox import GB, champion, cycle, execute, manifest, overwrite, reader, releases
from toy_models.zoo import _blank, _raising, _unseeing

from perennial import Owner
from perennial.core import trusted_types
from perennial.errors import SanityError
from perennial.shell.database import Json, connect, fetch_one
from perennial.steps.audit import audit
from perennial.steps.succession import check_champions

THIS_VERY_VERSION = (
    "The champion cannot be read, readers are without a model, and what is there to train on would "
    "make this very version "
    "again. New rows make another one; or restore its objects from a backup of the store."
)


@pytest.fixture
def told(tmp_path):
    """An owner whose messages cannot be delivered: they wait in the registry."""
    return Owner("keepers", alerts=("json://localhost:9/nowhere",))


@pytest.fixture
def published(zoo):
    """A zoo whose one cell has a champion."""
    cycle(zoo)
    return zoo


def damage(zoo, which="judged"):
    """Flip a byte of the champion's fit, or of its manifest."""
    key = champion(zoo).artifact_key if which == "manifest" else manifest(zoo)["files"][which]["key"]
    data = zoo.resources.store.get(key)
    overwrite(zoo, key, bytes([data[0] ^ 1]) + data[1:])
    return key, data


def lose(zoo, which="judged"):
    key, data = damage(zoo, which)
    (zoo.resources.store.root / key).unlink()
    return key, data


def messages(zoo):
    return zoo.sql("SELECT * FROM messages WHERE run_id LIKE '%%champions%%' ORDER BY created_at")


def after(zoo, days):
    """More rows and a run that may fail: the outcome of weight/GB."""
    zoo.see("Britain", days)
    zoo.ingest()
    run_id = zoo.plan()
    zoo.train(run_id)
    return zoo.outcomes(run_id)["weight/GB"]


@pytest.mark.parametrize("harm", [damage, lose])
@pytest.mark.parametrize("which", ["judged", "manifest"])
def test_a_lost_first_champion_is_followed_by_a_challenger_judged_as_a_first_model(published, harm, which):
    harm(published, which)
    outcome = cycle(published, range(60, 90))
    assert (outcome.state, outcome.release_seq) == ("published", 2)
    assert outcome.reason.startswith("The champion, release 1, cannot be read: ")
    assert "Judged as a first model is. First model: rmse" in outcome.reason
    assert reader(published).load(*GB).seq == 2
    assert {each.rule for each in audit(published.resources, published.catalog)} <= {2}


def test_a_challenger_of_a_lost_champion_has_to_pass_the_floor(published):
    damage(published)
    gate = published.catalog.fleets["zoo"].models["weight"].gate
    published.edit(gate=replace(gate, floor=1e-9))
    outcome = after(published, range(60, 90))
    assert (outcome.state, len(releases(published))) == ("failed", 1)
    assert "readers are without a model" in outcome.reason
    assert "Below the floor" in outcome.reason


def test_a_former_champion_takes_over_and_the_challenger_is_judged_against_it(published):
    first = champion(published).id
    cycle(published, range(60, 90))
    damage(published)
    published.edit(gate=replace(published.catalog.fleets["zoo"].models["weight"].gate, floor=1e-9))
    outcome = cycle(published, range(90, 120))
    back = releases(published)[2]
    assert (outcome.state, back.kind, back.to_version, len(releases(published))) == (
        "kept",
        "fallback",
        first,
        3,
    )
    assert back.reason.startswith("The champion, release 2, cannot be read: ")
    assert (reader(published).load(*GB).version, reader(published).load(*GB).seq) == (first, 3)


def test_a_former_champion_that_is_lost_as_well_does_not_take_over(published):
    damage(published)
    cycle(published, range(60, 90))
    damage(published)
    assert cycle(published, range(90, 120)).state == "published"
    assert [each.kind for each in releases(published)] == ["publish"] * 3


def test_what_a_person_has_taken_back_does_not_take_over(published):
    first = champion(published).id
    cycle(published, range(60, 90))
    second = champion(published).id
    published.sql(
        "INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, "
        "reason) "
        "VALUES ('weight', 'GB', 3, %s, %s, 'rollback', 'ann', 'worse')", second, first,
    )  # fmt: skip
    damage(published)
    check_champions(published.resources, published.catalog)
    assert len(releases(published)) == 3


def test_the_daily_look_finds_a_lost_champion_and_lets_a_former_one_take_over(published):
    first = champion(published).id
    cycle(published, range(60, 90))
    lose(published, "served")
    found = check_champions(published.resources, published.catalog)
    assert found == {"champions": 1, "unreadable": 1, "replaced by a former one": 1}
    assert (champion(published).id, reader(published).load(*GB).version) == (first, first)
    assert check_champions(published.resources, published.catalog)["unreadable"] == 0


def test_a_cell_whose_champion_is_lost_is_due_whatever_its_cadence_says(published):
    published.see("Britain", range(60, 61), per_day=5)
    published.ingest()
    assert published.retrain()["weight/GB"].reason.startswith("Not due: 5 rows")
    lose(published)
    check_champions(published.resources, published.catalog)
    assert published.retrain()["weight/GB"].state == "published"


def test_a_champion_that_is_back_is_lost_no_more(published):
    key, data = lose(published)
    assert check_champions(published.resources, published.catalog)["unreadable"] == 1
    published.resources.store.put(key, data)
    assert check_champions(published.resources, published.catalog)["unreadable"] == 0
    assert published.sql("SELECT 1 FROM lost_champions") == []


def test_a_lost_champion_is_not_the_version_that_nothing_needs_to_follow(published):
    lose(published)
    check_champions(published.resources, published.catalog)
    run_id = published.plan(force=True)
    published.train(run_id)
    outcome = published.outcomes(run_id)["weight/GB"]
    assert (outcome.state, outcome.reason) == ("failed", THIS_VERY_VERSION)


def test_a_sound_world_passes_the_daily_look(published):
    assert check_champions(published.resources, published.catalog) == {
        "champions": 1, "unreadable": 0, "replaced by a former one": 0,
    }  # fmt: skip
    assert (len(releases(published)), messages(published)) == (1, [])


def test_a_champion_that_is_there_but_cannot_be_loaded_is_told_and_not_replaced(zoo, told, monkeypatch):
    zoo.edit(estimator=_raising.estimator, trusted=_unseeing.TRUSTED, owner=told)
    cycle(zoo)
    cycle(zoo, range(60, 90))
    monkeypatch.setitem(trusted_types.REFUSED, "toy_models.zoo._unseeing.", "it was found to run code")
    found = check_champions(zoo.resources, zoo.catalog)
    assert (found["unreadable"], found["replaced by a former one"], len(releases(zoo))) == (1, 0, 2)
    (message,) = messages(zoo)
    assert "toy_models.zoo._unseeing.Raising cannot be: it was found to run code" in message.body


def test_an_owner_is_told_once_per_run_and_day_that_readers_have_no_model(published, told):
    published.edit(owner=told, gate=replace(published.catalog.fleets["zoo"].models["weight"].gate, floor=1e-9))
    damage(published)
    after(published, range(60, 90))
    for _ in range(2):
        check_champions(published.resources, published.catalog)
    at_once, daily = messages(published)
    assert at_once.run_id.endswith("run-2/champions")
    assert at_once.subject == "[zoo] 1 champion cannot be read, 1 without a successor"
    assert "weight/GB: The champion, release 1, cannot be read: " in daily.body


def test_a_store_that_is_away_makes_no_champion_a_lost_one(published, monkeypatch):
    from perennial.errors import StoreError
    from perennial.steps import cell as cell_step

    def away(*given):
        raise StoreError("the store cannot be reached")

    monkeypatch.setattr(cell_step, "load_fit", away)
    outcome = after(published, range(60, 90))
    assert (outcome.state, len(releases(published))) == ("failed", 1)
    assert outcome.reason.startswith("StoreError: the store cannot be reached in ")
    assert published.sql("SELECT 1 FROM lost_champions") == []


@pytest.mark.parametrize(
    ("estimator", "why"),
    [
        (_raising.estimator, "ValueError: Found unknown lengths during transform"),
        (_blank.estimator, "predictions are not finite."),
    ],
)
def test_a_champion_that_cannot_predict_loses_to_a_challenger_that_can(zoo, estimator, why):
    zoo.edit(estimator=estimator, trusted=_unseeing.TRUSTED)
    assert cycle(zoo).state == "published"
    ids = zoo.see("Britain", range(60, 90))
    execute(
        zoo.shop,
        "UPDATE sightings SET length = 30, weight = 60 WHERE id IN (%s, %s)",
        ids[0],
        ids[-1],
    )
    zoo.ingest()
    outcome = zoo.retrain()["weight/GB"]
    assert (outcome.state, outcome.release_seq) == ("published", 2)
    assert outcome.reason.startswith("The champion, release 1, cannot predict: ")
    assert why in outcome.reason
    assert audit(zoo.resources, zoo.catalog) == []


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nothing_that_is_not_finite_is_stored_as_json(published, value):
    database = connect(published.resources.database)
    with pytest.raises(SanityError, match="not finite"):
        fetch_one(database, "add_recipe", hash="h", source="", parameters=Json({"gain": value}))
    database.close()
