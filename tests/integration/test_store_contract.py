"""The object store's contract, kept by a folder and by S3 alike, and a whole cycle on S3."""

import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from toolbox import CREDENTIALS, GB, cycle, releases

from perennial.client import Champions
from perennial.errors import ObjectMissing, SettingsError, StoreError, StoreLost
from perennial.shell.store import open_store

IMPATIENT = Config(retries={"max_attempts": 0}, connect_timeout=1)


@pytest.fixture(params=["file", "s3", "s3 without prefix"])
def store(request, tmp_path, s3):
    """An empty store of each kind."""
    if request.param == "file":
        return open_store((tmp_path / "a store").as_uri())
    opened = open_store("s3://bucket" if "without" in request.param else f"s3://bucket/{tmp_path.name}", s3)
    for key in opened.keys(""):
        opened.client.delete_object(Bucket="bucket", Key=opened.prefix + key)
    return opened


@pytest.fixture(params=["file", "s3"])
def broken(request, tmp_path):
    """A store that cannot be reached."""
    if request.param == "file":
        (tmp_path / "file").touch()
        return open_store((tmp_path / "file" / "below").as_uri())
    return open_store("s3://bucket/x", {"endpoint_url": "http://127.0.0.1:9", "config": IMPATIENT, **CREDENTIALS})


def test_what_is_put_is_what_is_got(store):
    store.put("a/b.bin", b"\x00\xff")
    assert store.get("a/b.bin") == b"\x00\xff"


def test_files_go_in_and_out(store, tmp_path):
    (tmp_path / "in").write_bytes(b"x" * (3 << 20))
    store.put_file("a/big", tmp_path / "in")
    with store.open("a/big") as file:
        file.seek(-2, 2)
        assert file.read() == b"xx"
    assert store.get("a/big") == b"x" * (3 << 20)


def test_a_second_put_replaces_the_first(store):
    store.put("key", b"long before")
    store.put("key", b"after")
    assert (store.get("key"), store.keys("")) == (b"after", ["key"])


def test_what_is_deleted_is_gone_and_deleting_it_again_is_harmless(store):
    for key in ("a/1", "a/2"):
        store.put(key, key.encode())
    with store.open("a/1") as before:
        store.delete("a/1")
        store.delete("a/1")
        assert before.read() == b"a/1"
    assert store.keys("") == ["a/2"]
    with pytest.raises(ObjectMissing):
        store.get("a/1")


def test_a_look_shows_each_object_with_its_size_and_moment_and_the_stores_time(store):
    for key in ("b/2", "a/10", "a/1", "ab"):
        store.put(key, key.encode())
    entries, clock = store.look("a/")
    assert [(entry.key, entry.size) for entry in entries] == [("a/1", 3), ("a/10", 4)]
    assert all(abs(clock - entry.modified) < timedelta(seconds=60) for entry in entries)
    assert abs(datetime.now(UTC) - clock) < timedelta(seconds=60)
    assert ([entry.key for entry in store.look("")[0]], store.look("c/")[0]) == (["a/1", "a/10", "ab", "b/2"], [])


def test_an_object_that_is_written_again_has_another_stamp(store):
    stamps = []
    for data in (b"one", b"two", b"two"):
        store.put("a/key", data)
        stamps += [entry.stamp for entry in (*store.look("a/")[0], *store.look("a/key")[0])]
        time.sleep(1.1 if data == b"two" else 0)  # S3 dates an object to the second
    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 3


def test_the_entry_of_an_object_is_the_one_a_look_shows(store):
    for key in ("a/1", "a/10", "a/1/deep" if store.url.startswith("s3:") else "a/2"):
        store.put(key, key.encode())
    assert [store.entry("a/1")] == [entry for entry in store.look("a/")[0] if entry.key == "a/1"]
    for key in ("a", "a/", "a/0", "b"):
        with pytest.raises(ObjectMissing, match=key):
            store.entry(key)


def test_an_entry_out_of_reach_is_an_error_and_no_missing_object(broken):
    with pytest.raises((StoreError, StoreLost)) as refusal:
        broken.entry("key")
    assert not isinstance(refusal.value, ObjectMissing)


def test_nothing_outside_of_the_store_is_deleted(store):
    with pytest.raises(StoreError, match="leads out of the store"):
        store.delete("../elsewhere")


def test_an_empty_object_is_an_object(store):
    store.put("empty", b"")
    assert store.get("empty") == b""


def test_keys_are_those_with_the_prefix_in_order(store):
    for key in ("b/2", "a/10", "a/1", "ab"):
        store.put(key, b"")
    assert store.keys("a/") == ["a/1", "a/10"]
    assert store.keys("a") == ["a/1", "a/10", "ab"]
    assert (store.keys(""), store.keys("c")) == (["a/1", "a/10", "ab", "b/2"], [])


def test_a_missing_object_is_named(store):
    for read in (store.get, store.open):
        with pytest.raises(ObjectMissing, match="no/such is not in the store"):
            read("no/such")


@pytest.mark.parametrize("key", ["../out", "a/../../out", "/etc/out"])
def test_a_key_that_leads_out_of_the_store_is_refused(store, key):
    for act in (lambda: store.put(key, b""), lambda: store.get(key)):
        with pytest.raises(StoreError, match="leads out of the store"):
            act()


def test_stores_of_two_prefixes_do_not_see_each_other(s3):
    one, other = open_store("s3://bucket/one", s3), open_store("s3://bucket/one-more", s3)
    other.put("key", b"theirs")
    assert one.keys("") == []


def test_the_url_of_a_store_opens_it_again(store, s3):
    store.put("key", b"here")
    assert open_store(store.url, s3).get("key") == b"here"


@pytest.mark.parametrize("act", ["put", "put_file", "get", "open"])
def test_a_store_out_of_reach_is_an_error_and_no_missing_object(broken, act, tmp_path):
    (tmp_path / "in").touch()
    arguments = {"put": (b"",), "put_file": (tmp_path / "in",), "get": (), "open": ()}
    with pytest.raises((StoreError, StoreLost)) as refusal:
        getattr(broken, act)("key", *arguments[act])
    assert not isinstance(refusal.value, ObjectMissing)


def test_keys_of_an_s3_store_out_of_reach_are_not_none():
    store = open_store("s3://bucket/x", {"endpoint_url": "http://127.0.0.1:9", "config": IMPATIENT, **CREDENTIALS})
    with pytest.raises(StoreLost, match="cannot be reached"):
        store.keys("")


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [
        (503, "SlowDown", StoreLost),
        (500, "InternalError", StoreLost),
        (400, "RequestTimeout", StoreLost),
        (403, "AccessDenied", StoreError),
    ],
)
@pytest.mark.parametrize("act", ["put", "put_file", "get"])
def test_a_store_that_cannot_answer_is_away_and_one_that_refuses_is_not(s3, monkeypatch, tmp_path, act, status, code, said):
    store = open_store("s3://bucket/x", s3)
    answer = {"Error": {"Code": code, "Message": "no"}, "ResponseMetadata": {"HTTPStatusCode": status}}
    (tmp_path / "in").touch()
    arguments = {"put": (b"",), "put_file": (tmp_path / "in",), "get": ()}

    def refuse(*given, **named):
        raise ClientError(answer, act)

    monkeypatch.setattr(store.client, "_make_api_call", refuse)
    with pytest.raises(said, match=code):
        getattr(store, act)("key", *arguments[act])


def test_a_bucket_that_does_not_exist_is_no_missing_object(s3):
    with pytest.raises(StoreError) as refusal:
        open_store("s3://nowhere/x", s3).get("key")
    assert not isinstance(refusal.value, ObjectMissing)


@pytest.mark.parametrize("url", ["", "/data", "file://data", "file:relative", "s3://", "s3:/bucket", "http://host/x", "S3"])
def test_what_is_no_store_url_is_refused(url):
    with pytest.raises(SettingsError, match="is no store URL"):
        open_store(url)


def test_a_write_that_fails_leaves_the_old_object(store, tmp_path):
    store.put("key", b"old")
    with pytest.raises((OSError, StoreError)):
        store.put_file("key", tmp_path / "no such file")
    assert (store.get("key"), store.keys("")) == (b"old", ["key"])


def test_a_whole_cycle_runs_on_s3(zoo, s3):
    zoo.resources = replace(zoo.resources, store=open_store("s3://bucket/zoo", s3))
    assert cycle(zoo).state == "published"
    assert cycle(zoo, range(60, 90)).state == "published"
    champions = Champions.from_url("s3://bucket/zoo", zoo.resources.public_keys, options=s3)
    assert champions.load(*GB).version == releases(zoo)[-1].to_version
