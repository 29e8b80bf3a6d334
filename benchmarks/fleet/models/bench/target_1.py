"""Target 1."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_1")


target_1 = model_of("target_1", examples)
