"""The retail replay without a database: which revision of which line belongs to which step."""

import itertools
import lzma
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest

from sources.order_lines import order_lines
from worlds import retail

DAY = timedelta(days=1)
NOON = datetime(2011, 1, 1, 12, tzinfo=UTC)


@pytest.fixture
def lines() -> pd.DataFrame:
    """Lines 498 to 502, one a day; line 500 is the one that is mistyped at first."""
    made = pd.DataFrame({"line_id": range(498, 503), "quantity": 3, "price": 2.5})
    return made.assign(invoice_date=[NOON + number * DAY for number in range(5)])


def replay(lines: pd.DataFrame, moments: list[datetime]) -> list[tuple[int, int]]:
    """``(line_id, quantity)`` in the order in which the steps up to these moments write them."""
    starts = [None, *moments[:-1]]
    steps = [retail.revisions(lines, since, until) for since, until in zip(starts, moments, strict=True)]
    return [(row.line_id, row.quantity) for step in steps for part in step for row in part.itertuples()]


def test_a_mistyped_line_is_first_written_tenfold(lines):
    written, corrected = retail.revisions(lines, None, NOON + 3 * DAY)
    assert written.set_index("line_id")["quantity"].to_dict() == {498: 3, 499: 3, 500: 30}
    assert corrected.empty


def test_its_correction_comes_in_the_step_that_holds_the_moment_two_days_later(lines):
    written, corrected = retail.revisions(lines, NOON + 3 * DAY, NOON + 5 * DAY)
    assert written["line_id"].tolist() == [501, 502]
    assert corrected[["line_id", "quantity"]].to_numpy().tolist() == [[500, 3]]


def test_a_long_step_holds_both_revisions(lines):
    assert [len(part) for part in retail.revisions(lines, None, NOON + 10 * DAY)] == [5, 1]


def test_a_step_holds_its_start_and_not_its_end(lines):
    written, _ = retail.revisions(lines, NOON + DAY, NOON + 2 * DAY)
    assert written["line_id"].tolist() == [499]


@pytest.mark.parametrize("cuts", [[10], [3, 10], [1, 2, 3, 4, 5, 6, 10], [4, 4.5, 10]])
def test_however_the_time_is_cut_every_revision_is_written_once_and_in_order(lines, cuts):
    written = replay(lines, [NOON + cut * DAY for cut in cuts])
    assert sorted(written) == [(498, 3), (499, 3), (500, 3), (500, 30), (501, 3), (502, 3)]
    assert written.index((500, 30)) < written.index((500, 3))


def test_a_step_that_ends_where_it_starts_writes_nothing(lines):
    assert all(part.empty for part in retail.revisions(lines, NOON + 3 * DAY, NOON + 3 * DAY))


def test_writing_a_step_leaves_the_lines_as_they_were(lines):
    before = lines.copy()
    retail.revisions(lines, None, NOON + 10 * DAY)
    pd.testing.assert_frame_equal(lines, before)


def test_the_steps_are_a_year_of_history_and_then_twelve_months():
    moments = list(retail.steps())
    assert (moments[0], moments[1], moments[-1]) == tuple(
        datetime(year, month, 1, tzinfo=UTC) for year, month in ((2010, 12), (2011, 1), (2011, 12))
    )
    assert len(moments) == 13


def test_the_steps_may_be_weeks():
    moments = list(retail.steps(every="week"))
    assert {later - earlier for earlier, later in itertools.pairwise(moments)} == {7 * DAY}
    assert (moments[0], moments[-1]) == (retail.FIRST, datetime(2011, 11, 30, tzinfo=UTC))


def test_the_steps_may_start_later():
    assert next(retail.steps(datetime(2011, 6, 1, tzinfo=UTC))) == datetime(2011, 6, 1, tzinfo=UTC)


def test_the_source_declares_the_replayed_table_and_has_no_faults():
    assert {column.name for column in order_lines.columns} == {*retail.COLUMNS, "changed_at"}
    assert order_lines.faults() == []
    assert len(order_lines.countries) == 43


def test_a_line_id_is_the_place_in_the_file_though_the_lines_are_sorted(tmp_path: Path):
    header = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country\n"
    rows = [f"1,85048,LIGHTS,1,{date},2.5,,EIRE\n" for date in ("2/1/2010 9:00", "1/2/2010 8:05")]
    made = retail._parse(lzma.compress((header + "".join([*rows, rows[1]])).encode()))
    assert made["line_id"].tolist() == [2, 3, 1]
    assert made["invoice_date"].iloc[0] == datetime(2010, 1, 2, 8, 5, tzinfo=UTC)
