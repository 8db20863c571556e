"""Annotation files of lines: read in bulk, and precise about the line that is wrong."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from dualcam.errors import DataError

BLOCK = 8192


def numbered_lines(file: Path) -> Iterator[tuple[int, str]]:
    """Yield (line number, text) of the lines that are not empty.

    Line ends may be of any kind and the last may lack its own; a byte order mark is dropped; bytes that are not UTF-8
    come through as the names of files have them (``surrogateescape``). Raises `DataError` for a file that can not be
    read.
    """
    with _opened(file) as stream:
        for number, line in enumerate(stream, start=1):
            text = line.strip()
            if text:
                yield number, text


@contextmanager
def _opened(file: Path) -> Iterator[TextIO]:
    try:
        with file.open(encoding="utf-8-sig", errors="surrogateescape", newline=None) as stream:
            yield stream
    except OSError as error:
        raise DataError(f"{file} can not be read: {error.strerror or error}; restore the file") from error


def line_error(file: Path, row: int, expected: str) -> DataError:
    """Return the error for the line of ``file`` that is number ``row`` (from 0) of those not empty."""
    number, text = next(islice(numbered_lines(file), row, None))
    return DataError(f"{file}, line {number}: expected {expected}, got {text!r}; mend or remove the line")


def number_blocks(
    file: Path, columns: int, expected: str, valid: Callable[[NDArray[np.float64]], NDArray[np.bool_]]
) -> Iterator[tuple[list[str], NDArray[np.float64]]]:
    """Yield (ids, numbers [M, columns]) of lines ``id,number,...``, some thousand at a time; an id may hold commas.

    ``valid`` maps numbers to [M], False where a row can not be; numbers that are not finite never are. Raises
    `DataError` with file, line number and line.
    """
    start = 0
    with _opened(file) as stream:
        while raw := list(islice(stream, BLOCK)):
            block = list(filter(None, map(str.strip, raw)))
            if not block:
                continue
            ids, *fields = _split(block, columns)
            try:
                if len(fields) != columns:
                    raise ValueError  # noqa: TRY301
                numbers = np.array([_floats(field) for field in fields]).T
            except ValueError:
                wrong = next(place for place, text in enumerate(block) if not _is_row(text, columns))
                raise line_error(file, start + wrong, expected) from None
            good = np.isfinite(numbers).all(1) & valid(numbers)
            if not all(ids):
                good &= np.array([bool(name) for name in ids])
            if not good.all():
                raise line_error(file, start + int(np.argmin(good)), expected)
            yield ids, numbers
            start += len(block)


def fields_of(file: Path, count: int, expected: str, separator: str | None = None) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, ``count`` fields) of each line; the last field takes what remains.

    ``separator`` None splits at white space. Raises `DataError` with file, line number and line.
    """
    for row, (number, text) in enumerate(numbered_lines(file)):
        fields = [field.strip() for field in text.split(separator, count - 1)]
        if len(fields) != count or not all(fields):
            raise line_error(file, row, expected)
        yield number, fields


def to_number(text: str, file: Path, number: int, expected: str) -> float:
    """Return ``text`` as a finite number; raises `DataError` with file and line number."""
    try:
        value = _floats((text,))[0]
    except ValueError:
        value = float("nan")
    if not np.isfinite(value):
        raise DataError(f"{file}, line {number}: expected {expected}, got {text!r}; mend or remove the line")
    return value


def _floats(texts: Sequence[str]) -> list[float]:
    if "_" in "".join(texts):  # Python's digit groups, which no other program reads
        raise ValueError
    return list(map(float, texts))


def _split(block: list[str], columns: int) -> list[list[str]]:
    """Return ids and fields, [1 + columns][M]; fewer lists where a line has too few fields."""
    if all(text.count(",") == columns for text in block):
        # One list for all lines: a list for each would have the garbage collector run a thousand times.
        flat = ",".join(block).split(",")
        return [flat[field :: columns + 1] for field in range(columns + 1)]
    rows = [text.rsplit(",", columns) for text in block]
    return [list(field) for field in zip(*rows, strict=False)]


def _is_row(text: str, columns: int) -> bool:
    row = text.rsplit(",", columns)
    try:
        return len(row) == columns + 1 and bool(_floats(row[1:]))
    except ValueError:
        return False
