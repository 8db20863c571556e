"""The localization literature's networks: ``wsol:vgg16-14``, ``wsol:resnet50-28``, ``wsol:inception_v3-28``.

Torchvision's networks with a last stage of 14 x 14 or 28 x 28 cells at 224 px and a pooled linear head, as in Choe et
al., Evaluating Weakly Supervised Object Localization Methods Right, CVPR 2020. Pretrained weights are torchvision's;
layers that it does not have start from a fixed seed and want training (`dualcam train-classifier`).
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from dualcam.data.preprocessing import Preprocessing
from dualcam.errors import ModelError
from dualcam.sources import Classifier, LoadOptions, load_weights_file
from dualcam.sources import torchvision as plain

PREFIX = "wsol"
CELLS = (14, 28)
PREPROCESSING = Preprocessing(origin="the localization literature: ImageNet mean and deviation, 224 px")
CHANNELS = 1024
SEED = 0


def load(name: str, options: LoadOptions) -> Classifier:
    """Build ``NETWORK-CELLS``; raises `ModelError` naming the networks, `WeightsUnavailable`."""
    network, _, cells = name.rpartition("-")
    if network not in NETWORKS or cells not in {str(each) for each in CELLS}:
        known = ", ".join(f"wsol:{each}-{side}" for each in NETWORKS for side in CELLS)
        raise ModelError(f"wsol:{name} does not exist; there are {known}")
    pretrained = options.weights == "pretrained"
    base = plain.load(network, LoadOptions("pretrained" if pretrained else "random", options.download))
    with torch.random.fork_rng(devices=[]):  # the same name is the same network, new layers included
        torch.manual_seed(SEED)
        module = NETWORKS[network](base.module, int(cells))
    if options.weights not in ("pretrained", "random"):
        load_weights_file(module, options.weights)
    whole = network == "resnet50" and pretrained
    names = base.class_names if whole else None
    return Classifier(module.eval(), f"{PREFIX}:{name}", PREPROCESSING, names, fresh_layers(network, module))


def fresh_layers(network: str, module: nn.Module) -> tuple[str, ...]:
    """Return the paths of the layers that torchvision's network does not have."""
    if network == "inception_v3":
        return "top", "classifier"
    if network == "vgg16":
        kept = module.get_submodule("0")
        assert isinstance(kept, nn.Sequential)
        return f"0.{len(kept) - 2}", "3"
    return ()


def resnet50(base: nn.Module, cells: int) -> nn.Module:
    """Return ResNet-50 whose last stage (28 cells: last two stages) keeps the resolution of the one before."""
    for stage in ("layer4",) if cells == 14 else ("layer3", "layer4"):
        block = base.get_submodule(f"{stage}.0")
        for path in ("conv2", "downsample.0"):
            convolution = block.get_submodule(path)
            assert isinstance(convolution, nn.Conv2d)
            convolution.stride = (1, 1)
    return base


def vgg16(base: nn.Module, cells: int) -> nn.Module:
    """Return VGG-16's convolutions without the last pooling (28 cells: the last two), one more, and a linear head."""
    features = base.get_submodule("features")
    assert isinstance(features, nn.Sequential)
    pools = [place for place, layer in enumerate(features) if isinstance(layer, nn.MaxPool2d)]
    dropped = pools[-1:] if cells == 14 else pools[-2:]
    kept = nn.Sequential(*(layer for place, layer in enumerate(features) if place not in dropped))
    kept.append(nn.Conv2d(512, CHANNELS, 3, padding=1))
    kept.append(nn.ReLU())
    return nn.Sequential(kept, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 1000))


class Inception(nn.Module):
    """InceptionV3 up to Mixed_6e, two more convolutions, and a 1x1 convolution whose map of logits is averaged."""

    def __init__(self, base: nn.Module, cells: int) -> None:
        super().__init__()
        self.transform_input = bool(base.transform_input)
        first = base.get_submodule("Conv2d_1a_3x3.conv")
        assert isinstance(first, nn.Conv2d)
        first.padding = (1, 1)
        self.stem = nn.Sequential(
            base.get_submodule("Conv2d_1a_3x3"),
            base.get_submodule("Conv2d_2a_3x3"),
            base.get_submodule("Conv2d_2b_3x3"),
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
            base.get_submodule("Conv2d_3b_1x1"),
            base.get_submodule("Conv2d_4a_3x3"),
            nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        )
        self.stage5 = nn.Sequential(*(base.get_submodule(f"Mixed_5{letter}") for letter in "bcd"))
        self.shrink = nn.MaxPool2d(3, stride=2, ceil_mode=True) if cells == 14 else nn.Identity()
        self.reduction = KeptReduction(base.get_submodule("Mixed_6a"))
        self.stage6 = nn.Sequential(*(base.get_submodule(f"Mixed_6{letter}") for letter in "bcde"))
        self.top = nn.Sequential(
            nn.Dropout(0.5),
            nn.Conv2d(768, CHANNELS, 3, padding=1),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            nn.ReLU(),
        )
        self.dropout = nn.Dropout(0.5)
        self.classifier = nn.Conv2d(CHANNELS, 1000, 1)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [B, C] of ``images`` [B, 3, H, W] with ImageNet mean and deviation."""
        if self.transform_input:  # torchvision's weights were trained with mean and deviation 0.5
            mean, std = (torch.tensor(x).view(3, 1, 1).to(images) for x in (PREPROCESSING.mean, PREPROCESSING.std))
            images = (images * std + mean - 0.5) / 0.5
        features = self.stage6(self.reduction(self.shrink(self.stage5(self.stem(images)))))
        logits: Tensor = self.pool(self.classifier(self.dropout(self.top(features)))).flatten(1)
        return logits


class KeptReduction(nn.Module):
    """Inception's grid reduction with stride 1: the channels grow, the grid stays."""

    def __init__(self, reduction: nn.Module) -> None:
        super().__init__()
        self.branch3x3 = reduction.get_submodule("branch3x3")
        parts = (f"branch3x3dbl_{number}" for number in (1, 2, 3))
        self.branch3x3dbl = nn.Sequential(*(reduction.get_submodule(part) for part in parts))
        self.pool = nn.MaxPool2d(3, stride=1, padding=1)
        for path in ("branch3x3.conv", "branch3x3dbl.2.conv"):
            convolution = self.get_submodule(path)
            assert isinstance(convolution, nn.Conv2d)
            convolution.stride, convolution.padding = (1, 1), (1, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Return [B, 768, h, w] of ``features`` [B, 288, h, w]."""
        return torch.cat([self.branch3x3(features), self.branch3x3dbl(features), self.pool(features)], 1)


NETWORKS: dict[str, Callable[[nn.Module, int], nn.Module]] = {
    "vgg16": vgg16,
    "resnet50": resnet50,
    "inception_v3": Inception,
}
