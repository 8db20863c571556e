"""Qualitative panels: input, base method and dual branch side by side, the best, the worst and random photos."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.progress import Progress

from dualcam.data.prepared import Prepared
from dualcam.data.stream import Broken, Loader, stream
from dualcam.evaluation.photos import Photos
from dualcam.explainer import Settings, check_options, explain_forward, run_model
from dualcam.explanation import ClassEvidence
from dualcam.localize import iou
from dualcam.model import DualBranch
from dualcam.overlay import draw_box, heat_over
from dualcam.panel import GROUND, INK, SOFT, fitted, font
from dualcam.types import Box

RED = (255, 65, 54)
ROW, GAP, MARGIN, HEAD, CAPTION = 168, 10, 18, 30, 20
WIDEST, LEAST_COLUMN = 2 * ROW, 150
"""Pixels that a panorama may take, and that a column has at least, so that its title has room beside a tower."""
LEGEND = "green: the map's box; red: true boxes; IoU: of the two; heat: share of each map's maximum"
Pick = Literal["best", "worst", "random"]


@dataclass(frozen=True)
class Column:
    """One map a photo: what stands above it, and how it is made."""

    title: str
    settings: Settings


@dataclass(frozen=True)
class Shown:
    """A photo of the figure: its picture with the true boxes, the maps' pictures, and each map's box IoU."""

    title: str
    pictures: tuple[Image.Image, ...]
    ious: tuple[float, ...]


def make_columns(model: DualBranch, methods: Sequence[str]) -> tuple[Column, ...]:
    """Return, per method, the base map (softmax branch, signed, min-max) and the dual branch's positive evidence."""
    columns = []
    for method in methods:
        base = check_options(model, method=method, branch="softmax", sign="signed", normalize="minmax")
        dual = check_options(model, method=method, branch="sigmoid", sign="positive", normalize="max")
        columns += [Column(f"{method}", base), Column(f"{method}, dual branch", dual)]
    return tuple(columns)


def score_photos(
    model: DualBranch,
    photos: Photos,
    positions: NDArray[np.int64],
    columns: Sequence[Column],
    loader: Loader,
    progress: Progress,
    *,
    threshold: float = 0.2,
    batch_size: int = 16,
) -> dict[int, tuple[float, ...]]:
    """Return the IoU of each column's best box with any true box, by position; broken photos are left out."""
    found: dict[int, tuple[float, ...]] = {}
    task = progress.add_task("scoring", total=len(positions))
    paths = [str(part.root / part.paths[place]) for part, place in map(photos.locate, positions.tolist())]
    for start, batch in enumerate(stream(paths, loader, batch_size=batch_size)):
        placed = zip(positions[start * batch_size :].tolist(), batch, strict=False)
        good = [(position, item) for position, item in placed if isinstance(item, Prepared)]
        for position, evidence in explain_positions(model, photos, good, columns):
            truth = _truth(photos, position, evidence[0])
            found[position] = tuple(_best(item.boxes(threshold), truth)[1] for item in evidence)
        progress.advance(task, len(batch))
    return found


def explain_positions(
    model: DualBranch, photos: Photos, good: Sequence[tuple[int, Prepared]], columns: Sequence[Column]
) -> list[tuple[int, list[ClassEvidence]]]:
    """Return each photo's evidence for its true class, column by column, from one forward."""
    if not good:
        return []
    forward = run_model(model, [item for _, item in good])
    labels = torch.from_numpy(photos.labels[[position for position, _ in good]]).to(forward.logits.device)
    made = [explain_forward(model, forward, labels[:, None], column.settings) for column in columns]
    return [(position, [one[place][0] for one in made]) for place, (position, _) in enumerate(good)]


def pick(ious: dict[int, tuple[float, ...]], how: Pick, count: int, seed: int) -> list[int]:
    """Return the positions of the best or worst by the first method's dual branch, or of random photos by ``seed``."""
    order = sorted(ious, key=lambda position: (-ious[position][1], position))
    if how == "best":
        return order[:count]
    if how == "worst":
        return order[::-1][:count]
    drawn: list[int] = np.random.default_rng(seed).permutation(sorted(ious))[:count].tolist()
    return drawn


def show(
    model: DualBranch,
    photos: Photos,
    position: int,
    columns: Sequence[Column],
    loader: Loader,
    threshold: float = 0.2,
) -> Shown | None:
    """Return the pictures of one photo; None where it can not be read."""
    part, place = photos.locate(position)
    item = loader(str(part.root / part.paths[place]))
    if isinstance(item, Broken):
        return None
    ((_, evidence),) = explain_positions(model, photos, [(position, item)], columns)
    truth = _truth(photos, position, evidence[0])
    picture = item.picture()
    picture = picture.resize(tile_size(picture.width, picture.height), Image.Resampling.BICUBIC)
    scale = (picture.width / item.placement.source[0], picture.height / item.placement.source[1])
    first = picture.copy()
    _draw_truth(first, truth, scale)
    pictures, ious = [first], []
    for each in evidence:
        image = heat_over(picture, each.heatmap(size=(picture.height, picture.width)))
        _draw_truth(image, truth, scale)
        box, value = _best(each.boxes(threshold), truth)
        if box is not None:
            draw_box(image, box, scale)
        pictures.append(image)
        ious.append(value)
    title = f"class {evidence[0].name}: p = {100 * evidence[0].probability:.0f} %"
    return Shown(title, tuple(pictures), tuple(ious))


def tile_size(width: int, height: int) -> tuple[int, int]:
    """Return the size, as large as a tile may be, of a picture of this shape."""
    factor = min(ROW / height, WIDEST / width)
    return max(1, round(width * factor)), max(1, round(height * factor))


def draw_figure(groups: Sequence[tuple[str, Sequence[Shown]]], columns: Sequence[Column]) -> Image.Image:
    """Return the figure: a heading a group, a row a photo, and what the colors mean."""
    rows = [shown for _, group in groups for shown in group]
    widths = [max([LEAST_COLUMN, *(row.pictures[place].width for row in rows)]) for place in range(1 + len(columns))]
    width = 2 * MARGIN + sum(widths) + GAP * len(columns)
    height = 2 * MARGIN + 2 * HEAD + sum(HEAD + len(group) * (ROW + CAPTION + GAP) for _, group in groups)
    canvas = Image.new("RGB", (width, height), GROUND)
    pen = ImageDraw.Draw(canvas)
    lefts = [MARGIN + sum(widths[:column]) + GAP * column for column in range(len(widths))]
    titles = ["photo", *(column.title for column in columns)]
    for left, room, title in zip(lefts, widths, titles, strict=True):
        pen.text((left, MARGIN + 8), fitted(title, font(13, bold=True), room), INK, font(13, bold=True), anchor="lm")
    top = MARGIN + HEAD
    for heading, group in groups:
        pen.text((MARGIN, top + HEAD // 2), heading, INK, font(15, bold=True), anchor="lm")
        top += HEAD
        for row in group:
            for left, room, image in zip(lefts, widths, row.pictures, strict=True):
                canvas.paste(image, (left + (room - image.width) // 2, top + (ROW - image.height) // 2))
            notes = [row.title, *(f"IoU {100 * value:.0f} %" for value in row.ious)]
            for left, room, note in zip(lefts, widths, notes, strict=True):
                place = (left, top + ROW + CAPTION // 2 + 1)
                pen.text(place, fitted(note, font(12), room), SOFT, font(12), anchor="lm")
            top += ROW + CAPTION + GAP
    place = (MARGIN, height - MARGIN - HEAD // 2)
    pen.text(place, fitted(LEGEND, font(12), width - 2 * MARGIN), SOFT, font(12), anchor="lm")
    return canvas


def _truth(photos: Photos, position: int, evidence: ClassEvidence) -> NDArray[np.float64]:
    """Return the true boxes [G, 4] in source pixels, also where the stated size is not the file's."""
    part, place = photos.locate(position)
    assert part.boxes is not None
    boxes = part.boxes[place]
    if part.sizes is None:
        return boxes
    ratio = np.array(evidence.placement.source) / part.sizes[place]
    return np.asarray(boxes * np.tile(ratio, 2), dtype=np.float64)


def _best(boxes: Sequence[Box], truth: NDArray[np.float64]) -> tuple[Box | None, float]:
    """Return the box of the most evidence and its best IoU with a true box."""
    if not boxes:
        return None, 0.0
    box = boxes[0]
    return box, max((iou((box.x0, box.y0, box.x1, box.y1), true.tolist()) for true in truth), default=0.0)


def _draw_truth(image: Image.Image, truth: NDArray[np.float64], scale: tuple[float, float]) -> None:
    for x0, y0, x1, y1 in np.rint(truth).astype(int).tolist():
        draw_box(image, Box(x0, y0, x1, y1, 1.0), scale, color=RED)
