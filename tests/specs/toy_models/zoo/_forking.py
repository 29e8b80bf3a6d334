"""An estimator that forks and does not end the copy."""

from toy_models.zoo._unmannerly import Forking


def estimator():
    return Forking()
