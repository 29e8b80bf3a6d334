"""What is released is what was verified: also an artifact that an earlier run has put on record."""

from dataclasses import replace

import pytest
from psycopg2 import errors
from toolbox import GB, champion, cycle, overwrite, reader, releases, write_keys

from perennial.core import artifacts
from perennial.steps import verifier
from perennial.steps.audit import audit

HOLD = "INSERT INTO blockers (model, country, kind, person, reason) VALUES ('weight', 'GB', 'hold', 'ann', 'wait')"
LIFT = "UPDATE blockers SET lifted_by = 'ann', lifted_at = now()"


@pytest.fixture
def waiting(zoo):
    """A promoted challenger, its artifact on record, kept from being published by a hold that is lifted now."""
    zoo.sql(HOLD)
    assert cycle(zoo).state == "blocked"
    zoo.sql(LIFT)
    return zoo


def on_record(zoo):
    return zoo.rows("audit_artifacts")[0]


def files(zoo):
    document = zoo.resources.store.get(on_record(zoo).artifact_key)
    return artifacts.json.loads(document.partition(b"\n")[2])["files"]


def published(zoo):
    return zoo.retrain(force=True)["weight/GB"].state == "published"


def test_an_artifact_on_record_that_passes_is_released(waiting):
    before = on_record(waiting)
    assert published(waiting)
    assert (on_record(waiting).sha256, waiting.sql("SELECT 1 FROM manifests")) == (
        before.sha256,
        [],
    )


@pytest.mark.parametrize("which", ["manifest", "served"])
def test_an_artifact_that_was_lost_before_its_release_is_stored_again(waiting, which):
    first = on_record(waiting)
    key = first.artifact_key if which == "manifest" else files(waiting)[which]["key"]
    (waiting.resources.store.root / key).unlink()
    assert published(waiting)
    assert reader(waiting).load(*GB).version == first.id
    assert champion(waiting).artifact_key == first.artifact_key
    assert [each.kind for each in waiting.sql("SELECT kind FROM manifests")] in (
        [],
        ["stored again"],
    )
    assert audit(waiting.resources, waiting.catalog, deep=True) == []


def test_an_artifact_that_was_altered_before_its_release_is_stored_again(waiting):
    key = files(waiting)["served"]["key"]
    overwrite(waiting, key, waiting.resources.store.get(key)[:-1] + b"?")
    assert published(waiting)
    assert reader(waiting).load(*GB).seq == 1


def test_an_artifact_whose_key_was_taken_out_before_its_release_is_signed_by_the_new_one(waiting, tmp_path):
    (tmp_path / "new").mkdir()
    private, public = write_keys(tmp_path / "new")
    waiting.resources = replace(waiting.resources, signing_key=private, public_keys=public)
    assert published(waiting)
    assert reader(waiting).load(*GB).seq == 1
    assert audit(waiting.resources, waiting.catalog, deep=True) == []


def test_what_is_on_record_is_read_by_the_verifier_before_its_release(waiting, monkeypatch):
    asked, verify = [], verifier.Verifier.verify
    monkeypatch.setattr(
        verifier.Verifier,
        "verify",
        lambda self, manifest, *given: (
            asked.append(manifest.sha256),
            verify(self, manifest, *given),
        ),
    )
    assert published(waiting)
    assert asked == [on_record(waiting).sha256]


def test_the_artifact_of_a_released_version_is_not_stored_again(waiting):
    assert published(waiting)
    row = on_record(waiting)
    with pytest.raises(errors.RestrictViolation, match="was released: its artifact is immutable"):
        waiting.sql(
            "INSERT INTO manifests (version, number, kind, artifact_key, sha256, size) "
            "VALUES (%s, 2, 'stored again', 'k', %s, 1)",
            row.id, "0" * 64,
        )  # fmt: skip


@pytest.mark.parametrize("statement", ["DELETE FROM manifests", "UPDATE manifests SET size = 1", "TRUNCATE generations"])
def test_manifests_and_generations_are_append_only(waiting, statement):
    with pytest.raises(errors.RestrictViolation):
        waiting.sql(statement)
    assert releases(waiting) == []
