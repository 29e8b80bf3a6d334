"""Rule 6 for a source of files: each is picked up once, whole or not at all; what is replaced is no truth any more."""

import gzip
import io
import json
import os
import time
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from psycopg2 import errors
from toolbox import landed_changes

from perennial import FileSource, Seconds
from perennial.core.snapshots import latest_revisions
from perennial.errors import NothingToDo, ObjectMissing, RegistryError, StoreError
from perennial.shell.lake import read_rows
from perennial.shell.store import open_store
from perennial.steps import ingest, land_files, landing
from perennial.steps.audit import audit, examine

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
        """Put any bytes, as somebody who writes after what was there."""
        self.store.put(f"in/{name}", data)
        if self.store.url.startswith("s3:"):  # whose clock ticks in seconds
            self.zoo.sql("SELECT 1")

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
        try:
            ingest.validate(self.zoo.resources, self.source)
        except NothingToDo:
            pass

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
        batches = self.zoo.sql("SELECT object_key, sha256 FROM batches WHERE country = %s AND state = 'accepted'", country)
        columns = [column.name for column in self.source.columns]
        rows = read_rows(self.zoo.resources.store, batches, self.source, columns, *ALWAYS)
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
    table = zoo.catalog.source("sightings")
    columns = tuple(column for column in table.columns if column.name != "changed_at")
    source = FileSource(
        name="sightings", owner=table.owner, connection="zoo_files", prefix="in/", format="csv", key=table.key,
        event_time=table.event_time, country=table.country, countries=table.countries, columns=columns,
        expectations=table.expectations, quiet=Seconds(0),
    )  # fmt: skip
    zoo.catalog = replace(zoo.catalog, sources={"sightings": source})
    return Inbox(zoo, store)


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
