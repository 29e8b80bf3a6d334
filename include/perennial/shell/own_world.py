"""A world of its own for each cell: what a recipe sets for its whole process is as before when the next cell begins."""

import gc
import locale
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pandas as pd
import sklearn


@contextmanager
def own_world() -> Iterator[None]:
    """Whatever is set inside for the whole process, in the places named here, is taken back."""
    kept = [(put_back, read()) for read, put_back in PLACES]
    try:
        with warnings.catch_warnings(), np.errstate():
            yield
    finally:
        for put_back, before in kept:
            put_back(before)


def _set_environment(before: dict[str, str]) -> None:
    for name in os.environ.keys() - before.keys():
        del os.environ[name]
    os.environ.update({name: value for name, value in before.items() if os.environ.get(name) != value})


def _pandas_options() -> dict[str, Any]:
    return dict(_flat(vars(pd.options)["d"]))


def _flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _set_pandas_options(before: dict[str, Any]) -> None:
    now = _pandas_options()
    for name, value in before.items():
        if now[name] != value:
            pd.set_option(name, value)


def _log_levels() -> tuple[int, int]:
    return logging.root.level, logging.root.manager.disable


def _set_log_levels(before: tuple[int, int]) -> None:
    logging.root.setLevel(before[0])
    logging.disable(before[1])


PLACES: tuple[tuple[Callable[[], Any], Callable[[Any], Any]], ...] = (
    (os.environ.copy, _set_environment),
    (os.getcwd, os.chdir),
    (sklearn.get_config, lambda before: sklearn.set_config(**before)),
    (_pandas_options, _set_pandas_options),
    (np.get_printoptions, lambda before: np.set_printoptions(**before)),
    (random.getstate, random.setstate),
    (np.random.get_state, np.random.set_state),
    (sys.getrecursionlimit, sys.setrecursionlimit),
    (gc.isenabled, lambda before: gc.enable() if before else gc.disable()),
    (lambda: locale.setlocale(locale.LC_ALL), lambda before: locale.setlocale(locale.LC_ALL, before)),
    (_log_levels, _set_log_levels),
)
