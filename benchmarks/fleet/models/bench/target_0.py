"""Target 0."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_0")


target_0 = model_of("target_0", examples)
