"""NaN and Inf end a run before they reach the weights, or are left out."""

import logging

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.structures import InstanceData, PixelData

from xcit_dense.errors import UserError
from xcit_dense.mm.finite_loss_hook import FiniteLossHook, plain

STOP = {"type": "FiniteLossHook", "action": "stop"}
SKIP = {"type": "FiniteLossHook", "action": "skip", "max_skips": 2}
IN_ORDER = {"type": "ResumableInfiniteSampler", "shuffle": False}
EMA = {"type": "EMAHook", "ema_type": "ExponentialMovingAverage"}


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


def test_stop_leaves_the_weights_and_keeps_the_batch(toy_runner, tmp_path):
    remember = RememberState()
    images = toy_runner.images(bad=[13])
    hooks, checkpoint = [remember, STOP, EMA], {"interval": 2}
    runner = toy_runner(dataset=images, sampler=IN_ORDER, hooks=hooks, checkpoint=checkpoint)
    with pytest.raises(UserError) as error:
        runner.train()
    kept = tmp_path / "run/nonfinite_batch_iter_4.pth"
    told = [
        "iteration 4 (epoch 1)", "learning rate 0.00727273", "loss_square nan", "images/13.jpg",
        f"kept in {kept}", f"--resume {tmp_path / 'run/iter_2.pth'}",
    ]  # fmt: skip
    assert [words for words in told if words not in str(error.value)] == []
    assert equal(dict(runner.model.named_parameters()), remember.weights)
    assert not (tmp_path / "run/iter_4.pth").exists()
    record = torch.load(kept, weights_only=True)
    assert (record["iteration"], record["epoch"]) == (4, 1)
    assert record["losses"].keys() == {"loss", "loss_square", "mean"}
    bad = [bool(image.isnan().all()) for image in record["batch"]["inputs"]]
    assert bad == [False, True, False, False]
    assert record["batch"]["data_samples"][1] == {"img_path": "images/13.jpg"}


def test_skip_is_as_if_the_batch_had_not_been(toy_runner, caplog):
    remember = RememberState()
    images = toy_runner.images(bad=[13, 14, 17])
    runner = toy_runner(dataset=images, sampler=IN_ORDER, hooks=[remember, SKIP], stop=5)
    runner.logger.setLevel(logging.WARNING)
    runner.logger.addHandler(caplog.handler)
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert equal(runner.model.state_dict(), remember.weights)  # running statistics too
    assert runner.optim_wrapper.inner_count == remember.inner_count + 1
    assert runner.message_hub.get_scalar("train/skipped_batches").current() == 2
    assert runner.message_hub.get_scalar("train/loss").current() < float("inf")
    assert "2 so far, 2 in a row, at most 2" in caplog.text


def test_too_many_skips_in_a_row_stop(toy_runner, tmp_path):
    runner = toy_runner(dataset=toy_runner.images(bad=range(22)), hooks=[SKIP])
    with pytest.raises(UserError, match="at iteration 3 "):
        runner.train()
    assert (tmp_path / "run/nonfinite_batch_iter_3.pth").exists()


@pytest.mark.parametrize("bad", [0, 4])
def test_skip_within_an_accumulation(toy_runner, bad):
    """The other batch counts, unless it is the last one that is skipped."""
    wrapper = {"optimizer": {"type": "SGD", "lr": 1.0}, "accumulative_counts": 2}
    images = toy_runner.images(bad=[bad])
    runner = toy_runner(
        dataset=images, sampler=IN_ORDER, hooks=[SKIP], stop=2, optim_wrapper=wrapper
    )
    before = {name: weights.clone() for name, weights in runner.model.named_parameters()}
    with pytest.raises(KeyboardInterrupt):
        runner.train()
    assert equal(before, dict(runner.model.named_parameters())) == (bad == 4)
    assert all(weights.isfinite().all() for weights in runner.model.parameters())


def test_weights_that_are_nan_are_not_saved(toy_runner, tmp_path):
    runner = toy_runner(hooks=[SpoilGradients(), STOP])
    with pytest.raises(UserError, match=r"convolution\.weight are NaN.*no checkpoint yet"):
        runner.train()
    assert not list((tmp_path / "run").glob("*.pth"))


def test_a_finite_run_is_not_touched(toy_runner, same_end, tmp_path):
    for name, hooks in [("with", [SKIP]), ("without", [])]:
        toy_runner(name, length=4, hooks=hooks, randomness={"seed": 0}).train()
    same_end(tmp_path / "with/iter_4.pth", tmp_path / "without/iter_4.pth")


def test_what_it_cannot_do_is_an_error(toy_runner):
    for options in ({"action": "halt"}, {"max_skips": 0}):
        ((name, value),) = options.items()
        with pytest.raises(UserError, match=f"{name}={value!r}"):
            FiniteLossHook(**options)
    runner = toy_runner()
    runner.optim_wrapper = {"one": 1}
    with pytest.raises(UserError, match="one optimizer; with dict"):
        FiniteLossHook().before_train(runner)


def test_a_batch_of_mmdet_and_mmseg_becomes_plain(tmp_path):
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmdet.structures.mask import BitmapMasks
    from mmseg.structures import SegDataSample

    boxes = HorizontalBoxes(torch.tensor([[0.0, 1.0, 2.0, 3.0]]))
    masks = BitmapMasks(torch.ones(1, 4, 4, dtype=torch.uint8).numpy(), 4, 4)
    detection = DetDataSample(metainfo={"img_path": "a.jpg", "scale_factor": (0.5, 0.5)})
    detection.gt_instances = InstanceData(bboxes=boxes, masks=masks, labels=torch.tensor([2]))
    segmentation = SegDataSample(metainfo={"img_path": "b.png", "seed": {1}})
    segmentation.gt_sem_seg = PixelData(data=torch.zeros(1, 4, 4))
    batch = {"inputs": [torch.zeros(3, 4, 4)], "data_samples": [detection, segmentation]}
    torch.save(plain(batch), tmp_path / "batch.pth")
    first, second = torch.load(tmp_path / "batch.pth", weights_only=True)["data_samples"]
    assert first["gt_instances"]["bboxes"].tolist() == [[0, 1, 2, 3]]
    assert first["gt_instances"]["masks"].shape == (1, 4, 4)
    assert first["scale_factor"] == [0.5, 0.5]
    assert second["gt_sem_seg"]["data"].shape == (1, 4, 4)
    assert second["seed"] == "{1}"
