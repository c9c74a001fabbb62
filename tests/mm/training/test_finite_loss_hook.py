"""NaN and Inf end a run before they reach the weights, or are left out."""

import logging

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.structures import BaseDataElement

from xcit_dense.errors import UserError
from xcit_dense.mm.finite_loss_hook import FiniteLossHook, image_paths

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
    """Makes every gradient NaN or Inf, with a finite loss."""

    def __init__(self, value):
        self.value = value

    def before_train(self, runner):
        for weights in runner.model.parameters():
            weights.register_hook(lambda gradient: gradient.fill_(self.value))


def equal(first, second):
    return all(torch.equal(value, second[name]) for name, value in first.items())


def test_stop_leaves_the_weights_and_names_the_images(toy_runner, tmp_path):
    remember = RememberState()
    images = toy_runner.images(bad=[13])
    hooks, checkpoint = [remember, STOP, EMA], {"interval": 2}
    runner = toy_runner(dataset=images, sampler=IN_ORDER, hooks=hooks, checkpoint=checkpoint)
    with pytest.raises(UserError) as error:
        runner.train()
    told = [
        "iteration 4 (epoch 1)", "learning rate 0.00727273", "loss_square nan", "images/13.jpg",
        f"--resume {tmp_path / 'run/iter_2.pth'}",
    ]  # fmt: skip
    assert [words for words in told if words not in str(error.value)] == []
    assert equal(dict(runner.model.named_parameters()), remember.weights)
    assert not (tmp_path / "run/iter_4.pth").exists()


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


def test_too_many_skips_in_a_row_stop(toy_runner):
    runner = toy_runner(dataset=toy_runner.images(bad=range(22)), hooks=[SKIP])
    with pytest.raises(UserError, match="at iteration 3 "):
        runner.train()


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


@pytest.mark.parametrize(
    ("value", "optimizer"), [("nan", {"type": "AdamW"}), ("inf", {"type": "SGD", "lr": 1.0})]
)
def test_weights_that_are_not_finite_are_not_saved(toy_runner, tmp_path, value, optimizer):
    wrapper = {"optimizer": optimizer}
    runner = toy_runner(hooks=[SpoilGradients(float(value)), STOP], optim_wrapper=wrapper)
    with pytest.raises(UserError, match=r"convolution\.weight are not finite.*no checkpoint yet"):
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


def test_images_of_every_branch_are_named():
    samples = [BaseDataElement(metainfo={"img_path": f"{name}.jpg"}) for name in "abc"]
    batch = {"inputs": torch.zeros(2), "data_samples": {"sup": samples[:2], "unsup": samples[2:]}}
    assert list(image_paths(batch)) == ["a.jpg", "b.jpg", "c.jpg"]
