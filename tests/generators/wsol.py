"""WSOL metadata of CUB, ILSVRC, OpenImages and CARS, each with two photos a class in train and in test."""

from pathlib import Path

from tests.generators.pictures import HEIGHT, WIDTH, lines, mask, photo

IDS = {
    "CUB": "00{label}.Bird/Bird_{split}_{number}.jpg",
    "ILSVRC": "{split}/ILSVRC2012_{split}_{label}{number}.JPEG",
    "OpenImages": "{split}/0{label}/{split}{label}{number}.jpg",
    "CARS": "0000{label}{number}.jpg",  # the same in train and in test
}


def write(
    root: Path,
    dataset: str = "CUB",
    *,
    prefix: str | None = None,
    named: bool = True,
    splits: tuple[str, ...] = ("train", "test"),
    ending: str = "\n",
    last: bool = True,
    bom: bool = False,
    several: bool = False,
    touching: bool = False,
    empty: tuple[str, ...] = (),
    absent: tuple[str, ...] = (),
    unboxed: bool = False,
) -> None:
    """Write the dataset: photos below ``prefix``, metadata below the dataset's name if ``named``.

    Quirks: line ends; ``several`` boxes or masks a photo, with one mask to ignore; boxes ``touching`` x1 == w; files
    ``empty`` or ``absent`` (names without .txt); the first photo ``unboxed``.
    """
    for split in splits:
        ids, labels, sizes, truth = [], [], [], []
        for label in range(2):
            for number in range(2):
                name = IDS[dataset].format(label=label, split=split, number=number)
                below = prefix if prefix is not None else f"cars_{split}/" if dataset == "CARS" else ""
                photo(root / below / name)
                ids.append(name)
                labels.append(f"{name},{label}")
                sizes.append(f"{name},{WIDTH},{HEIGHT}")
                if unboxed and not label and not number:
                    continue
                if dataset == "OpenImages":
                    for instance in range(2 if several else 1):
                        file = f"{split}/0{label}/{split}{label}{number}_{instance}.png"
                        ignore = (
                            f"{split}/0{label}/{split}{label}{number}_ignore.png" if several and not instance else ""
                        )
                        truth.append(f"{name},{file},{ignore}")
                        for item in filter(None, (file, ignore)):
                            mask(root / (prefix or "") / item)
                else:
                    truth.append(f"{name},{3 + number},4,{WIDTH if touching else 30},25")
                    truth += [f"{name},0,0,10,10"] if several else []
        folder = root / "metadata" / (dataset if named else "") / split
        files = {"image_ids": ids, "class_labels": labels, "image_sizes": sizes, "localization": truth}
        for file, rows in files.items():
            if file not in absent:
                lines(folder / f"{file}.txt", [] if file in empty else rows, ending, last, bom)
