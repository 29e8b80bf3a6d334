"""The variants inside real Airflow: Perennial, and the textbook DAG. Times are the databases' own."""

import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from embedded import components
from embedded.paths import Paths
from embedded.running import Stack
from fleet import world
from fleet.databases import rows_of
from fleet.folders import Folders
from fleet.loops import WORKERS
from fleet.measuring import Watch, cpu_seconds, tree
from perennial.errors import PerennialError

RETRAIN, INGEST, TEXTBOOK = f"retrain_{world.FLEET}", f"ingest_{world.SOURCE}", "textbook"
POLL_SECONDS = 2.0
RUN_POLL_SECONDS = 5.0  # looking costs the machine that is measured; times are the databases' own
QUIET_SECONDS = 5.0
RUN_SECONDS = 3600
RUNS = "SELECT run_id, state, queued_at, start_date, end_date FROM dag_run WHERE dag_id = %s ORDER BY id"
TASKS = """
SELECT task_id, map_index, state, try_number, queued_dttm, start_date, end_date FROM task_instance
WHERE dag_id = %s AND run_id = %s ORDER BY start_date
"""
ATTEMPTS = """
SELECT a.model, a.country, a.worker, a.started_at, a.finished_at, a.timings, o.state, o.decided_at, r.released_at, o.reason
FROM perennial.outcomes AS o
LEFT JOIN perennial.attempts AS a USING (run_id, model, country)
LEFT JOIN perennial.releases AS r ON (r.model, r.country, r.seq) = (o.model, o.country, o.release_seq)
WHERE o.run_id = %s ORDER BY a.started_at
"""
PROGRESS = "SELECT count(*) AS pending FROM perennial.outcomes WHERE run_id = %s AND state = 'pending'"
ACCEPTED = """
SELECT seq, landed_at, decided_at FROM perennial.batches WHERE country = %s ORDER BY seq DESC LIMIT 1
"""


class Failed(PerennialError):
    """A run of the benchmark did not end as it must."""


class Disturbed(Failed):
    """The figures are not those of a cycle."""


@contextmanager
def running(paths: Paths, *dags: str, plain: bool = False) -> Iterator[Stack]:
    """A stack that is healthy, has read these DAGs, lets them run, and has nothing left to do.

    A ``plain`` one's scheduler imports nothing for its tasks, and runs as many at once as the others have workers.
    """
    stack = Stack(paths.state, paths.repo, {("core", "parallelism"): WORKERS} if plain else None)
    stack.start(lambda fact: None)
    try:
        if plain:
            _restart_scheduler(stack)
        for dag_id in dags:
            stack.api.wait_for_dag(dag_id)
            stack.api.unpause(dag_id)
        _await_silence(stack, dags)
        yield stack
    finally:
        stack.stop()


def _restart_scheduler(stack: Stack) -> None:
    stack.processes.end(["scheduler"])
    ports = json.loads(stack.paths.ports.read_text())
    env = components.airflow_env(stack.paths, stack.postgres, ports, stack.settings)
    stack.processes.start("scheduler", [sys.executable, "-m", "airflow", "scheduler"], env)
    deadline = time.monotonic() + 120
    while stack.api.health().get("scheduler") != "healthy" and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _await_silence(stack: Stack, dags: tuple[str, ...]) -> None:
    """Wait until no run of these DAGs has been open for a while: letting a DAG run starts its latest interval."""
    silent_since = time.monotonic()
    while time.monotonic() - silent_since < QUIET_SECONDS:
        stack.check()
        for dag_id in dags:
            if any(run["state"] in ("queued", "running") for run in runs(stack, dag_id)):
                silent_since = time.monotonic()
        time.sleep(POLL_SECONDS)


def airflow_dsn(stack: Stack) -> str:
    """Airflow's own database, which the benchmark reads its times from."""
    return stack.postgres.dsn("airflow")


def runs(stack: Stack, dag_id: str) -> list[dict[str, Any]]:
    """All runs of a DAG."""
    return rows_of(airflow_dsn(stack), RUNS, dag_id)


def roots(stack: Stack) -> dict[str, int]:
    """The first process of each component."""
    found = {file.stem: json.loads(file.read_text())["pid"] for file in stack.paths.processes.glob("*.json")}
    return found | {"postgres": int((stack.paths.postgres / "postmaster.pid").read_text().splitlines()[0])}


def cpu_by_component(stack: Stack) -> dict[str, float]:
    """CPU seconds that each component's processes have used."""
    return {name: cpu_seconds(tree([pid])) for name, pid in roots(stack).items()}


def announce(stack: Stack) -> Any:
    """Say that batches were accepted, as ingest's last task does; returns when Airflow noted it."""
    name = f"{world.SOURCE}_accepted"
    found = stack.api._ask("GET", f"/api/v2/assets?name_pattern={name}")["assets"]
    asset_id = next(asset["id"] for asset in found if asset["name"] == name)
    event = stack.api._ask("POST", "/api/v2/assets/events", json={"asset_id": asset_id, "extra": {}})
    return rows_of(airflow_dsn(stack), "SELECT timestamp FROM asset_event WHERE id = %s", event["id"])[0]["timestamp"]


def new_run(stack: Stack, dag_id: str, known: set[str]) -> str:
    """Wait for a run that was not there before, and for its end; returns its id."""
    deadline = time.monotonic() + RUN_SECONDS
    while time.monotonic() < deadline:
        stack.check()
        ended = [run for run in runs(stack, dag_id) if run["run_id"] not in known and run["end_date"] is not None]
        if ended:
            if ended[0]["state"] != "success":
                raise Failed(
                    f"{dag_id} {ended[0]['run_id']} ended as {ended[0]['state']}. Look at the logs below {stack.paths.state}."
                )
            return str(ended[0]["run_id"])
        time.sleep(RUN_POLL_SECONDS)
    raise Failed(f"{dag_id} did not end within {RUN_SECONDS} s.")


def check_undisturbed(tasks: list[dict[str, Any]]) -> None:
    """Raise Disturbed when a task was tried again: on a starved machine Airflow takes its own tasks for dead."""
    again = sorted({task["task_id"] for task in tasks if task["try_number"] > 1})
    if again:
        raise Disturbed(f"{', '.join(again)} was tried again: something else keeps this machine too busy to measure.")


def perennial_cycle(stack: Stack) -> dict[str, Any]:
    """One whole cycle, from the event to the end of its run: timeline, attempts, CPU by component, memory."""
    dsn = stack.postgres.dsn("perennial")
    idle, idle_from = cpu_by_component(stack), time.monotonic()
    time.sleep(QUIET_SECONDS)
    before, idle_seconds = cpu_by_component(stack), time.monotonic() - idle_from
    known = {run["run_id"] for run in runs(stack, RETRAIN)}
    with Watch(lambda: tree(roots(stack).values())) as watch:
        event = announce(stack)
        run_id = new_run(stack, RETRAIN, known)
    after = cpu_by_component(stack)
    attempts = rows_of(dsn, ATTEMPTS, f"{world.FLEET}/{run_id}")
    tasks = rows_of(airflow_dsn(stack), TASKS, RETRAIN, run_id)
    check_undisturbed(tasks)
    trainers = {int(row["worker"].rpartition(":")[2]) for row in attempts if row["worker"]}
    return {
        "event": event,
        "run": next(run for run in runs(stack, RETRAIN) if run["run_id"] == run_id),
        "tasks": tasks,
        "attempts": attempts,
        "cpu": {name: after[name] - before[name] for name in after},
        "idle_cpu_per_second": {name: (before[name] - idle[name]) / idle_seconds for name in before},
        # A trainer is forked from its task, which has the imports and trains nothing.
        "trainers": [
            {**vars(seen), "imports_mb": watch.seen[seen.parent].first_mb}
            for pid, seen in watch.seen.items()
            if pid in trainers and seen.parent in watch.seen
        ],
        "verifiers": [vars(seen) for seen in watch.seen.values() if seen.parent in trainers],
        **watch.account(),
    }


def textbook_run(stack: Stack) -> dict[str, Any]:
    """One run of the textbook DAG: its tasks, CPU by component, memory."""
    before, known = cpu_by_component(stack), {run["run_id"] for run in runs(stack, TEXTBOOK)}
    with Watch(lambda: tree(roots(stack).values())) as watch:
        stack.api.trigger(TEXTBOOK, {})
        run_id = new_run(stack, TEXTBOOK, known)
    after = cpu_by_component(stack)
    tasks = rows_of(airflow_dsn(stack), TASKS, TEXTBOOK, run_id)
    check_undisturbed(tasks)
    return {
        "run": next(run for run in runs(stack, TEXTBOOK) if run["run_id"] == run_id),
        "tasks": tasks,
        "cpu": {name: after[name] - before[name] for name in after},
        **watch.account(),
    }


def textbook_cells(folders: Folders, number: int) -> list[dict[str, Any]]:
    """The first cells, countries in turn, with all that their tasks are told."""
    facts = json.loads(folders.facts.read_text())
    names = sorted(facts["champions"], key=lambda name: name.split("/")[::-1])[:number]
    cut = world.START + timedelta(days=world.DAYS - world.SPAN_DAYS)
    return [
        {
            "name": name.replace("/", "-"),
            "model": name.split("/")[0],
            "files": [str(folders.ready_store / row["object_key"]) for row in facts["batches"][name.split("/")[1]]],
            "champion": str(folders.champions / f"{name}.joblib"),
            "cut": cut.isoformat(),
            "window_days": world.WINDOW_DAYS,
        }
        for name in names
    ]


def fresh_batch(stack: Stack, country: str, day: int) -> dict[str, Any]:
    """One day of one country through the real ingest, until its champions are live; every moment on the way."""
    known = {dag_id: {run["run_id"] for run in runs(stack, dag_id)} for dag_id in (INGEST, RETRAIN)}
    world.write(stack.postgres.dsn("bench"), [country], [day])
    committed = rows_of(stack.postgres.dsn("bench"), "SELECT clock_timestamp() AS now")[0]["now"]
    time.sleep(2.05)  # the source's max_commit_lag: before that, landing would leave the rows to its next run
    triggered = rows_of(stack.postgres.dsn("bench"), "SELECT clock_timestamp() AS now")[0]["now"]
    stack.api.trigger(INGEST, {})
    ingest_run = new_run(stack, INGEST, known[INGEST])
    retrain_run = new_run(stack, RETRAIN, known[RETRAIN])
    dsn = stack.postgres.dsn("perennial")
    attempts = rows_of(dsn, ATTEMPTS, f"{world.FLEET}/{retrain_run}")
    time.sleep(1)
    return {
        "country": country,
        "committed": committed,
        "triggered": triggered,
        "batch": rows_of(dsn, ACCEPTED, country)[0],
        "ingest": rows_of(airflow_dsn(stack), TASKS, INGEST, ingest_run),
        "run": next(run for run in runs(stack, RETRAIN) if run["run_id"] == retrain_run),
        "tasks": rows_of(airflow_dsn(stack), TASKS, RETRAIN, retrain_run),
        "attempts": attempts,
    }


def clean(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
