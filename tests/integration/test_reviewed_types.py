"""A champion's types are those that were reviewed when it was published: a shorter list later holds the next challenger."""

import pytest
from toolbox import GB, champion, cycle, edit_gate, manifest, predict, reader, releases
from toy_models.zoo import _picking

from perennial import authoring
from perennial.client import Champions
from perennial.core import artifacts
from perennial.core.hindsight import SERVED
from perennial.errors import ArtifactError, PerennialError
from perennial.steps.audit import audit
from perennial.steps.hindsight import hindsight
from perennial.steps.succession import check_champions

PICKING = "operator.itemgetter"
HOLD = "INSERT INTO blockers (model, country, kind, person, reason) VALUES ('weight', 'GB', 'hold', 'ann', 'wait')"
LIFT = "UPDATE blockers SET lifted_by = 'ann', lifted_at = now()"


@pytest.fixture
def published(zoo):
    """A champion whose artifact names a type beyond the project's list."""
    zoo.edit(estimator=_picking.estimator, trusted=_picking.TRUSTED)
    assert cycle(zoo).state == "published"
    return zoo


@pytest.fixture
def old(zoo, monkeypatch):
    """The same with a manifest of before manifests named types."""
    made = artifacts.manifest_payload

    def without_types(**given):
        payload = made(**given)
        del payload["trusted"]
        return payload

    monkeypatch.setattr(artifacts, "manifest_payload", without_types)
    zoo.edit(estimator=_picking.estimator, trusted=_picking.TRUSTED)
    assert cycle(zoo).state == "published"
    assert "trusted" not in manifest(zoo)
    return zoo


def after(zoo, days, slope=2.0):
    """More rows and a run that may fail: the outcome of weight/GB."""
    zoo.see("Britain", days, slope=slope)
    zoo.ingest()
    run_id = zoo.plan()
    zoo.train(run_id)
    return zoo.outcomes(run_id)["weight/GB"]


def test_a_manifest_names_the_types_of_its_files_and_no_others(published):
    assert manifest(published)["trusted"] == [PICKING]


def test_a_reader_need_not_know_the_types(published):
    assert predict(reader(published).load(*GB).estimator, 5) == pytest.approx(10, abs=0.5)


def test_a_reader_that_was_given_a_list_believes_no_type_beyond_it(published):
    url, keys = published.resources.store.url, published.resources.public_keys
    with pytest.raises(ArtifactError, match=rf"not trusted: {PICKING}\. .* this reader was given a list without them"):
        Champions.from_url(url, keys, trusted=()).load(*GB)
    assert Champions.from_url(url, keys, trusted=(PICKING,)).load(*GB).seq == 1


def test_a_type_taken_out_of_the_spec_leaves_the_champion_where_it_is(published):
    published.edit(trusted=())
    assert predict(reader(published).load(*GB).estimator, 5) == pytest.approx(10, abs=0.5)
    assert check_champions(published.resources, published.catalog)["unreadable"] == 0
    assert audit(published.resources, published.catalog, deep=True) == []
    edit_gate(published, margin=0.0, confidence=0.999)
    outcome = after(published, range(60, 90))
    assert (outcome.state, len(releases(published))) == ("inconclusive", 1)
    assert "cannot be read" not in outcome.reason


def test_the_next_challenger_is_held_to_the_shorter_list_and_is_named_the_line_to_write(published):
    published.edit(trusted=())
    edit_gate(published, floor=100)
    outcome = after(published, range(60, 90), slope=4.0)
    assert (outcome.state, len(releases(published))) == ("failed", 1)
    assert f"types that are not trusted: {PICKING}." in outcome.reason
    spec = published.catalog.fleets["zoo"].models["weight"]
    assert f'In {spec.where} that is trusted=("{PICKING}",).' in outcome.reason
    assert reader(published).load(*GB).seq == 1


def test_what_was_put_on_record_by_the_longer_list_is_not_released_by_the_shorter_one(zoo):
    zoo.edit(estimator=_picking.estimator, trusted=_picking.TRUSTED)
    zoo.sql(HOLD)
    assert cycle(zoo).state == "blocked"
    zoo.sql(LIFT)
    zoo.edit(trusted=())
    run_id = zoo.plan(force=True)
    zoo.train(run_id)
    assert zoo.outcomes(run_id)["weight/GB"].state == "failed"
    assert releases(zoo) == []
    zoo.edit(trusted=_picking.TRUSTED)
    assert zoo.retrain(force=True)["weight/GB"].state == "published"


def test_a_former_version_takes_over_though_its_type_was_taken_out(published):
    edit_gate(published, floor=100)
    assert after(published, range(60, 90), slope=4.0).release_seq == 2
    published.edit(trusted=())
    for entry in manifest(published)["files"].values():
        (published.resources.store.root / entry["key"]).unlink(missing_ok=True)
    assert check_champions(published.resources, published.catalog)["replaced by a former one"] == 1
    assert reader(published).load(*GB).version == releases(published)[0].to_version


def test_hindsight_reads_a_champion_whose_type_was_taken_out(published):
    published.see("Britain", range(60, 75), slope=2.2)
    published.ingest()
    published.retrain()
    published.edit(trusted=())
    made = hindsight(published.resources, published.catalog, "zoo", 1, lambda fact: None)
    (stretch,) = next(each.stretches for each in made if each.cell == GB)
    assert stretch.losses[SERVED] > 0.25


def test_a_dry_run_fails_where_its_fit_could_not_be_published(zoo):
    zoo.edit(estimator=_picking.estimator)
    zoo.see("Britain", range(60))
    zoo.ingest()
    run_id = zoo.plan(dry_run=True)
    zoo.train(run_id)
    outcome = zoo.outcomes(run_id)["weight/GB"]
    assert outcome.state == "failed"
    assert outcome.reason.startswith("Dry run: promote. ")
    assert f"It could not be published. The artifact needs types that are not trusted: {PICKING}." in outcome.reason
    zoo.edit(trusted=_picking.TRUSTED)
    run_id = zoo.plan(dry_run=True)
    zoo.train(run_id)
    assert zoo.outcomes(run_id)["weight/GB"].state == "skipped"


def test_trying_a_cell_fails_with_the_line_to_write_before_anything_is_published(zoo, monkeypatch):
    zoo.see("Britain", range(60))
    zoo.ingest()
    zoo.edit(estimator=_picking.estimator)
    monkeypatch.setattr(authoring, "environment_resources", lambda: zoo.resources)
    monkeypatch.setattr(authoring, "load_catalog", lambda: zoo.catalog)
    with pytest.raises(PerennialError, match=rf'weight/GB: Dry run: promote\. .* that is trusted=\("{PICKING}",\)'):
        authoring.try_cell("weight", "GB")
    zoo.edit(trusted=_picking.TRUSTED)
    assert authoring.try_cell("weight", "GB").startswith("weight/GB: Dry run: promote. ")
    assert releases(zoo) == []


def test_an_old_manifest_is_read_by_the_list_of_the_spec(old):
    assert check_champions(old.resources, old.catalog)["unreadable"] == 0
    assert audit(old.resources, old.catalog, deep=True) == []
    edit_gate(old, floor=100)
    assert after(old, range(60, 90), slope=4.0).release_seq == 2


def test_an_old_manifest_is_read_by_the_list_that_its_reader_was_given(old):
    with pytest.raises(ArtifactError, match=f"not trusted: {PICKING}"):
        reader(old).load(*GB)
    keys = old.resources.public_keys
    assert Champions.from_url(old.resources.store.url, keys, trusted=(PICKING,)).load(*GB).seq == 1


def test_types_are_believed_for_the_signature_alone(published):
    """Whoever can write to the store, but not sign, can name no type."""
    row = champion(published)
    document = published.resources.store.get(row.artifact_key)
    published.resources.store.put(
        row.artifact_key, document.replace(b'"trusted":[', b'"trusted":["toy_models.zoo._sick.Poisonous",')
    )
    with pytest.raises(ArtifactError, match="is not the one on record"):
        reader(published).load(*GB)
