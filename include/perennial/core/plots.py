"""Plots as PNG bytes."""

import io
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure

from perennial.core.hindsight import ALWAYS, JUDGED, NEVER, SERVED, WAYS, History

COLOURS = {NEVER: "#8a8a8a", JUDGED: "#9cc4e4", ALWAYS: "#e0a030", SERVED: "#1f6fb4"}
STYLES = {NEVER: ":", JUDGED: "--", ALWAYS: "-", SERVED: "-"}
PANEL = (4.2, 2.6)


def error_over_time(histories: Sequence[History], columns: int = 3) -> bytes:
    """A PNG with a panel for each cell that has a champion, the busiest of each model: errors, and releases marked."""
    rows = _busiest(histories, columns)
    figure = Figure(figsize=(PANEL[0] * columns, PANEL[1] * max(len(rows), 1) + 0.5), layout="constrained")
    panels = figure.subplots(max(len(rows), 1), columns, squeeze=False)
    for axes_of_row, cells in zip(panels, rows, strict=False):
        for axes, history in zip(axes_of_row, cells, strict=False):
            _draw(axes, history)
    for axes in panels.flat:
        axes.set_visible(axes.has_data())
    handles = {label: handle for axes in panels.flat for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside upper center", ncols=len(handles) or 1, frameon=False)
    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=110)
    return written.getvalue()


def _busiest(histories: Sequence[History], columns: int) -> list[list[History]]:
    models = list(dict.fromkeys(history.cell.model for history in histories if history.stretches))
    return [
        sorted((h for h in histories if h.cell.model == model and h.stretches), key=lambda h: -h.rows)[:columns]
        for model in models
    ]


def _draw(axes: Axes, history: History) -> None:
    middles = [stretch.start + (stretch.end - stretch.start) / 2 for stretch in history.stretches]
    for way in WAYS:
        axes.plot(middles, history.errors(way), STYLES[way], color=COLOURS[way], label=WAYS[way], marker=".", markersize=4)  # type: ignore[arg-type]
    low, high = axes.get_ylim()
    axes.set_ylim(low - 0.08 * (high - low), high)
    floor = [axes.get_ylim()[0]] * len(history.released)
    axes.plot(history.released, floor, "^", color=COLOURS[SERVED], label="release", clip_on=False, markersize=5)  # type: ignore[arg-type]
    ratio = history.ratio(SERVED)
    axes.set_title(f"{history.cell}: {ratio:.2f} × never" if ratio else str(history.cell), fontsize=10)
    axes.set_ylabel(history.metric, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.25)
    locator = AutoDateLocator(minticks=3, maxticks=6)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))  # type: ignore[no-untyped-call]
