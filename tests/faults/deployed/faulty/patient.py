"""An estimator that can be held during a fit, and while the verifier loads what was stored of it."""

import os
import time
import traceback

from toy_models.zoo._waiting import Waiting, folder


class Patient(Waiting):
    """Waits during its fit, and when it is loaded by the verifier."""

    def __setstate__(self, state):
        super().__setstate__(state)
        if is_verifier() and gate().exists():
            (folder() / "loading").write_text(str(os.getpid()))
            while gate().exists():
                time.sleep(0.02)


def is_verifier():
    """Whether this process serves as a verifier."""
    names = ((frame.f_globals.get("__name__"), frame.f_code.co_name) for frame, _ in traceback.walk_stack(None))
    return ("perennial.steps.verifier", "_serve") in names


def gate():
    """While this file is there, the verifier waits."""
    return folder() / "hold-loading"


def loading():
    """The verifier that waits, None when there is none."""
    file = folder() / "loading"
    return int(file.read_text() or 0) or None if file.exists() else None
