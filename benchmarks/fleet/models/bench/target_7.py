"""Target 7."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_7")


target_7 = model_of("target_7", examples)
