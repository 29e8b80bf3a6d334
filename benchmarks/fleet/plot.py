"""The benchmark's plot as PNG bytes."""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure

FLOOR = ("fit", "refit", "predict", "task train")
COLOURS = {"training": "#1f6fb4", "rest": "#e0a030"}


def bars(variants: Mapping[str, Any], names: Mapping[str, str]) -> bytes:
    """A bar for each variant's wall: fitting and predicting, and everything else; whiskers from lowest to highest."""
    keys = list(variants)[::-1]
    labels = [names[key.partition(" ")[0]] + (" + refit" if " " in key else "") for key in keys]
    walls = [variants[key]["wall"] for key in keys]
    training = [sum(variants[key]["parts"].get(part, 0.0) for part in FLOOR) for key in keys]
    spread = [[variants[key]["wall"] - variants[key]["wall_low"] for key in keys]]
    spread += [[variants[key]["wall_high"] - variants[key]["wall"] for key in keys]]
    figure = Figure(figsize=(8, 0.6 * len(keys) + 1.2), layout="constrained")
    axes = figure.subplots()
    axes.barh(labels, walls, color=COLOURS["rest"], label="everything else", xerr=spread, ecolor="#555555")
    axes.barh(labels, training, color=COLOURS["training"], label="fit and predict")
    for place, wall in enumerate(walls):
        axes.annotate(f" {wall:.0f} s", (wall, place), va="bottom", fontsize=9)
    axes.set_xlabel("seconds for one cycle (textbook DAG: its train task also reads and writes files)")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()
