"""Values as a source has them, in the types of its spec; rows with a value that cannot be such are set apart.

A value becomes what was written or nothing: it is not rounded, not cut, and no text that looks like a number is guessed at.
Whole columns are converted at once; only where that fails are the values looked for that do not fit.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from perennial.shell.lake import TYPES, says_deleted
from perennial.spec import Column, Source

Flags = npt.NDArray[np.bool_]
Positions = npt.NDArray[np.int64]
Texts = dict[str, list[str | None]]
Wrong = dict[str, Positions]  # what is wrong, and with which values of a column

LONGEST_TEXT = 1 << 20  # bytes
SHOWN = 60
NO_VALUE = ("", "NA", "NaN", "nan", "NULL", "null")  # of files: what stands for a missing value in columns but texts
NEEDS = {
    "int64": "not a whole number",
    "float64": "not a number",
    "bool": "not true or false",
    "timestamp": "not a moment with its zone, such as 2026-01-31T10:00:00Z",
    "string": "not a text",
}
MISSING, NO_UTF8, NUL, INFINITE = "missing", "not in UTF-8", "with a NUL character", "infinite"
TOO_LONG = f"longer than {LONGEST_TEXT:,} bytes"
OUT_OF_TIME = "outside of the years 1 to 9999"
TOO_FINE = "finer than a microsecond"
LOOKS = {  # of texts that may be such values; others need not be tried one by one
    "int64": r"^-?0*[0-9]{1,19}$",
    "float64": r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$",
    "bool": r"^(?i:true|false|0|1)$",
    "timestamp": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}(:[0-9]{2}(:[0-9]{2}(\.[0-9]+)?)?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)$",
}
FINE_MOMENT = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9:]{8}\.[0-9]{6}[0-9]*[1-9][0-9]*(Z|[+-][0-9:]+)$"
FAR_MOMENT = r"^-?infinity$| BC$|^[0-9]{5,}-[0-9]{2}-[0-9]{2}[ T]"
NO_NUMBERS = r"^[+-]?(?i:nan|inf|infinity)$"
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}
FIRST_SECOND, END_SECOND = -62_135_596_800, 253_402_300_800  # since 1970: of the years 1 and 10000


class Deletion(NamedTuple):
    """The column that marks a row as deleted, and the columns whose values are asked of such a row all the same."""

    column: str
    asked: Sequence[str]


class Flaw(NamedTuple):
    """Why a row cannot be read: its kind, by which rows are counted, and a sentence's words about this row."""

    kind: str
    text: str


@dataclass(frozen=True, kw_only=True)
class Raw:
    """Rows as they were found, a column each as text, bytes or values of a file's own types.

    ``numbers``: of the rows in their file, from 1 on; None for a table's rows. ``broken``: by position, rows known to be
    unreadable as a whole; ``wrong``: by column, values known to be. ``as_found``: the texts of rows at some positions, where
    the columns lack what was found; ``shows``: what a reason says of a column's value at a position.
    """

    columns: Mapping[str, pa.Array]
    numbers: Positions | None = None
    broken: Mapping[int, Flaw] = field(default_factory=dict)
    wrong: Mapping[str, Wrong] = field(default_factory=dict)
    as_found: Callable[[Positions], Texts] | None = None
    shows: Callable[[str, int], str] | None = None

    @property
    def rows(self) -> int:
        """How many there are."""
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Rows in the spec's types, and the unreadable ones as texts, with the kinds of their flaws and a reason each.

    ``numbers`` and ``unreadable_numbers``: of the rows in their file, or their positions where they are of a table.
    """

    rows: pa.Table
    numbers: Positions
    unreadable: pa.Table
    unreadable_numbers: Positions
    kinds: list[list[str]]
    reasons: list[str]

    def only(self, rows: Flags, unreadable: Flags) -> "Reading":
        """The rows for which ``rows`` is true, and the unreadable ones for which ``unreadable`` is."""
        places = np.flatnonzero(unreadable)
        return Reading(
            rows=self.rows.filter(pa.array(rows)),
            numbers=self.numbers[rows],
            unreadable=self.unreadable.take(pa.array(places)),
            unreadable_numbers=self.unreadable_numbers[places],
            kinds=[self.kinds[place] for place in places],
            reasons=[self.reasons[place] for place in places],
        )


def only_rows(rows: pa.Table) -> Reading:
    """A reading of rows that can all be read."""
    texts = pa.table({name: pa.array([], pa.string()) for name in rows.column_names})
    return Reading(
        rows=rows, numbers=np.arange(rows.num_rows), unreadable=texts, unreadable_numbers=_none(), kinds=[], reasons=[]
    )


def reading(
    raw: Raw,
    columns: Sequence[Column],
    required: Sequence[str],
    no_value: Sequence[str] = (),
    deletion: Deletion | None = None,
) -> Reading:
    """The rows in the columns' types. ``required``: columns without which a row cannot be read; ``no_value``: texts that stand
    for a missing value in columns of other types than text. Rows that are marked by ``deletion`` are asked for no other values
    than those that say which row it is: the rest is missing where it cannot be read."""
    made: dict[str, pa.Array] = {}
    wrong: dict[str, Wrong] = {}
    is_whole = np.ones(raw.rows, dtype=bool)
    is_whole[list(raw.broken)] = False
    for column in columns:
        made[column.name], found = typed(raw.columns[column.name], column, no_value)
        found |= raw.wrong.get(column.name, {})
        if column.name in required and made[column.name].null_count:
            is_missing = made[column.name].is_null().to_numpy(zero_copy_only=False) & is_whole
            for positions in found.values():
                is_missing[positions] = False
            found[MISSING] = np.flatnonzero(is_missing)
        wrong[column.name] = {what: positions for what, positions in found.items() if len(positions)}

    if deletion is not None:
        wrong = _without_deleted(wrong, made[deletion.column], deletion)
    is_sound = is_whole.copy()
    for found in wrong.values():
        for positions in found.values():
            is_sound[positions] = False
    return _parted(raw, columns, made, wrong, is_sound)


def _without_deleted(wrong: Mapping[str, Wrong], mark: pa.Array, deletion: Deletion) -> dict[str, Wrong]:
    """What is wrong with the rows, but for what is not asked of those that are deleted."""
    stays = ~says_deleted(mark).to_numpy(zero_copy_only=False).astype(bool)
    left = {}
    for name, found in wrong.items():
        is_asked = np.ones_like(stays) if name in deletion.asked else stays
        left[name] = {what: positions[is_asked[positions]] for what, positions in found.items()}
    return left


def _parted(
    raw: Raw,
    columns: Sequence[Column],
    made: Mapping[str, pa.Array],
    wrong: Mapping[str, Wrong],
    is_sound: npt.NDArray[np.bool_],
) -> Reading:
    schema = pa.schema([(column.name, TYPES[column.type]) for column in columns])
    rows = pa.table([made[column.name] for column in columns], schema=schema)
    numbers = raw.numbers if raw.numbers is not None else np.arange(raw.rows)
    bad = np.flatnonzero(~is_sound)
    if len(bad):
        rows = rows.filter(pa.array(is_sound))
    texts = _texts(raw, columns, bad)
    flaws = _flaws(raw, texts, wrong, bad)
    return Reading(
        rows=rows, numbers=numbers[is_sound],
        unreadable=pa.table({name: pa.array(values, pa.string()) for name, values in texts.items()}),
        unreadable_numbers=numbers[bad],
        kinds=[list(dict.fromkeys(flaw.kind for flaw in each)) for each in flaws],
        reasons=[_reason(raw, place, each) for place, each in zip(bad.tolist(), flaws, strict=True)],
    )  # fmt: skip


def typed(values: pa.Array, column: Column, no_value: Sequence[str] = ()) -> tuple[pa.Array, Wrong]:
    """A column in its type, missing where a value cannot be of it, and the positions of those by what is wrong with them."""
    values, wrong = _as_text(values)
    is_text = pa.types.is_string(values.type)
    if is_text and no_value and column.type != "string":
        values = pc.if_else(pc.is_in(values, pa.array(no_value)), pa.scalar(None, pa.string()), values)
    made, found = TYPED[column.type](values) if is_text else _typed_values(values, column)
    found = {what: positions for what, positions in found.items() if len(positions)}
    if found:
        made = _without(made, np.concatenate([*found.values()]))
    return made, wrong | found


def _as_text(values: pa.Array) -> tuple[pa.Array, Wrong]:
    """Texts of whatever kind as plain strings, missing where they are no UTF-8; other values as they are."""
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    if pa.types.is_null(kind):
        return values.cast(pa.string()), {}
    if not _is_text(kind):
        return values, {}
    raw = values.cast(kind).cast(pa.binary())
    try:
        return raw.cast(pa.string()), {}
    except pa.ArrowInvalid:
        made, bad = _tried(raw, lambda part: part.cast(pa.string()), pa.string())
        return made, {NO_UTF8: bad}


def _is_text(kind: pa.DataType) -> bool:
    types = pa.types
    checks = (types.is_string, types.is_large_string, types.is_string_view, types.is_binary, types.is_large_binary)
    return any(check(kind) for check in checks)


def _strings(values: pa.Array) -> tuple[pa.Array, Wrong]:
    wrong: Wrong = {}
    lengths = pc.binary_length(values)
    if (pc.max(lengths).as_py() or 0) > LONGEST_TEXT:
        wrong[TOO_LONG] = _places(pc.greater(lengths, LONGEST_TEXT))
    if _holds_zero(values):
        wrong[NUL] = _places(pc.match_substring(values, "\0"))
    return values, wrong


def _holds_zero(values: pa.Array) -> bool:
    """Whether the bytes behind some texts hold a zero; those of further texts may be among them."""
    data = values.buffers()[2]
    return data is not None and not np.frombuffer(data, np.uint8).all()


def _ints(values: pa.Array) -> tuple[pa.Array, Wrong]:
    try:
        made, bad = values.cast(pa.int64()), _none()
    except pa.ArrowInvalid:
        plain = pc.replace_substring_regex(values, r"^(-?[0-9]+)\.0+$", r"\1")  # numeric(10, 2) has its whole numbers so
        made, bad = _tried(plain, lambda part: part.cast(pa.int64()), pa.int64(), LOOKS["int64"])
    hex_places = _places(pc.match_substring(values, "x", ignore_case=True))
    return made, {NEEDS["int64"]: np.union1d(bad, hex_places)}


def _floats(values: pa.Array) -> tuple[pa.Array, Wrong]:
    try:
        made, bad = values.cast(pa.float64()), _none()
    except pa.ArrowInvalid:
        looks = f"{LOOKS['float64']}|{NO_NUMBERS}"
        made, bad = _tried(values, lambda part: part.cast(pa.float64()), pa.float64(), looks)
    made, wrong = _finite(made)
    if made.null_count > values.null_count + len(bad):
        is_said = pc.match_substring_regex(values, NO_NUMBERS)
        odd = pc.and_(pc.is_null(made), pc.invert(is_said))  # such as nan(1)
        bad = np.union1d(bad, _places(odd))
    return made, {NEEDS["float64"]: bad, **wrong}


def _finite(made: pa.Array) -> tuple[pa.Array, Wrong]:
    """Numbers, where what is no number is missing; infinite ones are wrong."""
    is_nan = pc.is_nan(made)
    if pc.any(is_nan).as_py():
        made = pc.if_else(is_nan, pa.scalar(None, pa.float64()), made)
    return made, {INFINITE: _places(pc.is_inf(made))}


def _bools(values: pa.Array) -> tuple[pa.Array, Wrong]:
    made, bad = _tried(values, lambda part: part.cast(pa.bool_()), pa.bool_(), LOOKS["bool"])
    return made, {NEEDS["bool"]: bad}


def _moments(values: pa.Array) -> tuple[pa.Array, Wrong]:
    kind = TYPES["timestamp"]
    plain = values
    try:
        made, bad = values.cast(kind), _none()
    except pa.ArrowInvalid:
        plain = pc.replace_substring_regex(values, r"(\.[0-9]{6})0+", r"\1")
        made, bad = _tried(plain, lambda part: part.cast(kind), kind, LOOKS["timestamp"])
    fine = bad[_match(values, bad, FINE_MOMENT)]
    far = bad[_match(values, bad, FAR_MOMENT)]
    rest = np.setdiff1d(bad, np.union1d(fine, far))
    return made, {OUT_OF_TIME: np.union1d(far, _out_of_time(made)), TOO_FINE: fine, NEEDS["timestamp"]: rest}


def _match(values: pa.Array, places: Positions, pattern: str) -> npt.NDArray[np.bool_]:
    """Which of the texts at some places match."""
    matches: npt.NDArray[np.bool_] = pc.match_substring_regex(values.take(pa.array(places)), pattern).to_numpy(
        zero_copy_only=False
    )
    return matches


TYPED: dict[str, Callable[[pa.Array], tuple[pa.Array, Wrong]]] = {
    "string": _strings, "int64": _ints, "float64": _floats, "bool": _bools, "timestamp": _moments,
}  # fmt: skip


def _typed_values(values: pa.Array, column: Column) -> tuple[pa.Array, Wrong]:
    """Values of a file's own type, such as Parquet's, in the spec's."""
    wrong: Wrong = {}
    if pa.types.is_timestamp(values.type) and values.type.unit == "ns":
        wrong[TOO_FINE] = _places(pc.not_equal(_remainder(values.cast(pa.int64()), 1_000), 0))
        values = _without(values, wrong[TOO_FINE])
    made, bad = _tried(values, lambda part: part.cast(TYPES[column.type]), TYPES[column.type])
    if column.type == "timestamp":
        wrong |= {OUT_OF_TIME: np.union1d(_out_of_time(made), bad)}
    else:
        wrong |= {NEEDS[column.type]: bad}
    if column.type == "float64":
        made, infinite = _finite(made)
        wrong |= infinite
    return made, wrong


def _remainder(values: pa.Array, by: int) -> pa.Array:
    whole = pc.multiply(pc.divide(values, by), by)
    return pc.subtract(values, whole)


def _out_of_time(moments: pa.Array) -> Positions:
    """The moments that Python cannot hold: before the year 1 or after 9999, in UTC."""
    ticks = moments.cast(pa.int64())
    span = pc.min_max(ticks)
    first, end = FIRST_SECOND * PER_SECOND["us"], END_SECOND * PER_SECOND["us"]
    if span["min"].as_py() is None or (span["min"].as_py() >= first and span["max"].as_py() < end):
        return _none()
    return _places(pc.or_(pc.less(ticks, first), pc.greater_equal(ticks, end)))


def _tried(
    values: pa.Array, cast: Callable[[pa.Array], pa.Array], kind: pa.DataType, looks: str = ""
) -> tuple[pa.Array, Positions]:
    """Values as ``cast`` makes them, missing where it cannot, and the positions of those."""
    try:
        return cast(values), _none()
    except pa.ArrowInvalid:
        pass
    plausible = values
    if looks:
        plausible = pc.if_else(pc.match_substring_regex(values, looks), values, pa.scalar(None, values.type))
    made = pa.concat_arrays([*_pieces(plausible, cast, kind)])
    return made, np.flatnonzero(_is_null(made) & ~_is_null(values))


def _pieces(values: pa.Array, cast: Callable[[pa.Array], pa.Array], kind: pa.DataType) -> Iterator[pa.Array]:
    """Halved where they fail, down to the single values that do."""
    try:
        yield cast(values)
        return
    except pa.ArrowInvalid:
        pass
    if len(values) == 1:
        yield pa.nulls(1, kind)
        return
    half = len(values) // 2
    yield from _pieces(values.slice(0, half), cast, kind)
    yield from _pieces(values.slice(half), cast, kind)


def _without(values: pa.Array, places: Positions) -> pa.Array:
    """The values, missing at some places."""
    if not len(places):
        return values
    stays = np.ones(len(values), dtype=bool)
    stays[places] = False
    return pc.if_else(pa.array(stays), values, pa.scalar(None, values.type))


def _places(is_so: pa.Array) -> Positions:
    if not pc.any(is_so).as_py():
        return _none()
    return np.flatnonzero(is_so.fill_null(False).to_numpy(zero_copy_only=False))


def _none() -> Positions:
    return np.empty(0, dtype=np.int64)


def _is_null(values: pa.Array) -> npt.NDArray[np.bool_]:
    nulls: npt.NDArray[np.bool_] = values.is_null().to_numpy(zero_copy_only=False)
    return nulls


def _texts(raw: Raw, columns: Sequence[Column], places: Positions) -> Texts:
    if raw.as_found is not None and len(places):
        return raw.as_found(places)
    return {column.name: _as_written(raw.columns[column.name].take(pa.array(places))) for column in columns}


def _as_written(values: pa.Array) -> list[str | None]:
    """Values as texts; bytes that are no UTF-8 as escapes, and no more of a text than may be read."""
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if _is_text(values.type):
        return [None if each is None else as_text(each) for each in values.cast(pa.binary()).to_pylist()]
    if pa.types.is_timestamp(values.type):
        return _moments_as_written(values)
    texts: list[str | None] = values.cast(pa.string()).to_pylist()
    return texts


def _moments_as_written(values: pa.Array) -> list[str | None]:
    """Moments with their zone; as a number of units since 1970 where no calendar has them."""
    unit = values.type.unit
    ticks = values.cast(pa.int64()).to_pylist()
    texts = values.cast(pa.timestamp(unit, tz="UTC")).cast(pa.string()).to_pylist()
    first, end = FIRST_SECOND * PER_SECOND[unit], END_SECOND * PER_SECOND[unit]
    return [
        text if tick is None or first <= tick < end else f"{tick} {unit} since 1970"
        for tick, text in zip(ticks, texts, strict=True)
    ]


def as_text(value: bytes) -> str:
    """Bytes as a text that can be kept: what is no UTF-8 as escapes, and not more than may be read."""
    return value[:LONGEST_TEXT].decode(errors="backslashreplace")


def _flaws(raw: Raw, texts: Texts, wrong: Mapping[str, Wrong], bad: Positions) -> list[list[Flaw]]:
    """The flaws of each unreadable row, column by column."""
    place_of = {int(place): number for number, place in enumerate(bad)}
    flaws: list[list[Flaw]] = [[] for _ in bad]
    for place, flaw in raw.broken.items():
        flaws[place_of[place]].append(flaw)
    for name, found in wrong.items():
        for what, positions in found.items():
            for place in positions.tolist():
                row = place_of[place]
                value = raw.shows(name, place) if raw.shows else _shown_value(raw.columns[name], texts[name][row])
                flaws[row].append(_flaw(name, what, value))
    return flaws


def _shown_value(values: pa.Array, text: str | None) -> str:
    kind = values.type.value_type if pa.types.is_dictionary(values.type) else values.type
    return ascii(text) if _is_text(kind) else str(text)


def _flaw(name: str, what: str, value: str) -> Flaw:
    says_all = what in (MISSING, INFINITE, TOO_LONG)  # without the value, which is none or too long to be shown
    return Flaw(f"{name}: {what}", f"{name} is {what}" if says_all else f"{name} is {shown(value)}, {what}")


def _reason(raw: Raw, place: int, flaws: Sequence[Flaw]) -> str:
    said = "; ".join(flaw.text for flaw in flaws)
    return f"{said}." if raw.numbers is None or place in raw.broken else f"In row {raw.numbers[place]}, {said}."


def shown(text: str, length: int = SHOWN) -> str:
    """The beginning of a text, in signs that can be printed."""
    printable = "".join(sign if sign.isprintable() else "�" for sign in text[:length])
    return printable if len(text) <= length else f"{printable}…"


def required_columns(source: Source, columns: Sequence[Column]) -> list[str]:
    """The columns without which a row says neither which it is nor when it was."""
    needed = {*source.key, source.event_time}
    return [column.name for column in columns if column.name in needed or not column.nullable]


def deletion_of(source: Source) -> Deletion | None:
    """How a source marks deleted rows; None where it does not."""
    asked = (*source.key, source.event_time, source.changed_at, source.country, source.deleted)
    return Deletion(source.deleted, asked) if source.deleted else None


def typed_texts(texts: pa.Table, source: Source, names: Sequence[str]) -> dict[str, pa.Array]:
    """Some columns of rows that are kept as texts in their types, missing where they cannot be."""
    of = {column.name: column for column in source.columns}
    return {name: typed(texts[name].combine_chunks(), of[name])[0] for name in names}
