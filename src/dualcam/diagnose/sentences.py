"""What the numbers mean, in plain words."""

from dualcam.diagnose.findings import Diagnosis
from dualcam.diagnose.recovery import Left, Recovery
from dualcam.metrics.bootstrap import Interval

NEGLIGIBLE, SMALL = 0.01, 0.1
"""Shares of a map's energy below which an offset is practically none, and small."""


def verdict(diagnosis: Diagnosis) -> str:
    """Return the one sentence that a reader must have."""
    share = diagnosis.arbitrary.mean
    part = f"{percent(share)} of the energy of this model's maps is arbitrary"
    row = "" if diagnosis.mean_row is None else f": the mean row is {percent(diagnosis.mean_row)} of a row's norm"
    if share < NEGLIGIBLE:
        told = f"{row} and {percent(share)} of the maps' energy" if row else f": {part}"
        return f"Practically no offset{told}."
    if share < SMALL:
        return f"A small offset: {part}{row}."
    return (
        f"{part[0].upper()}{part[1:]}{row}. Read the maps of the centered or log-odds scores, or of a trained branch."
    )


def shift_words(diagnosis: Diagnosis) -> str:
    """Return what the planted shifts show."""
    if diagnosis.shifts is None:
        return diagnosis.reason or ""
    last = diagnosis.shifts[-1]
    most = max(each.probability_change for each in diagnosis.shifts)
    rank = last.agreement.rank
    order = f"the maps keep a rank correlation of {rank.mean:.2f} with what they were"
    if not rank.n:
        order = "the maps have no order that could be compared (they are constant)"
    return (
        f"A vector d is added to all {diagnosis.classes} class rows: a random mix of what the {diagnosis.photos} "
        f"photos give the last layer, {last.draws} draws of each size. No probability moves by more than {tiny(most)} "
        f"(double precision), yet after a shift of {percent(last.size)} of a row {order}, and "
        f"{percent(last.arbitrary.mean)} of their energy is arbitrary. No test of the predictions can tell these "
        "classifiers apart."
    )


def sigmoid_words(diagnosis: Diagnosis) -> str:
    """Return what the same shifts do to the sigmoid branch."""
    if not diagnosis.sigmoid_shifts:
        return diagnosis.reason or ""
    last = diagnosis.sigmoid_shifts[-1]
    return (
        f"The sigmoid branch does feel such a shift: at {percent(last.size)} of a row its probabilities move by "
        f"{percent(last.probability_change.mean)} on average and {percent(last.flipped.mean)} of its yes-or-no answers "
        "change. That is what lets training pin it."
    )


def recovery_words(diagnosis: Diagnosis) -> str:
    """Return how far training gets."""
    recovery = diagnosis.recovery
    if recovery is None:
        return f"Not measured: {diagnosis.recovery_reason}."
    outside = recovery.dimensions - recovery.rank
    span = (
        f"{recovery.rows} views span {recovery.rank} of the last layer's {recovery.dimensions} directions; "
        f"what a shift does in the other {outside} no photo here can show, there only weight decay acts. "
        if outside
        else f"{recovery.rows} views span all of the last layer's {recovery.dimensions} directions. "
    )
    sgd, lbfgs = worst(recovery, "sgd"), worst(recovery, "lbfgs")
    state = "" if recovery.converged else " (not converged)"
    return (
        f"The rows of {recovery.classes_trained} classes, shifted by {percent(recovery.size)} of a row, are trained "
        f"again. {span}After the recipe's {recovery.epochs} epochs of SGD ({recovery.steps} steps) "
        f"{percent(sgd.scores)} of what the shift did to the scores is left{_beyond(sgd)}; at the optimum (L-BFGS, "
        f"weight decay {recovery.weight_decay:g}{state}) {percent(lbfgs.scores)}{_beyond(lbfgs)}. Cross-entropy, "
        f"trained as long without weight decay, keeps {percent(recovery.cross_entropy_kept)} of its offset (drift "
        f"{tiny(recovery.cross_entropy_drift)}): its gradients add up to zero over the classes."
    )


def worst(recovery: Recovery, solver: str) -> Left:
    """Return the shifted start of which most is left on the scores."""
    ours = [each for each in recovery.left if each.solver == solver and each.start.startswith("shifted")]
    return max(ours, key=lambda each: each.scores)


def collapse_words(diagnosis: Diagnosis) -> str:
    """Return what it takes to empty a map."""
    found = diagnosis.collapse
    if found is None:
        return diagnosis.reason or ""
    if found.law == "positive weights":
        law = (
            f"A shift of {percent(found.any_photo.mean)} of the class's row (d_i = -max(W_ki, 0)) leaves the predicted "
            "class without any positive weight: its positive map is zero on every photo there is"
        )
    else:
        why = "The head is not linear" if found.cells is None else "Activations can be negative here"
        law = f"{why}, so only the whole row is sure: d = -W_k makes the class's map zero on every photo there is"
    some = []
    if found.channels is not None:
        some.append(f"{percent(found.channels.mean)} if only the photo's active channels count")
    if found.cells is not None:
        some.append(f"{percent(found.cells.mean)} to leave no cell of the photo's map above zero")
    one = f" For one photo less may do: {', '.join(some)}." if some else ""
    return (
        f"{law}, and no probability moves (by {tiny(found.probability_change)} at most here).{one} As the model is, "
        f"{percent(found.negative.mean)} of the evidence in its predicted classes' maps speaks against the class; it "
        f"is the larger part for {percent(found.mostly_negative.mean)} of {found.mostly_negative.n} photos and "
        f"{percent(found.classes_mostly_negative.mean)} of {found.classes_mostly_negative.n} predicted classes."
    )


def baseline_words(diagnosis: Diagnosis) -> str:
    """Return what the comparison is for."""
    shifted = ""
    if diagnosis.shifts is not None:
        size = diagnosis.shifts[len(diagnosis.shifts) // 2].size
        shifted = f' "softmax, shifted" is plain CAM after the first drawn shift of {percent(size)} of a row.'
    return (
        "Centered rows, log-odds, log p and p are scores of the plain softmax head that no common shift can change; "
        "they need no training (log-odds, log p and p have parallel gradients: the same map up to a factor). If the "
        "sigmoid branch's maps agree with theirs, training changed nothing that they do not give; if plain CAM agrees "
        f"with all of them, there was no offset to mend.{shifted}"
    )


def percent(share: float) -> str:
    """Return a share in percent, with the digits that it deserves."""
    value = 100 * share
    if value and abs(value) < 1e-3:
        return "under 0.001 %"
    return f"{value:.0f} %" if abs(value) >= 10 else f"{value:.1f} %" if abs(value) >= 1 else f"{value:.2g} %"


def tiny(value: float) -> str:
    """Return a number near zero by its order of magnitude."""
    return f"{value:.0e}" if value else "0"


def spread(interval: Interval, *, share: bool = True) -> str:
    """Return a mean with its interval: in percent, or a correlation."""
    if not interval.n:
        return "-"
    if share and 0 < interval.high < 1e-5:
        return "under 0.001"
    low, high = (100 * each if share else each for each in (interval.low, interval.high))
    mean = 100 * interval.mean if share else interval.mean
    digits = 2 if not share else 1 if abs(mean) >= 1 or not mean else 2 if abs(mean) >= 0.1 else 4
    return f"{mean:.{digits}f} [{low:.{digits}f},\N{NO-BREAK SPACE}{high:.{digits}f}]".replace("-", "−")


def _beyond(left: Left) -> str:
    return "" if left.outside is None else f", outside of the span {percent(left.outside)}"
