"""An estimator that is rude."""

from toy_models.zoo._unmannerly import Rude


def estimator():
    return Rude()
