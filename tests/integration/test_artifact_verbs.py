"""The verbs about keys and restores, as a person calls them."""

import pytest
from toolbox import GB, champion, cycle, overwrite, reader, write_keys

from perennial.__main__ import main


@pytest.fixture
def operated(zoo, monkeypatch):
    """A zoo with a champion, its commands' environment set."""
    cycle(zoo)
    settings = {
        "DATABASE_URL": zoo.resources.database,
        "STORE_URL": zoo.resources.store.url,
        "SIGNING_KEY": str(zoo.resources.signing_key),
        "PUBLIC_KEYS": str(zoo.resources.public_keys),
        "MODELS": "toy_models",
        "SOURCES": "toy_sources",
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"PERENNIAL_{name}", value)
    return zoo


def test_a_key_that_was_taken_out_too_early_is_given_by_name(operated, tmp_path, monkeypatch, capsys):
    (tmp_path / "new").mkdir()
    private, public = write_keys(tmp_path / "new")
    monkeypatch.setenv("PERENNIAL_SIGNING_KEY", str(private))
    monkeypatch.setenv("PERENNIAL_PUBLIC_KEYS", str(public))
    assert main(["resign"]) == 1
    assert f"weight/GB version {champion(operated).id[:12]}: The manifest is not signed" in capsys.readouterr().err
    assert main(["resign", "--former", str(operated.resources.public_keys)]) == 0
    assert capsys.readouterr().out.startswith("Signed again: 1 manifests, ")


def test_a_person_says_that_the_registry_was_restored(operated, capsys):
    before = reader(operated).load(*GB).mark
    assert main(["restored", "--reason", "Monday's backup"]) == 0
    said = capsys.readouterr().out
    after = reader(operated).load(*GB).mark
    assert (after.seq, after.generation > before.generation) == (before.seq, True)
    assert f"generation {after.generation}: 1 pointers written." in said
    assert operated.sql("SELECT reason FROM generations ORDER BY number DESC")[0].reason == "Monday's backup"


def test_a_copy_gets_a_name_and_signs_what_it_has_copied(operated, capsys):
    main(["deployment"])
    before = capsys.readouterr().out
    assert main(["restored", "--copy", "--reason", "for staging"]) == 0
    assert "python -m perennial resign" in capsys.readouterr().out
    assert main(["resign"]) == 0
    main(["deployment"])
    after = capsys.readouterr().out.splitlines()[-1]
    assert after.split(",")[0] not in before
    assert reader(operated).load(*GB).pointer.manifest.deployment in after


def test_what_cannot_be_signed_fails_the_command(operated, capsys):
    key = champion(operated).artifact_key
    overwrite(operated, key, b"no manifest")
    assert main(["resign"]) == 1
    assert "Not signed, and to be looked at:\nweight/GB version" in capsys.readouterr().err
