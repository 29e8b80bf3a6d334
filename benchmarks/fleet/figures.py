"""From what was measured to figures: one summary per run, medians over the repetitions."""

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from statistics import median
from typing import Any

import numpy as np

PARTS = ("fit", "refit", "predict", "load", "champion", "judge", "store")


def moment(text: str) -> float:
    """Seconds since the epoch of a database's moment."""
    return datetime.fromisoformat(text).timestamp()


def summary(run: Mapping[str, Any], cells: int, workers: int) -> dict[str, Any]:
    """A run's figures: seconds of wall and CPU, MB, seconds to live, and where the wall went."""
    made = {"textbook": _textbook, "perennial": _perennial}.get(run["part"], _loop)(run, cells, workers)
    watched = {name: run[name] for name in ("peak_pss", "peak_rss_sum", "watch_cpu")}
    others = max(run["machine_cpu"] - (sum(run["cpu"].values()) if isinstance(run["cpu"], dict) else run["cpu"]), 0.0)
    return {"part": run["part"], "refit": run["refit"], **made, **watched, "others_cpu": others}


def _live(seconds: Iterable[float]) -> dict[str, float]:
    found = list(seconds)
    return {f"live_p{share}": float(np.percentile(found, share)) for share in (50, 95)} if found else {}


def _loop(run: Mapping[str, Any], cells: int, workers: int) -> dict[str, Any]:
    records, started = run["records"], run["started"]
    parts = {name: sum(record["wall"].get(name, 0.0) for record in records) / workers for name in PARTS}
    wall, start = run["ended"] - started, min(record["started"] for record in records) - started
    parts["start of the workers"] = start
    parts["other"] = wall - sum(parts.values())
    return {
        "wall": wall,
        "cpu": run["cpu"],
        "published": sum(record["promoted"] for record in records),
        "parts": parts,
        "cpu_parts": _cpu_parts(records),
        "training_mb": max(record["peak_mb"] - record["imported_mb"] for record in records),
        "frame_mb": max(record["frame_mb"] for record in records),
        **_live(record["ended"] - started for record in records if record["promoted"]),
    }


def _cpu_parts(records: list[Any]) -> dict[str, dict[str, float]]:
    """Mean CPU seconds of each part, of kept and of published cells."""
    kinds = {kind: [record["cpu"] for record in records if record["promoted"] == (kind == "published")] for kind in KINDS}
    return {
        kind: {name: sum(cpu.get(name, 0.0) for cpu in found) / len(found) for name in PARTS}
        for kind, found in kinds.items()
        if found
    }


KINDS = ("kept", "published")


def _textbook(run: Mapping[str, Any], cells: int, workers: int) -> dict[str, Any]:
    started, scale = moment(run["run"]["queued_at"]), cells / run["cells"]
    ends = [moment(task["end_date"]) for task in run["tasks"] if task["task_id"] == "publish"]
    durations: dict[str, float] = {}
    for task in run["tasks"]:
        seconds = moment(task["end_date"]) - moment(task["start_date"])
        durations[f"task {task['task_id']}"] = durations.get(f"task {task['task_id']}", 0.0) + seconds * scale / workers
    wall = (max(ends) - started) * scale
    durations["between tasks"] = wall - sum(durations.values())
    live = {name: seconds * scale for name, seconds in _live(end - started for end in ends).items()}
    return {"wall": wall, "cpu": sum(run["cpu"].values()) * scale, "parts": durations, "measured_cells": run["cells"], **live}


def _perennial(run: Mapping[str, Any], cells: int, workers: int) -> dict[str, Any]:
    event, attempts = moment(run["event"]), run["attempts"]
    settled = max(moment(row["decided_at"]) for row in attempts)
    released = [moment(row["released_at"]) for row in attempts if row["released_at"]]
    states = Counter(row["state"] for row in attempts)
    trainers = [seen["peak_mb"] - seen["imports_mb"] for seen in run["trainers"]]
    training = sum(seen["cpu"] for seen in (*run["trainers"], *run["verifiers"]))
    cpu = {"training processes and their verifiers": training, **run["cpu"]}
    cpu["scheduler"] -= training
    return {
        "wall": settled - event,
        "last_release": max(released, default=event) - event,
        "run_end": moment(run["run"]["end_date"]) - event,
        "cpu": sum(run["cpu"].values()),
        "cpu_by_component": cpu,
        "idle_cpu_per_second": sum(run["idle_cpu_per_second"].values()),
        "states": dict(states),
        "published": states["published"],
        "parts": _wall_parts(run, workers, settled),
        "training_mb": max(trainers, default=0.0),
        **_live(moment - event for moment in released),
    }


def _wall_parts(run: Mapping[str, Any], workers: int, settled: float) -> dict[str, float]:
    """Where the wall went: what came before the workers, then the workers' seconds divided by their number."""
    plan = next(task for task in run["tasks"] if task["task_id"] == "plan")
    planned = moment(plan["end_date"])
    found = {
        "wake-up: event to plan's start": moment(plan["start_date"]) - moment(run["event"]),
        "plan": planned - moment(plan["start_date"]),
    }
    shares: dict[str, float] = {}
    by_worker: dict[str, list[Any]] = {}
    for row in run["attempts"]:
        by_worker.setdefault(row["worker"], []).append(row)
    for rows in by_worker.values():
        spans = sorted((moment(row["started_at"]), moment(row["finished_at"])) for row in rows)
        inside = sum(end - start for start, end in spans)
        timings = [row["timings"] for row in rows]
        named = {name: sum(part.get(name, 0.0) for part in timings) for name in sorted({n for part in timings for n in part})}
        others = {
            "start of the workers": spans[0][0] - planned,
            "records within attempts": inside - sum(named.values()),
            "between attempts": spans[-1][1] - spans[0][0] - inside,
            "one worker idle at the end": settled - spans[-1][1],
        }
        for name, seconds in (named | others).items():
            shares[name] = shares.get(name, 0.0) + seconds / workers
    return found | shares


def fresh_summary(batch: Mapping[str, Any]) -> dict[str, Any] | None:
    """One fresh batch's way, in seconds; None where no champion moved."""
    released = [moment(row["released_at"]) for row in batch["attempts"] if row["released_at"]]
    if not released:
        return None
    task = {entry["task_id"]: entry for entry in batch["tasks"] if entry["start_date"]}
    ingest = {entry["task_id"]: entry for entry in batch["ingest"]}
    accepted = moment(batch["batch"]["decided_at"])
    first = min(moment(row["started_at"]) for row in batch["attempts"] if row["started_at"])
    steps = [
        ("commit to the start of ingest (max_commit_lag)", moment(batch["committed"]), moment(batch["triggered"])),
        ("trigger to land's start", moment(batch["triggered"]), moment(ingest["land"]["start_date"])),
        ("land", moment(ingest["land"]["start_date"]), moment(batch["batch"]["landed_at"])),
        ("to validate's verdict", moment(batch["batch"]["landed_at"]), accepted),
        ("rest of validate, announce", accepted, moment(ingest["announce"]["end_date"])),
        ("wake-up: announced to plan's start", moment(ingest["announce"]["end_date"]), moment(task["plan"]["start_date"])),
        ("plan", moment(task["plan"]["start_date"]), moment(task["plan"]["end_date"])),
        ("start of the workers", moment(task["plan"]["end_date"]), first),
        ("training to the first release", first, min(released)),
        ("first to last release", min(released), max(released)),
    ]
    states = [row["state"] for row in batch["attempts"]]
    return {
        "accepted_to_live": max(released) - accepted,
        "accepted_to_first": min(released) - accepted,
        "committed_to_live": max(released) - moment(batch["committed"]),
        "published": len(released),
        "looked_at": len(states),
        "skipped": states.count("skipped"),
        "steps": {name: end - start for name, start, end in steps},
    }


def middle(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians of every figure; of the wall, its lowest and highest, too."""
    walls = [made["wall"] for made in summaries]
    return {**_middle(summaries), "walls": walls, "wall_low": min(walls), "wall_high": max(walls)}


def _middle(found: list[Any]) -> Any:
    first = found[0]
    if isinstance(first, dict):
        names = list(dict.fromkeys(name for each in found for name in each))
        return {name: _middle([each[name] for each in found if name in each]) for name in names}
    return first if isinstance(first, bool | str) else median(found)


def overhead(costs: Mapping[str, Any], bare: Mapping[str, Any], kind: str) -> dict[str, float]:
    """CPU milliseconds of a cell beyond fit and predict, by the product's worker; the refit apart."""
    spent, parts = costs[kind], costs[kind]["parts"]
    refit = parts.get("refit", 0.0)
    predict = bare["cpu_parts"][kind]["predict"] if not refit else bare["cpu_parts"][kind]["predict"] / 2
    own = spent["cpu"] - parts["fit"] - refit - predict
    return {
        "fit": 1000 * parts["fit"],
        "predict": 1000 * predict,
        "refit": 1000 * refit,
        "beyond": 1000 * own,
        "database": 1000 * spent["database_cpu"],
    }
