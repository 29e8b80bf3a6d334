"""Target 2."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_2")


target_2 = model_of("target_2", examples)
