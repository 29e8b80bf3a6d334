"""What retraining was worth: errors pooled over stretches, and the plot of them."""

from datetime import UTC, datetime

import pytest

from perennial.cell import Cell
from perennial.core.hindsight import ALWAYS, JUDGED, NEVER, SERVED, History, Stretch
from perennial.core.plots import error_over_time
from perennial.spec import Days

START = datetime(2011, 1, 1, tzinfo=UTC)


def stretch(number, rows, never, served):
    losses = {NEVER: never, SERVED: served, JUDGED: served, ALWAYS: served}
    return Stretch(start=START + Days(number), end=START + Days(number + 1), rows=rows, losses=losses)


def history(*stretches, cell=("price", "GB"), metric="rmse"):
    return History(cell=Cell(*cell), metric=metric, stretches=stretches, released=(START,))


def test_the_error_is_that_of_all_rows_and_not_the_mean_of_the_stretches():
    cell = history(stretch(0, 100, 1.0, 1.0), stretch(1, 300, 9.0, 4.0))
    assert cell.error(NEVER) == pytest.approx(((100 * 1.0 + 300 * 9.0) / 400) ** 0.5)
    assert cell.errors(SERVED) == [1.0, 2.0]


def test_a_ratio_below_one_says_that_retraining_paid():
    assert history(stretch(0, 10, 4.0, 1.0)).ratio(SERVED) == pytest.approx(0.5)
    assert history(stretch(0, 10, 4.0, 1.0), metric="mae").ratio(SERVED) == pytest.approx(0.25)


def test_a_cell_without_a_champion_has_no_ratio():
    assert (history().ratio(SERVED), history().error(NEVER), history().rows) == (None, None, 0)


def test_the_plot_is_a_picture_with_a_panel_for_the_busiest_cells_of_each_model():
    cells = [
        history(stretch(0, rows, 4.0, 1.0), stretch(1, rows, 5.0, 2.0), cell=("price", f"C{rows}")) for rows in range(1, 6)
    ]
    picture = error_over_time([*cells, history(cell=("price", "AU")), history(stretch(0, 5, 1, 1), cell=("units", "GB"))])
    assert picture.startswith(b"\x89PNG")
    assert len(picture) > 10_000


def test_a_fleet_without_any_champion_gives_an_empty_plot():
    assert error_over_time([history()]).startswith(b"\x89PNG")
