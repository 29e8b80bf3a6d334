"""An estimator that is failing."""

from toy_models.zoo._sick import Failing


def estimator():
    return Failing()
