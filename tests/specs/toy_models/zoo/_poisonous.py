"""An estimator that is poisonous."""

from toy_models.zoo._sick import Poisonous


def estimator():
    return Poisonous()
