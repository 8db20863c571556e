"""ImageNet as downloaded (Kaggle's archive), tiny."""

from pathlib import Path

from tests.generators.pictures import HEIGHT, WIDTH, Box, lines, photo
from tests.generators.xml import annotation

WNIDS = ("n01440764", "n01443537")
TRAIN_BOX: Box = (3, 1, WIDTH, 20)
VAL_BOXES: tuple[Box, ...] = ((0, 1, WIDTH, HEIGHT), (5, 6, 10, 12))


def write(
    root: Path,
    *,
    home: str = "ILSVRC",
    mapping: bool = True,
    names: tuple[str, str] = ("tench, Tinca tinca", "goldfish, Carassius auratus"),
    xml: bool = True,
    solution: bool = False,
    lists: bool = True,
    unannotated: bool = True,
) -> None:
    """Write two photos a class in train, the second without annotation if so asked, and one a class in val."""
    top = root / home
    part = "CLS-LOC"
    listed: list[str] = []
    rows: list[str] = []
    for label, wnid in enumerate(WNIDS):
        for number in range(2):
            name = f"{wnid}/{wnid}_{number}"
            photo(top / "Data" / part / "train" / f"{name}.JPEG")
            listed.append(f"{name} {len(listed) + 1}")
            if xml and not (unannotated and number):
                annotation(top / "Annotations" / part / "train" / f"{name}.xml", [(wnid, TRAIN_BOX)])
        stem = f"ILSVRC2012_val_0000000{2 - label}"
        photo(top / "Data" / part / "val" / f"{stem}.JPEG")
        if xml:
            annotation(top / "Annotations" / part / "val" / f"{stem}.xml", [(wnid, box) for box in VAL_BOXES])
        rows.append(f"{stem}," + " ".join(f"{wnid} {' '.join(map(str, box))}" for box in VAL_BOXES) + " ")
    if lists:
        lines(top / "ImageSets" / part / "train_cls.txt", listed)
        lines(top / "ImageSets" / part / "val.txt", [f"ILSVRC2012_val_0000000{number} {number}" for number in (1, 2)])
    if mapping:
        lines(root / "LOC_synset_mapping.txt", [f"{wnid} {name}" for wnid, name in zip(WNIDS, names, strict=True)])
    if solution:
        lines(root / "LOC_val_solution.csv", ["ImageId,PredictionString", *rows], last=False)
