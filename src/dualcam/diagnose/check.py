"""Which classifiers and methods can be diagnosed."""

from dualcam.description import check_applicable
from dualcam.diagnose.last_layer import LastLayer
from dualcam.errors import MethodNotApplicable
from dualcam.methods import Method
from dualcam.model import DualBranch


def check_diagnosable(model: DualBranch, method: Method) -> None:
    """Raise `MethodNotApplicable` where no softmax leaves a vector free, or where a shift could not be drawn."""
    if model.outputs == "sigmoid":
        raise MethodNotApplicable(
            "diagnose asks what softmax leaves undecided, and the probabilities of this classifier are sigmoids, one "
            "for each label (outputs='sigmoid'): a vector added to all class rows moves every probability, so there "
            "is no such shift; explain and evaluate take it as it is. If its classes exclude each other, wrap it "
            "with outputs='softmax' (--outputs softmax)"
        )
    if model.classes == 1:
        raise MethodNotApplicable(
            "diagnose asks what softmax leaves undecided, and this classifier has a single logit, whose other class "
            "has none: a vector added to its one row moves its probability, so there is no such shift; explain and "
            "evaluate take it as it is"
        )
    check_applicable(method, model)
    if method.needs or method.gradient_free:
        raise MethodNotApplicable(
            f"diagnose adds a shift to the gradients that maps are made of, and method {method.name!r} "
            f"{'runs the model anew' if method.needs else 'reads none'}; use a gradient method, such as grad-cam"
        )


def check_rows(layer: LastLayer | None) -> None:
    """Raise `MethodNotApplicable` where all class rows are zero: no map shows anything, and no shift has a size."""
    if layer is not None and not layer.weight.any():
        raise MethodNotApplicable(
            "diagnose compares shifts with the class rows, and all rows of this head are zero, as some heads start "
            "out: every map is zero, and no part of it arbitrary; train the head first, or load its weights (--weights)"
        )
