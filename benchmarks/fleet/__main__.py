"""``python -m fleet``: every variant from the same starting state, in turn, several times; then the tables.

CELLS (a multiple of 10), REPEAT, PARTS (of those in `PARTS`), REFIT (0, 1 or both), BATCHES and KEEP (1: keep the last
benchmark's figures of parts not measured now) come from the environment.
"""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fleet import ready, report, stacks, world
from fleet.folders import RESULTS, Folders
from fleet.loops import WORKERS
from fleet.measuring import Watch, tree
from machine import machine

T = TypeVar("T")

PARTS = ("bare", "naive", "textbook", "perennial", "cells", "fresh")
TEXTBOOK_CELLS = 40
CALL = "from fleet.{module} import main; main()"


def loop(name: str, folders: Folders, refit: bool) -> dict[str, Any]:
    """One run of a loop in a process of its own, its CPU by the kernel's account of all its children."""
    target = stacks.clean(folders.scratch(name))
    ready.restore_store(folders, target / "store")
    arguments = (folders.facts, target / "store", folders.perennial.keys, folders.champions, target)
    made, found = _child("loops", refit, name, *map(str, arguments)), json.loads((target / "records.json").read_text())
    return {**found, **made}


def _child(module: str, refit: bool, *arguments: str) -> dict[str, Any]:
    """Run a function of the benchmark in a process of its own; CPU and memory of it and its children."""
    command = [sys.executable, "-c", CALL.format(module=module), *arguments]
    child = subprocess.Popen(command, env={**os.environ, "BENCH_REFIT": str(int(refit))})
    with Watch(lambda: tree([child.pid])) as watch:
        _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise stacks.Failed(f"{module} {' '.join(arguments)} ended with code {child.returncode}.")
    return {"cpu": usage.ru_utime + usage.ru_stime, **watch.account()}


def perennial(folders: Folders, refit: bool) -> dict[str, Any]:
    """One cycle of Perennial in Airflow."""
    _start_over(folders, refit)
    with stacks.running(folders.perennial, stacks.RETRAIN) as stack:
        return stacks.perennial_cycle(stack)


def textbook(folders: Folders, refit: bool) -> dict[str, Any]:
    """One run of the textbook DAG, over some of the cells."""
    work = stacks.clean(folders.scratch("textbook"))
    cells = stacks.textbook_cells(folders, TEXTBOOK_CELLS)
    os.environ |= {"BENCH_TEXTBOOK_CELLS": json.dumps(cells), "BENCH_TEXTBOOK_WORK": str(work)}
    with stacks.running(folders.textbook, stacks.TEXTBOOK, plain=True) as stack:
        return {"cells": len(cells), **stacks.textbook_run(stack)}


def fresh(folders: Folders, batches: int, countries: tuple[str, ...]) -> list[dict[str, Any]]:
    """After a whole cycle: single batches of single countries, one after the other, on the idle fleet."""
    _start_over(folders, refit=True)
    with stacks.running(folders.perennial, stacks.RETRAIN, stacks.INGEST) as stack:
        stacks.perennial_cycle(stack)
        days = dict.fromkeys(countries, world.DAYS)
        made = []
        for number in range(batches):
            country = countries[number % len(countries)]
            made.append(stacks.fresh_batch(stack, country, days[country]))
            days[country] += 1
        return made


def cells(folders: Folders, refit: bool) -> dict[str, Any]:
    """What a kept and a published cell cost in CPU, in one process without Airflow."""
    _start_over(folders, refit)
    target = stacks.clean(folders.scratch("cells"))
    found = {}
    with ready.server(folders) as postgres:
        for kind in ("kept", "published"):
            _child("costs", refit, str(folders.root), kind, str(target / f"{kind}.json"), postgres.dsn("perennial"))
            found[kind] = json.loads((target / f"{kind}.json").read_text())
    return found


def _start_over(folders: Folders, refit: bool) -> None:
    os.environ["BENCH_REFIT"] = str(int(refit))
    ready.restore(folders)


VARIANTS: dict[str, Callable[[Folders, bool], dict[str, Any]]] = {
    "bare": lambda folders, refit: loop("bare", folders, refit),
    "naive": lambda folders, refit: loop("naive", folders, refit),
    "textbook": textbook,
    "perennial": perennial,
    "cells": cells,
}


def rounds(parts: list[str], repeat: int, refits: list[bool]) -> list[tuple[str, bool]]:
    """What runs in which order: each round all variants, every second one backwards. The textbook DAG does not refit."""
    once = [(part, refit) for refit in refits for part in parts if part in VARIANTS and not (part == "textbook" and refit)]
    return [entry for number in range(repeat) for entry in (once if number % 2 == 0 else once[::-1])]


def undisturbed(measure: Callable[[], T]) -> T:
    """Measure; where the machine was too busy, measure again, twice at most."""
    for _ in range(2):
        try:
            return measure()
        except stacks.Failed as error:
            print(f"{error} Measuring again.", flush=True)
    return measure()


def former(raw: Path, parts: list[str], refits: list[bool]) -> dict[str, Any]:
    """With KEEP=1: what the last benchmark measured and this one does not."""
    if not os.environ.get("KEEP") or not raw.exists():
        return {"runs": []}
    kept: dict[str, Any] = json.loads(raw.read_text())
    kept["runs"] = [run for run in kept["runs"] if run["part"] not in parts or run["refit"] not in refits]
    return kept


def setting(name: str, otherwise: str) -> str:
    """A variable of the environment."""
    return os.environ.get(name) or otherwise


def main() -> None:
    """Set up where needed, measure, and write the tables."""
    number, repeat = int(setting("CELLS", "200")) // len(world.TARGETS), int(setting("REPEAT", "5"))
    parts, refits = setting("PARTS", " ".join(PARTS)).split(), [choice == "1" for choice in setting("REFIT", "0 1").split()]
    countries, folders = world.COUNTRIES[:number], Folders.of(number)
    ready.prepare(folders, countries)
    raw = folders.root / "measured.json"
    facts = {"machine": machine(), "cells": number * len(world.TARGETS), "workers": WORKERS}
    measured: dict[str, Any] = former(raw, parts, refits) | facts
    for part, refit in rounds(parts, repeat, refits):
        print(f"{time.strftime('%H:%M:%S')} {part}{' with refit' if refit else ''}", flush=True)
        made = undisturbed(functools.partial(VARIANTS[part], folders, refit))
        measured["runs"].append({"part": part, "refit": refit, **made})
        raw.write_text(json.dumps(measured, default=str))
    if "fresh" in parts:
        print(f"{time.strftime('%H:%M:%S')} fresh batches", flush=True)
        measured["fresh"] = undisturbed(lambda: fresh(folders, int(setting("BATCHES", "10")), countries))
        raw.write_text(json.dumps(measured, default=str))
    print(report.write(json.loads(raw.read_text()), Path(setting("BENCH_RESULTS", str(RESULTS)))))
    shutil.rmtree(folders.root / "scratch", ignore_errors=True)


if __name__ == "__main__":
    main()
