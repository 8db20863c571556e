"""Open Images with segmentations as downloaded, tiny."""

from pathlib import Path

from tests.generators.pictures import lines, mask, photo

HEADER = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
CAT, DOG = "/m/01yrx", "/m/0bt9lr"


def write(
    root: Path,
    *,
    masks: str = "masks",
    photos: str = "",
    scale: int = 1,
    undownloaded: bool = False,
    descriptions: bool = True,
    ending: str = "\n",
) -> None:
    """Write a photo of two cats and a small dog, and one of a dog, in each split; masks ``scale`` times as large."""
    for split in ("train", "validation", "test"):
        rows = [HEADER]
        objects = [("aa", CAT, 0.5), ("aa", DOG, 0.3), ("aa", CAT, 0.2), ("bb", DOG, 0.4)]
        if undownloaded:
            objects.append(("cc", DOG, 0.4))
        for number, (photo_id, label, side) in enumerate(objects):
            image = f"{split[:2]}{photo_id}"
            name = f"{image}_{label.replace('/', '')}_{number}.png"
            rows.append(f"{name},{image},{label},box{number},0.1,{0.1 + side:.6f},0.000000,{side:.6f},0.8,")
            if photo_id != "cc":
                photo(root / photos / split / f"{image}.jpg")
                mask(root / masks.format(split=split) / name, size=(40 * scale, 30 * scale))
        lines(root / f"{split}-annotations-object-segmentation.csv", rows, ending)
    if descriptions:
        lines(root / "class-descriptions-boxable.csv", [f"{DOG},Dog", f"{CAT},Cat", "/m/0x,Hat, large"])
