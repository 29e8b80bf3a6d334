"""The verifier: another process that loads a stored artifact as a reader would, and predicts sample rows with it.

A published artifact that crashes its reader must not crash the trainer, and must not be published. What the reader answers is
read as JSON: nothing that comes from an artifact is unpickled by the process that holds the signing key.
"""

import json
import multiprocessing
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from types import TracebackType

import numpy as np
import pandas as pd

from perennial.core.metrics import METRICS, Floats, predict
from perennial.errors import ArtifactError, StoreLost
from perennial.failures import reason_of
from perennial.recipe import Frozen
from perennial.resources import Resources
from perennial.shell.forks import Fork, end_unless
from perennial.shell.keys import read_public_keys
from perennial.shell.lifeline import lifeline
from perennial.steps.manifests import ManifestRef, load_fits

TIMEOUT_SECONDS = 120
TOLERANCE = 1e-9
FAREWELL, FAREWELL_SECONDS = None, 5
LONGEST_ANSWER = 256 << 20  # bytes

Answer = dict[str, Floats] | str | StoreLost  # predictions of each fit, why there are none, or that nobody could look


@dataclass(frozen=True, kw_only=True)
class Task:
    """What the process is asked to load, and to predict where there is a sample."""

    manifest: ManifestRef
    trusted: tuple[str, ...]
    metric: str = ""
    sample: pd.DataFrame | None = None
    frozen: Frozen | None = None
    is_trial: bool = False


class Verifier:
    """One verifier process per worker, forked before the worker trains anything; started again after a crash."""

    def __init__(self, resources: Resources) -> None:
        self.resources, self.owner = resources, os.getpid()
        self.start()

    def start(self) -> None:
        """Fork the process."""
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = Fork(lambda: _serve(theirs, self.pipe, self.resources))
        theirs.close()

    def __enter__(self) -> "Verifier":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with suppress(OSError):
            self.pipe.send(FAREWELL)
        self.process.join(FAREWELL_SECONDS)
        self.process.kill()
        self.pipe.close()

    def verify(
        self,
        manifest: ManifestRef,
        trusted: tuple[str, ...],
        metric: str,
        sample: pd.DataFrame,
        expected: dict[str, Floats],
        frozen: Frozen | None = None,
    ) -> None:
        """Raise ArtifactError unless the process reads the same predictions out of the store, StoreLost while that is away."""
        answer = self._ask(Task(manifest=manifest, trusted=trusted, metric=metric, sample=sample, frozen=frozen))
        cell = manifest.cell
        if isinstance(answer, str):
            raise ArtifactError(f"The stored artifact of {cell} failed its verification: {answer}")
        for which, predicted in answer.items():
            if not np.allclose(predicted, expected[which], rtol=TOLERANCE, atol=TOLERANCE, equal_nan=False):
                raise ArtifactError(f"The stored {which} fit of {cell} does not predict what the fit in memory predicts.")

    def predictions(
        self,
        manifest: ManifestRef,
        trusted: tuple[str, ...],
        metric: str,
        features: pd.DataFrame,
        frozen: Frozen | None = None,
    ) -> dict[str, Floats]:
        """What both fits of a version predict here, whichever scikit-learn has fitted them. Raises ArtifactError."""
        task = Task(manifest=manifest, trusted=trusted, metric=metric, sample=features, frozen=frozen, is_trial=True)
        answer = self._ask(task)
        if isinstance(answer, str):
            raise ArtifactError(answer)
        return answer

    def load(self, manifest: ManifestRef, trusted: tuple[str, ...], frozen: Frozen | None = None) -> None:
        """Raise ArtifactError unless the process can load both fits."""
        answer = self._ask(Task(manifest=manifest, trusted=trusted, frozen=frozen))
        if isinstance(answer, str):
            raise ArtifactError(f"The stored artifact of {manifest.cell} cannot be loaded: {answer}")

    def _ask(self, task: Task) -> dict[str, Floats] | str:
        end_unless(self.owner)
        try:
            self.pipe.send(task)
            if not self.pipe.poll(TIMEOUT_SECONDS):
                raise ArtifactError(f"The verifier did not answer for {task.manifest.cell} within {TIMEOUT_SECONDS} s.")
            answer = decode_answer(self.pipe.recv_bytes(LONGEST_ANSWER))
        except (EOFError, OSError, ValueError) as error:
            self.process.join(1)
            code = self._restart()
            raise ArtifactError(f"The stored artifact of {task.manifest.cell} broke its reader (exit code {code}).") from error
        except BaseException:
            self._restart()  # or the answer that is still to come would be taken for the next question's
            raise
        if isinstance(answer, StoreLost):
            raise answer
        return answer

    def _restart(self) -> int | None:
        code = self.process.kill()
        self.pipe.close()
        self.start()
        return code


def encode_answer(answer: Answer) -> bytes:
    """What the process says, as JSON: it has loaded what may have been tampered with, and is believed to be data alone."""
    if isinstance(answer, StoreLost):
        return json.dumps([str(answer)]).encode()
    said = answer if isinstance(answer, str) else {which: values.tolist() for which, values in answer.items()}
    return json.dumps(said).encode()


def decode_answer(data: bytes) -> Answer:
    """Predictions of each fit, of shape (n_rows,), a sentence, or that the store is away. Raises ValueError otherwise."""
    said = json.loads(data)
    if isinstance(said, str):
        return said
    if isinstance(said, list) and len(said) == 1 and isinstance(said[0], str):
        return StoreLost(said[0])
    if not isinstance(said, dict):
        raise ValueError("neither predictions nor a sentence")
    return {which: np.asarray(values, dtype=np.float64) for which, values in said.items()}


def _serve(pipe: Pipe, theirs: Pipe, resources: Resources) -> None:
    theirs.close()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with lifeline(pipe.fileno(), "The training has gone, and its verifier with it."):
            while (task := pipe.recv()) != FAREWELL:
                pipe.send_bytes(encode_answer(_answer(resources, task)))
    except (EOFError, OSError, KeyboardInterrupt):
        os._exit(0)


def _answer(resources: Resources, task: Task) -> Answer:
    try:
        keys = read_public_keys(resources.public_keys)
        fits = load_fits(resources.store, keys, task.manifest, task.trusted, task.frozen, task.is_trial)
        if task.sample is None:
            return {}
        metric, name = METRICS[task.metric], str(task.manifest.cell)
        return {which: predict(fitted, task.sample, metric, name) for which, fitted in fits.items()}
    except StoreLost as error:
        return error
    except Exception as error:
        return reason_of(error)
