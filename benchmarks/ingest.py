"""Ingest of the whole shop: every revision landed and validated, wall time and peak memory. Then one more ingest of files after
pasts of two lengths.

make bench-ingest
"""

import json
import multiprocessing
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import long_ingest
from embedded.postgres import Postgres
from machine import machine, peak_mb
from perennial.catalog import load_catalog
from perennial.resources import Resources
from perennial.shell.database import migrate
from perennial.shell.store import open_store
from perennial.steps import ingest, validate
from worlds import retail

END = datetime(2012, 1, 1, tzinfo=UTC)
RESULTS = Path(__file__).parent / "results"


def measure(resources: Resources, answers: "multiprocessing.Queue[dict[str, float]]") -> None:
    """Land and validate in a process of its own; what it has from the one before it is told beside its peak."""
    before = peak_mb()
    source = load_catalog().source("order_lines")
    started = time.perf_counter()
    rows = ingest.land(resources, source)
    landed = time.perf_counter()
    states = validate.validate(resources, source)
    answers.put(
        {
            "rows": sum(rows.values()),
            "countries": len(rows),
            "land_seconds": round(landed - started, 1),
            "validate_seconds": round(time.perf_counter() - landed, 1),
            "mb_before": before,
            "peak_mb": peak_mb(),
            **states,
        }
    )


def main() -> None:
    """Prepare the shop, measure, print and keep the figures."""
    folder = Path(tempfile.mkdtemp(prefix="perennial-bench-"))
    postgres = Postgres(folder / "data", folder / "postgres.log")
    try:
        postgres.start()
        for name in ("shop", "perennial"):
            postgres.create_database(name)
        migrate(postgres.dsn("perennial"))
        retail.prepare(postgres.dsn("shop"))
        retail.advance(postgres.dsn("shop"), END, folder / "cache")
        time.sleep(load_catalog().source("order_lines").max_commit_lag.total_seconds())
        resources = Resources(
            database=postgres.dsn("perennial"),
            store=open_store((folder / "store").as_uri()),
            signing_key=folder / "none",
            public_keys=folder / "none",
            source_dsn=lambda name: postgres.dsn("shop"),
        )
        answers: multiprocessing.Queue[dict[str, float]] = multiprocessing.get_context("spawn").Queue()
        process = multiprocessing.get_context("fork").Process(target=measure, args=(resources, answers))
        process.start()
        figures: dict[str, Any] = {**answers.get(), "machine": machine()}
        process.join()
        figures["one more ingest"] = list(long_ingest.rows(postgres, folder))
    finally:
        postgres.stop()
        shutil.rmtree(folder, ignore_errors=True)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ingest.json").write_text(json.dumps(figures, indent=2) + "\n")
    print(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
