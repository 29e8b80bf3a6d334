"""Cycles of small cells in the real stack: scheduler loop, CPU per cell, memory."""

import json
import os
import re
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from embedded.components import make_signing_keys
from embedded.paths import repo_folder
from embedded.running import Stack
from perennial.catalog import Catalog, load_catalog
from perennial.resources import Resources
from perennial.shell.database import connect, fetch
from perennial.shell.store import open_store
from scale.cpu import own_seconds, server_of
from scale.pebbles import take_in, write_pebbles

LOOP = re.compile(r"Ran scheduling loop in ([\d.]+) ms")
SETTINGS = {("logging", "namespace_levels"): "airflow.jobs.scheduler_job_runner=DEBUG"}
RUN_SECONDS, LOOK_SECONDS = 3600, 2.0
UNPAUSED_SECONDS = 30  # unpausing starts a run at once: it is to find no rows


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """A cycle: wall, scheduler loop in ms, CPU milliseconds per cell by who used them, megabytes at the peak.

    ``others_share``: how much of the machine strangers used meanwhile; wall and loop are the stack's own where it is small.
    """

    cells: int
    state: str
    outcomes: dict[str, int]
    seconds: float
    loops: int
    loop_median_ms: float
    loop_max_ms: float
    loops_over_1s: int
    tasks_cpu_ms: float
    registry_cpu_ms: float
    airflow_cpu_ms: float
    training_peak_mb: float
    stack_peak_mb: float
    others_share: float


@dataclass
class Peaks:
    """Megabytes at the peak: of the largest training process what it alone uses, of the whole stack proportionally."""

    training: float = 0.0
    stack: float = 0.0
    stop: threading.Event = field(default_factory=threading.Event)


def cycles(sizes: tuple[int, ...], progress: Callable[[str], None]) -> list[dict[str, Any]]:
    """One first cycle of each size, each of models of its own, in one stack."""
    state = Path(tempfile.mkdtemp(prefix="perennial-bench-"))
    stack = Stack(state, repo_folder(), SETTINGS)
    try:
        with stack:
            stack.start(progress)
            stack.api.wait_for_dag("retrain_grid")
            stack.api.unpause("retrain_grid")
            time.sleep(UNPAUSED_SECONDS)
            catalog = load_catalog()
            write_pebbles(stack.postgres.dsn("shop"), catalog.fleet("grid").fleet.countries)
            take_in(_resources(stack), catalog)
            return [asdict(cycle) for cycle in _cycles(stack, catalog, sizes, progress)]
    finally:
        shutil.rmtree(state, ignore_errors=True)


def _resources(stack: Stack) -> Resources:
    private, public = make_signing_keys(stack.paths)
    return Resources(
        database=stack.postgres.dsn("perennial"),
        store=open_store(stack.paths.store.as_uri()),
        signing_key=private,
        public_keys=public,
        source_dsn=lambda _: stack.postgres.dsn("shop"),
    )


def _cycles(stack: Stack, catalog: Catalog, sizes: tuple[int, ...], progress: Callable[[str], None]) -> Iterator[Cycle]:
    specs, used = catalog.fleet("grid"), 0
    for size in sizes:
        number = size // len(specs.fleet.countries)
        made = _cycle(stack, list(specs.models)[used : used + number], size)
        used += number
        progress(str(made))
        yield made


def _cycle(stack: Stack, models: list[str], cells: int) -> Cycle:
    log = stack.processes.log("scheduler")
    read, cpu, busy, started = log.stat().st_size, _cpu(stack), _busy(), time.monotonic()
    with _watched(stack) as peaks:
        run_id = stack.api.trigger("retrain_grid", {"models": models})
        state = _until_ended(stack, run_id)
    seconds, used = time.monotonic() - started, {name: after - cpu[name] for name, after in _cpu(stack).items()}
    busy = _busy() - busy
    with log.open() as lines:
        lines.seek(read)
        loops = sorted(float(found.group(1)) for line in lines if (found := LOOP.search(line)))
    return Cycle(
        cells=cells,
        state=state,
        outcomes=_outcomes(stack, f"grid/{run_id}"),
        seconds=round(seconds, 1),
        loops=len(loops),
        loop_median_ms=loops[len(loops) // 2],
        loop_max_ms=loops[-1],
        loops_over_1s=sum(loop >= 1000 for loop in loops),
        tasks_cpu_ms=round(1000 * used["tasks"] / cells, 1),
        registry_cpu_ms=round(1000 * used["postgres"] / cells, 1),
        airflow_cpu_ms=round(1000 * used["airflow"] / cells, 1),
        training_peak_mb=round(peaks.training),
        stack_peak_mb=round(peaks.stack),
        others_share=round((busy - sum(used.values())) / (seconds * (os.cpu_count() or 1)), 2),
    )


def _until_ended(stack: Stack, run_id: str) -> str:
    deadline = time.monotonic() + RUN_SECONDS
    while (state := stack.api.run_state("retrain_grid", run_id)) not in ("success", "failed"):
        stack.check()
        if time.monotonic() > deadline:
            raise TimeoutError(f"{run_id} is still {state} after {RUN_SECONDS} s.")
        time.sleep(1)
    return state


def _outcomes(stack: Stack, run_id: str) -> dict[str, int]:
    database = connect(stack.postgres.dsn("perennial"))
    try:
        states = [row.state for row in fetch(database, "outcomes_of", run_id=run_id)]
    finally:
        database.close()
    return {state: states.count(state) for state in sorted(set(states))}


def _cpu(stack: Stack) -> dict[str, float]:
    """CPU seconds so far, ended children included: of tasks with all they start, of PostgreSQL, of Airflow's own processes."""
    used = {"tasks": 0.0, "postgres": 0.0, "airflow": 0.0}
    for name, process in _processes(stack):
        used[name] += own_seconds(process)
    return used


def _busy() -> float:
    """CPU seconds that anybody has used of the machine."""
    times = psutil.cpu_times()
    return float(times.user + times.system + times.nice)


def _processes(stack: Stack) -> Iterator[tuple[str, psutil.Process]]:
    """Every process of the stack, and whether it is PostgreSQL's, a task's or its worker's, or another one of Airflow's."""
    roots = {file.stem: json.loads(file.read_text())["pid"] for file in stack.paths.processes.glob("*.json")}
    for name, top in (*((name, psutil.Process(pid)) for name, pid in roots.items()), ("postgres", server_of(stack.postgres))):
        below = {"postgres": "postgres", "scheduler": "tasks"}.get(name, "airflow")
        yield "postgres" if name == "postgres" else "airflow", top
        yield from ((below, process) for process in top.children(recursive=True))


@contextmanager
def _watched(stack: Stack) -> Iterator[Peaks]:
    peaks = Peaks()
    thread = threading.Thread(target=_watch, args=(stack, peaks))
    thread.start()
    try:
        yield peaks
    finally:
        peaks.stop.set()
        thread.join()


def _watch(stack: Stack, peaks: Peaks) -> None:
    while not peaks.stop.wait(LOOK_SECONDS):
        largest, total = 0.0, 0.0
        for name, process in _processes(stack):
            with suppress(psutil.Error):
                memory = process.memory_full_info()
                total += memory.pss / 1e6
                largest = max(largest, memory.uss / 1e6 if name == "tasks" else 0.0)
        peaks.training, peaks.stack = max(peaks.training, largest), max(peaks.stack, total)
