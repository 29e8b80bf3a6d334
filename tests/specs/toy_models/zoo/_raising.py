"""An estimator that is raising where it has seen nothing alike."""

from toy_models.zoo._unseeing import Raising


def estimator():
    return Raising()
