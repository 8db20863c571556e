"""Start the processes of a run, by Lightning Fabric: one device, many, many nodes."""

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from dualcam.errors import ChoiceError, ModelError, check_choice
from dualcam.types import Precision

if TYPE_CHECKING:  # the command line reads the options below, and its help is not to wait for torch
    from dualcam.training.processes import Processes


@dataclass(frozen=True, kw_only=True)
class Devices:
    """How many processes share a run; each has a device of its own, on a CPU one process is one device."""

    devices: int = 1
    """Devices of this machine, one process each. Every process runs this same command."""

    nodes: int = 1
    """Machines; run the command on each, with MASTER_ADDR, MASTER_PORT and NODE_RANK in the environment."""

    timeout: float = 1800.0
    """Seconds that a process waits for the others before it gives up."""

    def __post_init__(self) -> None:
        if self.devices < 1 or self.nodes < 1 or not self.timeout > 0:
            raise ChoiceError(
                f"devices and nodes must be at least 1, timeout above 0; got {self.devices}, {self.nodes}, "
                f"{self.timeout}"
            )

    @property
    def shared(self) -> bool:
        """Whether there is more than one process."""
        return self.devices * self.nodes > 1


@dataclass(frozen=True, kw_only=True)
class LaunchOptions(Devices):
    """The processes of a run that trains a whole network."""

    precision: Precision = "32-true"
    """32-true, or mixed precision for the network's own passes."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("precision", self.precision, ("32-true", "16-mixed", "bf16-mixed"))


def launch(options: Devices, device: str) -> "Processes":
    """Start the other processes and return what this one is; ``device`` is "cpu", "cuda", "cuda:1" or "mps".

    They run this process's own command again, so nothing that should happen once may stand before. Raises
    `ModelError` where Lightning Fabric is not installed, `ChoiceError` for devices that are not there.
    """
    try:
        from lightning_fabric import Fabric
        from lightning_fabric.strategies import DDPStrategy
    except ImportError as error:
        raise ModelError(
            'training classifiers and running many processes need Lightning Fabric: pip install "dualcam[train]"'
        ) from error
    from dualcam.training.passes import check_precision
    from dualcam.training.processes import Processes

    if isinstance(options, LaunchOptions):
        check_precision(options.precision, device)
    if options.nodes > 1:
        check_nodes(options.nodes)
    kind, _, number = device.partition(":")
    if number and options.shared:
        raise ChoiceError(f"--device {device} is one device, --devices {options.devices} are several; choose one")
    devices: Any = [int(number)] if number else options.devices
    strategy: Any = "auto"
    if options.shared:
        strategy = DDPStrategy(timeout=timedelta(seconds=options.timeout))
    try:
        fabric = Fabric(
            accelerator=kind,
            devices=devices,
            num_nodes=options.nodes,
            precision=options.precision if isinstance(options, LaunchOptions) else "32-true",
            strategy=strategy,
        )
    except Exception as error:  # Fabric has an exception of its own for each kind of device
        raise ChoiceError(f"--devices {options.devices} of {device} can not be had: {error}") from error
    processes = Processes(0, options.devices * options.nodes, None, options.timeout)
    with processes.losses_told():
        fabric.launch()
    return Processes(fabric.global_rank, fabric.world_size, fabric, options.timeout)


def check_nodes(nodes: int) -> None:
    """Raise `ChoiceError` where nothing tells this machine how to meet the other ``nodes``: it would wait for them."""
    from lightning_fabric.plugins.environments import LSFEnvironment, SLURMEnvironment, TorchElasticEnvironment

    lacking = [name for name in ("MASTER_ADDR", "MASTER_PORT", "NODE_RANK") if name not in os.environ]
    if lacking and not any(each.detect() for each in (SLURMEnvironment, TorchElasticEnvironment, LSFEnvironment)):
        raise ChoiceError(
            f"--nodes {nodes} needs {', '.join(lacking)} in the environment: address and free port of the first "
            "machine, and which machine this is, from 0. Slurm and torchrun set what they need"
        )
