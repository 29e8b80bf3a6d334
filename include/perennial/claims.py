"""What can be claimed of any value whatever, without an error: the words in which specs look for their faults."""

import math
import re
import reprlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")
PATH_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,62}")
IDENTIFIER_BYTES = 63  # of a name in PostgreSQL: a longer one is cut, and may then be another's
LONGEST_SPAN = timedelta(days=36_525)


def is_name(value: object) -> bool:
    """A name of a fleet, model or source: lower case, digits and _."""
    return isinstance(value, str) and NAME.fullmatch(value) is not None


def is_text(value: object) -> bool:
    """A text that says something and that PostgreSQL and UTF-8 can hold."""
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value and _is_unicode(value)


def is_identifier(value: object) -> bool:
    """A name that a column or table of PostgreSQL can have."""
    return is_text(value) and len(str(value).encode()) <= IDENTIFIER_BYTES


def is_table(value: object) -> bool:
    """A table's name, with its schema before a dot or without."""
    if not isinstance(value, str):
        return False
    parts = value.split(".")
    return len(parts) <= 2 and all(is_identifier(part) for part in parts)


def is_path_segment(value: object) -> bool:
    """What can name one file or folder and nothing outside of the one that it lies in."""
    return isinstance(value, str) and PATH_SEGMENT.fullmatch(value) is not None


def is_number(value: object) -> bool:
    """A finite number; a bool is none."""
    is_real = isinstance(value, int | float) and not isinstance(value, bool)
    return is_real and math.isfinite(_as_float(value))


def is_number_in(value: Any, least: float, most: float = math.inf) -> bool:
    """A finite number in [least, most]."""
    return is_number(value) and bool(least <= value <= most)


def is_count(value: object, least: int = 0) -> bool:
    """A whole number of at least ``least`` that a database can hold."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    return is_whole and is_number_in(value, least, 2**31 - 1)


def is_span(value: object) -> bool:
    """A span of time longer than none."""
    return isinstance(value, timedelta) and value > timedelta(0)


def is_lag(value: object) -> bool:
    """A span of time, or none."""
    return isinstance(value, timedelta) and value >= timedelta(0)


def is_short_enough(value: object) -> bool:
    """Whatever is no span longer than a calendar bears."""
    return not isinstance(value, timedelta) or value <= LONGEST_SPAN


def is_aware(value: object) -> bool:
    """A timestamp with its zone."""
    return isinstance(value, datetime) and value.utcoffset() is not None


def is_pattern(value: object) -> bool:
    """A regular expression."""
    if not isinstance(value, str):
        return False
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def matches(pattern: object, value: object) -> bool:
    """Whether the whole of a text is as a regular expression says."""
    return isinstance(pattern, str) and isinstance(value, str) and re.fullmatch(pattern, value) is not None


def is_tuple_of(value: object, kind: type) -> bool:
    """A tuple with items of a type only."""
    return isinstance(value, tuple) and all(isinstance(item, kind) for item in value)


def is_mapping_to(value: object, kind: type) -> bool:
    """A mapping to values of a type only."""
    return isinstance(value, Mapping) and all(isinstance(item, kind) for item in value.values())


def shown(value: object) -> str:
    """A value as a message shows it: as it is written in Python, short."""
    return _SHORT.repr(value)


def _is_unicode(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _as_float(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 80
