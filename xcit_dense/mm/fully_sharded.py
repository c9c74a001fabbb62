"""Dividing parameters, gradients and optimizer state among the processes."""

from collections.abc import Callable
from typing import Any

from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import BaseOptimWrapper, OptimWrapperDict
from mmengine.registry import STRATEGIES
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from xcit_dense.errors import UserError
from xcit_dense.mm.cpu_processes import without_synced_norms
from xcit_dense.network import Block


@STRATEGIES.register_module()
class FullyShardedStrategy(DDPStrategy):
    """Train with each process keeping only its share of parameters, gradients and optimizer state.

    A block of XCiT is gathered when it is computed and let go after; what is no block (stem,
    pyramid, neck, heads) is gathered once for a forward and backward pass. The arithmetic is that
    of ``DistributedDataParallel``, and so are the checkpoints: whole, in one file, which any
    process count, a plain run and ``tools/test.py`` take. Where nothing is trained, every process
    has the whole model.

    For a config with ``runner_type = "FlexibleRunner"``. Mixed precision is the optimizer
    wrapper's business, recomputation that of ``with_cp=True``.

    Source: ZeRO, stage 3 (arXiv 1910.02054), by torch's ``fully_shard``.

    Args:
        options: as in mmengine's ``DDPStrategy``; ``model_wrapper`` is not used.
    """

    def prepare(
        self, model: nn.Module | dict, *, optim_wrapper: Any = None, **options: Any
    ) -> nn.Module | list:
        """Build and shard model and optimizer.

        Raises:
            UserError: training alone, with several optimizers, or a model without XCiT.
        """
        self._trains = optim_wrapper is not None
        if self._trains and not self.distributed:
            raise UserError(
                "strategy.type='FullyShardedStrategy' divides a model among processes, and this "
                "is a single one: start it with torchrun --nproc-per-node N tools/train.py ... "
                "--launcher pytorch"
            )
        return super().prepare(model, optim_wrapper=optim_wrapper, **options)

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        device = get_device()
        model = without_synced_norms(model) if device == "cpu" else self.convert_model(model)
        if not self._trains:
            return model.to(device)
        for module in model.modules():
            if isinstance(module, BaseDataPreprocessor):
                module.to(device)  # tells it where the images go
        shard(model, device, self.world_size)
        self._log_share(model)
        return model

    def _log_share(self, model: nn.Module) -> None:
        whole = sum(parameter.nbytes for parameter in model.parameters())
        share = sum(parameter.to_local().nbytes for parameter in model.parameters())
        self.logger.info(
            f"Sharded among {self.world_size} processes: this one keeps {share / 1e6:.1f} of "
            f"{whole / 1e6:.1f} MB of parameters"
        )

    def model_state_dict(self) -> dict:
        """The whole model, on the CPU of the main process; every process has to ask for it."""
        return gather(self.model.state_dict())

    def optim_state_dict(self) -> dict:
        """The whole optimizer state, likewise."""
        return gather(super().optim_state_dict())

    def load_checkpoint(self, filename: str, *, map_location: Any = "cpu", **options: Any) -> dict:
        """Load a whole checkpoint, of which each process keeps its share.

        Args:
            filename: path or URL.
            map_location: not used: a whole checkpoint belongs in the memory of the CPU.
            options: as in mmengine's strategies.
        """
        return super().load_checkpoint(filename, map_location="cpu", **options)

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of a whole optimizer, of which each process keeps its share."""
        groups = self.optim_wrapper.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        shares = {
            index: {name: share_like(parameters[index], value) for name, value in state.items()}
            for index, state in state_dict["state"].items()
        }
        super().load_optim_state_dict({**state_dict, "state": shares})

    def save_checkpoint(
        self,
        filename: str,
        *,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        extra_ckpt: dict | None = None,
        callback: Callable | None = None,
    ) -> None:
        """Let the main process save what all gather; every process has to call it."""
        if not is_main_process():
            self.model_state_dict()
            if save_optimizer:
                self.optim_state_dict()
        super().save_checkpoint(
            filename,
            save_optimizer=save_optimizer,
            save_param_scheduler=save_param_scheduler,
            extra_ckpt=extra_ckpt,
            callback=callback,
        )

    def build_optim_wrapper(self, *arguments: Any, **options: Any) -> BaseOptimWrapper:
        """Build the wrapper of one optimizer.

        Raises:
            UserError: the config has several optimizers.
        """
        optim_wrapper = super().build_optim_wrapper(*arguments, **options)
        if isinstance(optim_wrapper, OptimWrapperDict):
            raise UserError(
                "strategy.type='FullyShardedStrategy' takes one optimizer, and optim_wrapper has "
                f"{len(optim_wrapper)}: train with DistributedDataParallel, without strategy"
            )
        return optim_wrapper


def shard(model: nn.Module, device: str, world_size: int) -> None:
    """Divide the parameters of a model among all processes, in place: each block, and the rest.

    Not finer than blocks, as these use the weights of their parts without calling the parts.

    Args:
        model: a model with XCiT blocks, whole on every process.
        device: ``cpu`` or ``cuda``.
        world_size: number of processes.

    Raises:
        UserError: there is no XCiT block in the model.
    """
    mesh = init_device_mesh(device, (world_size,))
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    if not blocks:
        raise UserError(
            f"{type(model).__name__} has no XCiT inside: FullyShardedStrategy divides a model "
            "block by block; leave strategy out, or use mmengine's FSDPStrategy"
        )
    for module in [*blocks, model]:
        fully_shard(module, mesh=mesh)
    for module in model.modules():
        if isinstance(module, FSDPModule) and device == "cpu":
            module.set_force_sum_reduction_for_comms(True)  # gloo cannot average
        module.register_load_state_dict_pre_hook(_keep_share)


def gather(tree: Any) -> Any:
    """Make the tensors in nested dicts and lists whole, on the CPU of the main process.

    Every process has to call it with the same structure; the others get None for each tensor.
    """
    if isinstance(tree, dict):
        return type(tree)((key, gather(value)) for key, value in tree.items())
    if isinstance(tree, list | tuple):
        return type(tree)(gather(value) for value in tree)
    if not isinstance(tree, Tensor):
        return tree
    whole = tree.full_tensor() if isinstance(tree, DTensor) else tree
    return whole.detach().cpu() if is_main_process() else None


def share_like(parameter: Tensor, value: Any) -> Any:
    """The share of a whole tensor that this process keeps of a parameter of the same shape.

    A value that goes with no share, such as the number of steps, comes back as it is.
    """
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or not value.ndim:
        return value
    return distribute_tensor(
        value.to(parameter.device),
        parameter.device_mesh,
        parameter.placements,
        src_data_rank=None,  # every process has read the whole
    )


def _keep_share(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Let a sharded module take whole tensors, by whatever way they are loaded."""
    for name, parameter in module._parameters.items():
        if parameter is not None and prefix + name in state_dict:
            state_dict[prefix + name] = share_like(parameter, state_dict[prefix + name])
