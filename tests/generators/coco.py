"""COCO's instances, tiny."""

import json
from pathlib import Path
from typing import Any

from tests.generators.pictures import HEIGHT, WIDTH, photo


def write(
    root: Path, *, year: str = "2017", whole: bool = False, below: str = "", crowd: bool = False, sizes: bool = True
) -> None:
    """Write a photo of two cats and a dog, one of a dog, one of nothing, in train and in val (or in one file)."""
    for split in ("train",) if whole else ("train", "val"):
        folder = root / ("images" if whole else f"{below}{split}{year}")
        images: list[dict[str, Any]] = []
        for number in range(3):
            name = f"00000000000{number}.jpg"
            photo(folder / name, seed=f"{split}{number}")
            images.append(
                {"id": 10 + number, "file_name": name} | ({"width": WIDTH, "height": HEIGHT} if sizes else {})
            )
        polygon = [[1.0, 1.0, 9.0, 1.0, 9.0, 9.0]]
        objects = [
            (10, 17, [0, 0, 20.5, 20]),
            (10, 18, [1, 1, 24, 10]),
            (10, 17, [30, 20, 10, 10]),
            (11, 18, [2, 2, 5, 5]),
        ]
        annotations: list[dict[str, Any]] = [
            {
                "id": place,
                "image_id": image,
                "category_id": category,
                "bbox": box,
                "iscrowd": 0,
                "segmentation": polygon,
            }
            for place, (image, category, box) in enumerate(objects)
        ]
        if crowd:
            annotations.append({"id": 99, "image_id": 12, "category_id": 17, "bbox": [0, 0, 9, 9], "iscrowd": 1})
        categories = [{"id": 18, "name": "dog"}, {"id": 17, "name": "cat"}]
        file = root / ("annotations.json" if whole else f"annotations/instances_{split}{year}.json")
        file.parent.mkdir(parents=True, exist_ok=True)
        content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        file.write_text(json.dumps(content), encoding="utf-8")
