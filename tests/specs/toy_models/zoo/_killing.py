"""An estimator that is killing."""

from toy_models.zoo._sick import Killing


def estimator():
    return Killing()
