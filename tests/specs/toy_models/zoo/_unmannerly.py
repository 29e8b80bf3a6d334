"""Estimators that do to the process they are fitted in what they should not, and one that minds it."""

import os
import random
import sys
import warnings

import numpy as np
import pandas as pd
import sklearn
from sklearn.linear_model import Ridge


class Rude(Ridge):
    """Sets much of what can be set for the whole process."""

    def fit(self, features, target):
        fitted = super().fit(features, target)
        sklearn.set_config(transform_output="pandas")
        warnings.simplefilter("error")
        np.seterr(over="raise")
        pd.set_option("display.max_rows", 3)
        sys.setrecursionlimit(sys.getrecursionlimit() + 1000)
        os.environ["PERENNIAL_RUDE"] = "yes"
        random.seed(1)
        return fitted


class Tidy(Ridge):
    """Fits only where nothing of that is set."""

    def fit(self, features, target):
        is_set = sklearn.get_config()["transform_output"] != "default" or np.geterr()["over"] == "raise"
        is_set = is_set or pd.get_option("display.max_rows") == 3 or warnings.filters[0][0] == "error"
        if is_set or "PERENNIAL_RUDE" in os.environ:
            raise ValueError("This is another cell's world.")
        return super().fit(features, target)


class Forking(Ridge):
    """Forks while it is fitted, and returns from its fit twice."""

    def fit(self, features, target):
        fitted = super().fit(features, target)
        os.fork()
        return fitted


TRUSTED = tuple(f"toy_models.zoo._unmannerly.{name}" for name in ("Rude", "Tidy", "Forking"))
