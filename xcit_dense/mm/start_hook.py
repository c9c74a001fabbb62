"""A hook that says in a few lines what is about to be trained."""

from typing import Any

from mmengine.device import get_device
from mmengine.dist import get_world_size
from mmengine.hooks import Hook, LoggerHook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop

from xcit_dense.mm.config import dicts_in, type_name
from xcit_dense.mm.console import Essentials, tell


class StartHook(Hook):
    """Says what is trained, on which data and how; then the console shows all that is logged.

    A log interval that is longer than an epoch, or than a training without epochs, is shortened to
    half of it, and so is the window over which its losses are means.

    Args:
        essentials: what filters the console until now.
    """

    priority = "HIGHEST"

    def __init__(self, essentials: Essentials) -> None:
        self.essentials = essentials

    def before_train(self, runner: Any) -> None:
        """Tell, and give the console free."""
        by_iteration = isinstance(runner.train_loop, IterBasedTrainLoop)
        batches = runner.max_iters if by_iteration else len(runner.train_dataloader)
        length = f"{batches} iterations"
        if not by_iteration:
            epochs = "1 epoch" if runner.max_epochs == 1 else f"{runner.max_epochs} epochs"
            length = f"{epochs} of {length}"
        lines = [_of_model(runner), _of_data(runner), f"{_of_optimizer(runner)}, {length}"]
        if runner.iter:
            epoch = "" if by_iteration else f" in epoch {runner.epoch + 1}"
            lines.append(f"going on after iteration {runner.iter}{epoch}")
        lines += filter(None, [_fit_log(runner, batches, "training" if by_iteration else "epoch")])
        lines.append(f"log: {runner.logger.log_file}")
        lines.append(f"checkpoints, config: {runner.work_dir}")
        tell("\n  ".join(lines))
        self.essentials.is_over = True


def _of_model(runner: Any) -> str:
    model = runner.model.module if is_model_wrapper(runner.model) else runner.model
    parameters = list(model.parameters())
    total = sum(parameter.numel() for parameter in parameters)
    trained = sum(parameter.numel() for parameter in parameters if parameter.requires_grad)
    backbones = [node["backbone"] for _, node in dicts_in(runner.cfg.get("model", {}))
                 if isinstance(node.get("backbone"), dict)]  # fmt: skip
    backbone = f" with {type_name(backbones[0])}" if backbones else ""
    frozen = "" if trained == total else f", {trained / 1e6:.3g} million of them trained"
    return (
        f"training {type(model).__name__}{backbone}, {total / 1e6:.3g} million parameters{frozen}, "
        f"on {get_device()}"
    )


def _of_data(runner: Any) -> str:
    loader, processes = runner.train_dataloader, get_world_size()
    batch = getattr(loader.batch_sampler, "batch_size", None) or loader.batch_size
    accumulated = getattr(runner.optim_wrapper, "_accumulative_counts", 1)
    factors = {"": batch, " processes": processes, " accumulated": accumulated}
    parts = [f"{number}{what}" for what, number in factors.items() if number != 1 or not what]
    together = f" = {batch * processes * accumulated}" if len(parts) > 1 else ""
    validated = "no validation"
    if runner.val_loop is not None:
        unit = "iteration" if isinstance(runner.train_loop, IterBasedTrainLoop) else "epoch"
        interval = runner.train_loop.val_interval
        every = unit if interval == 1 else f"{interval} {unit}s"
        validated = f"validation on {len(runner.val_dataloader.dataset)} every {every}"
    return f"{len(loader.dataset)} images in batches of {' x '.join(parts)}{together}; {validated}"


def _of_optimizer(runner: Any) -> str:
    optimizer = getattr(runner.optim_wrapper, "optimizer", None)
    if optimizer is None:
        return "several optimizers"
    rate = max(group.get("initial_lr", group["lr"]) for group in optimizer.param_groups)
    return f"{type(optimizer).__name__} at a learning rate of {rate:.4g}"


def _fit_log(runner: Any, batches: int, unit: str) -> str:
    """Shorten the interval if nothing would be logged before the end; says so."""
    told = ""
    for hook in runner.hooks:
        if isinstance(hook, LoggerHook) and hook.interval > batches:
            told = f"log interval: {max(1, batches // 2)}, as one of {hook.interval} is longer "
            told += f"than the {unit}"
            hook.interval = max(1, batches // 2)
            runner.log_processor.window_size = min(runner.log_processor.window_size, hook.interval)
    return told
