"""`dualcam describe`: what dualcam finds in a classifier."""

from dualcam.cli.options import ModelOptions, open_model


def describe(options: ModelOptions = ModelOptions()) -> int:  # noqa: B008  - frozen
    """Say what was found in a classifier: head, activations, input, the laws and methods that hold."""
    print(open_model(options).describe())
    return 0


COMMAND = describe
