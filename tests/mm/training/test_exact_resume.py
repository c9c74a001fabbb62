"""A run that was stopped and resumed ends in the very weights of one that was not."""

import logging

import pytest

EMA = {"type": "EMAHook", "ema_type": "ExponentialMovingAverage", "momentum": 0.1}
BF16 = {
    "type": "MixedPrecisionOptimWrapper",
    "dtype": "bfloat16",
    "optimizer": {"type": "AdamW", "lr": 0.01},
    "clip_grad": {"max_norm": 1.0},
}
ASPECT = {"type": "mmdet.AspectRatioBatchSampler"}


@pytest.mark.parametrize(
    ("workers", "keywords"),
    [
        (0, {}),
        (2, {}),
        (0, {"hooks": [EMA], "optim_wrapper": BF16}),
        (2, {"batch_sampler": ASPECT}),
        (0, {"sampler": {"type": "ResumableSampler"}, "batch_sampler": ASPECT}),
        (0, {"optim_wrapper": {**BF16, "accumulative_counts": 4}}),
    ],
)
def test_iterations(toy_runner, same_end, tmp_path, monkeypatch, workers, keywords):
    monkeypatch.setattr("mmengine.runner.loops.time.sleep", lambda seconds: None)
    toy_runner("straight", checkpoint_interval=8, length=13, workers=workers, **keywords).train()
    toy_runner(
        "resumed",
        length=13,
        checkpoint_interval=13,
        val_interval=3,
        workers=2 - workers,
        resume=True,
        load_from=str(tmp_path / "straight" / "iter_8.pth"),
        **keywords,
    ).train()
    same_end(tmp_path / "straight" / "iter_13.pth", tmp_path / "resumed" / "iter_13.pth")


@pytest.mark.parametrize(
    ("workers", "checkpoint", "keywords"),
    [
        (0, "epoch_2", {}),
        (2, "epoch_2", {"hooks": [EMA], "optim_wrapper": BF16}),
        (2, "epoch_1", {"batch_sampler": ASPECT}),
        (0, "iter_8", {}),
        (2, "iter_8", {"batch_sampler": ASPECT}),
    ],
)
def test_epochs(toy_runner, same_end, tmp_path, workers, checkpoint, keywords):
    by_epoch = checkpoint.startswith("epoch")
    common = {"by_epoch": True, "length": 3, "checkpoint_by_epoch": by_epoch, "workers": workers}
    toy_runner("straight", val_interval=1, **common, **keywords).train()
    toy_runner(
        "resumed",
        val_interval=2,
        resume=True,
        load_from=str(tmp_path / "straight" / f"{checkpoint}.pth"),
        **common,
        **keywords,
    ).train()
    end = "epoch_3.pth" if by_epoch else "iter_18.pth"
    same_end(tmp_path / "straight" / end, tmp_path / "resumed" / end)


def test_the_comparison_sees_a_difference(toy_runner, same_end, tmp_path):
    toy_runner("one", length=3, randomness={"seed": 1}).train()
    toy_runner("two", length=3, randomness={"seed": 2}).train()
    with pytest.raises(AssertionError):
        same_end(tmp_path / "one" / "iter_3.pth", tmp_path / "two" / "iter_3.pth")


def test_a_stopped_run_can_be_stopped_again(toy_runner, same_end, tmp_path):
    toy_runner("straight", randomness={"seed": 5}).train()
    for stop, resume in [(4, False), (9, True)]:
        hooks = [toy_runner.StopAt(stop)]
        with pytest.raises(KeyboardInterrupt):
            toy_runner("resumed", hooks=hooks, resume=resume, randomness={"seed": 5}).train()
    toy_runner("resumed", resume=True, randomness={"seed": 5}).train()
    same_end(tmp_path / "straight" / "iter_12.pth", tmp_path / "resumed" / "iter_12.pth")


def test_what_was_used_is_not_loaded_again(toy_runner, tmp_path):
    toy_runner("straight", val_interval=100).train()
    used = toy_runner.loaded[: 12 * 4]
    toy_runner.loaded.clear()
    checkpoint = str(tmp_path / "straight" / "iter_10.pth")
    runner = toy_runner("resumed", val_interval=100, resume=True, load_from=checkpoint)
    runner.train()
    assert toy_runner.loaded[: 2 * 4] == used[10 * 4 :]
    assert len(toy_runner.loaded) == 2 * 4 + 4  # and those of the validation at the end


def test_a_middle_epoch_goes_on_behind_the_last_batch(toy_runner, tmp_path):
    common = {"by_epoch": True, "length": 2, "checkpoint_by_epoch": False, "val_interval": 100}
    toy_runner("straight", **common).train()
    checkpoint = str(tmp_path / "straight" / "iter_8.pth")
    runner = toy_runner("resumed", resume=True, load_from=checkpoint, **common)
    runner.train()
    assert runner.iter == 12


def test_a_sampler_of_others_is_named(toy_runner, caplog):
    runner = toy_runner(sampler={"type": "InfiniteSampler"}, length=1)
    runner.logger.setLevel(logging.WARNING)
    runner.logger.addHandler(caplog.handler)
    runner.train()
    assert "the data of this run are not repeatable: InfiniteSampler draws them" in caplog.text
