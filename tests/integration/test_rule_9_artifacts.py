"""Rule 9: nothing loaded from the store can run code, or be forged by somebody who can write to the store."""

import os
import shutil
from functools import partial

import pandas as pd
import pytest
from sklearn.preprocessing import FunctionTransformer
from toolbox import GB, champion, cycle, manifest, overwrite, point_at, predict, reader, releases, write_keys
from toy_models.zoo import _sick

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.errors import ArtifactError, ExamplesError, ObjectMissing
from perennial.shell.keys import read_private_key
from perennial.steps.manifests import pointer_key

FR = Cell("weight", "FR")


@pytest.fixture
def published(zoo):
    """A zoo with champions in two countries."""
    zoo.see("Britain", range(60), slope=2)
    zoo.see("France", range(60), slope=3)
    zoo.ingest()
    zoo.retrain()
    return zoo


@pytest.fixture
def stranger(tmp_path):
    """The signing key of somebody else."""
    (tmp_path / "stranger").mkdir()
    return write_keys(tmp_path / "stranger")


def document(zoo, cell=GB):
    return zoo.resources.store.get(champion(zoo, cell).artifact_key)


def signed(zoo, payload, key=None):
    return artifacts.sign(payload, read_private_key(key or zoo.resources.signing_key))


def publish_file(zoo, data):
    """A properly signed release of any file: what is left to refuse is the file itself."""
    zoo.resources.store.put("artifacts/other.skops", data)
    entry = {"key": "artifacts/other.skops", "sha256": artifacts.sha256(data), "size": len(data)}
    point_at(zoo, signed(zoo, {**manifest(zoo), "files": {"judged": entry, "served": entry}}), 2)


def refused(zoo, match, trusted=()):
    champions = reader(zoo)
    champions.trusted = trusted
    with pytest.raises(ArtifactError, match=match):
        champions.load(*GB)
    return True


@pytest.mark.parametrize("place", [0, 30, -1])
def test_a_changed_byte_of_a_fit_is_refused(published, place):
    entry = manifest(published)["files"]["served"]
    data = bytearray(published.resources.store.get(entry["key"]))
    data[place] ^= 1
    overwrite(published, entry["key"], bytes(data))
    assert refused(published, "is not what its manifest says. It was altered")


def test_a_fit_is_checked_before_it_is_parsed(published, tmp_path):
    attack = FunctionTransformer(partial(os.system, f"touch {tmp_path}/run"))
    overwrite(published, manifest(published)["files"]["served"]["key"], artifacts.encode_estimator(attack))
    assert refused(published, "It was altered", trusted=("functools.partial", "posix.system"))
    assert not (tmp_path / "run").exists()


def test_a_changed_byte_of_a_manifest_is_refused(published):
    key = champion(published).artifact_key
    overwrite(published, key, document(published).replace(b'"rmse"', b'"mae" '))
    assert refused(published, "is not the one on record")


def test_a_changed_manifest_with_a_pointer_to_it_is_refused(published):
    point_at(published, document(published).replace(b'"rmse"', b'"mae"'), 2)
    assert refused(published, "manifest is not signed by a trusted key")


def test_a_manifest_signed_by_another_key_is_refused(published, stranger):
    point_at(published, signed(published, manifest(published), stranger[0]), 2)
    assert refused(published, "manifest is not signed by a trusted key")


def test_a_pointer_signed_by_another_key_is_refused(published, stranger):
    store, key = published.resources.store, pointer_key(GB)
    payload = artifacts.json.loads(store.get(key).partition(b"\n")[2])
    overwrite(published, key, signed(published, {**payload, "seq": 2}, stranger[0]))
    assert refused(published, "pointer is not signed by a trusted key")


@pytest.mark.parametrize("forgery", [b"", b"\n", b"{}", b"\xff\n{}", b"AAAA\n{}"])
def test_what_is_no_signed_document_is_refused(published, forgery):
    overwrite(published, pointer_key(GB), forgery)
    assert refused(published, "pointer is not signed by a trusted key")


def test_the_manifest_of_another_country_is_refused(published):
    point_at(published, document(published, FR), 2)
    assert refused(published, "manifest of weight/GB version .* is that of weight/FR")


def test_the_manifest_of_another_version_is_refused(published):
    first = document(published)
    cycle(published, range(60, 90))
    point_at(published, first, 3)
    assert refused(published, "manifest of weight/GB version")


def test_the_pointer_of_another_country_is_refused(published):
    overwrite(published, pointer_key(GB), published.resources.store.get(pointer_key(FR)))
    assert refused(published, "pointer of weight/GB is that of weight/FR")


def test_a_manifest_in_a_pointers_place_is_refused(published):
    overwrite(published, pointer_key(GB), document(published))
    assert refused(published, "A pointer of format 2 was expected, not manifest")


def test_a_pointer_that_is_put_back_is_refused(published):
    champions, before = reader(published), published.resources.store.get(pointer_key(GB))
    cycle(published, range(60, 90))
    champions.load(*GB)
    overwrite(published, pointer_key(GB), before)
    with pytest.raises(ArtifactError, match="names release 1, but 2 has been seen"):
        champions.load(*GB)


def test_a_fit_of_another_library_version_is_refused(published):
    payload = manifest(published)
    payload["environment"]["scikit-learn"] = "0.18"
    point_at(published, signed(published, payload), 2)
    assert refused(published, r"was fitted by scikit-learn 0\.18")


def test_a_signed_file_with_a_type_nobody_trusts_is_refused(published):
    publish_file(published, artifacts.encode_estimator(_sick.Poisonous()))
    assert refused(published, "types that are not trusted: toy_models.zoo._sick.Poisonous")


@pytest.mark.parametrize("trusted", [(), ("functools.partial",)])
def test_a_signed_file_that_would_run_a_command_is_refused_and_runs_nothing(published, tmp_path, trusted):
    attack = FunctionTransformer(partial(os.system, f"touch {tmp_path}/run"))
    publish_file(published, artifacts.encode_estimator(attack))
    assert refused(published, "not trusted: .*posix.system", trusted)
    assert not (tmp_path / "run").exists()


def test_a_signed_file_that_is_no_skops_file_is_refused(published):
    publish_file(published, b"cos\nsystem\n(S'true'\ntR.")
    assert refused(published, "is not a readable skops file")


def test_a_forged_champion_is_not_compared_with(published):
    overwrite(published, champion(published).artifact_key, document(published, FR))
    published.see("Britain", range(60, 90))
    published.ingest()
    run_id = published.plan(countries=("GB",))
    published.train(run_id)
    outcome = published.outcomes(run_id)["weight/GB"]
    assert (outcome.state, len(releases(published))) == ("published", 2)
    assert outcome.reason.startswith("The champion, release 1, cannot be read: The manifest")
    assert "Judged as a first model is. First model" in outcome.reason


def test_a_reader_with_another_trust_list_believes_nothing(published, stranger):
    shutil.copy(stranger[1], published.resources.public_keys.with_name("other.pem"))
    champions = reader(published)
    champions.keys = artifacts_keys(stranger[1])
    with pytest.raises(ArtifactError, match="not signed by a trusted key"):
        champions.load(*GB)


def artifacts_keys(path):
    from perennial.shell.keys import read_public_keys

    return read_public_keys(path)


def test_during_a_change_of_keys_both_are_believed(published, stranger, tmp_path):
    both = tmp_path / "both.pem"
    both.write_bytes(stranger[1].read_bytes() + published.resources.public_keys.read_bytes())
    champions = reader(published)
    champions.keys = artifacts_keys(both)
    assert champions.load(*GB).seq == 1


def test_a_reader_predicts_what_the_served_fit_predicts(published):
    entry = manifest(published)["files"]["served"]
    served = artifacts.decode_estimator(published.resources.store.get(entry["key"]), ())
    rows = pd.DataFrame({"length": [1.0, 5.0, 9.0], "unknown": 0})
    assert list(reader(published).load(*GB).predict(rows)) == list(served.predict(rows[["length"]]))


def test_a_reader_names_the_features_that_are_missing(published):
    with pytest.raises(ExamplesError, match="needs the features length; length are missing"):
        reader(published).load(*GB).predict(pd.DataFrame({"height": [1]}))


def test_a_reader_follows_the_champion_and_loads_each_version_once(published):
    champions = reader(published)
    first = champions.load(*GB)
    assert champions.load(*GB) is first
    cycle(published, range(60, 90))
    assert (champions.load(*GB).seq, champions.load(*GB).version) == (2, releases(published)[-1].to_version)


def test_readers_of_two_countries_get_two_models(published):
    champions = reader(published)
    assert predict(champions.load(*GB).estimator, 5) == pytest.approx(10, abs=0.5)
    assert predict(champions.load(*FR).estimator, 5) == pytest.approx(15, abs=0.5)


def test_a_cell_without_a_champion_is_no_forgery(published):
    with pytest.raises(ObjectMissing):
        reader(published).load("weight", "DE")
