"""What becomes one object: few objects in the end, each row written anew a few times, older ones first."""

import math
from collections import Counter

import numpy as np
import pytest

from perennial.core.compaction import BATCHES, FOOTER, LEAST, ROWS, SIZE, Piece, due, excluded

SMALL = 4_000


def batch(seq, rows=20, size=SMALL):
    return Piece(
        first_seq=seq, last_seq=seq, excluded=(), batches=1, rows=rows, size=size, object_key=f"lake/{seq}", sha256="s"
    )  # fmt: skip


def compaction(first, last, *out, rows=None, size=SMALL):
    number = last - first + 1 - len(out)
    rows = number * 20 if rows is None else rows
    return Piece(
        first_seq=first, last_seq=last, excluded=out, batches=number, rows=rows, size=size, object_key=f"{first}", sha256="s"
    )  # fmt: skip


def merged(pieces):
    return compaction(
        pieces[0].first_seq, pieces[-1].last_seq, *excluded(pieces), rows=sum(piece.rows for piece in pieces),
        size=sum(max(0, piece.size - FOOTER) for piece in pieces) + FOOTER,
    )  # fmt: skip


def compacted(pieces, written=None):
    """What a run makes of a ledger; ``written`` counts how often each batch was written anew."""
    while chosen := due(pieces):
        assert len(chosen) > 1
        first, last = pieces.index(chosen[0]), pieces.index(chosen[-1])
        one = merged(chosen)
        if written is not None:
            written.update(range(one.first_seq, one.last_seq + 1))
        pieces = [*pieces[:first], one, *pieces[last + 1 :]]
    return pieces


def ranges(pieces):
    return [(piece.first_seq, piece.last_seq) for piece in pieces]


def batches(first, last):
    return [batch(seq) for seq in range(first, last + 1)]


def test_a_few_batches_wait_for_more():
    assert due(batches(1, LEAST - 1)) == []
    assert ranges(due(batches(1, LEAST))) == ranges(batches(1, LEAST))


def test_a_backlog_is_written_once_in_objects_that_are_full():
    written = Counter()
    made = compacted(batches(1, 12_000), written)
    assert ranges(made) == [(1, BATCHES), (BATCHES + 1, 2 * BATCHES), (2 * BATCHES + 1, 12_000)]
    assert set(written.values()) == {1}


@pytest.mark.parametrize("at_once", [1, 4, 96, 1000])
def test_however_often_it_runs_few_objects_stay_and_each_row_is_written_anew_a_logarithm_of_times(at_once):
    written, pieces, most = Counter(), [], 0
    for seq in range(1, 12_001):
        pieces.append(batch(seq))
        if seq % at_once == 0:
            pieces = compacted(pieces, written)
            most = max(most, len([piece for piece in pieces if piece.batches > 1]))
    assert most <= 12_000 / BATCHES + math.log2(BATCHES / LEAST) + 1
    assert max(written.values()) <= math.log(BATCHES / LEAST, 1.5) + 1


def test_sizes_of_all_kinds_leave_objects_that_fall_by_halves():
    random, pieces, written = np.random.default_rng(0), [], Counter()
    for seq, rows in enumerate(np.exp(random.uniform(0, 12, 2000)).astype(int) + 1, start=1):
        pieces = compacted([*pieces, batch(seq, int(rows))], written)
    rest = [piece for piece in pieces if piece.batches > 1]
    assert all(piece.rows <= ROWS for piece in rest)
    assert len(rest) <= 3 * sum(piece.rows for piece in pieces) / ROWS + 10
    assert max(written.values()) < 20


def test_a_large_batch_stays_by_itself_and_what_is_before_it_does_not_wait():
    pieces = [*batches(1, 3), batch(4, rows=ROWS // 2), *batches(5, 8)]
    assert ranges(compacted(pieces)) == [(1, 3), (4, 4), (5, 5), (6, 6), (7, 7), (8, 8)]


def test_an_object_is_full_by_its_bytes_too():
    half = SIZE // 2 + FOOTER
    pieces = [compaction(1, 16, size=half + 2), *(batch(seq, size=SIZE // 32 + FOOTER) for seq in range(17, 17 + 20))]
    assert ranges(compacted(pieces)) == [(1, 16), (17, 36)]


def test_what_lies_between_compactions_is_put_together_however_little_it_is():
    pieces = [compaction(1, 64), batch(65), batch(67), compaction(68, 100)]
    assert ranges(due(pieces)) == [(65, 65), (67, 67)]
    assert due([compaction(1, 64), batch(65), compaction(66, 100)]) == []


def test_older_ones_come_first():
    pieces = [*batches(1, 40), compaction(41, 80), *batches(81, 120)]
    assert due(pieces)[0].first_seq == 1


def test_what_is_not_to_be_put_together_is_not():
    pieces = [compaction(1, 20), *batches(21, 60)]
    assert due(pieces)[0].first_seq == 1
    assert due(pieces, {21})[0].first_seq == 21
    assert ranges(due(batches(1, 30), {4})) == [(1, 1), (2, 2), (3, 3)]
    assert ranges(due(batches(1, 30), {2})) == ranges(batches(2, 30))


def test_excluded_are_the_batches_of_the_range_that_no_piece_holds():
    assert excluded([compaction(3, 9, 4, 8), batch(12), batch(13)]) == [4, 8, 10, 11]
