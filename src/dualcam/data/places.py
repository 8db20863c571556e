"""Where files lie: annotations name them by ids, and people put them below folders of their own choice."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

_PROBES = 8


def find_prefix(root: Path, names: Sequence[str], candidates: Sequence[str]) -> str:
    """Return the candidate ("" or "folder/") below which most of a few of ``names`` are files.

    Only some names spread over all are looked for, not each. Without a hit the first candidate is returned, and the
    files are missing where they are opened.
    """
    if not names:
        return candidates[0]
    spread = np.unique(np.linspace(0, len(names) - 1, min(_PROBES, len(names))).astype(int))
    probes = [names[place] for place in spread]
    present = [candidate for candidate in dict.fromkeys(candidates) if (root / candidate).is_dir()]
    hits = {candidate: sum((root / (candidate + name)).is_file() for name in probes) for candidate in present}
    best = max(hits, key=hits.__getitem__, default=candidates[0])
    return best if hits.get(best) else candidates[0]


def find_home(root: Path, names: Sequence[str], wanted: str) -> Path | None:
    """Return ``root`` or its first subfolder of ``names`` in which ``wanted`` exists."""
    homes = [root, *(root / name for name in names)]
    return next((home for home in homes if (home / wanted).exists()), None)
