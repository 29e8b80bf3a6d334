"""A signing key can be taken out of use: what it signed is signed again, and believed no more."""

from dataclasses import replace

import pytest
from toolbox import GB, champion, cycle, overwrite, reader, releases, write_keys

from perennial.cell import Cell
from perennial.core import artifacts
from perennial.errors import ArtifactError, SettingsError
from perennial.shell.keys import read_private_key
from perennial.steps.audit import audit, examine
from perennial.steps.manifests import pointer_key
from perennial.steps.pointers import repair_pointers
from perennial.steps.resign import resign

FR = Cell("weight", "FR")


@pytest.fixture
def rotated(zoo, tmp_path):
    """Champions of two countries signed by a former key; a new key signs, both are trusted."""
    cycle(zoo, range(60), "Britain", "France")
    folder = tmp_path / "new"
    folder.mkdir()
    private, public = write_keys(folder)
    former = zoo.resources.public_keys
    trusted = folder / "both.pem"
    trusted.write_bytes(former.read_bytes() + public.read_bytes())
    zoo.former, zoo.new = former, public
    zoo.resources = replace(zoo.resources, signing_key=private, public_keys=trusted)
    return zoo


def retire(zoo):
    """Take the former key out of the trusted ones, everywhere."""
    zoo.resources = replace(zoo.resources, public_keys=zoo.new)


def manifests(zoo):
    return [zoo.resources.store.get(row.artifact_key) for row in zoo.rows("audit_artifacts")]


def test_what_a_former_key_signed_is_signed_again_and_all_goes_on_without_it(rotated):
    champions = reader(rotated)
    before = champions.load(*GB)
    done = resign(rotated.resources)
    assert (done.manifests, done.pointers, done.refused) == (2, 2, [])
    retire(rotated)
    assert (champions.load(*GB).mark, reader(rotated).load(*GB).version) == (
        before.mark,
        before.version,
    )
    assert repair_pointers(rotated.resources, rotated.catalog) == 0
    assert cycle(rotated, range(60, 90)).state == "published"
    assert audit(rotated.resources, rotated.catalog, deep=True) == []


def test_nothing_that_a_former_key_signed_is_believed_once_it_is_out(rotated):
    store = rotated.resources.store
    pointer = store.get(pointer_key(GB))
    resign(rotated.resources)
    retire(rotated)
    overwrite(rotated, pointer_key(GB), pointer)
    with pytest.raises(ArtifactError, match="not signed by a trusted key"):
        reader(rotated).load(*GB)


def test_the_first_artifact_stays_on_record_and_the_files_are_the_same(rotated):
    first = champion(rotated)
    resign(rotated.resources)
    (row,) = rotated.sql("SELECT * FROM manifests WHERE version = %s", first.id)
    assert champion(rotated).artifact_key == first.artifact_key
    old, new = (rotated.resources.store.get(each.artifact_key) for each in (first, row))
    old, new = (artifacts.json.loads(document.partition(b"\n")[2]) for document in (old, new))
    assert (row.kind, new) == ("signed again", old)


def test_signing_again_twice_signs_nothing_twice(rotated):
    resign(rotated.resources)
    done = resign(rotated.resources)
    assert (done.manifests, done.pointers, len(rotated.sql("SELECT 1 FROM manifests"))) == (0, 0, 2)


def test_a_manifest_that_is_not_the_one_on_record_is_not_signed(rotated):
    row = champion(rotated)
    other = rotated.resources.store.get(champion(rotated, FR).artifact_key)
    overwrite(rotated, row.artifact_key, other)
    done = resign(rotated.resources)
    assert (done.manifests, len(done.refused)) == (1, 1)
    assert done.refused[0].startswith(f"weight/GB version {row.id[:12]}: The manifest ")


def test_a_manifest_of_another_version_is_not_signed_though_the_registry_names_it(rotated):
    other = champion(rotated, FR)
    rotated.sql("ALTER TABLE versions DISABLE TRIGGER guard_version")
    rotated.sql(
        "UPDATE versions SET artifact_key = %s, sha256 = %s WHERE country = 'GB'",
        other.artifact_key,
        other.sha256,
    )
    assert "is that of weight/FR" in resign(rotated.resources).refused[0]


def test_a_manifest_that_a_stranger_signed_is_not_signed_again(rotated):
    retire(rotated)
    assert ["not signed by a trusted key" in each for each in resign(rotated.resources).refused] == [True, True]
    assert rotated.sql("SELECT 1 FROM manifests") == []


def test_a_key_that_was_taken_out_too_early_is_named_to_check_what_it_signed(rotated):
    retire(rotated)
    assert resign(rotated.resources, [rotated.former]).manifests == 2
    assert reader(rotated).load(*GB).version == champion(rotated).id


def test_a_signing_key_that_nobody_trusts_signs_nothing_again(rotated):
    rotated.resources = replace(rotated.resources, public_keys=rotated.former)
    with pytest.raises(SettingsError, match="is not among the trusted keys"):
        resign(rotated.resources)


def test_the_audit_names_what_a_former_key_still_signs(rotated):
    findings = examine(rotated.resources, rotated.catalog)
    former = artifacts.key_id(read_private_key(rotated.former.with_name("signing.pem")).public_key())
    assert (findings.violations, findings.unseen[0].startswith(f"Key {former} ")) == ([], True)
    assert "signs 2 manifests and 2 pointers" in findings.unseen[0]
    resign(rotated.resources)
    assert examine(rotated.resources, rotated.catalog).unseen == []


def test_a_rolled_back_version_is_read_by_its_new_manifest(rotated):
    former = champion(rotated).id
    cycle(rotated, range(60, 90))
    resign(rotated.resources)
    retire(rotated)
    rotated.sql(
        "INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, "
        "reason) "
        "SELECT model, country, 3, to_version, %s, 'rollback', 'ann', 'worse' FROM releases WHERE "
        "(country, seq) = ('GB', 2)",
        former,
    )
    repair_pointers(rotated.resources, rotated.catalog)
    assert (reader(rotated).load(*GB).version, len(releases(rotated))) == (former, 3)


def test_a_manifest_that_names_another_recipe_than_is_on_record_is_not_signed_again(rotated):
    first, store = champion(rotated), rotated.resources.store
    payload = artifacts.json.loads(store.get(first.artifact_key).partition(b"\n")[2]) | {"recipe": "0" * 64}
    document = artifacts.sign(payload, read_private_key(rotated.resources.signing_key))
    store.put("artifacts/other.manifest", document)
    rotated.sql("ALTER TABLE versions DISABLE TRIGGER USER")
    digest = artifacts.sha256(document)
    facts = ("artifacts/other.manifest", digest, first.id)
    rotated.sql("UPDATE versions SET artifact_key = %s, sha256 = %s WHERE id = %s", *facts)
    rotated.sql("ALTER TABLE versions ENABLE TRIGGER USER")
    (refused,) = resign(rotated.resources).refused
    assert "The manifest names recipe 0000000000000000" in refused
