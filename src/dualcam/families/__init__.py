"""One file per family of structures: how to find the last spatial activations and the head behind them.

A family is a module with ``PRIORITY`` (lower is tried first) and ``find(probe, layer) -> Found | None``.
What it finds is proven by `dualcam.anatomy` before it is used, so a finder may guess.
"""
