"""Target 6."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_6")


target_6 = model_of("target_6", examples)
