"""Target 4."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_4")


target_4 = model_of("target_4", examples)
