"""What a cell costs in CPU: the product's own worker over cells of one kind, in one process, without Airflow.

python -m fleet costs is called by the runner: ROOT, kept|published, FILE, DSN.
"""

import json
import sys
import time
from pathlib import Path

from embedded.postgres import Postgres
from fleet.databases import rows_of
from fleet.folders import Folders
from fleet.measuring import cpu_seconds, tree
from fleet.ready import resources_of
from fleet.world import FLEET, MOVED, TARGETS
from perennial.catalog import load_catalog
from perennial.steps.plan import Request, plan
from perennial.steps.train import train

MOST_COUNTRIES = 8
KINDS = {"published": MOVED, "kept": tuple(target for target in TARGETS if target not in MOVED)}
STATES = "SELECT state, count(*) AS number FROM perennial.outcomes WHERE run_id = %s GROUP BY state"
TIMINGS = "SELECT timings FROM perennial.attempts WHERE run_id = %s"


def main() -> None:
    """Train one warm-up cell, then the others, and write what they cost per cell."""
    folders, kind, file = Folders(Path(sys.argv[1])), sys.argv[2], Path(sys.argv[3])
    postgres = Postgres(folders.perennial.postgres, folders.perennial.logs / "postgres.log")
    resources, catalog = resources_of(folders, postgres), load_catalog()
    countries = sorted(json.loads(folders.facts.read_text())["batches"])[:MOST_COUNTRIES]
    models = KINDS[kind]
    warm_up = Request(models=models[:1], countries=(countries[0],))
    measured = Request(models=models[1:], countries=tuple(countries))
    plan(resources, catalog, FLEET, f"warm-up {kind}", warm_up)
    train(resources, catalog, f"warm-up {kind}")
    made = plan(resources, catalog, FLEET, kind, measured)
    server = tree([int((postgres.data / "postmaster.pid").read_text().splitlines()[0])])
    before = (_own(), cpu_seconds(server), time.perf_counter())
    train(resources, catalog, kind)
    after = (_own(), cpu_seconds(server), time.perf_counter())
    spent = [(late - early) / made.cells for early, late in zip(before, after, strict=True)]
    states = {row["state"]: row["number"] for row in rows_of(resources.database, STATES, kind)}
    if set(states) != {kind}:
        raise SystemExit(f"Of the cells that are {kind} by the world's making, some are not: {states}")
    parts = [row["timings"] for row in rows_of(resources.database, TIMINGS, kind)]
    file.write_text(
        json.dumps(
            {
                "cells": made.cells,
                "cpu": spent[0],
                "database_cpu": spent[1],
                "wall": spent[2],
                "parts": {name: sum(part.get(name, 0.0) for part in parts) / len(parts) for name in parts[0]},
            }
        )
    )


def _own() -> float:
    """CPU of this process and of the children it has reaped: its verifier among them."""
    times = time.process_time()
    import os

    spent = os.times()
    return times + spent.children_user + spent.children_system
