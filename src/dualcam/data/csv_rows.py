"""Annotation tables: a CSV file with a header, whose rows each name a photo."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

from dualcam.errors import DataError


def photo_rows(file: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, fields by column), all columns of the header given, white space around fields removed.

    ``columns`` are needed beside "path"; columns may stand in any order. Empty lines are passed over; bytes that are
    not UTF-8 come through as the names of files have them. Raises `DataError` with file and line number for a header
    that lacks a column, and for a row of other length or without path, or without split where there is that column.
    """
    with file.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        reader = csv.reader(stream)
        header = [name.strip() for name in next(reader, [])]
        lacking = [name for name in ("path", *columns) if name not in header]
        if lacking:
            raise row_error(file, 1, f"a header with {', '.join(lacking)}", ",".join(header))
        for fields in reader:
            if not any(map(str.strip, fields)):
                continue
            row = dict(zip(header, map(str.strip, fields), strict=False))
            if len(fields) != len(header) or not row["path"] or not row.get("split", "all"):
                expected = f"{len(header)} fields, path (and split, where there is the column) not empty"
                raise row_error(file, reader.line_num, expected, ",".join(fields))
            yield reader.line_num, row


def row_error(file: Path, line: int, expected: str, got: str) -> DataError:
    """Return the error for line number ``line`` of ``file``."""
    return DataError(f"{file}, line {line}: expected {expected}, got {got!r}; mend or remove the line")
