"""An estimator that can be held amidst a fit, and while the verifier loads what was stored of it."""

import multiprocessing
import time

from toy_models.zoo._waiting import Waiting, folder


class Patient(Waiting):
    """Waits amidst its fit, and when it is loaded by the verifier, the one daemon among the processes that load it."""

    def __setstate__(self, state):
        super().__setstate__(state)
        loader = multiprocessing.current_process()
        if loader.daemon and gate().exists():
            (folder() / "loading").write_text(str(loader.pid))
            while gate().exists():
                time.sleep(0.02)


def gate():
    """While this file is there, the verifier waits."""
    return folder() / "hold-loading"


def loading():
    """The verifier that waits, None when there is none."""
    file = folder() / "loading"
    return int(file.read_text() or 0) or None if file.exists() else None
