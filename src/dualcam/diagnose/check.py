"""Which classifiers and methods can be diagnosed."""

from dualcam.description import check_applicable
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
