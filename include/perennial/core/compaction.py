"""Which objects of a country's ledger become one: a log-structured merge.

Small batches are put together once there are enough of them, older ones first, and with them the compactions before them that
are not more than twice as large. So sizes fall by halves towards the newest, a country has few objects, and a row is written
anew once for each time that its object grows by half: the logarithm of how often a source is ingested.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

LEAST = 16  # so many batches are worth an object; fewer wait for more
BATCHES, ROWS, SIZE = 4096, 1_000_000, 64 << 20  # what fills an object
FOOTER = 16 << 10  # bytes that a file has beside its rows
HALF = 0.5


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What holds the rows of batches ``first_seq`` to ``last_seq`` without ``excluded``: one batch, or a compaction."""

    first_seq: int
    last_seq: int
    excluded: tuple[int, ...]
    batches: int
    rows: int
    size: int
    object_key: str
    sha256: str

    @property
    def fullness(self) -> float:
        """Its share of what fills an object."""
        return max(self.batches / BATCHES, self.rows / ROWS, (self.size - FOOTER) / SIZE)

    @property
    def is_loose(self) -> bool:
        """Whether it is a batch that is small enough to be put together with others."""
        return self.batches == 1 and self.fullness < HALF


def due(pieces: Sequence[Piece], breaks: Collection[int] = ()) -> Sequence[Piece]:
    """The oldest pieces that are to become one; none where nothing is due. ``pieces``: a country's, in their order.

    ``breaks``: the first numbers of pieces that must not be put together with those before them.
    """
    for start, end in _stretches(pieces, breaks):
        if end - start >= LEAST or (end < len(pieces) and end - start > 1):
            stop, fullness = _filling(pieces, start, end)
            return pieces[_absorbing(pieces, start, fullness, breaks) : stop]
    return []


def excluded(pieces: Sequence[Piece]) -> list[int]:
    """The batches in the range of some pieces that none of them holds."""
    between = [seq for left, right in pairwise(pieces) for seq in range(left.last_seq + 1, right.first_seq)]
    return sorted([*between, *(seq for piece in pieces for seq in piece.excluded)])


def _stretches(pieces: Sequence[Piece], breaks: Collection[int]) -> Iterator[tuple[int, int]]:
    """Where loose batches stand beside each other, from where to where."""
    start = 0
    for end in range(len(pieces) + 1):
        if end == len(pieces) or not pieces[end].is_loose or pieces[end].first_seq in breaks:
            if end > start:
                yield start, end
            start = end if end < len(pieces) and pieces[end].is_loose else end + 1


def _filling(pieces: Sequence[Piece], start: int, end: int) -> tuple[int, float]:
    """Up to where a stretch fills one object, and how full."""
    fullness, stop = 0.0, start
    while stop < end and fullness + pieces[stop].fullness <= 1:
        fullness += pieces[stop].fullness
        stop += 1
    return stop, fullness


def _absorbing(pieces: Sequence[Piece], start: int, fullness: float, breaks: Collection[int]) -> int:
    """From where on the compactions before a stretch are written anew with it."""
    while start > 0 and pieces[start].first_seq not in breaks:
        before = pieces[start - 1]
        if before.batches == 1 or before.fullness > 2 * fullness or before.fullness + fullness > 1:
            break
        fullness += before.fullness
        start -= 1
    return start
