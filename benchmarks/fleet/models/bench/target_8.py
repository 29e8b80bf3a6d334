"""Target 8."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_8")


target_8 = model_of("target_8", examples)
