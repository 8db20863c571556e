"""The public list, lazy loading, and the tree of errors."""

import inspect
import re
import subprocess
import sys

import pytest

import dualcam
from dualcam import errors


def test_every_public_name_resolves() -> None:
    assert sorted(set(dualcam.__all__)) == sorted(dualcam.__all__)
    for name in dualcam.__all__:
        assert getattr(dualcam, name) is not None
        assert name in dir(dualcam)
    assert {"wrap", "explain", "fit", "DualBranch", "Explanation", "DualcamError"} <= set(dualcam.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"'dualcam' has no attribute 'unwrap'"):
        _ = dualcam.unwrap


def test_functions_stay_functions_after_use() -> None:
    from tests.models import PREPROCESSING, images, tiny

    for _ in range(2):
        model = dualcam.wrap(tiny("mlp"), preprocessing=PREPROCESSING)
        assert len(dualcam.explain(model, images())) == 2
        assert inspect.isfunction(dualcam.wrap)
        assert inspect.isfunction(dualcam.explain)
        assert inspect.isfunction(dualcam.fit)


def test_the_version_is_that_of_the_installed_package() -> None:
    from importlib.metadata import version

    assert dualcam.__version__ == version("dualcam")


@pytest.mark.slow
@pytest.mark.parametrize("statement", ["import dualcam", "import dualcam; dir(dualcam); dualcam.__version__"])
def test_importing_is_light(statement: str) -> None:
    heavy = "{'torch', 'timm', 'torchvision', 'numpy', 'cv2', 'PIL', 'matplotlib', 'transformers'}"
    code = f"{statement}; import sys; print(sorted({heavy} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"
    assert not ran.stderr


ALL_ERRORS = [
    item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, Exception)
]  # fmt: skip


@pytest.mark.parametrize("error", ALL_ERRORS)
def test_errors_are_of_one_base(error: type[Exception]) -> None:
    assert issubclass(error, errors.DualcamError)
    assert error.__doc__


def test_the_drawn_tree_is_the_tree() -> None:
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^(\s+[│├└─\s]*)([A-Z]\w+)\s{2,}\S", line)
        if found is None:
            continue
        depth, name = len(found[1]), found[2]
        while path and path[-1][0] >= depth:
            path.pop()
        drawn[name] = path[-1][1] if path else "Exception"
        path.append((depth, name))
    assert drawn == {error.__name__: error.__bases__[0].__name__ for error in ALL_ERRORS}


def test_a_choice_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"color='teal' is not known; choose one of 'red', None"):
        errors.check_choice("color", "teal", ["red", None])
    errors.check_choice("color", None, ["red", None])
