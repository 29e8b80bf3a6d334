"""Rule 6 for a source of files: each is picked up once, or refused as a whole; what is replaced is no truth any more."""

import errno
import gzip
import hashlib
import io
import json
import re
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg2 import errors
from toolbox import landed_changes, predict, reader
from toy_files import sightings_files

from perennial import Column, Seconds
from perennial.core.snapshots import latest_revisions
from perennial.errors import NothingToDo, RegistryError, RequestError, StoreError
from perennial.shell.database import connect
from perennial.shell.lake import Reader
from perennial.shell.store import open_store
from perennial.steps import ingest, land_files, landing, validate
from perennial.steps.audit import examine
from perennial.steps.quarantine import extract_again, validate_again

HEADER = "id,seen_at,country,length,weight"
ALWAYS = (pd.Timestamp("1900-01-01", tz="UTC"), pd.Timestamp("2100-01-01", tz="UTC"))


@dataclass
class Inbox:
    """A zoo whose sightings come in files, and the store that they are dropped into."""

    zoo: Any
    store: Any

    def drop(self, name: str, *rows: str | tuple[Any, ...], header: str = HEADER) -> None:
        """Put a CSV file; a row may be ``(id, weight[, country])``."""
        lines = [row if isinstance(row, str) else line(*row) for row in rows]
        self.put(name, "\n".join([header, *lines, ""]).encode())

    def put(self, name: str, data: bytes) -> None:
        """Put any bytes."""
        self.store.put(f"in/{name}", data)

    @property
    def source(self) -> Any:
        return self.zoo.catalog.source("sightings")

    def edit(self, **changes: Any) -> None:
        self.zoo.catalog = replace(self.zoo.catalog, sources={"sightings": replace(self.source, **changes)})

    def land(self) -> Any:
        """Land what is there, None where there is nothing."""
        try:
            return ingest.land(self.zoo.resources, self.source)
        except NothingToDo:
            return None

    def ingest(self) -> None:
        self.land()
        validate.validate(self.zoo.resources, self.source)

    def files(self) -> list[tuple[str, str]]:
        """Name and state of everything that was picked up, in order."""
        return [tuple(row) for row in self.zoo.sql("SELECT name, state FROM files ORDER BY seen_at, name, revision")]

    def reason(self, name: str) -> str:
        """Why the newest revision of a file is refused."""
        (row,) = self.zoo.sql("SELECT state, reason FROM files WHERE name = %s ORDER BY revision DESC LIMIT 1", name)
        assert row.state == "refused"
        return row.reason

    def truth(self, country: str = "GB") -> dict[int, float]:
        """Weight by id of what a training of a country reads."""
        batches = self.zoo.sql("SELECT object_key, sha256 FROM readable WHERE country = %s AND state = 'accepted'", country)
        columns = [column.name for column in self.source.columns]
        rows = Reader(self.zoo.resources.store, self.source, columns).rows(batches, columns, *ALWAYS)
        return latest_revisions(rows, self.source)["weight"].to_dict()

    def is_sound(self) -> bool:
        """Whether no change is landed twice, and an audit with the files at hand finds nothing."""
        landed = landed_changes(self.zoo)
        findings = examine(self.zoo.resources, self.zoo.catalog)
        assert findings.unseen == []
        return not landed.duplicated(["id", "changed_at"]).any() and findings.violations == []


def line(number: int, weight: float, country: str = "Britain", day: int = 1) -> str:
    return f"{number},2026-01-{day:02}T10:00:00Z,{country},1.5,{weight}"


@pytest.fixture(params=["file", "s3"])
def inbox(request, zoo, tmp_path):
    """An empty inbox in a store of each kind."""
    if request.param == "s3":
        store = open_store(f"s3://bucket/{tmp_path.name}-{time.time_ns()}", request.getfixturevalue("s3"))
    else:
        store = open_store((tmp_path / "drop").as_uri())
    zoo.resources = replace(zoo.resources, source_store=lambda name: {"zoo_files": store}[name])
    zoo.catalog = replace(zoo.catalog, sources={"sightings": sightings_files})
    return Inbox(zoo, store)


def parquet(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink)
    return sink.getvalue()


def rows_table(*rows: Any, ids: str = "int32", zone: str | None = "Europe/Paris", country: str = "Britain") -> pa.Table:
    """Rows of ``(id, weight)`` in other types of the same kinds."""
    keys, weights = zip(*rows, strict=True)
    number = len(rows)
    moments = pa.array([pd.Timestamp("2026-01-01T10:00:00Z").value // 10**6] * number, pa.timestamp("ms", zone))
    facts = {
        "id": pa.array(keys, pa.type_for_alias(ids)),
        "seen_at": moments,
        "country": pa.array([country] * number).dictionary_encode(),
    }
    return pa.table({**facts, "length": pa.array([1.5] * number, pa.float32()), "weight": pa.array(weights, pa.float64())})


def holed(data: bytes) -> bytes:
    """Parquet whose footer is whole and whose pages are not."""
    return data[:4] + bytes(400) + data[404:]


def jsonl(*rows: tuple[Any, Any]) -> bytes:
    """Lines of ``(id, weight)``, without the one value that may be missing."""
    usual = {"seen_at": "2026-01-01T10:00:00Z", "country": "Britain"}
    made = [{"id": number, **usual, "weight": weight} for number, weight in rows]
    made[0] = {"length": 1.5, **made[0]}
    return "".join(f"{json.dumps(row)}\n" for row in made).encode()


def csv(*lines: str) -> bytes:
    return "\n".join([HEADER, *lines, ""]).encode()


def test_files_are_landed_once_however_often_it_is_looked(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20, "France"))
    inbox.drop("b.csv", (3, 30))
    assert inbox.land() == {"GB": 2, "FR": 1}
    assert inbox.land() is None
    inbox.drop("c.csv", (4, 40))
    assert inbox.land() == {"GB": 1}
    assert inbox.land() is None
    assert inbox.files() == [("a.csv", "landed"), ("b.csv", "landed"), ("c.csv", "landed")]
    assert inbox.is_sound()


def test_the_same_bytes_written_again_are_not_landed_again(inbox):
    inbox.drop("a.csv", (1, 10))
    inbox.land()
    time.sleep(1.1)  # S3 dates an object to the second
    inbox.drop("a.csv", (1, 10))
    assert [inbox.land(), inbox.land()] == [None, None]
    assert inbox.files() == [("a.csv", "landed"), ("a.csv", "unchanged")]
    assert inbox.is_sound()


def test_a_landing_killed_between_objects_and_rows_lands_once_when_run_again(inbox, monkeypatch):
    inbox.drop("a.csv", (1, 10), (2, 20, "France"))
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr(landing, "transaction", lambda database: 1 / 0)
        inbox.land()
    assert (len(inbox.zoo.resources.store.keys("lake/")), inbox.files()) == (2, [])
    assert inbox.land() == {"GB": 1, "FR": 1}
    assert inbox.is_sound()


@pytest.mark.parametrize("query", ["land_batch", "pick_up_file"])
def test_batches_files_and_cursor_are_recorded_together_or_not_at_all(inbox, monkeypatch, query):
    inbox.drop("a.csv", (1, 10), (2, 20, "France"))
    run = landing.run
    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr(
            landing, "run", lambda database, asked, **facts: (run(database, asked, **facts), 1 / (asked != query))[0]
        )
        inbox.land()
    assert (inbox.zoo.sql("SELECT 1 FROM batches"), inbox.files()) == ([], [])
    assert inbox.land() == {"GB": 1, "FR": 1}
    assert inbox.is_sound()


def test_of_two_racing_landings_one_wins(inbox, monkeypatch):
    inbox.drop("a.csv", (1, 10))
    both, read, results = threading.Barrier(2), land_files.cursor_of, []
    monkeypatch.setattr(land_files, "cursor_of", lambda *given: (read(*given), both.wait(10))[0])

    def race():
        try:
            results.append(inbox.land())
        except RegistryError as error:
            results.append(str(error))

    threads = [threading.Thread(target=race) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results, key=str) == [
        "Another landing of sightings was faster. Nothing of this one was recorded.", {"GB": 1},
    ]  # fmt: skip
    assert inbox.is_sound()


def test_many_files_are_recorded_portion_by_portion(inbox, monkeypatch):
    monkeypatch.setattr(land_files, "PORTION_FILES", 2)
    for number in range(5):
        inbox.drop(f"{number}.csv", (number, 10))
    recorded = land_files.record
    portions = []

    def record(*given):
        portions.append(len(given[-1].files))
        return recorded(*given) if len(portions) < 3 else 1 / 0

    with monkeypatch.context() as killed, pytest.raises(ZeroDivisionError):
        killed.setattr(land_files, "record", record)
        inbox.land()
    assert (portions, len(inbox.files())) == ([2, 2, 1], 4)
    assert inbox.land() == {"GB": 1}
    assert inbox.is_sound()


def test_a_late_file_lands_though_its_rows_are_older_than_those_there(inbox):
    inbox.drop("february.csv", line(1, 10, day=28))
    inbox.ingest()
    inbox.drop("january.csv", line(2, 20, day=1))
    inbox.ingest()
    assert inbox.truth() == {1: 10, 2: 20}
    assert inbox.is_sound()


def test_a_later_line_of_a_key_is_a_later_revision(inbox):
    inbox.drop("a.csv", (1, 10), (1, 11))
    inbox.drop("b.csv", (2, 20))
    inbox.ingest()
    time.sleep(1.1)
    inbox.drop("c.csv", (2, 21))
    inbox.ingest()
    assert inbox.truth() == {1: 11, 2: 21}
    assert inbox.is_sound()


def test_a_replaced_file_takes_its_former_rows_with_it(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20), (3, 30, "France"))
    inbox.ingest()
    inbox.drop("a.csv", (1, 11), (4, 40))
    inbox.ingest()
    assert (inbox.truth(), inbox.truth("FR")) == ({1: 11, 4: 40}, {})
    assert inbox.zoo.sql("SELECT rows, removed FROM files ORDER BY revision") == [(3, 0), (2, 2)]
    assert inbox.is_sound()


def test_a_row_that_comes_back_is_truth_again_and_one_that_stays_away_is_removed_once(inbox):
    for rows in ([(1, 10), (2, 20)], [(3, 30)], [(1, 12), (3, 30), (4, 40)], [(1, 12)]):
        inbox.drop("a.csv", *rows)
        inbox.ingest()
    assert inbox.truth() == {1: 12}
    assert [removed for (removed,) in inbox.zoo.sql("SELECT removed FROM files ORDER BY revision")] == [0, 2, 0, 2]
    assert inbox.is_sound()


def test_a_row_that_moves_to_another_country_leaves_the_first(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("a.csv", (1, 10), (2, 20, "France"))
    inbox.ingest()
    assert (inbox.truth(), inbox.truth("FR")) == ({1: 10}, {2: 20})


def test_a_row_that_another_file_has_delivered_since_stays(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 22))
    inbox.ingest()
    inbox.drop("a.csv", (1, 11))
    inbox.ingest()
    assert inbox.truth() == {1: 11, 2: 22}
    assert inbox.is_sound()


def light(source):
    """The source's columns, with an upper bound of weight beyond which a row is rejected."""
    columns = [column for column in source.file_columns if column.name != "weight"]
    return (*columns, Column("weight", "float64", max_value=100))


def test_a_row_that_is_removed_is_not_judged_again(inbox):
    inbox.drop("a.csv", (1, 10), (2, 500))
    inbox.ingest()
    inbox.edit(columns=light(inbox.source))
    inbox.drop("a.csv", (1, 11), (3, 500), *((number, 12) for number in range(4, 12)))
    inbox.ingest()
    assert inbox.truth() == {1: 11, **dict.fromkeys(range(4, 12), 12)}
    (split,) = inbox.zoo.sql("SELECT rejected_rows, accepted_rows FROM splits")
    assert split == (1, 10)
    assert [row.rows for row in inbox.zoo.sql("SELECT report -> 'profile' -> 'rows' AS rows FROM batches ORDER BY seq")] == [
        2,
        9,
    ]
    assert inbox.is_sound()


def test_a_batch_of_removed_rows_only_is_accepted(inbox):
    inbox.drop("a.csv", (1, 500), (2, 10, "France"))
    inbox.ingest()
    inbox.edit(columns=light(inbox.source))
    inbox.drop("a.csv", (2, 10, "France"))
    inbox.ingest()
    assert (inbox.truth(), inbox.truth("FR")) == ({}, {2: 10})
    assert inbox.zoo.sql("SELECT state FROM batches WHERE country = 'GB' ORDER BY seq") == [("accepted",), ("accepted",)]


def test_a_rejected_row_of_another_file_keeps_no_removed_one(inbox):
    inbox.edit(columns=light(inbox.source))
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 500), *((number, 12) for number in range(4, 12)))
    inbox.ingest()
    assert len(inbox.zoo.sql("SELECT 1 FROM splits")) == 1
    inbox.drop("a.csv", (1, 11))
    inbox.ingest()
    assert inbox.truth() == {1: 11, **dict.fromkeys(range(4, 12), 12)}
    assert inbox.is_sound()


def test_a_rejected_row_that_its_file_drops_takes_no_row_of_another_file_along(inbox):
    inbox.edit(columns=light(inbox.source))
    inbox.drop("a.csv", (2, 20))
    inbox.ingest()
    inbox.drop("b.csv", (2, 500), *((number, 12) for number in range(4, 12)))
    inbox.ingest()
    inbox.drop("b.csv", *((number, 13) for number in range(4, 12)))
    inbox.ingest()
    assert inbox.truth() == {2: 20, **dict.fromkeys(range(4, 12), 13)}
    assert inbox.is_sound()


def test_a_row_that_another_file_delivers_in_the_same_landing_stays(inbox):
    inbox.drop("b.csv", (1, 10), (2, 20))
    inbox.ingest()
    for name, *rows in (("a.csv", (2, 22)), ("b.csv", (1, 11)), ("c.csv", (1, 12))):
        inbox.drop(name, *rows)
    inbox.ingest()
    assert inbox.truth() == {1: 12, 2: 22}
    assert inbox.is_sound()


def test_a_clock_that_was_set_back_lands_later_all_the_same(inbox):
    inbox.drop("a.csv", (1, 10))
    inbox.ingest()
    inbox.zoo.sql("UPDATE cursors SET position = position + interval '1 day'")
    inbox.drop("b.csv", (1, 11))
    inbox.ingest()
    assert inbox.truth() == {1: 11}
    assert inbox.is_sound()


def test_a_row_vanishes_though_the_revision_between_was_kept_aside(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("a.csv", (1, 9999))
    inbox.ingest()
    assert inbox.truth() == {1: 10, 2: 20}
    inbox.drop("a.csv", (1, 11))
    inbox.ingest()
    assert inbox.truth() == {1: 11}


def test_taking_back_a_replacement_brings_the_former_rows_back(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("a.csv", (1, 11))
    inbox.ingest()
    inbox.zoo.sql("UPDATE batches SET state = 'retracted', reason = 'bad' WHERE seq = 2")
    assert inbox.truth() == {1: 10, 2: 20}


def test_a_former_revision_whose_spec_had_fewer_columns_is_replaced(inbox):
    columns = inbox.source.file_columns
    inbox.edit(columns=tuple(column for column in columns if column.name != "length"))
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.edit(columns=columns)
    inbox.drop("a.csv", (1, 11))
    assert inbox.land() == {"GB": 2}


def test_a_file_that_goes_away_after_it_was_landed_leaves_its_rows(inbox):
    inbox.drop("a.csv", (1, 10))
    inbox.ingest()
    remove(inbox, "a.csv")
    assert inbox.land() is None
    assert inbox.truth() == {1: 10}
    assert inbox.is_sound()


def remove(inbox, name):
    if inbox.store.url.startswith("file:"):
        inbox.store._path(f"in/{name}").unlink()
    else:
        inbox.store.client.delete_object(Bucket="bucket", Key=inbox.store._name(f"in/{name}"))


def test_a_file_that_was_just_written_is_left_for_later(inbox):
    inbox.edit(quiet=Seconds(3600))
    inbox.drop("a.csv", (1, 10))
    assert (inbox.land(), inbox.files()) == (None, [])
    inbox.edit(quiet=Seconds(0))
    assert inbox.land() == {"GB": 1}


@pytest.mark.parametrize(
    "name", ["a.csv.tmp", "a.csv.part", ".a.csv", "_a.csv", "_temporary/0/a.csv", "a.txt", "a.parquet", "a.csv.bak"]
)
def test_what_is_not_meant_is_left_alone(inbox, name):
    inbox.drop(name, (1, 10))
    inbox.store.put("elsewhere/a.csv", csv(line(1, 10)))
    assert (inbox.land(), inbox.files()) == (None, [])


def test_a_file_that_is_written_while_it_is_read_is_left_for_later(inbox, monkeypatch):
    inbox.drop("a.csv", (1, 10))
    fetch = type(inbox.store).get_file
    with monkeypatch.context() as busy:
        busy.setattr(type(inbox.store), "get_file", lambda *given: (fetch(*given), inbox.drop("a.csv", (1, 10), (2, 20)))[0])
        assert (inbox.land(), inbox.files()) == (None, [])
    assert inbox.land() == {"GB": 2}


def test_a_file_that_vanishes_while_it_is_read_is_refused_and_the_others_land(inbox, monkeypatch):
    inbox.drop("a.csv", (1, 10))
    inbox.drop("b.csv", (2, 20))
    fetch = type(inbox.store).get_file

    def vanish(store, key, path):
        if key == "in/a.csv":
            remove(inbox, "a.csv")
        fetch(store, key, path)

    with monkeypatch.context() as busy:
        busy.setattr(type(inbox.store), "get_file", vanish)
        assert inbox.land() == {"GB": 1}
    assert inbox.reason("a.csv") == "It vanished while it was read."
    time.sleep(1.1)
    inbox.drop("a.csv", (1, 10))
    assert inbox.land() == {"GB": 1}


def test_a_file_that_cannot_be_fetched_now_is_left_for_later_and_the_others_land(inbox, monkeypatch):
    inbox.drop("a.csv", (1, 10))
    inbox.drop("b.csv", (2, 20))
    fetch = type(inbox.store).get_file

    def fail(store, key, path):
        if key == "in/a.csv":
            raise StoreError("busy")
        fetch(store, key, path)

    with monkeypatch.context() as busy:
        busy.setattr(type(inbox.store), "get_file", fail)
        assert inbox.land() == {"GB": 1}
    assert inbox.land() == {"GB": 1}
    assert inbox.is_sound()


def compressed(*lines: str) -> bytes:
    return gzip.compress(csv(*lines))


GOOD_ROWS = [(number, 10.0) for number in range(1, 400)]
GOOD = [line(*row) for row in GOOD_ROWS]
BAD = {
    "csv": {
        "an empty file": (b"", "The file is empty."),
        "another encoding": (csv(line(1, 10)).replace(b"Britain", b"Bret\xe9n"), "not in UTF-8|invalid UTF8"),
        "another encoding of the header": (HEADER.encode("utf-16"), "not in UTF-8"),
        "a changed header": (csv(*GOOD).replace(b"weight", b"mass"), "no column weight. It has: id, seen_at, country"),
        "no header": ("\n".join(GOOD).encode(), "no column id, seen_at"),
        "a header twice": (b"id,id,seen_at,country,length,weight\n", "column id twice"),
        "other separators": (csv(line(1, 10)).replace(b",", b";"), "no column id, .* It has: id;seen_at"),
        "a row that is cut": (csv(*GOOD)[:-30], "Expected 5 columns, got"),
        "a quote that does not end": (csv('1,2026-01-01T10:00:00Z,"Britain,1,2', *GOOD), "Expected 5 columns|cannot be read"),
        "a fraction for a whole number": (csv(line("1.5", 10)), "In row 1, id is '1.5', not a whole number."),
        "a number that is too large": (csv(line("99999999999999999999", 10)), "In row 1, id is '99999999999999999999'"),
        "a moment without its zone": (csv("1,2026-01-01 10:00:00,Britain,1,2"), "seen_at is '2026-01-01 10:00:00', not a mom"),
        "a moment in another format": (csv("1,1/31/2026 10:00,Britain,1,2"), "In row 1, seen_at is '1/31/2026 10:00'"),
        "no key": (csv(",2026-01-01T10:00:00Z,Britain,1,2"), "In row 1, id is missing."),
        "a field of 10 MB": (csv(f"1,2026-01-01T10:00:00Z,{'x' * 10_000_000},1,2"), "cannot be read"),
        "a header of 10 MB": (b"x" * 10_000_000, "field larger than field limit"),
        "bytes that are no text": (parquet(rows_table((1, 10))), "UTF-8|no column"),
        "a zero byte": (csv(line(1, "1\0")), "weight is '1.x00', not a number"),
    },
    "csv.gz": {
        "a cut gzip": (compressed(*GOOD)[:-200], "no whole gzip file"),
        "a gzip without its end": (compressed(*GOOD)[:-4], "no whole gzip file"),
        "no gzip": (csv(*GOOD), "no whole gzip file: Not a gzipped file"),
        "an altered gzip": (compressed(*GOOD)[:-8] + bytes(8), "no whole gzip file: CRC check failed"),
        "a gzip with more behind it": (compressed(*GOOD) + b"more", "no whole gzip file"),
    },
    "jsonl": {
        "no JSON": (b"id: 1\n", "Line 1 is no JSON"),
        "no object": (b"[1, 2]\n", "Line 1 is no JSON object."),
        "a line that is cut": (jsonl(*GOOD_ROWS)[:-20], "Line 399 is no JSON"),
        "a column that is never there": (jsonl((1, 10)).replace(b"weight", b"mass"), "no column weight"),
        "a text as number": (jsonl((1, 10)).replace(b'"Britain"', b"44"), "In row 1, country is 44, not a text."),
        "an infinity": (jsonl((1, 10)).replace(b"10}", b"1e999}"), "In row 1, weight is infinite."),
        "a number that is too large": (jsonl((2**70, 10)), "id is 11805.*, a number that is too large"),
        "another encoding": (jsonl((1, 10)).replace(b"Britain", b"Bret\xe9n"), "not in UTF-8"),
        "half a character": (jsonl((1, 10)).replace(b"Britain", rb"\ud800"), "not in UTF-8"),
        "a line of 10 MB": (jsonl((1, 10)).replace(b"Britain", b"x" * 10_000_000), "Line 1 is longer than 1,048,576 bytes."),
        "no end of brackets": (b'{"id":' + b"[" * 100_000, "Line 1 is no JSON"),
    },
    "parquet": {
        "no footer": (parquet(rows_table(*GOOD_ROWS))[:-300], "cannot be read: .*Parquet magic bytes not found"),
        "a hole in it": (holed(parquet(rows_table(*GOOD_ROWS))), "cannot be read"),
        "another type": (parquet(rows_table(("1", 10), ids="string")), "other types: id is string, not int64"),
        "a moment without its zone": (parquet(rows_table((1, 10), zone=None)), r"seen_at is timestamp\[ms\], not timestamp"),
        "a renamed column": (
            parquet(rows_table((1, 10)).rename_columns(["id", "at", "country", "length", "weight"])),
            "seen_at",
        ),
        "a key that is too large": (parquet(rows_table((2**63, 10), ids="uint64")), "In row 1, id is 9223372036854775808"),
        "a text of 2 MB": (parquet(rows_table((1, 10), country="x" * 2_000_000)), "country is longer than 1,048,576 bytes"),
        "no Parquet": (csv(*GOOD), "Parquet magic bytes not found"),
    },
}
WHOLE = {
    "csv": lambda *rows: csv(*(line(*row) for row in rows)),
    "csv.gz": lambda *rows: gzip.compress(csv(*(line(*row) for row in rows))),
    "jsonl": lambda *rows: jsonl(*rows),
    "jsonl.gz": lambda *rows: gzip.compress(jsonl(*rows)),
    "parquet": lambda *rows: parquet(rows_table(*rows)),
}


@pytest.mark.parametrize("ending", WHOLE)
def test_every_format_gives_the_same_rows(inbox, ending):
    inbox.edit(format=ending.removesuffix(".gz"))
    inbox.put(f"a.{ending}", WHOLE[ending]((1, 10), (2, 20.5)))
    inbox.ingest()
    assert inbox.truth() == {1: 10, 2: 20.5}
    assert landed_changes(inbox.zoo)["seen_at"].unique().tolist() == [pd.Timestamp("2026-01-01T10:00:00Z")]
    assert inbox.is_sound()


@pytest.mark.parametrize("inbox", ["file"], indirect=True)
@pytest.mark.parametrize(("ending", "how"), [(ending, how) for ending, cases in BAD.items() for how in cases])
def test_a_bad_file_is_refused_with_its_reason_until_a_good_one_replaces_it(inbox, ending, how):
    data, reason = BAD[ending][how]
    inbox.edit(format=ending.removesuffix(".gz"))
    inbox.put(f"bad.{ending}", data)
    inbox.put(f"good.{ending}", WHOLE[ending]((1000, 10)))
    assert inbox.land() == {"GB": 1}
    assert re.search(reason, inbox.reason(f"bad.{ending}"))
    assert inbox.land() is None
    inbox.put(f"bad.{ending}", WHOLE[ending]((1, 11)))
    inbox.ingest()
    assert inbox.truth() == {1: 11, 1000: 10}
    assert inbox.is_sound()


def test_a_refused_replacement_leaves_the_former_rows_and_what_it_replaced_may_come_back(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.ingest()
    inbox.drop("a.csv", (1, "much"))
    assert inbox.land() is None
    assert inbox.truth() == {1: 10, 2: 20}
    inbox.drop("a.csv", (1, 10), (2, 20))
    assert inbox.land() is None
    assert [state for _, state in inbox.files()] == ["landed", "refused", "unchanged"]
    inbox.drop("a.csv", (1, 11))
    inbox.ingest()
    assert inbox.truth() == {1: 11}


def test_what_a_reader_did_not_expect_is_a_refusal_too(inbox, monkeypatch):
    inbox.drop("a.csv", (1, 10))
    inbox.drop("b.csv", (2, 20))
    read = land_files.file_source.tables
    with monkeypatch.context() as broken:
        broken.setattr(
            land_files.file_source, "tables", lambda path, name, source: read(path, name, source if "b" in name else 1)
        )
        assert inbox.land() == {"GB": 1}
    assert inbox.reason("a.csv").startswith("Reading it failed: AttributeError")


def test_a_disk_that_is_full_is_no_fault_of_the_file(inbox, monkeypatch):
    inbox.drop("a.csv", (1, 10))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as broken, pytest.raises(OSError, match="No space"):
        broken.setattr(land_files.file_source, "tables", full)
        inbox.land()
    assert inbox.land() == {"GB": 1}


def test_the_country_may_stand_in_the_name(inbox):
    inbox.edit(pattern=r"(?P<country>[A-Z][a-z]+)/.+\.csv")
    header = HEADER.replace(",country", "")
    for name in ("Britain/a.csv", "France/a.csv", "Atlantis/a.csv", "b.csv"):
        inbox.drop(name, "1,2026-01-01T10:00:00Z,1.5,10", header=header)
    assert inbox.land() == {"GB": 1, "FR": 1, "ZZ": 1}
    assert inbox.is_sound()


def test_columns_the_spec_does_not_name_are_left_alone_in_any_order(inbox):
    inbox.drop("a.csv", "10,x,Britain,2026-01-01T10:00:00Z,,1", header="weight,note,country,seen_at,length,id")
    inbox.ingest()
    assert inbox.truth() == {1: 10}


def test_a_file_without_rows_is_landed_and_replaces(inbox):
    inbox.drop("a.csv", (1, 10))
    inbox.ingest()
    inbox.drop("a.csv")
    inbox.ingest()
    assert inbox.truth() == {}
    assert inbox.zoo.sql("SELECT rows, removed FROM files ORDER BY revision") == [(1, 0), (0, 1)]
    inbox.drop("b.csv")
    assert inbox.land() is None
    assert ("b.csv", "landed") in inbox.files()


def test_rows_of_an_unknown_country_are_kept_aside(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20, "Atlantis"), "3,2026-01-01T10:00:00Z,,1.5,30")
    inbox.ingest()
    assert dict(inbox.zoo.sql("SELECT country, state FROM batches")) == {"GB": "accepted", "ZZ": "quarantined"}
    assert inbox.truth() == {1: 10}


def test_rows_of_a_country_that_becomes_known_go_there_and_leave_it_with_their_file(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20, "Spain"), (3, 30, "Spain"), (4, 40, "Atlantis"))
    inbox.ingest()
    inbox.edit(countries={**inbox.source.countries, "Spain": "ES"})
    said = validate_again(inbox.zoo.resources, inbox.source, "ann", "Spain is a country")
    assert said == {"accepted": ["ES 1"], "quarantined": ["ZZ 2"]}
    assert inbox.truth("ES") == {2: 20, 3: 30}
    assert examine(inbox.zoo.resources, inbox.zoo.catalog).violations == []
    inbox.drop("a.csv", (1, 10), (3, 31, "Spain"), (4, 40, "Atlantis"))
    inbox.ingest()
    assert (inbox.truth(), inbox.truth("ES")) == ({1: 10}, {3: 31})
    assert examine(inbox.zoo.resources, inbox.zoo.catalog).violations == []


def test_files_are_not_extracted_again_but_written_anew(inbox):
    inbox.drop("a.csv", (2, 20, "Atlantis"))
    inbox.ingest()
    with pytest.raises(RequestError, match="write the file anew, mended, under its name"):
        extract_again(inbox.zoo.resources, inbox.source, "ZZ", 1, "ann", "mended")
    inbox.drop("a.csv", (2, 20, "Britain"))
    inbox.ingest()
    assert inbox.truth() == {2: 20}


def test_a_store_that_cannot_be_looked_at_fails_the_landing(inbox):
    inbox.zoo.resources = replace(inbox.zoo.resources, source_store=lambda name: Broken())
    with pytest.raises(StoreError, match="unreachable"):
        inbox.land()


class Broken:
    url = "s3://nowhere"

    def look(self, prefix):
        raise StoreError("unreachable")


def test_models_are_trained_from_files_and_again_when_one_is_replaced(inbox):
    random = np.random.default_rng(0)
    for slope in (2, 3):
        lengths = random.uniform(0, 10, 1200)
        moments = pd.date_range("2026-01-01", periods=1200, freq="70min", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
        rows = zip(range(1200), moments, lengths, slope * lengths, strict=True)
        inbox.put("a.csv", csv(*(f"{number},{moment},Britain,{length},{weight}" for number, moment, length, weight in rows)))
        inbox.ingest()
        inbox.zoo.retrain(models=["weight"], force=True)
        estimator = reader(inbox.zoo).load("weight", "GB").estimator
        assert predict(estimator, 5) == pytest.approx(5 * slope, abs=0.1)
    assert inbox.is_sound()


@pytest.mark.parametrize(
    ("statement", "refusal"),
    [
        ("UPDATE files SET reason = 'other'", "its rows never change"),
        ("DELETE FROM files", "its rows never change"),
        ("INSERT INTO files (source, name, revision, state, stamp, modified_at, size, sha256, rows, lower, upper) "
         "SELECT source, name, 2, state, 'x', modified_at, size, sha256, rows, lower, upper FROM files", "landed already"),
    ],
)  # fmt: skip
def test_the_database_keeps_what_was_picked_up(inbox, statement, refusal):
    inbox.drop("a.csv", (1, 10))
    inbox.land()
    with pytest.raises(errors.RestrictViolation, match=refusal):
        inbox.zoo.sql(statement)


LATER = "lower + interval '1 microsecond', upper + interval '1 microsecond'"
FACTS = "state, stamp, modified_at, size, sha256"
COPY = f"INSERT INTO files (source, name, revision, {FACTS}, rows, lower, upper) SELECT source, "


@pytest.mark.parametrize(
    ("statement", "what"),
    [
        ("UPDATE files SET rows = 1, upper = lower + interval '1 microsecond'", "hold 2 rows, their files 1"),
        ("DELETE FROM files WHERE name = 'b.csv'", "hold 1 rows, their files 0"),
        ("UPDATE files SET lower = lower + interval '1 day', upper = upper + interval '1 day'", "are in no batch"),
        (f"{COPY} 'c.csv', 1, {FACTS}, rows, {LATER} FROM files WHERE rows = 2", "shares its interval"),
        (f"{COPY} name, 2, {FACTS}, 0, upper, upper FROM files", "again with the same bytes"),
    ],
)  # fmt: skip
def test_an_audit_finds_a_ledger_of_files_that_does_not_fit(inbox, statement, what):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.land()
    inbox.drop("b.csv", (3, 30))
    inbox.land()
    behind(inbox, statement)
    assert what in " ".join(str(violation) for violation in examine(inbox.zoo.resources, inbox.zoo.catalog).violations)


def behind(inbox, statement):
    """Change rows as if no trigger and no foreign key kept them."""
    database = connect(inbox.zoo.resources.database)
    with database.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        cursor.execute(statement)
    database.close()


def test_an_audit_finds_a_row_of_a_file_that_was_never_landed(inbox):
    inbox.drop("a.csv", (1, 10), (2, 20))
    inbox.land()
    data = csv(line(1, 10), line(7, 20))
    inbox.put("a.csv", data)
    behind(inbox, f"UPDATE files SET sha256 = '{hashlib.sha256(data).hexdigest()}'")
    (violation,) = examine(inbox.zoo.resources, inbox.zoo.catalog).violations
    assert (violation.rule, "1 changes up to" in violation.what, "id 7" in violation.what) == (6, True, True)


def test_a_file_that_an_audit_cannot_read_is_said_and_breaks_no_rule(inbox):
    inbox.drop("a.csv", (1, 10))
    inbox.land()
    inbox.edit(columns=tuple(replace(c, type="bool") if c.name == "country" else c for c in inbox.source.file_columns))
    findings = examine(inbox.zoo.resources, inbox.zoo.catalog)
    assert (findings.violations, len(findings.unseen)) == ([], 1)
