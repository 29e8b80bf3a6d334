"""Work in a process of its own, so that what ends that process ends nothing else, and what never ends can be ended.

The one place that knows how: training and validation hand in what is to be done, and are told how it ended.
"""

import multiprocessing
import signal
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any

from perennial.errors import PerennialError, Refused, RegistryError, RegistryLost, StoreLost, Unreachable
from perennial.shell.forks import Fork
from perennial.shell.lifeline import LOST, lifeline

POLL_SECONDS = 0.2
FAREWELL_SECONDS = 10
DONE, FAILED = "done", "failed"
FACT, LIMIT = "fact", "limit"
LOSSES: dict[str, type[Unreachable]] = {"lost registry": RegistryLost, "lost store": StoreLost}
ERRORS: dict[str, type[PerennialError]] = {  # of those that an error is, the first
    "refused": Refused,
    **LOSSES,
    "registry": RegistryError,
    FAILED: PerennialError,
}


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a child says to its parent while it works."""

    pipe: Pipe

    def tell(self, fact: Any) -> None:
        """Hand over something that stays known if the child ends early."""
        self.pipe.send((FACT, fact))

    def limit(self, seconds: float) -> None:
        """From now on the child may take so many seconds until it says so again, or is done."""
        self.pipe.send((LIMIT, seconds))


@dataclass(frozen=True, kw_only=True)
class Ended:
    """How a child ended. ``answer``: its last word, None where it had none; ``is_overdue``: it was ended at its limit."""

    pid: int | None
    exit_code: int | None
    answer: tuple[str, Any] | None
    is_overdue: bool

    @property
    def was_stopped(self) -> bool:
        """Whether somebody told it to stop, who will not have it replaced."""
        return self.exit_code in (-signal.SIGTERM, 128 + signal.SIGTERM) and self.answer is None

    @property
    def lost(self) -> Unreachable | None:
        """What it ended for because that went away, registry or store; None for any other end."""
        if self.answer is None:
            return RegistryLost("Perennial's database went away.") if self.exit_code == LOST else None
        kind, said = self.answer
        return LOSSES[kind](said) if kind in LOSSES else None

    @property
    def is_done(self) -> bool:
        """Whether its work has returned."""
        return self.answer is not None and self.answer[0] == DONE

    def result(self) -> Any:
        """What its work returned. Raises Refused, RegistryError or PerennialError where the work raised."""
        if self.answer is None:
            raise PerennialError(f"The process ended with code {self.exit_code} without a word.")
        kind, value = self.answer
        if kind != DONE:
            raise ERRORS[kind](value)
        return value

    def __str__(self) -> str:
        if self.is_overdue:
            return "it met its time limit"
        if self.exit_code is not None and self.exit_code < 0:
            return f"its process was ended by {signal.Signals(-self.exit_code).name}"
        return f"its process ended with code {self.exit_code}"


def in_child(
    work: Callable[[Line], Any],
    *,
    orphaned: str,
    on_stop: Any = signal.SIG_DFL,
    hear: Callable[[Any], None] = lambda fact: None,
    seconds: float | None = None,
) -> Ended:
    """Do some work in a fork of this process; returns how that ended, whatever ended it.

    ``orphaned``: the child's last word when this process goes away; ``on_stop``: its handler of SIGTERM; ``hear`` gets each
    fact it tells; ``seconds``: its limit until it names another one, None for none.
    """
    ours, theirs = multiprocessing.Pipe()
    process = Fork(lambda: _main(theirs, ours, work, orphaned, on_stop))
    theirs.close()
    try:
        answer, is_overdue = _listen(ours, process, hear, seconds)
        if not is_overdue:
            process.join(FAREWELL_SECONDS)
    finally:
        ours.close()
        process.kill()
    return Ended(pid=process.pid, exit_code=process.exit_code, answer=answer, is_overdue=is_overdue)


def _listen(
    pipe: Pipe, process: Fork, hear: Callable[[Any], None], seconds: float | None
) -> tuple[tuple[str, Any] | None, bool]:
    """The child's last word, None when it has ended without one; and whether its limit has passed before."""
    deadline = _deadline(seconds)
    while time.monotonic() < deadline:
        if not pipe.poll(POLL_SECONDS):
            if process.exit_code is None or pipe.poll():
                continue
            return None, False
        try:
            kind, value = pipe.recv()
        except (EOFError, OSError):
            return None, False
        if kind == FACT:
            hear(value)
        elif kind == LIMIT:
            deadline = _deadline(value)
        else:
            return (kind, value), False
    return None, True


def _deadline(seconds: float | None) -> float:
    return float("inf") if seconds is None else time.monotonic() + seconds


def _main(pipe: Pipe, parents: Pipe, work: Callable[[Line], Any], orphaned: str, on_stop: Any) -> None:
    parents.close()
    signal.signal(signal.SIGTERM, on_stop)
    with lifeline(pipe.fileno(), orphaned):
        pipe.send(_answer(work, Line(pipe=pipe)))


def _answer(work: Callable[[Line], Any], line: Line) -> tuple[str, Any]:
    try:
        return DONE, work(line)
    except PerennialError as error:
        return next(kind for kind, one in ERRORS.items() if isinstance(error, one)), str(error)
    except Exception:
        return FAILED, traceback.format_exc()
