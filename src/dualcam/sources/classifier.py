"""Classifiers that `dualcam train-classifier` trained: ``classifier:DIRECTORY``, or the directory itself."""

from pathlib import Path

from dualcam.classifier.checkpoint import load_classifier
from dualcam.sources import Classifier, LoadOptions

PREFIX = "classifier"


def load(name: str, options: LoadOptions) -> Classifier:
    """Load the classifier in the directory ``name``; it brings its own weights. Raises `CheckpointError`."""
    del options
    return load_classifier(Path(name).expanduser())
