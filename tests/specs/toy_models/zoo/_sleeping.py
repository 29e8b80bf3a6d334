"""An estimator that is sleeping."""

from toy_models.zoo._sick import Sleeping


def estimator():
    return Sleeping()
