"""Which schedules are taken, held against the library that Airflow reads them with."""

import pytest
from croniter import croniter
from hypothesis import given
from hypothesis import strategies as st

from perennial.schedules import PRESETS, is_schedule

NUMBERS = st.integers(0, 62).map(str)
VALUES = NUMBERS | st.sampled_from(["jan", "dec", "sun", "fri", "xyz", "l", "mon#1", "7#5", "?", ""])
RANGES = st.tuples(VALUES, VALUES).map("-".join)
AIRFLOWS_OWN = "@quarterly"
PARTS = st.just("*") | VALUES | RANGES
STEPPED = st.tuples(PARTS, NUMBERS).map("/".join)
FIELDS = st.lists(PARTS | STEPPED, min_size=1, max_size=3).map(",".join)
EXPRESSIONS = st.lists(st.just("*") | FIELDS, min_size=4, max_size=6).map(" ".join)


@pytest.mark.parametrize(
    "schedule",
    [
        *PRESETS, "*/5 * * * *", "17 3 * * *", "0 9-17 * * mon-fri", "0 0 1,15 jan-mar *", "0 0 29 2 *", "0 0 * * 7",
        "0 0 * * FRI-MON", "5/10 22-4 * * *", "0 0 l * *", "0 0 1,20-l/2 * *", "0 6 * * mon#1", "0 0 31 2 mon",
    ],
)  # fmt: skip
def test_a_schedule_that_airflow_can_follow_is_taken(schedule):
    assert is_schedule(schedule)
    if schedule != AIRFLOWS_OWN:
        croniter(schedule).get_next()


@pytest.mark.parametrize(
    "schedule",
    [
        "every day", "", "daily", "@every day", "* * * *", "* * * * * *", "60 * * * *", "0 24 * * *", "0 0 0 * *",
        "0 0 * 13 *", "0 0 * * 8", "*/0 * * * *", "1- * * * *", "1,,2 * * * *", "0\xa00 * * *", "٣ * * * *",
        "0 0 31 2,4 *", "0 0 15 * mon#1", "0 0 * * mon#1,tue", None, 5, b"* * * * *",
        "0 0 l-1 * *", "0 0 l-l/2 * *", "0 0 l/2 * *", "0 0 */l * *",
    ],
)  # fmt: skip
def test_what_is_no_schedule_or_never_comes_is_not_taken(schedule):
    assert not is_schedule(schedule)


@given(EXPRESSIONS)
def test_whatever_is_taken_airflows_library_can_follow(expression):
    if is_schedule(expression):
        croniter(expression).get_next()


@given(st.text(alphabet="0123456789*/-, lLmonfri#?@", max_size=20))
def test_no_text_is_taken_that_airflows_library_refuses(text):
    if is_schedule(text):
        croniter(text).get_next()
