"""Pascal VOC's development kit, tiny."""

from pathlib import Path

from tests.generators.pictures import HEIGHT, WIDTH, lines, photo
from tests.generators.xml import annotation


def write(
    root: Path, *, home: str = "VOCdevkit/VOC2007", lists: bool = True, class_lists: bool = True, ending: str = "\n"
) -> None:
    """Write a photo of a dog and two persons, one of a dog, one of nothing, in train and in val."""
    top = root / home
    for split in ("train", "val"):
        stems = [f"{split}00{number}" for number in range(3)]
        persons = [("person", (1, 1, 20, 20)), ("dog", (1, 1, 21, 20)), ("person", (30, 20, WIDTH, HEIGHT))]
        for stem, objects in zip(stems, (persons, [("dog", (3, 3, 9, 9))], []), strict=True):
            photo(top / "JPEGImages" / f"{stem}.jpg")
            annotation(top / "Annotations" / f"{stem}.xml", objects, ending=ending)
        if lists:
            lines(top / f"ImageSets/Main/{split}.txt", stems, ending)
            for name in ("dog", "person") if class_lists else ():
                lines(top / f"ImageSets/Main/{name}_{split}.txt", [f"{stem} -1" for stem in stems], ending)
