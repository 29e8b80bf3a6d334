"""An estimator that ends, starves or blocks its process on each attempt, in each country in another way."""

import ctypes
import os
import resource
import signal
import time
from pathlib import Path

import numpy as np
from sklearn.linear_model import Ridge

HEADROOM = 256 * 2**20


class Sick(Ridge):
    """Cannot be fitted: see SICKNESSES."""

    def fit(self, features, target):
        SICKNESSES[int(features["cell"].iloc[0])]()


def segfault():
    """Reads where there is no memory."""
    ctypes.string_at(0)


def starve():
    """Takes all the memory there is, of which a limit of its own leaves little; that of the machine is left alone."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + HEADROOM, hard))
    hoard = []
    try:
        while True:
            hoard.append(np.ones(2**20))
    finally:
        del hoard
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def starve_and_be_killed():
    """Takes all the memory there is, and is killed for it: by itself, as the kernel does it."""
    try:
        starve()
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)


def hang():
    """Comes to no end."""
    time.sleep(600)


def hang_deaf():
    """Comes to no end, and hears no signal: waits for itself, and never gives the interpreter back."""
    library, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
    for _ in range(2):
        library.pthread_mutex_lock(mutex)


SICKNESSES = {1: segfault, 2: starve, 3: starve_and_be_killed, 4: hang, 5: hang_deaf}
