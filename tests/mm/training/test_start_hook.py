"""What a training says before its first iteration."""

import pytest
from mmengine.hooks import LoggerHook

from xcit_dense.mm.console import Essentials, essentials_only, tell
from xcit_dense.mm.start_hook import StartHook


@pytest.mark.parametrize(
    ("by_epoch", "length", "interval", "fitted"),
    [
        (True, 2, 50, 3),  # 22 images in batches of 4 are 6 iterations an epoch
        (True, 2, 5, 5),
        (False, 5, 50, 2),
        (False, 12, 12, 12),
        (False, 1, 50, 1),
    ],
)
def test_the_interval_of_the_log_fits_the_training(
    toy_runner, capsys, by_epoch, length, interval, fitted
):
    runner = toy_runner(by_epoch=by_epoch, length=length, val_interval=100, log_level="INFO")
    runner.log_processor.window_size = 50
    (hook,) = (hook for hook in runner.hooks if isinstance(hook, LoggerHook))
    hook.interval = interval
    runner.register_hook(StartHook(Essentials()))
    runner.train()
    assert hook.interval == fitted
    assert runner.log_processor.window_size == (50 if fitted == interval else fitted)
    assert (f"log interval: {fitted}" in capsys.readouterr().out) == (fitted != interval)


def test_the_first_lines_say_what_is_trained(toy_runner, capsys, tmp_path):
    with essentials_only() as essentials:
        runner = toy_runner(by_epoch=True, length=2, val_interval=2, log_level="INFO")
    runner.register_hook(StartHook(essentials))
    runner.logger.info("of no interest yet")
    runner.logger.warning("always of interest")
    tell("of interest")
    runner.train()
    runner.logger.info("of interest now")
    lines = [line.partition(" - ")[2] or line for line in capsys.readouterr().out.splitlines()]
    log_file = runner.logger.log_file
    parameters = sum(parameter.numel() for parameter in runner.model.parameters())
    assert lines[:9] == [
        "mmengine - WARNING - always of interest",
        "mmengine - INFO - of interest",
        f"mmengine - INFO - training ToyModel, {parameters / 1e6:.3g} million parameters, on cpu",
        "  22 images in batches of 4; validation on 4 every 2 epochs",
        "  AdamW at a learning rate of 0.01, 2 epochs of 6 iterations",
        "  log interval: 3, as one of 1000 is longer than the epoch",
        f"  log: {log_file}",
        f"  checkpoints, config: {tmp_path}/run",
        "mmengine - INFO - Checkpoints will be saved to " + f"{tmp_path}/run.",
    ]
    assert lines[-1] == "mmengine - INFO - of interest now"
    with open(log_file) as file:
        logged = file.read()
    assert "of no interest yet" in logged and "System environment" in logged
