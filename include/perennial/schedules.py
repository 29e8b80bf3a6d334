"""Cron expressions as Airflow reads them, checked without importing what it reads them with."""

import re
from collections.abc import Sequence

PRESETS = ("@hourly", "@daily", "@midnight", "@weekly", "@monthly", "@quarterly", "@yearly", "@annually")
MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
VALUE = r"[0-9]{1,2}|[a-z]{3}"
PART = re.compile(rf"(?:\*|({VALUE})(?:-({VALUE}))?)(?:/([0-9]{{1,2}}))?")
NTH_WEEKDAY = re.compile(rf"({VALUE})#[1-5]")
LAST_DAY = re.compile(r"(?<![^,])l(?![^,])|(?<=[0-9]-)l(?![^,/])")  # by itself, or the end of a range


def is_schedule(value: object) -> bool:
    """Whether a value is a preset, or five fields of a cron expression that names a day which will come.

    A field is ``*``, a number, a range or a list of those, with steps. Months and days of the week may be named,
    ``l`` is a month's last day, ``mon#1`` its first Monday.
    """
    if not isinstance(value, str) or not value.isascii():
        return False
    fields = value.lower().split()
    if value in PRESETS or len(fields) != 5:
        return value in PRESETS
    minutes, hours = _values(fields[0], 0, 59), _values(fields[1], 0, 23)
    return bool(minutes) and bool(hours) and _names_a_day(*fields[2:])


def _names_a_day(day: str, month: str, weekday: str) -> bool:
    months = _values(month, 1, 12, MONTHS, first=1)
    days = set(_values(LAST_DAY.sub("28", day), 1, 31))
    if not months or not days:
        return False
    if "#" in weekday:
        return day == "*" and all(_is_nth_weekday(part) for part in weekday.split(","))
    longest = max(LONGEST_MONTHS[number - 1] for number in months)
    return bool(_weekdays(weekday)) and (weekday != "*" or min(days) <= longest)


def _weekdays(field: str) -> set[int]:
    return _values(field, 0, 7, WEEKDAYS)


def _is_nth_weekday(part: str) -> bool:
    read = NTH_WEEKDAY.fullmatch(part)
    return read is not None and bool(_weekdays(read[1]))


def _values(field: str, least: int, most: int, names: Sequence[str] = (), first: int = 0) -> set[int]:
    """The numbers that a field names; none where it is no field."""
    found: set[int] = set()
    for part in field.split(","):
        values = _values_of_part(part, least, most, names, first)
        if not values:
            return set()
        found |= values
    return found


def _values_of_part(part: str, least: int, most: int, names: Sequence[str], first: int) -> set[int]:
    read = PART.fullmatch(part)
    if not read:
        return set()
    start, end, step = read.groups()
    steps = 1 if step is None else int(step)
    low = least if start is None else _number(start, names, first)
    high = most if start is None or (step and end is None) else _number(end or start, names, first)
    if not (least <= low <= most and least <= high <= most and 1 <= steps <= most):
        return set()
    if low <= high:
        return set(range(low, high + 1, steps))
    return {*range(low, most + 1), *range(least, high + 1)}  # over the end: fri-mon


def _number(text: str, names: Sequence[str], first: int) -> int:
    """A number or a name as a number; -1 where it is neither."""
    if text.isdigit():
        return int(text)
    return names.index(text) + first if text in names else -1
