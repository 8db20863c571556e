"""`dualcam explain`."""


def explain() -> int:
    """Explain photos."""
    return 0


COMMAND = explain
