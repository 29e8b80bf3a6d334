"""Run both parts and keep the figures: ``make bench-scale``."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from machine import machine

HERE = Path(__file__).parent
RESULTS = HERE.parent / "results"
COLOURS = {"tasks_cpu_ms": "#1f6fb4", "registry_cpu_ms": "#e0a030", "airflow_cpu_ms": "#8a8a8a"}
NAMES = {"tasks_cpu_ms": "tasks", "registry_cpu_ms": "PostgreSQL", "airflow_cpu_ms": "Airflow's own processes"}


def main() -> None:
    """Measure, print, and write JSON and plot to ``benchmarks/results``."""
    parser = argparse.ArgumentParser(prog="bench-scale")
    parser.add_argument(
        "--cells", type=int, nargs="*", default=[200, 1000, 5000], help="cycles of how many cells, 6,200 in all"
    )
    parser.add_argument("--outcomes", type=int, default=1_000_000, help="how long the registry's past is")
    arguments = parser.parse_args()
    _use_own_specs()
    from scale.cycles import cycles
    from scale.registry import compare

    console = Console(highlight=False, width=160)
    figures: dict[str, Any] = {"machine": machine()}
    if arguments.outcomes:
        figures["registry"] = compare(arguments.outcomes)
        console.print(_registry_table(figures["registry"]))
    if arguments.cells:
        figures["cycles"] = cycles(tuple(arguments.cells), lambda fact: console.print(fact, style="dim"))
        console.print(_cycles_table(figures["cycles"]))
        _plot(figures["cycles"])
    kept = json.loads((RESULTS / "scale.json").read_text()) if (RESULTS / "scale.json").exists() else {}
    (RESULTS / "scale.json").write_text(json.dumps({**kept, **figures}, indent=2) + "\n")


def _use_own_specs() -> None:
    specs = str(HERE / "specs")
    sys.path.insert(0, specs)
    os.environ |= {"PERENNIAL_MODELS": "scale_models", "PERENNIAL_SOURCES": "scale_sources", "PYTHONPATH": specs}


def _registry_table(found: dict[str, Any]) -> Table:
    table = Table("per cell", "empty", f"{found['outcomes']:,} outcomes", "ratio", title="Registry", title_justify="left")
    for name, empty in found["empty"].items():
        table.add_row(name, f"{empty:.2f}", f"{found['long'][name]:.2f}", f"{found['long'][name] / empty:.2f}")
    return table


def _cycles_table(made: list[dict[str, Any]]) -> Table:
    table = Table("", *(f"{cycle['cells']:,} cells" for cycle in made), title="Cycles", title_justify="left")
    for name in made[0]:
        table.add_row(name, *(str(cycle[name]) for cycle in made))
    return table


def _plot(made: list[dict[str, Any]]) -> None:
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    sizes, below = [f"{cycle['cells']:,}" for cycle in made], [0.0] * len(made)
    for name, colour in COLOURS.items():
        heights = [cycle[name] for cycle in made]
        left.bar(sizes, heights, bottom=below, color=colour, label=NAMES[name])
        below = [low + height for low, height in zip(below, heights, strict=True)]
    left.set(ylabel="CPU ms per cell", xlabel="cells in the cycle")
    left.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3)
    for name, style in (("loop_median_ms", "o-"), ("loop_max_ms", "^--")):
        right.plot(sizes, [cycle[name] for cycle in made], style, color="#1f6fb4", label=name.split("_")[1])
    right.axhline(1000, color="#8a8a8a", linestyle=":")
    right.set(ylabel="scheduler loop, ms", xlabel="cells in the cycle", yscale="log")
    right.legend(frameon=False, fontsize=8)
    figure.savefig(RESULTS / "scale.png", dpi=110)


if __name__ == "__main__":
    main()
