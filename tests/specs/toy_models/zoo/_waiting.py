"""An estimator that waits while a file is there, and tells when each fit begins and ends.

Both in the folder of PERENNIAL_TEST_FOLDER. That no two processes fit one cell at once is proven by a file lock per cell,
which the kernel frees when a process dies: not by the registry, whose word it is to check.
"""

import fcntl
import os
import time
from pathlib import Path
from typing import NamedTuple

from sklearn.linear_model import Ridge

TRUSTED = ("toy_models.zoo._waiting.Waiting",)


class Event(NamedTuple):
    """What a fit told: ``begin``, ``end``, or ``beside`` where another process was fitting the same cell."""

    what: str
    cell: str
    pid: int


class Waiting(Ridge):
    """Fits when it is let go."""

    def fit(self, features, target):
        cell = features["cell"].iloc[0] if "cell" in features else "one"
        with (folder() / f"lock-{cell}").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                _tell("beside", cell)
            _tell("begin", cell)
            while any((folder() / name).exists() for name in ("hold", f"hold-{cell}")):
                time.sleep(0.02)
            _tell("end", cell)
        return super().fit(features, target)


def estimator():
    return Waiting(alpha=1.0)


def folder():
    return Path(os.environ["PERENNIAL_TEST_FOLDER"])


def hold(cell=None):
    """From now on fits wait."""
    (folder() / (f"hold-{cell}" if cell else "hold")).touch()


def let_go():
    """Fits go on."""
    for file in folder().glob("hold*"):
        file.unlink()


def events(what):
    """Everything of a kind that fits have told."""
    log = folder() / "events"
    told = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [Event(kind, cell, int(pid)) for kind, cell, pid in told if kind == what]


def fits():
    """Every fit that has begun."""
    return events("begin")


def _tell(what, cell):
    handle = os.open(folder() / "events", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{what} {cell} {os.getpid()}\n".encode())
    os.close(handle)
