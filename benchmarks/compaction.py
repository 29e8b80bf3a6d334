"""Reading a country whose source is ingested every quarter of an hour, before and after its batches were put together.

make bench-compaction

12,000 batches of 20 rows × 15 columns, 125 days of quarter-hours, in a folder; 2,000 of them in an S3 API on this machine,
which answers at once: a store that is far away takes longer for each object. After the first compaction 64 batches more come,
one run for each 16, and then 15 that wait: what a ledger in use looks like. Pages are warm; a reading is the best of three.
"""

import json
import logging
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa

from embedded.postgres import Postgres
from machine import machine, memory_mb
from perennial.catalog import Catalog
from perennial.resources import Resources
from perennial.shell.database import Connection, Json, connect, fetch, migrate, run
from perennial.shell.lake import BatchWriter, Reader
from perennial.shell.store import open_store
from perennial.steps.batches import Landed
from perennial.steps.compact import compact
from perennial.steps.landing import stored
from validation import rows, source

RESULTS = Path(__file__).parent / "results"
START, QUARTER = datetime(2026, 1, 1, tzinfo=UTC), timedelta(minutes=15)
BATCH_ROWS, LATER, RUN, WAITING = 20, 64, 16, 15
IN_FOLDER, IN_S3 = 12_000, 2_000
KEYS = {"aws_access_key_id": "bench", "aws_secret_access_key": "bench", "region_name": "eu-west-1"}
CATALOG = Catalog(fleets={}, sources={source.name: source})


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """One country's batches: where they are, and the rows they are cut from."""

    resources: Resources
    database: Connection
    folder: Path
    table: pa.Table

    def land(self, first: int, last: int) -> None:
        """Land and accept batches of these numbers."""
        for number in range(first, last + 1):
            self._land(number, START + number * QUARTER)

    def _land(self, number: int, moment: datetime) -> None:
        part = self.table.slice((number - 1) * BATCH_ROWS, BATCH_ROWS)
        for name in ("changed_at", "seen_at"):
            at = part.schema.get_field_index(name)
            part = part.set_column(at, name, pa.array([moment] * BATCH_ROWS, part.schema.field(name).type))
        writer = BatchWriter(self.folder / "batch.parquet", source)
        writer.write(part)
        file = writer.close()
        facts = stored(self.resources, source, "AA", Landed(file=file))
        bounds = {"lower": moment, "upper": moment + QUARTER, "is_late": False}
        run(self.database, "land_batch", source="bench", country="AA", **bounds, **facts)
        run(
            self.database, "decide_batch", source="bench", country="AA", seq=number, state="accepted", reason="",
            report=Json({}),
        )  # fmt: skip

    def reading(self, last: int) -> dict[str, float]:
        """What it takes to read everything: the ledger's answer, the objects, the rows."""
        window = {"start": START, "end": START + (last + 1) * QUARTER}
        asked = {"source": "bench", "country": "AA", "last_seq": last, **window}
        objects = fetch(self.database, "objects_of", **asked)
        names = [column.name for column in source.columns]

        def read() -> int:
            return len(Reader(self.resources.store, source, names).rows(objects, names, **window))

        return {
            "batches": last,
            "rows": read(),
            "objects": len(objects),
            "ledger_ms": round(1000 * best(lambda: fetch(self.database, "objects_of", **asked)), 1),
            "seconds": round(best(read), 3),
        }

    def compacted(self) -> dict[str, float]:
        """One run in a process of its own: seconds, and peak memory above what the process began with."""
        fork = multiprocessing.get_context("fork")
        answers = fork.SimpleQueue()
        process = fork.Process(target=_compact, args=(self.resources, answers))
        process.start()
        made: dict[str, float] = answers.get()
        process.join()
        return made


def _compact(resources: Resources, answers: Any) -> None:
    before, started = memory_mb("VmRSS"), time.perf_counter()
    counts = compact(resources, CATALOG)
    seconds = round(time.perf_counter() - started, 2)
    answers.put({**counts, "seconds": seconds, "mb_above_start": memory_mb("VmHWM") - before})


def best(act: Callable[[], Any]) -> float:
    """Seconds of the fastest of three."""
    seconds = []
    for _ in range(3):
        started = time.perf_counter()
        act()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def measured(ledger: Ledger, number: int) -> dict[str, Any]:
    """Before, the first run, a later one, after."""
    first = number - LATER - WAITING
    ledger.land(1, first)
    before, backlog = ledger.reading(first), ledger.compacted()
    for last in range(first + RUN, first + LATER + 1, RUN):
        ledger.land(last - RUN + 1, last)
        later = ledger.compacted()
    ledger.land(number - WAITING + 1, number)
    return {"before": before, "first_run": backlog, "later_run": later, "after": ledger.reading(number)}


@contextmanager
def s3() -> Iterator[dict[str, Any]]:
    """An S3 API in a process of its own."""
    spawn = multiprocessing.get_context("spawn")
    answers = spawn.SimpleQueue()
    process = spawn.Process(target=_serve, args=(answers,), daemon=True)
    process.start()
    try:
        yield {"endpoint_url": answers.get(), **KEYS}
    finally:
        process.kill()
        process.join()


def _serve(answers: Any) -> None:
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    answers.put(f"http://{host}:{port}")
    while True:
        time.sleep(60)


@contextmanager
def ledger_in(store: Any, folder: Path, number: int) -> Iterator[Ledger]:
    """An empty ledger on a store."""
    postgres = Postgres(folder / "data", folder / "postgres.log")
    try:
        postgres.start()
        postgres.create_database("perennial")
        dsn = postgres.dsn("perennial")
        migrate(dsn)
        resources = Resources(database=dsn, store=store, signing_key=folder, public_keys=folder, source_dsn=lambda name: dsn)
        database = connect(dsn, waits_for_disk=False)
        yield Ledger(resources=resources, database=database, folder=folder, table=rows(number * BATCH_ROWS, seed=0))
        database.close()
    finally:
        postgres.stop()


def main() -> None:
    """Measure, print and keep the figures."""
    figures: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="perennial-bench-"))
    try:
        with ledger_in(open_store((folder / "store").as_uri()), folder / "one", IN_FOLDER) as ledger:
            figures["folder"] = measured(ledger, IN_FOLDER)
        if find_spec("moto"):
            with s3() as options:
                store = open_store("s3://bench/lake", options)
                place = {"LocationConstraint": options["region_name"]}
                store.client.create_bucket(Bucket="bench", CreateBucketConfiguration=place)  # type: ignore[attr-defined]
                with ledger_in(store, folder / "two", IN_S3) as ledger:
                    figures["s3"] = measured(ledger, IN_S3)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    figures["machine"] = machine()
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "compaction.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
