"""Objects in a folder: whose they are to read, what a failed write leaves, what a power cut may take."""

import os
import stat

import pytest

from perennial.errors import StoreError
from perennial.shell.store import open_store


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(folder):
    return open_store(folder.as_uri())


def modes(folder):
    return {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("umask", "of_files", "of_folders"), [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700)]
)
def test_objects_and_folders_have_the_umasks_mode(folder, store, tmp_path, umask, of_files, of_folders):
    (tmp_path / "local").write_bytes(b"x")
    before = os.umask(umask)
    try:
        store.put("a/put", b"x")
        store.put_file("a/file", tmp_path / "local")
    finally:
        os.umask(before)
    assert modes(folder) == {"a": oct(of_folders), "put": oct(of_files), "file": oct(of_files)}


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_failed_write_leaves_the_former_object_and_nothing_else(folder, store, monkeypatch, step):
    store.put("a/key", b"before")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(f"perennial.shell.store.{'os.fsync' if step == 'fsync' else 'Path.replace'}", full)
    with pytest.raises(StoreError, match=r"a/key cannot be written: .*No space left on device"):
        store.put("a/key", b"after")
    assert [path.name for path in (folder / "a").iterdir()] == ["key"]
    assert store.get("a/key") == b"before"


def test_a_write_that_is_interrupted_leaves_nothing_either(folder, store, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("perennial.shell.store.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        store.put("key", b"x")
    assert list(folder.iterdir()) == []


@pytest.fixture
def flushed(monkeypatch):
    """What is brought to the disk, and whether the object was in its place by then."""
    seen, fsync = [], os.fsync

    def record(handle):
        path = os.path.realpath(f"/proc/self/fd/{handle}")
        seen.append((os.path.relpath(path, os.path.dirname(path)), sorted(os.listdir(path)) if os.path.isdir(path) else None))
        fsync(handle)

    monkeypatch.setattr("perennial.shell.store.os.fsync", record)
    return seen


def test_after_the_bytes_the_names_are_brought_to_the_disk_those_of_new_folders_too(folder, store, flushed):
    store.put("a/b/key", b"x")
    assert flushed[0][0].startswith(".tmp-")
    assert dict(flushed[1:]) == {"b": ["key"], "a": ["b"], "store": ["a"], folder.parent.name: ["store"]}
    flushed.clear()
    store.put("a/b/other", b"x")
    assert flushed[1:] == [("b", ["key", "other"])]
