"""What is said of an error."""

import pandas as pd
import pytest
from toy_models.zoo import _sick
from toy_models.zoo.weight import features

from perennial.core.findings import could_not_run
from perennial.failures import MOST_TRACE, cut, reason_of, text_of, trace_of


def raised(work):
    with pytest.raises(Exception) as info:  # noqa: PT011
        work()
    # As a worker sees it: without the frames of what called the fleet's code.
    return info.value.with_traceback(info.value.__traceback__.tb_next.tb_next)


def test_an_error_names_the_deepest_place_in_the_teams_code():
    error = raised(lambda: features(pd.DataFrame({"height": [1]})))
    line = features.__code__.co_firstlineno
    said, _, place = reason_of(error).rpartition(" in ")
    assert "length" in said
    assert place.startswith("features, specs/toy_models/zoo/weight.py:")
    assert 0 < int(place.rpartition(":")[2]) - line < 10


def test_an_error_that_another_was_made_of_keeps_its_place():
    def wrapped():
        _sick.Failing().fit(None, None)

    cause = raised(wrapped)
    error = KeyError("loyalty_tier")
    error.__cause__ = cause
    place = "in Failing.fit, specs/toy_models/zoo/_sick.py:"
    assert reason_of(error).startswith(f"KeyError: 'loyalty_tier' {place}")


def test_an_error_outside_of_the_teams_code_has_no_place():
    assert reason_of(ValueError("Stop.")) == "ValueError: Stop."


def test_errors_that_go_round_in_a_circle_are_told():
    error = ValueError("Round.")
    error.__cause__ = KeyError("x")
    error.__cause__.__cause__ = error
    assert reason_of(error) == "ValueError: Round."


@pytest.mark.parametrize(("text", "kept"), [("a\0b", "a�b"), ("a\udc80b", "a?b"), ("Größe", "Größe")])
def test_what_no_database_takes_is_replaced(text, kept):
    assert text_of(ValueError(text)) == f"ValueError: {kept}"
    assert kept in could_not_run(ValueError(text)).reason


def test_a_long_text_keeps_both_ends():
    text = cut("a" * 3_000 + "b" * 1_000_000 + "c" * 3_000, 4_000)
    assert text.startswith("aaa")
    assert text.endswith("ccc")
    assert "[... 1,00" in text
    assert len(text) < 4_100
    assert len(trace_of(ValueError("x" * 10**7))) < MOST_TRACE + 100


def test_an_error_that_cannot_say_what_it_is_about_is_told():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError

    assert text_of(Mute()) == "Mute: (it cannot say what)"
