"""How long a source may be silent, by its own past."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest

from perennial.core.rhythm import SHORTEST, Rhythm

MONDAY = datetime(2026, 6, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def rhythm_of(landings):
    """What is known of a source that has landed at these moments."""
    landings = sorted(landings)
    gaps = itertools.pairwise(landings)
    pauses = [(began, ended) for began, ended in gaps if ended - began >= SHORTEST]
    return Rhythm(first=landings[0], last=landings[-1], pauses=pauses)


def silent_after(rhythm):
    """For how long such a source is silent before that is too long, to the half hour."""
    length = HOUR / 2
    while not rhythm.is_silent(rhythm.last + length):
        length += HOUR / 2
    return length


def hours_of(weekdays, hours, weeks, until=MONDAY):
    """Each full hour of some hours of some days of the week, for some weeks before a Monday."""
    days = [until - number * DAY for number in range(1, 7 * weeks + 1)]
    return [day + hour * HOUR for day in days if day.weekday() in weekdays for hour in hours]


@pytest.mark.parametrize(
    ("every", "number", "expected"),
    [
        (timedelta(minutes=15), 6_000, 4.5 * HOUR),
        (DAY, 60, 1.5 * DAY),
        (7 * DAY, 12, 10.5 * DAY),
        (30 * DAY, 8, 45 * DAY),
        (91 * DAY, 5, 136.5 * DAY),
    ],
)
def test_a_regular_source_is_silent_once_half_as_long_again_has_passed(every, number, expected):
    found = silent_after(rhythm_of(MONDAY - count * every for count in range(number)))
    assert expected < found <= expected + HOUR


@pytest.mark.parametrize(("landings", "expected"), [(1, 46.5 * DAY), (2, 46.5 * DAY), (9, 10.5 * DAY), (20, 10.5 * DAY)])
def test_of_a_young_source_a_week_may_be_usual_and_at_its_very_start_a_month(landings, expected):
    found = silent_after(rhythm_of(MONDAY - number * DAY for number in range(landings)))
    assert expected < found <= expected + HOUR


def test_many_landings_in_a_day_do_not_make_a_source_old():
    found = silent_after(rhythm_of(MONDAY - number * timedelta(seconds=20) for number in range(500)))
    assert found > 46 * DAY


def test_nights_and_weekends_are_expected_where_they_were_silent_before():
    office = hours_of(range(5), range(8, 19), weeks=12)  # up to Friday, 18:00
    friday = rhythm_of(office)
    assert not friday.is_silent(MONDAY + 12 * HOUR)
    monday = rhythm_of([*office, MONDAY + 8 * HOUR, MONDAY + 9 * HOUR])
    assert silent_after(monday) == 5 * HOUR  # of the same day: the night has not begun
    evening = rhythm_of([*office, *(MONDAY + hour * HOUR for hour in range(8, 18))])
    assert 21 * HOUR < silent_after(evening) <= 22 * HOUR  # a night is 14 hours


def test_an_hour_earlier_or_later_is_no_reason_to_be_worried():
    office = hours_of(range(5), range(8, 19), weeks=12)
    early = [moment for moment in office if moment < MONDAY - 2 * DAY - 8 * HOUR]  # Friday, up to 15:00
    assert not rhythm_of(early).is_silent(MONDAY + 8 * HOUR)


def test_a_source_without_nights_is_missed_at_night():
    always = rhythm_of(hours_of(range(7), range(24), weeks=12))
    assert silent_after(always) == 5 * HOUR


def test_a_few_long_pauses_of_a_busy_source_make_it_no_slow_one():
    always = hours_of(range(7), range(24), weeks=30)
    paused = [each for each in always if each > MONDAY - 63 * DAY or each.day not in range(10, 15)]
    assert silent_after(rhythm_of(paused)) == 5 * HOUR


def test_a_slow_source_may_be_silent_as_long_as_it_was_lately_and_not_only_the_last_time():
    months = [datetime(2025, month, 1, tzinfo=UTC) for month in range(8, 13)]
    rhythm = rhythm_of([*months, *(datetime(2026, month, 1, tzinfo=UTC) for month in (1, 2, 3))])  # after a February
    assert 46 * DAY < silent_after(rhythm) < 47 * DAY


def test_a_pause_is_remembered_for_eight_weeks_at_its_hours():
    always = hours_of(range(7), range(24), weeks=30)  # up to Sunday, 23:00

    def with_a_pause(weeks_ago):
        monday = MONDAY - 7 * weeks_ago * DAY
        return rhythm_of(each for each in always if not monday - 20 * HOUR < each < monday + 4 * HOUR)

    assert silent_after(with_a_pause(8)) == 12.5 * HOUR  # eight hours of it, from three before the landing
    assert silent_after(with_a_pause(9)) == 5 * HOUR
