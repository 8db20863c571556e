"""Training of the sigmoid branch: features once, then a solver on them, resumable and checked."""
