"""What is said of an error: which it is and where in the team's code, as databases, logs and mails can take it."""

import traceback
from collections.abc import Iterator
from pathlib import PurePath
from types import FrameType

from perennial.recipe import is_deployed

MOST_REASON = 4_000
MOST_TRACE = 20_000


def plain(text: str) -> str:
    """A text without NUL and half characters: PostgreSQL keeps neither."""
    return text.replace("\0", "\ufffd").encode(errors="replace").decode()


def cut(text: str, most: int) -> str:
    """A text, its middle left out where it is longer than ``most``."""
    if len(text) <= most:
        return text
    head, tail = text[: most * 2 // 3], text[-(most // 3) :]
    return f"{head} [... {len(text) - len(head) - len(tail):,} characters ...] {tail}"


def text_of(error: BaseException) -> str:
    """Such as ``KeyError: 'loyalty_tier'``."""
    return plain(cut(f"{type(error).__name__}: {_said(error)}", MOST_REASON))


def reason_of(error: BaseException) -> str:
    """Such as ``KeyError: 'loyalty_tier' in examples, include/models/shop/price.py:31``.

    The place is the deepest one in the code of the deployed tree; an error that has passed none has
    no place.
    """
    place = next((place for each in _chain(error) if (place := _place(each))), "")
    said = text_of(error)
    return f"{said.rstrip('. ')} in {place}" if place else said


def trace_of(error: BaseException) -> str:
    """The whole traceback."""
    return plain(cut("".join(traceback.format_exception(error)), MOST_TRACE))


def _said(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:
        return "(it cannot say what)"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it came of."""
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _place(error: BaseException) -> str:
    steps = list(traceback.walk_tb(error.__traceback__))
    own = ((frame, line) for frame, line in reversed(steps) if is_deployed(_module(frame).partition(".")[0]))
    return next((f"{frame.f_code.co_qualname}, {_path(frame)}:{line}" for frame, line in own), "")


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _path(frame: FrameType) -> str:
    """A file as it stands in the tree, from the folder that its package lies in."""
    file = PurePath(frame.f_code.co_filename)
    depth = _module(frame).count(".") + 2 + (file.name == "__init__.py")
    return "/".join(file.parts[-depth:])
