"""One more ingest of files after a past, and after one ten times as long: seconds of both, and their ratio."""

import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from embedded.postgres import Postgres
from perennial import Column, FileSource, Owner, Seconds
from perennial.errors import NothingToDo
from perennial.resources import Resources
from perennial.shell.database import migrate
from perennial.shell.store import open_store
from perennial.steps import ingest, validate
from worlds.long_past import write_past


def expectations() -> list[Any]:
    """What a reading must look like."""
    import great_expectations.expectations as gxe

    return [gxe.ExpectColumnValuesToNotBeNull(column="value")]


TIMES = 5  # that one more ingest is measured
READINGS = FileSource(
    name="readings",
    owner=Owner("bench"),
    connection="bench",
    prefix="in/",
    format="csv",
    key=("id",),
    event_time="at",
    country="country",
    countries={"GB": "GB"},
    columns=(
        Column("id", "int64", nullable=False),
        Column("at", "timestamp", nullable=False),
        Column("country", "string"),
        Column("value", "float64", min_value=0),
    ),
    expectations=expectations,
    quiet=Seconds(0),
)


class World:
    """A folder of files and a registry of its own."""

    def __init__(self, postgres: Postgres, folder: Path, name: str) -> None:
        self.dsn, self.files = postgres.dsn(name), open_store((folder / name / "files").as_uri())
        postgres.create_database(name)
        migrate(self.dsn)
        self.resources = Resources(
            database=self.dsn,
            store=open_store((folder / name / "store").as_uri()),
            signing_key=folder / "none",
            public_keys=folder / "none",
            source_dsn=lambda connection: "",
            source_store=lambda connection: self.files,
        )

    def deliver(self, name: str, first: int, rows: int = 20) -> None:
        """Put a file with some keys."""
        at = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        lines = [f"{number},{at},GB,{number % 7}" for number in range(first, first + rows)]
        self.files.put(f"in/{name}", "\n".join(["id,at,country,value", *lines, ""]).encode())

    def ingest(self) -> float:
        """Land and validate what is there; how many seconds that took."""
        started = time.perf_counter()
        with suppress(NothingToDo):
            ingest.land(self.resources, READINGS)
            validate.validate(self.resources, READINGS)
        return time.perf_counter() - started


def rewritten(world: World, past: int) -> float:
    """A file that came so often under its name, each time without one of its former rows."""
    return median([_delivered(world, "again.csv", number) for number in range(past)][-TIMES:])


def beside_many(world: World, past: int) -> float:
    """A country with so many batches, of six times as many files."""
    write_past(world.dsn, past, ["model"], ["GB"], source=READINGS.name, files=5)
    return median(_delivered(world, f"{number}.csv", 100 * number) for number in range(TIMES))


def folder_of_new(world: World, past: int) -> float:
    """Seconds for one file of a folder of so many new ones."""
    for number in range(past):
        world.deliver(f"{number}.csv", 100 * number)
    return world.ingest() / past


def _delivered(world: World, name: str, first: int) -> float:
    world.deliver(name, first)
    return world.ingest()


PASTS = {
    "deliveries of one file": (rewritten, 8, 80),
    "batches of a country": (beside_many, 3_500, 35_000),
    "new files in a folder": (folder_of_new, 200, 2_000),
}


def rows(postgres: Postgres, folder: Path) -> Iterator[dict[str, Any]]:
    """A row for each kind of past."""
    for number, (kind, (measure, short, long)) in enumerate(PASTS.items()):
        seconds = [measure(World(postgres, folder, f"past_{number}_{length}"), length) for length in (short, long)]
        yield {
            "past": kind,
            "lengths": [short, long],
            "seconds": [round(each, 4) for each in seconds],
            "ratio": round(seconds[1] / seconds[0], 2),
        }
