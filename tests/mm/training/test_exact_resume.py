"""A run that was stopped and resumed ends in the very weights of one that was not."""

import logging
from pathlib import Path

import pytest
from dev.demo_data import Plan, write_coco

from xcit_dense.cli import train as train_command
from xcit_dense.mm.repeatable_training import RepeatableTrainingHook

DEMO = Path(__file__).parents[3] / "configs/demo/xcit_maskrcnn_demo.py"
EMA = {"type": "EMAHook", "ema_type": "ExponentialMovingAverage", "momentum": 0.1}
BF16 = {
    "type": "MixedPrecisionOptimWrapper",
    "dtype": "bfloat16",
    "optimizer": {"type": "AdamW", "lr": 0.01},
    "clip_grad": {"max_norm": 1.0},
}
SEED = {"seed": 5}
ASPECT = {"type": "mmdet.AspectRatioBatchSampler"}


@pytest.mark.parametrize(
    ("workers", "keywords"),
    [
        (2, {"batch_sampler": ASPECT}),
        (0, {"hooks": [EMA], "optim_wrapper": {**BF16, "accumulative_counts": 4}}),
        (2, {"by_epoch": True, "length": 3, "hooks": [EMA], "batch_sampler": ASPECT}),
    ],
)
def test_a_stopped_run_resumed(toy_runner, same_end, tmp_path, monkeypatch, workers, keywords):
    """With another number of workers, other moments of validation, and the seed it had."""
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    keywords = {"length": 13, "checkpoint": {"interval": 8}, **keywords}
    end = "iter_18.pth" if keywords.get("by_epoch") else "iter_13.pth"
    toy_runner("straight", workers=workers, val_interval=2, randomness=SEED, **keywords).train()
    with pytest.raises(KeyboardInterrupt):
        toy_runner("resumed", stop=10, randomness=SEED, **keywords).train()
    assert not (tmp_path / "resumed" / end).exists()
    toy_runner("resumed", workers=2 - workers, resume=True, **keywords).train()
    same_end(tmp_path / "straight" / end, tmp_path / "resumed" / end)


@pytest.mark.parametrize("by_epoch", [False, True])
def test_what_was_used_is_not_loaded_again(toy_runner, same_end, tmp_path, by_epoch):
    """Also by a run that was stopped twice."""
    common = {"by_epoch": by_epoch, "length": 2 if by_epoch else 12, "val_interval": 100}
    toy_runner("straight", randomness=SEED, **common).train()
    used = toy_runner.loaded[: 22 * 2 if by_epoch else 12 * 4]
    for stop, resume in [(3, False), (9, True)]:
        with pytest.raises(KeyboardInterrupt):
            toy_runner("resumed", stop=stop, resume=resume, randomness=SEED, **common).train()
    toy_runner.loaded.clear()
    toy_runner("resumed", resume=True, **common).train()
    rest = used[22 + 3 * 4 :] if by_epoch else used[9 * 4 :]  # behind the 9th batch
    assert toy_runner.loaded[: len(rest)] == rest
    assert len(toy_runner.loaded) == len(rest) + 4  # and those of the validation at the end
    same_end(tmp_path / "straight" / "iter_12.pth", tmp_path / "resumed" / "iter_12.pth")


def test_the_comparison_sees_a_difference(toy_runner, same_end, tmp_path):
    for seed in (1, 2):
        toy_runner(str(seed), length=3, randomness={"seed": seed}).train()
    with pytest.raises(AssertionError):
        same_end(tmp_path / "1" / "iter_3.pth", tmp_path / "2" / "iter_3.pth")


def test_a_sampler_of_others_is_named(toy_runner, caplog):
    runner = toy_runner(sampler={"type": "InfiniteSampler"}, length=1)
    runner.logger.setLevel(logging.WARNING)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert "not repeatable: InfiniteSampler" in caplog.text


def test_mask_rcnn_stopped_in_the_middle_of_an_epoch(tmp_path, same_end, monkeypatch):
    """By the commands, with drop path, sampled proposals and augmentation."""
    write_coco(tmp_path / "data", Plan(train=6, val=3, size=64))

    def train(name, *more):
        train_command.main([
            str(DEMO), f"--work-dir={tmp_path / name}", f"--data-root={tmp_path / 'data'}", *more,
            "--cfg-options", "randomness.seed=7", "train_dataloader.batch_size=2",
            "model.backbone.arch.embed_dims=16", "model.backbone.arch.depth=4",
            "model.backbone.drop_path_rate=0.3", "model.neck.in_channels=[16,16,16,16]",
            "default_hooks.checkpoint.by_epoch=False", "default_hooks.checkpoint.interval=4",
            "train_cfg.max_epochs=2", "train_cfg.val_interval=5",
            "train_dataloader.dataset.pipeline.2.scale=(96,96)",
        ])  # fmt: skip

    go_on = RepeatableTrainingHook.before_train_iter

    def stop_at_the_sixth(hook, runner, batch_idx, data_batch=None):
        if runner.iter == 5:
            raise KeyboardInterrupt
        go_on(hook, runner, batch_idx, data_batch)

    train("straight")
    with monkeypatch.context() as stopping:
        stopping.setattr(RepeatableTrainingHook, "before_train_iter", stop_at_the_sixth)
        with pytest.raises(KeyboardInterrupt):
            train("stopped")
    train("stopped", "--resume")
    same_end(tmp_path / "straight" / "iter_6.pth", tmp_path / "stopped" / "iter_6.pth")
