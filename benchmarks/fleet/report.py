"""The benchmark's tables, plot and JSON."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fleet.figures import fresh_summary, middle, overhead, summary
from fleet.plot import bars

DAY = 86_400
NAMES = {
    "bare": "(a) bare loop",
    "naive": "(a′) naive script",
    "textbook": "(b) textbook DAG",
    "perennial": "(c) Perennial",
}
DOES = (
    ("rows by ledger, hash of each batch checked", "yes", "–", "–", "yes"),
    ("revisions of a row become one row", "yes", "–", "–", "yes"),
    ("champion loaded, signature and hash checked", "yes", "–", "–", "yes"),
    ("compared by", "paired bootstrap, three gates", "two numbers", "two numbers", "paired bootstrap, three gates"),
    ("artifact", "skops, signed manifest, pointer", "joblib", "joblib", "skops, signed manifest, pointer"),
    ("read back and tried by another process", "–", "–", "–", "yes"),
    ("refit, held against the judged fit", "with refit", "refit, unchecked", "–", "with refit"),
    ("registry: snapshot, version, verdict, outcome, release", "–", "–", "–", "yes"),
    ("lock per cell, conditional release", "–", "–", "–", "yes"),
    ("a failed cell is tried again, alone", "–", "–", "yes, by task", "yes"),
    ("a dead process costs", "the loop", "the loop", "its task", "its cell's attempt"),
)


def write(measured: Mapping[str, Any], folder: Path) -> str:
    """Write `fleet.json`, `fleet.md` and `fleet.png`; returns the text."""
    figures = _figures(measured)
    text = _text(figures)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "fleet.json").write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
    (folder / "fleet.md").write_text(text)
    (folder / "fleet.png").write_bytes(bars(figures["variants"], NAMES))
    return text


def _figures(measured: Mapping[str, Any]) -> dict[str, Any]:
    grouped: dict[str, list[Any]] = {}
    for run in measured["runs"]:
        if run["part"] in NAMES:
            grouped.setdefault(_key(run), []).append(summary(run, measured["cells"], measured["workers"]))
    variants = {key: middle(found) for key, found in grouped.items()}
    return {
        **{name: measured[name] for name in ("machine", "cells", "workers")},
        "variants": variants,
        "ratios": _ratios(variants),
        "per_cell_cpu_ms": _per_cell(measured, variants),
        "fresh": _fresh(measured.get("fresh", [])),
        "verdicts_per_day": {
            key: round(measured["cells"] / made["wall"] * DAY) for key, made in variants.items() if made["part"] == "perennial"
        },
    }


def _key(run: Mapping[str, Any]) -> str:
    return f"{run['part']}{' refit' if run['refit'] else ''}"


def _ratios(variants: Mapping[str, Any]) -> dict[str, float]:
    pairs = (
        ("perennial", "bare"), ("perennial refit", "bare refit"), ("perennial", "naive"), ("perennial refit", "naive refit"),
        ("textbook", "perennial"),
    )  # fmt: skip
    return {
        f"{upper} ÷ {lower}": _ratio(variants[upper]["walls"], variants[lower]["walls"])
        for upper, lower in pairs
        if upper in variants and lower in variants
    }


def _ratio(upper: list[float], lower: list[float]) -> float:
    """The median of the rounds' ratios: a machine that is slower in one round is so for both."""
    if len(upper) != len(lower):
        return float(np.median(upper) / np.median(lower))
    return float(np.median(np.divide(upper, lower)))


def _per_cell(measured: Mapping[str, Any], variants: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, list[Any]] = {}
    for run in measured["runs"]:
        bare = variants.get("bare refit" if run["refit"] else "bare")
        if run["part"] == "cells" and bare:
            for kind in ("kept", "published"):
                name = f"{kind}{', refitted' if run['refit'] and kind == 'published' else ''}"
                found.setdefault(name, []).append(overhead(run, bare, kind))
    return {kind: {name: float(np.median([each[name] for each in made])) for name in made[0]} for kind, made in found.items()}


def _fresh(batches: list[Any]) -> dict[str, Any]:
    made = [fresh_summary(batch) for batch in batches]
    moved = [each for each in made if each]
    if not moved:
        return {"batches": len(made), "moved": 0} if made else {}
    lives = [each["accepted_to_live"] for each in moved]
    steps = {name: float(np.median([each["steps"][name] for each in moved])) for name in moved[0]["steps"]}
    firsts = [each["accepted_to_first"] for each in moved]
    return {
        "batches": len(made), "moved": len(moved), "p50": float(np.percentile(lives, 50)),
        "p95": float(np.percentile(lives, 95)), "first_p95": float(np.percentile(firsts, 95)), "steps": steps,
        "published": float(np.median([each["published"] for each in moved])),
        "looked_at": float(np.median([each["looked_at"] for each in moved])),
    }  # fmt: skip


def _text(figures: Mapping[str, Any]) -> str:
    machine = figures["machine"]
    parts = [
        f"# One cycle of {figures['cells']} cells",
        "",
        "Each fit sees 50,000 rows of 15 columns, 100 boosted trees; half of the challengers win. "
        f"{figures['workers']} processes, one thread each, page cache warm. Medians over the rounds.",
        "",
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB, Python {machine['python']}, "
        f"scikit-learn {machine['scikit-learn']}, Airflow {machine['apache-airflow-core']}, {machine['date']}. "
        "`make bench` measures it again.",
        "",
        *_times(figures),
        *_targets(figures),
        *_does(),
        *_itemised(figures),
        *_cells(figures),
        *_fresh_text(figures),
        *_paces(figures),
    ]
    return "\n".join(parts) + "\n"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    lines = [list(heads), *(list(row) for row in rows)]
    rule = ["---"] + ["---:"] * (len(lines[0]) - 1)
    return [f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:])] + [""]


def _name(key: str) -> str:
    part, _, refit = key.partition(" ")
    return NAMES[part] + (", refit" if refit else "")


def _seconds(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"


def _times(figures: Mapping[str, Any]) -> list[str]:
    rows = [
        (
            _name(key), str(len(made["walls"])), _seconds(made["wall"]), f"{made['wall_low']:.1f}–{made['wall_high']:.1f}",
            f"{1000 * made['wall'] / figures['cells']:.0f}", _seconds(made["cpu"]),
            _seconds(made["others_cpu"]), f"{made['peak_pss']:.0f}",
            _seconds(made.get("live_p50")), _seconds(made.get("live_p95")), str(int(made.get("published", 0)) or "–"),
        )
        for key, made in figures["variants"].items()
    ]  # fmt: skip
    heads = (
        "variant",
        "rounds",
        "wall s",
        "lowest–highest",
        "ms a cell",
        "CPU s",
        "others' CPU s",
        "peak PSS MB",
        "live p50 s",
        "live p95 s",
        "published",
    )
    notes = [
        "Wall of (c): from the event that says the batches are accepted to the last cell's verdict or release, by Postgres.",
        "Of (a) and (a′): the loop, with the start of its two processes. CPU: all processes of the variant, children",
        "included; of (c) and (b) all of Airflow and PostgreSQL. Live: from the start to the cell's new champion.",
        "Others: what the machine did besides, meanwhile; where that is not little, the wall is longer than it need be.",
        "Ratios below are the medians of the rounds' ratios: the machine's own speed changes from round to round.",
    ]
    if "textbook" in figures["variants"]:
        number = int(figures["variants"]["textbook"]["measured_cells"])
        notes.append(f"(b) ran on {number} cells; its figures are scaled to {figures['cells']}.")
    return [*_table(heads, rows), *notes, ""]


def _targets(figures: Mapping[str, Any]) -> list[str]:
    ratios, cells, fresh = figures["ratios"], figures["per_cell_cpu_ms"], figures["fresh"]
    variants = figures["variants"]
    memory = {key: variants[key]["training_mb"] for key in ("perennial", "perennial refit") if key in variants}
    frame = next((variants[key]["frame_mb"] for key in ("bare", "bare refit") if key in variants), None)
    rows = [
        ("(c) ÷ (a)", ratios.get("perennial ÷ bare"), "≤ 1.15", 1.15),
        ("(c) ÷ (a), refit", ratios.get("perennial refit ÷ bare refit"), "≤ 1.15", 1.15),
        ("(c) ÷ (a′)", ratios.get("perennial ÷ naive"), "≤ 1.6", 1.6),
        ("(c) ÷ (a′), refit", ratios.get("perennial refit ÷ naive refit"), "≤ 1.6", 1.6),
        ("(b) ÷ (c)", ratios.get("textbook ÷ perennial"), "≥ 10", -10.0),
        *(
            (f"CPU ms beyond fit and predict, {kind}", found["beyond"], f"≤ {bound}", float(bound))
            for kind, found in cells.items()
            for bound in (100 if kind == "kept" else 200,)
        ),
        ("fresh batch, accepted → live, p95 s", fresh.get("p95"), "≤ 15", 15.0),
        *(
            (f"training process above its imports ÷ frame, {_name(key)}", value / frame, "≤ 4", 4.0)
            for key, value in memory.items()
            if frame
        ),
    ]
    shown = [
        (what, f"{value:.2f}", target, "yes" if (value <= bound if bound > 0 else value >= -bound) else "**no**")
        for what, value, target, bound in rows
        if value is not None
    ]
    return ["## Targets", "", *_table(("figure", "measured", "target", "met"), shown)]


def _does() -> list[str]:
    return ["## What each variant does", "", *_table(("", *NAMES.values()), DOES)]


def _itemised(figures: Mapping[str, Any]) -> list[str]:
    lines = ["## Where the wall goes", "", "Seconds of wall: what the processes spent, divided by their number.", ""]
    for key, made in figures["variants"].items():
        rows = [(name, f"{seconds:.2f}", f"{seconds / made['wall']:.0%}") for name, seconds in made["parts"].items()]
        lines += [f"### {_name(key)}", "", *_table(("part", "s", "share"), [row for row in rows if row[1] != "0.00"])]
        if "cpu_by_component" in made:
            spent = [(name, f"{seconds:.1f}") for name, seconds in made["cpu_by_component"].items()]
            lines += [*_table(("CPU seconds of", ""), spent)]
            lines += [f"The idle stack takes {1000 * made['idle_cpu_per_second']:.0f} ms of CPU a second.", ""]
    return lines


def _cells(figures: Mapping[str, Any]) -> list[str]:
    if not figures["per_cell_cpu_ms"]:
        return []
    rows = [
        (kind, *(f"{found[name]:.0f}" for name in ("fit", "predict", "refit", "beyond", "database")))
        for kind, found in figures["per_cell_cpu_ms"].items()
    ]
    heads = ("CPU ms of a cell", "fit", "predict", "refit", "beyond", "PostgreSQL's, besides")
    note = "The product's worker and verifier over cells of one kind, without Airflow."
    return ["## A cell's CPU", "", *_table(heads, rows), note, ""]


def _fresh_text(figures: Mapping[str, Any]) -> list[str]:
    fresh = figures["fresh"]
    if not fresh.get("moved"):
        return []
    rows = [(name, f"{seconds:.2f}") for name, seconds in fresh["steps"].items()]
    return [
        "## One fresh batch of one country, on an idle fleet", "",
        f"{fresh['batches']} batches, {fresh['moved']} of which moved champions ({fresh['published']:.0f} each; "
        f"{fresh['looked_at']:.0f} cells were looked at). Accepted → last champion live: p50 {fresh['p50']:.1f} s, "
        f"p95 {fresh['p95']:.1f} s; → first champion live: p95 {fresh['first_p95']:.1f} s.", "",
        *_table(("median seconds", ""), rows),
    ]  # fmt: skip


def _paces(figures: Mapping[str, Any]) -> list[str]:
    if not figures["verdicts_per_day"]:
        return []
    rows = [(f"{_name(key)}: verdicts", f"{number:,}") for key, number in figures["verdicts_per_day"].items()]
    rows += [("Etsy: deploys", "50"), ("Netflix: deploys", "thousands"), ("AWS: deploys, one every 11.7 s", "7,385")]
    return ["## A day at that pace", "", *_table(("", "a day"), rows)]
