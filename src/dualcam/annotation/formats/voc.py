"""Pascal VOC's XML, ``Annotations/STEM.xml`` for each photo.

Corners are pixels counted from 1, the last included (Everingham et al., VOC development kit): the half-open x0..x1 is
written as x0 + 1 and x1, which is how supervision and `dualcam.datasets.voc` read it back.
"""

import os
import re
from pathlib import Path
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

from dualcam.annotation import Annotation
from dualcam.annotation.formats import Export, Stems
from dualcam.annotation.ledger import keep_only
from dualcam.files import write_whole

NAME = "voc"
FOLDER = "Annotations"
OUTPUTS = (FOLDER,)
_UNSPEAKABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML can not hold."""


def write(export: Export) -> Path:
    """Write an XML file for each photo, those without boxes among them."""
    folder, stems, written = export.folder / FOLDER, Stems(), set()
    folder.mkdir(parents=True, exist_ok=True)
    for item in export.annotations:
        name = f"{stems.stem_of(item.path)}.xml"
        tree = ElementTree.ElementTree(_annotation(item, export.names))
        ElementTree.indent(tree)
        with write_whole(folder / name) as temporary:
            tree.write(temporary, encoding="utf-8", xml_declaration=False)
        written.add(name)
    keep_only(folder, written)
    return folder


def _annotation(item: Annotation, names: tuple[str, ...]) -> Element:
    root = Element("annotation")
    _add(root, "folder", Path(item.photo).parent.name)
    _add(root, "filename", Path(item.photo).name)
    _add(root, "path", item.photo)
    _add(SubElement(root, "source"), "database", "pseudo-boxes of dualcam annotate")
    size = SubElement(root, "size")
    for tag, side in (("width", item.width), ("height", item.height), ("depth", 3)):
        _add(size, tag, side)
    _add(root, "segmented", 0)
    for found, region in item.boxes:
        entry = SubElement(root, "object")
        _add(entry, "name", names[found.index])
        for tag in ("pose", "truncated", "difficult"):
            _add(entry, tag, "Unspecified" if tag == "pose" else 0)
        _add(entry, "score", found.score)
        _add(entry, "evidence", region.evidence)
        x0, y0, x1, y1 = region.box
        corners = SubElement(entry, "bndbox")
        for tag, value in (("xmin", x0 + 1), ("ymin", y0 + 1), ("xmax", x1), ("ymax", y1)):
            _add(corners, tag, value)
    return root


def _add(parent: Element, tag: str, value: object) -> None:
    text = os.fsencode(value).decode("utf-8", "replace") if isinstance(value, str) else str(value)
    SubElement(parent, tag).text = _UNSPEAKABLE.sub("\ufffd", text)
