"""Dividing parameters, gradients and optimizer state among the processes."""

from typing import Any

from mmengine._strategy import DDPStrategy
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.registry import STRATEGIES
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from xcit_dense.network import Block


@STRATEGIES.register_module()
class FullyShardedStrategy(DDPStrategy):
    """Train with each process keeping only its share of parameters, gradients and optimizer state.

    A block of XCiT is gathered when it is computed and let go after; the rest is gathered once for
    a forward and backward pass. The arithmetic is that of ``DistributedDataParallel``, and so are
    the checkpoints: whole, in one file. The arguments are those of mmengine's ``DDPStrategy``, of
    which ``model_wrapper`` is not used; the runner is a ``FlexibleRunner``.

    Source: ZeRO, stage 3 (arXiv 1910.02054), by torch's ``fully_shard``.
    """

    def _wrap_model(self, model: nn.Module) -> nn.Module:
        """Shard each block, and the rest; not finer, as blocks do not call all of their parts."""
        device = get_device()
        model = self.convert_model(model)
        model.data_preprocessor.to(device)  # tells it where the images go
        mesh = init_device_mesh(device, (self.world_size,))
        blocks = [module for module in model.modules() if isinstance(module, Block)]
        for module in [*blocks, model]:
            fully_shard(module, mesh=mesh)
            if device == "cpu":
                module.set_force_sum_reduction_for_comms(True)  # gloo cannot average
        for module in model.modules():
            module.register_load_state_dict_pre_hook(_keep_share)
        return model

    def model_state_dict(self) -> dict:
        """The whole model, on the CPU of the main process; every process has to ask for it."""
        return _gather(self.model.state_dict())

    def optim_state_dict(self) -> dict:
        """The whole optimizer state, likewise."""
        return _gather(super().optim_state_dict())

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of a whole optimizer, of which each process keeps its share."""
        groups = self.optim_wrapper.optimizer.param_groups
        parameters = [parameter for group in groups for parameter in group["params"]]
        shares = {
            index: {name: _share_like(parameters[index], value) for name, value in state.items()}
            for index, state in state_dict["state"].items()
        }
        super().load_optim_state_dict({**state_dict, "state": shares})

    def save_checkpoint(
        self, filename: str, *, save_optimizer: bool = True, **options: Any
    ) -> None:
        """Let the main process save what all gather; every process has to call it."""
        if not is_main_process():  # where mmengine asks for no state
            self.model_state_dict()
            if save_optimizer:
                self.optim_state_dict()
        super().save_checkpoint(filename, save_optimizer=save_optimizer, **options)


def _gather(tree: Any) -> Any:
    """Make the shares in nested dicts and lists whole: for the main process; others get None."""
    if isinstance(tree, dict):
        return type(tree)((key, _gather(value)) for key, value in tree.items())
    if isinstance(tree, list):
        return [_gather(value) for value in tree]
    if isinstance(tree, DTensor):
        tree = tree.full_tensor()
    if isinstance(tree, Tensor):
        return tree.detach().cpu() if is_main_process() else None
    return tree


def _share_like(parameter: Tensor, value: Any) -> Any:
    """The share of a whole tensor that goes with that of a parameter; other values as they are."""
    if not isinstance(parameter, DTensor) or not isinstance(value, Tensor) or not value.ndim:
        return value
    whole = value.to(parameter.device)  # every process has read it: nothing is sent
    return distribute_tensor(whole, parameter.device_mesh, parameter.placements, src_data_rank=None)


def _keep_share(module: nn.Module, state_dict: dict, prefix: str, *_: Any) -> None:
    """Let a sharded module take whole tensors, by whatever way they are loaded."""
    for name, parameter in module.named_parameters(recurse=False):
        if prefix + name in state_dict:
            state_dict[prefix + name] = _share_like(parameter, state_dict[prefix + name])
