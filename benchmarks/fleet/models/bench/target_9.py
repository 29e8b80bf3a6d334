"""Target 9."""

from fleet.models.bench._target import labelled, model_of


def examples(rows, as_of):
    """One example per reading."""
    return labelled(rows, "target_9")


target_9 = model_of("target_9", examples)
