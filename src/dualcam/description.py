"""What `DualBranch.describe` prints: the parts found, the laws that hold, the methods that apply."""

from dualcam import methods
from dualcam.errors import MethodNotApplicable
from dualcam.heads import Head
from dualcam.methods import Method
from dualcam.model import DualBranch
from dualcam.relevance import attention_blocks
from dualcam.types import Branch

LAWS = {
    "pooled-linear": "closed-form maps; mean(signed CAM) + bias = logit; Grad-CAM = XGrad-CAM = CAM / cells",
    "pooled-conv": "as a pooled linear head (a 1x1 convolution, then the mean over cells)",
    "norm-linear": "a norm stands between pooling and linear layer: no class rows, no completeness; gradient methods",
    "mlp": "not linear in the activations: no class rows, no completeness; gradient methods",
    "tail": "the last layer alone is cloned, the tail before it is frozen and shared: no class rows; gradient methods",
}


def applicable(head: Head) -> list[Method]:
    """Return the methods that apply to ``head``, whatever model it is of: none that reads attention."""
    known = (method for method in methods.available().values() if "attention" not in method.needs)
    return [method for method in known if head.is_linear or not method.needs_rows]


def usual_methods(head: Head) -> list[Method]:
    """Return the methods that comparisons hold unasked: those that apply to ``head`` and are ``usual``."""
    return [method for method in applicable(head) if method.usual]


def attention_methods(model: DualBranch) -> list[Method]:
    """Return the methods that read attention, where ``model`` has one that they can read, seen by a run on noise."""
    if model.anatomy.layout != "tokens":
        return []
    try:
        attention_blocks(model)
    except MethodNotApplicable:
        return []
    return [method for method in methods.available().values() if "attention" in method.needs]


def check_applicable(method: Method, model: DualBranch, branch: Branch = "softmax") -> None:
    """Raise `MethodNotApplicable` with the way out where ``method`` needs what ``model`` does not have.

    That is class rows of the branch's head, or attention of all tokens to all in a stack of blocks.
    """
    if "attention" in method.needs:
        attention_blocks(model)
    head = model.head(branch)
    if method.needs_rows and not head.is_linear:
        others = ", ".join(item.name for item in applicable(head))
        raise MethodNotApplicable(
            f"method {method.name!r} reads class rows, and this {head.kind} head ({head.describe_steps()}) has none; "
            f"use one of {others}, or fit a pooled linear head (fit_head='linear', --fit-head linear)"
        )


def default_method(head: Head) -> str:
    """Return "cam" where the head is linear in the pooled activations, else "grad-cam"."""
    return "cam" if head.is_linear else "grad-cam"


def describe(model: DualBranch) -> str:
    """Return the description of ``model``, one line a fact."""
    anatomy, head, preprocessing = model.anatomy, model.softmax_head, model.preprocessing
    names = f", {model.class_names[0]} ... {model.class_names[-1]}" if model.class_names else ", no names"
    record = model.training_record
    state = "a clone of the softmax head (not trained)"
    if record is not None:
        state = f"trained: {record.get('summary', 'no summary')}"
    sign = "F >= 0" if anatomy.nonnegative else "F can be negative: `positive` clamps contributions, cell by cell"
    cells = anatomy.cells
    extra = f" beside {cells.leading + cells.trailing} others" if cells.leading + cells.trailing else ""
    reads = f", reads the input of {' and '.join(anatomy.readers)}" if head.reads_features else ""
    rows = {
        "model": f"{model.source or type(model.classifier).__name__}, {model.classes} classes{names}",
        "activations": f"{anatomy.layer}{f' + {anatomy.post}' if anatomy.post else ''}: {anatomy.channels} channels, "
        f"{anatomy.grid[0]} x {anatomy.grid[1]} cells, {anatomy.layout}{extra}, {sign}",
        "head": f"{head.kind}: {head.describe_steps()}{reads}{' (fitted)' if model.fitted_head is not None else ''}",
        "laws": LAWS[head.kind],
        "methods": ", ".join(method.name for method in (*applicable(head), *attention_methods(model))),
        "probabilities": "a softmax over the classes" if model.outputs == "softmax" else "a sigmoid for each label",
        "sigmoid head": f"{state}; adds {head.parameter_count():,} parameters",
        "input": f"{preprocessing.size[0]} x {preprocessing.size[1]} px, {preprocessing.interpolation}, "
        f"mean {preprocessing.mean}, deviation {preprocessing.std} ({preprocessing.origin})",
    }
    if model.optimization is not None:
        rows["optimized"] = "; ".join(str(model.optimization).splitlines())
    width = max(map(len, rows))
    return "\n".join(f"{key:<{width}}  {value}" for key, value in rows.items())
