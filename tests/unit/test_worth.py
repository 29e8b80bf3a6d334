"""What a replay prints of itself: the table of what retraining was worth, a cycle in a line."""

import io
from datetime import UTC, datetime
from types import SimpleNamespace

from rich.console import Console

from embedded import replay, worth
from perennial.cell import Cell
from perennial.core.hindsight import ALWAYS, JUDGED, NEVER, SERVED, History, Stretch
from perennial.spec import Days

START = datetime(2011, 1, 1, tzinfo=UTC)


def printed(what) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(what)
    return console.file.getvalue()


def history():
    losses = {NEVER: 4.0, SERVED: 1.0, JUDGED: 2.25, ALWAYS: 1.21}
    stretch = Stretch(start=START, end=START + Days(30), rows=1234, losses=losses)
    return History(
        cell=Cell("price", "GB"), metric="rmse", stretches=(stretch,), released=(START,),
        outcomes={"published": 1, "inconclusive": 3}, last_reason="Not inferior within 1.0%.",
    )  # fmt: skip


def test_the_table_has_each_ways_error_as_a_ratio_to_never_retraining():
    line = next(line for line in printed(worth.table([history()])).splitlines() if "price/GB" in line)
    assert [part.strip() for part in line.split("│")[2:-2]] == [
        "1,234",
        "2.0000",
        "0.500",
        "0.750",
        "0.550",
        "1",
        "",
        "3",
        "",
        "",
    ]


def test_a_cell_without_a_champion_has_its_reason_and_no_figures():
    cell = History(cell=Cell("price", "AU"), metric="rmse", outcomes={"inconclusive": 2}, last_reason="Too few rows.")
    line = next(line for line in printed(worth.table([cell])).splitlines() if "price/AU" in line)
    assert [part.strip() for part in line.split("│")[2:-1]] == ["", "", "", "", "", "", "", "2", "", "", "Too few rows."]


def test_the_figures_hold_the_ratios_and_all_they_come_from():
    figures = worth._figures(history())
    assert (figures["cell"], figures["served_ratio"], figures["judged_error"]) == ("price/GB", 0.5, 1.5)
    assert figures["stretches"][0]["rows"] == 1234


def test_a_cycle_is_told_in_a_line():
    outcomes = [SimpleNamespace(state=state) for state in ("published", "kept", "published")]
    line = replay.summary(replay.Cycle(run_id="shop/1", state="success", outcomes=outcomes, seconds=31.4))
    assert "2 published" in line
    assert "1 kept" in line
    assert "31 s from the world's commit" in line
    assert "nothing was due" in replay.summary(replay.Cycle(run_id="shop/2", state="success", outcomes=[], seconds=1))
