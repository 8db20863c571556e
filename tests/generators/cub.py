"""CUB-200-2011 as downloaded, tiny."""

from pathlib import Path

from tests.generators.pictures import lines, mask, photo


def write(root: Path, *, ending: str = "\n", last: bool = True, masks: bool = False, touching: bool = False) -> None:
    """Write ``CUB_200_2011`` below ``root``: two classes, two photos each in train and in test."""
    home = root / "CUB_200_2011"
    images, labels, splits, boxes = [], [], [], []
    classes = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]
    for number in range(8):
        label, test = number // 4, number % 2
        name = f"{classes[label]}/Bird_{number}.jpg"
        photo(home / "images" / name)
        images.append(f"{number + 1} {name}")
        labels.append(f"{number + 1} {label + 1}")
        splits.append(f"{number + 1} {1 - test}")
        boxes.append(f"{number + 1} 6.0 2.0 {34.0 if touching else 20.0} 22.5")
        if masks:
            mask(root / "segmentations" / Path(name).with_suffix(".png"), value=51)
    files = {
        "images": images,
        "image_class_labels": labels,
        "train_test_split": splits,
        "bounding_boxes": boxes,
        "classes": [f"{place + 1} {name}" for place, name in enumerate(classes)],
    }
    for file, rows in files.items():
        lines(home / f"{file}.txt", rows, ending, last)
