"""An estimator that is tidy."""

from toy_models.zoo._unmannerly import Tidy


def estimator():
    return Tidy()
