"""NaN and Inf end a run before they reach the weights, or are left out."""

import logging
import re

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.structures import InstanceData, PixelData

from xcit_dense.cli.options import run
from xcit_dense.errors import UserError
from xcit_dense.mm.finite_loss_hook import plain
from xcit_dense.mm.finite_loss_hook import FiniteLossHook

STOP = {"type": "FiniteLossHook", "action": "stop"}
SKIP = {"type": "FiniteLossHook", "action": "skip", "max_skips": 2}
IN_ORDER = {"type": "ResumableInfiniteSampler", "shuffle": False}
EMA = {"type": "EMAHook", "ema_type": "ExponentialMovingAverage"}
SEED = {"seed": 0}


class RememberState(Hook):
    """Keeps the state before the last iteration that began."""

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        parts = runner.model.state_dict().items()
        self.weights = {name: value.clone() for name, value in parts}
        self.inner_count = runner.optim_wrapper.inner_count


class SpoilGradients(Hook):
    """Makes every gradient NaN, with a finite loss."""

    def before_train(self, runner):
        for weights in runner.model.parameters():
            weights.register_hook(lambda gradient: gradient * float("nan"))


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_stop(toy_runner, tmp_path):
    remember = RememberState()
    runner = toy_runner(
        dataset=toy_runner.ToyImages(bad=[13]),
        sampler=IN_ORDER,
        hooks=[remember, STOP, EMA],
        checkpoint_interval=2,
    )
    last = str(tmp_path / "run" / "iter_2.pth")
    kept = str(tmp_path / "run" / "nonfinite_batch_iter_4.pth")
    expected = (
        "the loss is not finite at iteration 4 (epoch 1), learning rate 0.00727273: loss nan, "
        "loss_square nan, mean nan; images images/12.jpg, images/13.jpg, images/14.jpg, "
        f"images/15.jpg; batch kept in {kept}. To mend it, go on with --resume {last}, with a "
        "lower learning rate, clipped gradients or bfloat16"
    )
    with pytest.raises(UserError, match=f"^{re.escape(expected)}$"):
        runner.train()
    parameters = dict(runner.model.named_parameters())
    assert equal(parameters, remember.weights)
    assert not (tmp_path / "run" / "iter_4.pth").exists()
    record = torch.load(kept, weights_only=True)
    assert (record["iteration"], record["epoch"]) == (4, 1)
    assert record["losses"].keys() == {"loss", "loss_square", "mean"}
    assert [image.isnan().all().item() for image in record["batch"]["inputs"]] == [
        False, True, False, False,
    ]  # fmt: skip
    assert record["batch"]["data_samples"][1] == {"img_path": "images/13.jpg"}


def test_stop_before_the_first_checkpoint(toy_runner):
    runner = toy_runner(dataset=toy_runner.ToyImages(bad=range(22)), hooks=[STOP])
    with pytest.raises(UserError, match="To mend it, no checkpoint yet: start anew, with a"):
        runner.train()


def test_skip_is_as_if_the_batch_had_not_been(toy_runner, tmp_path, caplog):
    remember = RememberState()
    runner = toy_runner(
        dataset=toy_runner.ToyImages(bad=[13, 14, 17]),
        sampler=IN_ORDER,
        hooks=[remember, SKIP, toy_runner.StopAt(5)],
    )
    runner.logger.setLevel(logging.WARNING)
    runner.logger.addHandler(caplog.handler)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert equal(runner.model.state_dict(), remember.weights)  # running statistics too
    assert runner.optim_wrapper.inner_count == remember.inner_count + 1
    assert runner.message_hub.get_scalar("train/skipped_batches").current() == 2
    assert runner.message_hub.get_scalar("train/loss").current() < float("inf")
    assert "skipped a batch (2 so far, 2 in a row, at most 2): the loss is not" in caplog.text


def test_too_many_skips_in_a_row_stop(toy_runner, tmp_path):
    runner = toy_runner(dataset=toy_runner.ToyImages(bad=range(22)), hooks=[SKIP])
    with pytest.raises(UserError, match="the loss is not finite at iteration 3 "):
        runner.train()
    assert (tmp_path / "run" / "nonfinite_batch_iter_3.pth").exists()


@pytest.mark.parametrize("bad", [0, 4])
def test_skip_within_an_accumulation(toy_runner, bad):
    """The other batch counts, unless it is the last one that is skipped."""
    wrapper = {"type": "OptimWrapper", "optimizer": {"type": "SGD", "lr": 1.0}}
    runner = toy_runner(
        dataset=toy_runner.ToyImages(bad=[bad]),
        sampler=IN_ORDER,
        hooks=[SKIP, toy_runner.StopAt(2)],
        optim_wrapper={**wrapper, "accumulative_counts": 2},
    )
    before = {name: weights.clone() for name, weights in runner.model.named_parameters()}
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert equal(before, dict(runner.model.named_parameters())) == (bad == 4)
    assert all(weights.isfinite().all() for weights in runner.model.parameters())


def test_gradients_that_are_nan_stop_where_they_are_clipped(toy_runner, tmp_path):
    clipping = {
        "type": "OptimWrapper",
        "optimizer": {"type": "AdamW"},
        "clip_grad": {"max_norm": 1.0},
    }
    runner = toy_runner(hooks=[SpoilGradients(), STOP], optim_wrapper=clipping)
    with pytest.raises(UserError, match="the norm of the gradients is nan at iteration 1 "):
        runner.train()
    assert not (tmp_path / "run" / "iter_1.pth").exists()


def test_weights_that_are_nan_are_not_saved(toy_runner, tmp_path):
    runner = toy_runner(hooks=[SpoilGradients(), STOP])
    with pytest.raises(UserError, match=r"^weights convolution\.weight are NaN after itera"):
        runner.train()
    assert not list((tmp_path / "run").glob("*.pth"))


def test_a_finite_run_is_not_touched(toy_runner, same_end, tmp_path):
    toy_runner("with", hooks=[SKIP], randomness=SEED).train()
    toy_runner("without", randomness=SEED).train()
    same_end(tmp_path / "with" / "iter_12.pth", tmp_path / "without" / "iter_12.pth")


def test_two_checks_on_one_wrapper_agree(toy_runner):
    toy_runner(length=2, hooks=[STOP, STOP]).train()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"action": "halt"}, "action='halt': wanted one of stop, skip"),
        ({"max_skips": 0}, "max_skips=0: wanted 1 or more"),
    ],
)
def test_wrong_options(options, expected):
    with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
        FiniteLossHook(**options)


def test_several_optimizers_are_an_error(toy_runner):
    runner = toy_runner(hooks=[STOP])
    runner.optim_wrapper = {"one": 1}
    with pytest.raises(TypeError, match="FiniteLossHook works with one optimizer, not with dict"):
        FiniteLossHook().before_train(runner)


def test_the_tool_ends_with_one_line(monkeypatch):
    def fail(argv):
        raise UserError("the loss is not finite")

    with pytest.raises(SystemExit, match=r"^error: the loss is not finite$"):
        run(fail)


def test_a_batch_of_mmdet_and_mmseg_becomes_plain(tmp_path):
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmseg.structures import SegDataSample

    boxes = HorizontalBoxes(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
    masks = BitmapMasks(torch.ones(1, 4, 4, dtype=torch.uint8).numpy(), 4, 4)
    instances = InstanceData(bboxes=boxes, masks=masks, labels=torch.tensor([2]))
    detection = DetDataSample(metainfo={"img_path": "a.jpg", "scale_factor": (0.5, 0.5)})
    detection.gt_instances = instances
    segmentation = SegDataSample(metainfo={"img_path": "b.png", "seed": {1}})
    segmentation.gt_sem_seg = PixelData(data=torch.zeros(1, 4, 4))
    batch = {"inputs": [torch.zeros(3, 4, 4)], "data_samples": [detection, segmentation]}
    assert image_paths(batch) == ["a.jpg", "b.png"]
    torch.save(plain(batch), tmp_path / "batch.pth")
    first, second = torch.load(tmp_path / "batch.pth", weights_only=True)["data_samples"]
    assert first["gt_instances"]["bboxes"].tolist() == [[0, 1, 2, 3]]
    assert first["gt_instances"]["masks"].shape == (1, 4, 4)
    assert first["scale_factor"] == [0.5, 0.5]
    assert second["gt_sem_seg"]["data"].shape == (1, 4, 4)
    assert second["seed"] == "{1}"
