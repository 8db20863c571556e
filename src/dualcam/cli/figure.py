"""`dualcam figure`: qualitative panels of a dataset, good and bad ones."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from dualcam.cli.options import FastModelOptions, open_model

Names = Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="")]
Picks = Annotated[tuple[Literal["best", "worst", "random"], ...], Parameter(consume_multiple=True, negative="")]


def figure(
    data: Annotated[Path, Parameter(help="A dataset with boxes; docs/datasets.md lists the layouts.")],
    /,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"], help="The picture to write (PNG).")] = Path("figure.png"),
    model: FastModelOptions = FastModelOptions(),  # noqa: B008  - frozen
    method: Annotated[Names, Parameter(help="Methods, two columns each (default: the model's usual one).")] = (),
    picks: Annotated[Picks, Parameter(help="Which photos are shown.")] = ("best", "worst", "random"),
    count: Annotated[int, Parameter(help="Photos of each pick.")] = 3,
    sample: Annotated[int, Parameter(help="Photos, drawn by seed, among which the best and worst are; 0: all.")] = 200,
    seed: int = 0,
    split: Annotated[str | None, Parameter(help="The split shown (default: test, else val).")] = None,
    threshold: Annotated[float, Parameter(help="Boxes surround what lies above this share of the maximum.")] = 0.2,
) -> int:
    """Draw input, base method and dual branch side by side: predicted box green, true boxes red, IoU below.

    The best, the worst and random photos, by the dual branch's IoU, so that nobody shows only the good ones.
    """
    import numpy as np

    from dualcam.data.stream import Loader
    from dualcam.description import default_method
    from dualcam.errors import ChoiceError, DataError
    from dualcam.evaluation.figure import draw_figure, make_columns, pick, score_photos, show
    from dualcam.evaluation.photos import choose_photos, without_truth
    from dualcam.panel import write_panel
    from dualcam.progress import progress_bar

    if count < 1 or sample < 0:
        raise ChoiceError(f"--count must be at least 1 and --sample at least 0; got {count} and {sample}")
    if not 0 <= threshold < 1:
        raise ChoiceError(f"--threshold must lie in [0, 1) of the map's maximum; got {threshold}")
    wrapped = open_model(model)
    columns = make_columns(wrapped, method or (default_method(wrapped.softmax_head),))
    photos = without_truth(choose_photos(wrapped, data, split=split, select="none"))
    if photos.parts[-1].boxes is None:
        raise DataError(f"{data} (split {photos.parts[-1].split!r}) has no boxes to draw")
    positions = photos.reported
    if sample and sample < len(positions):
        positions = np.sort(np.random.default_rng(seed).permutation(positions)[:sample])
    loader = Loader(wrapped.preprocessing)
    with progress_bar() as progress:
        ious = score_photos(wrapped, photos, positions, columns, loader, progress, threshold=threshold)
    if not ious:
        raise DataError(f"none of the {len(positions)} photos of {data} can be read")
    groups = []
    for how in picks:
        chosen = pick(ious, how, count, seed)
        shown = [show(wrapped, photos, position, columns, loader, threshold) for position in chosen]
        by = "drawn by seed" if how == "random" else f"by the IoU of {columns[1].title}"
        groups.append((f"{how} of {len(ious)}, {by}", [item for item in shown if item is not None]))
    write_panel(draw_figure(groups, columns), out)
    means = ", ".join(
        f"{column.title} {100 * np.mean([row[place] for row in ious.values()]):.1f}"
        for place, column in enumerate(columns)
    )
    print(f"{out}: mean IoU of {len(ious)} photos in percent: {means}")
    broken = len(positions) - len(ious)
    if broken:
        names = "`dualcam data check` names them"
        print(f"broken: {broken} of {len(positions)} photos can not be read and are left out; {names}", file=sys.stderr)
    return 1 if broken else 0


COMMAND = figure
