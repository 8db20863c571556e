"""Formats of annotation files: one file a format, found by listing this folder.

A format is a module with ``NAME``, ``OUTPUTS`` (the files and folders it writes) and ``write(export)``, which returns
the file to open. It passes over ``export.annotations`` as often as it likes, and keeps none of them.
"""

import importlib
import os
import pkgutil
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from dualcam.annotation import Annotation
from dualcam.annotation.settings import ExportSettings
from dualcam.errors import check_choice

LONGEST_STEM = 120
"""Bytes of a photo's name that a file made of it keeps; file systems allow 255, and suffixes come on top."""


@dataclass(frozen=True)
class Export:
    """What is written where: ``annotations`` can be iterated again, ``names`` [C] are the classes', all different."""

    folder: Path
    annotations: Iterable[Annotation]
    names: tuple[str, ...]
    settings: ExportSettings


class Stems:
    """Gives each photo a name for the files made of it, its own where possible; no two photos share one."""

    def __init__(self) -> None:
        self._owners: dict[str, str] = {}

    def stem_of(self, path: str) -> str:
        """Return the stem for the photo at the absolute ``path``: that of its name, or with a digest of the path."""
        stem = "".join("_" if unicodedata.category(letter) == "Cc" else letter for letter in Path(path).stem)
        short = os.fsencode(stem)[:LONGEST_STEM].decode(errors="ignore")
        if short != stem or self._owners.setdefault(_folded(short), path) != path:
            short += f"-{blake2b(os.fsencode(path), digest_size=8).hexdigest()}"
            self._owners[_folded(short)] = path
        return short


@cache
def formats() -> dict[str, Any]:
    """Return the format modules by name."""
    modules = (importlib.import_module(f"{__name__}.{info.name}") for info in pkgutil.iter_modules(__path__))
    return {module.NAME: module for module in modules}


def get(name: str) -> Any:
    """Return the module of the format ``name``; raises `ChoiceError` naming those there are."""
    check_choice("format", name, formats())
    return formats()[name]


def _folded(name: str) -> str:
    """Return what file systems that know no case, or their own Unicode form, make of ``name``."""
    return unicodedata.normalize("NFC", name).casefold()
