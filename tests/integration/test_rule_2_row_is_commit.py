"""Rule 2: the row is the commit: stored, read back, checked by another process, then one INSERT."""

import os
import pickle
import signal

import numpy as np
import pytest
from psycopg2 import errors
from toolbox import GB, champion, cycle, reader, releases
from toy_models.zoo import _poisonous

from perennial.cell import Cell
from perennial.errors import ArtifactError, StoreError, StoreLost
from perennial.shell import store as stores
from perennial.steps import cell as cell_step
from perennial.steps import publishing, verifier

RELEASE = """
INSERT INTO releases (model, country, seq, to_version, kind, verdict, reason)
SELECT model, country, 1, challenger, 'publish', id, 'test' FROM verdicts
"""
FR = Cell("weight", "FR")


@pytest.fixture
def fed(zoo):
    """A zoo with rows of one country."""
    zoo.see("Britain", range(60))
    zoo.ingest()
    return zoo


def run_of(zoo, **request):
    """A run that may fail: its outcomes."""
    run_id = zoo.plan(**request)
    zoo.train(run_id)
    return zoo.outcomes(run_id)


def stored(zoo):
    return zoo.resources.store.keys("artifacts/")


def refused(zoo, match):
    """Nothing is published, and the outcome says why."""
    zoo.edit(attempts=1)
    outcome = run_of(zoo)["weight/GB"]
    assert (outcome.state, releases(zoo), zoo.resources.store.keys("pointers/")) == ("failed", [], [])
    assert match in outcome.reason
    return True


def once(monkeypatch, where, name, what):
    """Do something in place of a step's first call."""
    original = getattr(where, name)
    monkeypatch.setattr(where, name, lambda *given, **values: (monkeypatch.setattr(where, name, original), what())[1])


def test_a_crash_between_artifact_and_row_leaves_orphans_only_and_a_later_run_publishes(fed, monkeypatch):
    with monkeypatch.context() as crash:
        crash.setattr(cell_step, "publish", lambda *given, **values: 1 / 0)
        assert refused(fed, "ZeroDivisionError")
    assert len(stored(fed)) == 4  # two fits, their sample, and the manifest
    assert run_of(fed)["weight/GB"].state == "published"
    assert reader(fed).load(*GB).version == champion(fed).id


@pytest.mark.parametrize("step", ["commit_artifact", "publish"])
def test_a_cell_that_crashed_once_is_published_by_its_second_attempt(fed, monkeypatch, step):
    once(monkeypatch, cell_step, step, lambda: 1 / 0)
    assert run_of(fed)["weight/GB"].state == "published"
    assert len(releases(fed)) == 1
    assert reader(fed).load(*GB).version == champion(fed).id


def test_the_artifact_on_record_is_in_the_store_before_the_row(fed, monkeypatch):
    seen, original = [], cell_step.publish
    monkeypatch.setattr(
        cell_step, "publish", lambda *given, **values: (seen.append(stored(fed)), original(*given, **values))[1]
    )
    run_of(fed)
    assert champion(fed).artifact_key in seen[0]


@pytest.mark.parametrize(
    ("kind", "match"), [(".skops", "is not what its manifest says"), (".manifest", "is not the one on record")]
)
def test_an_object_that_is_altered_in_the_store_is_not_published(fed, monkeypatch, kind, match):
    original = publishing.store_artifact

    def altered(resources, *given):
        made = original(resources, *given)
        for key in (key for key in stored(fed) if key.endswith(kind)):
            resources.store.put(key, resources.store.get(key)[:-1] + b"?")
        return made

    monkeypatch.setattr(publishing, "store_artifact", altered)
    assert refused(fed, match)


def test_a_release_is_on_the_servers_disk_before_its_pointer_is_written(fed, monkeypatch):
    write, found = cell_step.write_pointer, []

    def late(*given):
        found.extend(fed.sql("SELECT pg_current_wal_flush_lsn() >= pg_current_wal_insert_lsn() AS all_of_it"))
        write(*given)

    monkeypatch.setattr(cell_step, "write_pointer", late)
    fed.sql("ALTER SYSTEM SET wal_writer_delay = '10s'")
    fed.sql("SELECT pg_reload_conf()")
    fed.retrain()
    fed.sql("ALTER SYSTEM RESET wal_writer_delay")
    fed.sql("SELECT pg_reload_conf()")
    assert [row.all_of_it for row in found] == [True]


def test_an_object_that_was_not_stored_is_not_published(fed, monkeypatch):
    monkeypatch.setattr(stores.FolderStore, "put", lambda self, key, data: None)
    assert refused(fed, "ObjectMissing")


def test_a_store_that_is_full_publishes_nothing(fed):
    fed.resources.store.put("key", b"")
    (fed.resources.store.root / "artifacts").touch()
    fed.edit(attempts=1)
    assert run_of(fed)["weight/GB"].reason.startswith(f"{StoreError.__name__}: ")
    assert releases(fed) == []


def test_an_artifact_that_predicts_something_else_is_not_published(fed, monkeypatch):
    original = cell_step._challenger

    def other(*given):
        challenger = original(*given)
        challenger.sample.expected["served"] += 1e-6
        return challenger

    monkeypatch.setattr(cell_step, "_challenger", other)
    assert refused(fed, "The stored served fit of weight/GB does not predict what the fit in memory predicts")


def test_an_artifact_that_predicts_nothing_is_not_published(fed, monkeypatch):
    monkeypatch.setattr(verifier, "predict", lambda estimator, features, *_: np.full(len(features), np.nan))
    assert refused(fed, "does not predict what the fit in memory predicts")


def test_the_artifact_is_read_by_another_process(fed, monkeypatch):
    trainer = os.getpid()
    original = verifier.load_fits
    here = lambda *given: original(*given) if os.getpid() != trainer else 1 / 0  # noqa: E731
    monkeypatch.setattr(verifier, "load_fits", here)
    assert run_of(fed)["weight/GB"].state == "published"


def test_an_artifact_that_kills_its_reader_is_not_published_and_the_next_cell_is(fed):
    fed.see("France", range(60), slope=3)
    fed.ingest()
    fed.edit(estimator=_poisonous.estimator, trusted=("toy_models.zoo._sick.Poisonous",), attempts=1)
    outcomes = run_of(fed)
    assert outcomes["weight/FR"].reason == (
        f"ArtifactError: The stored artifact of weight/FR broke its reader (exit code {-signal.SIGSEGV})."
    )
    assert (outcomes["weight/FR"].state, releases(fed, FR)) == ("failed", [])
    assert outcomes["weight/GB"].state == "published"


class Surprise:
    """Writes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_what_a_reader_answers_is_never_unpickled(fed, monkeypatch, tmp_path):
    surprise = pickle.dumps(Surprise(tmp_path / "surprise"))
    monkeypatch.setattr(verifier, "encode_answer", lambda answer: surprise)
    assert refused(fed, "broke its reader")
    assert not (tmp_path / "surprise").exists()
    pickle.loads(surprise).close()  # noqa: S301 - it is this test's own
    assert (tmp_path / "surprise").exists()


@pytest.mark.parametrize("answer", [{}, {"judged": np.array([0.1, -1e300, np.nan]), "served": np.array([])}, "a sentence: „é“"])
def test_an_answer_is_what_was_said(answer):
    read = verifier.decode_answer(verifier.encode_answer(answer))
    np.testing.assert_equal(read, answer)


def test_while_the_store_is_away_nothing_is_said_of_an_artifact(fed, monkeypatch):
    def away(*given):
        raise StoreLost("the store cannot be reached")

    monkeypatch.setattr(verifier, "load_fits", away)
    with verifier.Verifier(fed.resources) as reading, pytest.raises(StoreLost, match="the store cannot be reached"):
        reading.verify(*anything())


@pytest.mark.parametrize("data", [b"", b"\x80\x04", b"[1]", b"null", b'{"judged": "x"}'])
def test_an_answer_of_another_form_is_none(data):
    with pytest.raises(ValueError, match=r"."):
        verifier.decode_answer(data)


def test_a_verifier_that_is_killed_is_replaced(fed):
    with verifier.Verifier(fed.resources) as reading:
        first = reading.process.pid
        os.kill(first, signal.SIGKILL)
        with pytest.raises(ArtifactError, match=f"broke its reader .exit code {-signal.SIGKILL}"):
            reading.verify(*anything())
        with pytest.raises(ArtifactError, match="failed its verification: ObjectMissing"):
            reading.verify(*anything())
        assert reading.process.pid != first


def test_a_verifier_that_does_not_answer_is_replaced(fed, monkeypatch):
    monkeypatch.setattr(verifier, "TIMEOUT_SECONDS", 0.2)
    with verifier.Verifier(fed.resources) as reading:
        os.kill(reading.process.pid, signal.SIGSTOP)
        with pytest.raises(ArtifactError, match=r"did not answer for weight/GB within 0\.2 s"):
            reading.verify(*anything())
        monkeypatch.setattr(verifier, "TIMEOUT_SECONDS", 30)
        with pytest.raises(ArtifactError, match="ObjectMissing"):
            reading.verify(*anything())


def anything():
    """A question about an artifact that does not exist."""
    nowhere = publishing.ManifestRef(cell=GB, version="0" * 64, key="artifacts/none", sha256="0" * 64)
    return nowhere, (), "rmse", None, {}


def test_a_version_without_an_artifact_cannot_be_released(fed, monkeypatch):
    once(monkeypatch, cell_step, "commit_artifact", lambda: 1 / 0)
    fed.edit(attempts=1)
    run_of(fed)
    with pytest.raises(errors.RestrictViolation, match="has no artifact: it cannot be released"):
        fed.sql(RELEASE)


def test_the_first_artifact_of_a_version_wins(fed, monkeypatch):
    with monkeypatch.context() as crash:
        crash.setattr(cell_step, "publish", lambda *given, **values: 1 / 0)
        fed.edit(attempts=2)
        run_of(fed)
    first = fed.sql("SELECT artifact_key FROM versions")[0].artifact_key
    run_of(fed)
    assert (champion(fed).artifact_key, len(fed.sql("SELECT 1 FROM versions"))) == (first, 1)
    assert reader(fed).load(*GB).seq == 1


def test_versions_that_were_not_promoted_store_nothing(zoo):
    zoo.see("Britain", range(60), slope=0)
    zoo.ingest()
    assert zoo.retrain()["weight/GB"].state == "kept"
    assert (stored(zoo), zoo.sql("SELECT artifact_key FROM versions")) == ([], [(None,)])


def test_a_dangling_release_cannot_be_written(zoo):
    cycle(zoo)
    with pytest.raises((errors.ForeignKeyViolation, errors.RestrictViolation)):
        zoo.sql(
            "INSERT INTO releases (model, country, seq, from_version, to_version, kind, person, reason) "
            "SELECT model, country, 2, to_version, repeat('0', 64), 'rollback', 'ann', '' FROM releases"
        )
