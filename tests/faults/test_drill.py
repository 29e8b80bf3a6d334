"""One thing after the other is broken in the real stack: what people are told, and how it heals without SQL."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from drill import Drill, changed, flipped, renamed

from perennial.client import Champions
from perennial.errors import PerennialError
from perennial.steps.pointers import pointer_key

NEWEST_BATCH = """
SELECT seq, object_key FROM perennial.batches
WHERE source = 'sightings' AND country = 'GB' AND state = 'accepted' ORDER BY seq DESC LIMIT 1"""
DAMAGED = "Its object is damaged."


@pytest.fixture(scope="module")
def drill(world, told):
    """A stack whose weight/GB has two releases."""
    drill = Drill(world, told)
    drill.retrain()
    drill.retrain(force=True)
    drill.run("ingest_sightings")
    drill.await_idle()
    drill.mails()
    yield drill
    drill.await_idle()


def heals(drill, before):
    """Whether the cell goes on from what it was: by the next run, or one that was woken."""
    drill.retrain(force=True)
    drill.await_idle()
    return read(drill).seq > before.seq


def read(drill):
    """The champion as a service that starts now reads it."""
    paths = drill.world.stack.paths
    return Champions.from_url(paths.store.as_uri(), paths.keys / "public.pem").load("weight", "GB")


def refused(drill, broken):
    """What a reader is told instead."""
    with pytest.raises(PerennialError) as refused:
        read(drill)
    return drill.tells(broken, "a reader", str(refused.value))


def path_of(drill, key):
    return drill.world.stack.paths.store / key


def test_a_damaged_artifact(drill):
    broken, before = "artifact", read(drill)
    keys = drill.world.resources.store.keys(f"artifacts/weight/GB/{before.version}/")
    backup = {path_of(drill, key): path_of(drill, key).read_bytes() for key in keys}
    for path in backup:
        flipped(path)

    assert "altered" in refused(drill, broken)
    run_id = drill.run("maintain")
    drill.tells(broken, "log of check_champions", drill.log("maintain", run_id, "check_champions"))
    assert "takes over" in drill.tells(broken, "mail", drill.mail("cannot be read"))
    former = read(drill)
    assert former.seq == before.seq + 1
    assert heals(drill, former)
    assert {each.where for each in drill.violations()} == {f"weight/GB version {before.version[:12]}"}
    for path, data in backup.items():
        path.write_bytes(data)
    assert drill.violations() == []


def test_a_damaged_pointer(drill):
    broken, before = "pointer", read(drill)
    flipped(path_of(drill, pointer_key(before.cell)))

    assert "pointer" in refused(drill, broken)
    assert drill.violations() != []
    drill.run("maintain")
    assert read(drill).mark == before.mark
    assert drill.violations() == []


def test_a_damaged_object_of_the_lake(drill):
    broken, before = "object of the lake", read(drill)
    seq, key = drill.world.ask(NEWEST_BATCH)[0]
    flipped(path_of(drill, key))

    reason = drill.tells(broken, "outcome", drill.retrain("failed").reason)
    assert f"batch sightings/GB {seq}" in reason
    assert "retract" in reason
    assert f"batch {seq}, and after that extract again" in drill.tells(broken, "mail", drill.mail("1 of 1 cell failed"))
    for action in ("retract", "extract again"):
        drill.run("quarantine_sightings", action=action, country="GB", batch=seq, reason=DAMAGED)
    assert heals(drill, before)
    assert drill.violations() == []


def test_a_strange_key(drill):
    broken, before, public = "key", read(drill), drill.world.stack.paths.keys / "public.pem"
    strange = Ed25519PrivateKey.generate().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    with changed(public, strange):
        assert "not signed by a trusted key" in refused(drill, broken)
        assert "not signed by a trusted key" in drill.tells(broken, "outcome", drill.retrain("failed").reason)
        drill.tells(broken, "mail", drill.mail("1 of 1 cell failed"))
    assert heals(drill, before)
    assert drill.violations() == []


def test_a_renamed_column_of_the_source(drill):
    broken = "source"
    with renamed(drill.world, "weight", "mass"):
        run_id = drill.run("ingest_sightings", "failed")
        assert "weight" in drill.tells(broken, "log of land", drill.log("ingest_sightings", run_id, "land"))
        assert "weight" in drill.tells(broken, "mail", drill.mail("sightings"))
    drill.run("ingest_sightings")
    drill.tells(broken, "mail when it ends", drill.mail("again"))
    assert drill.violations() == []


def test_a_spec_with_a_fault(drill):
    broken, before = "spec", read(drill)
    spec = drill.world.stack.paths.repo / "include/models/zoo/weight.py"
    with changed(spec, spec.read_bytes().replace(b'metric="rmse"', b'metric="rsme"')):
        assert "unknown metric 'rsme'" in drill.tells(broken, "outcome", drill.retrain("failed").reason)
        drill.tells(broken, "mail", drill.mail("unknown metric"))
    assert heals(drill, before)
    assert drill.violations() == []
