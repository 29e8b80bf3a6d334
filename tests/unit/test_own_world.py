"""A cell's world is its own: what is set inside is as before afterwards, whatever ended it."""

import gc
import locale
import logging
import os
import random
import sys
import warnings
from contextlib import nullcontext

import numpy as np
import pandas as pd
import pytest
import sklearn

from perennial.shell.own_world import own_world


def settings():
    return {
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "sklearn": sklearn.get_config(),
        "warnings": list(warnings.filters),
        "errors": np.geterr(),
        "pandas": (pd.get_option("display.max_rows"), pd.get_option("mode.string_storage")),
        "print": np.get_printoptions(),
        "random": (random.getstate(), np.random.get_state()[1].tolist()),
        "limit": sys.getrecursionlimit(),
        "gc": gc.isenabled(),
        "locale": locale.setlocale(locale.LC_ALL),
        "logging": (logging.root.level, logging.root.manager.disable),
    }


def be_rude():
    os.environ["PERENNIAL_RUDE"] = "yes"
    os.environ.pop("PATH")
    os.environ["HOME"] = "/nowhere"
    os.chdir("/")
    sklearn.set_config(transform_output="pandas", assume_finite=True)
    warnings.simplefilter("error")
    np.seterr(all="raise")
    pd.set_option("display.max_rows", 3, "mode.string_storage", "python")
    np.set_printoptions(precision=1)
    random.seed(1)
    np.random.seed(1)
    sys.setrecursionlimit(sys.getrecursionlimit() + 1000)
    gc.disable()
    locale.setlocale(locale.LC_ALL, "C")
    logging.disable(logging.CRITICAL)
    logging.root.setLevel(logging.CRITICAL)


@pytest.mark.parametrize("error", [None, ValueError, SystemExit])
def test_what_is_set_inside_is_as_before_afterwards(tmp_path, monkeypatch, error):
    monkeypatch.chdir(tmp_path)
    before = settings()
    expected = pytest.raises(error) if error is not None else nullcontext()
    with expected, own_world():
        be_rude()
        assert {name for name, value in settings().items() if value == before[name]} <= {"locale"}
        if error is not None:
            raise error
    assert settings() == before
