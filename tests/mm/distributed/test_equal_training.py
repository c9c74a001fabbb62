"""Two processes train what one process trains: whole, accumulated or sharded."""

import json
import pickle
from pathlib import Path

import pytest
import torch

TOLERANCE = 2e-5  # of weights, relative to the largest of a tensor


def load(path):
    return torch.load(path, weights_only=False)


def record(folder):
    return json.loads((folder / "run.json").read_text())


def metrics(work_dir):
    """The metrics of the only evaluation of the test tool in a work dir."""
    (path,) = Path(work_dir).glob("*/*.json")
    found = json.loads(path.read_text())
    return {name: value for name, value in found.items() if "time" not in name}


def largest_difference(first, second):
    """The largest difference of two state dicts, each tensor relative to its largest value."""
    assert list(first) == list(second)
    return max(
        float((first[name].double() - second[name].double()).abs().max())
        / max(float(first[name].abs().max()), 1e-6)
        for name in first
    )


def pairwise_means(values):
    return [(first + second) / 2 for first, second in zip(values[::2], values[1::2], strict=True)]


class TestEqualTraining:
    def test_two_processes_train_as_one_with_twice_the_images(self, together, alone):
        expected, found = record(alone.whole), record(together.root / "ddp")
        assert (expected["processes"], found["processes"]) == (1, 2)
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["norm"] == pytest.approx(expected["norm"], rel=1e-4)
        assert found["norm"][0] > 0.5  # gradients were clipped
        weights = [
            load(folder / "iter_6.pth")["state_dict"]
            for folder in (alone.whole, together.root / "ddp")
        ]
        assert largest_difference(*weights) < TOLERANCE
        start, end = load(alone.whole / "iter_3.pth")["state_dict"], weights[0]
        assert largest_difference(start, end) > 10 * TOLERANCE  # so the comparison can fail

    def test_accumulated_gradients_equal_a_larger_batch(self, together, alone):
        """With the first stage frozen, and blocks computed again in backward."""
        expected, found = record(alone.frozen), record(together.root / "accumulated")
        assert pairwise_means(found["loss"]) == pytest.approx(expected["loss"], rel=1e-5)
        weights = [
            load(alone.frozen / "iter_6.pth")["state_dict"],
            load(together.root / "accumulated/iter_12.pth")["state_dict"],
        ]
        assert largest_difference(*weights) < TOLERANCE


class TestSharding:
    def test_sharded_training_equals_that_of_one_process(self, together, alone):
        """With the first stage frozen, blocks computed again, and validation in between."""
        expected, found = record(alone.frozen), record(together.root / "sharded")
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-5)
        assert found["norm"] == pytest.approx(expected["norm"], rel=1e-4)
        weights = [
            load(folder / "iter_6.pth")["state_dict"]
            for folder in (alone.frozen, together.root / "sharded")
        ]
        assert largest_difference(*weights) < TOLERANCE

    def test_each_process_keeps_half(self, together):
        found = record(together.root / "sharded")
        assert found["share"] == pytest.approx(0.5, abs=0.01)
        assert found["optimizer_share"] == pytest.approx(0.5, abs=0.01)
        assert record(together.root / "ddp")["share"] == 1
        assert "Sharded among 2 processes: this one keeps" in together.output

    def test_frozen_stages_stay(self, together):
        start, end = (load(together.root / f"sharded/iter_{n}.pth")["state_dict"] for n in (3, 6))
        blocks = tuple(f"backbone.trunk.blocks.{index}." for index in range(4))
        stem = ("backbone.trunk.patch_embedding.", "backbone.trunk.position_encoding.")
        same = {name for name in start if torch.equal(start[name], end[name])}
        assert same == {name for name in start if name.startswith((*blocks, *stem))}

    def test_mixed_precision_is_near(self, together, alone):
        found = record(together.root / "sharded_amp")["loss"]
        expected = record(alone.whole)["loss"][:3]
        assert found == pytest.approx(expected, rel=0.02)
        assert found != pytest.approx(expected, rel=1e-6)


class TestShardedCheckpoint:
    def test_it_is_that_of_a_plain_run(self, together, alone):
        sharded, plain = (
            load(folder / "iter_6.pth") for folder in (together.root / "sharded", alone.frozen)
        )
        assert list(sharded["state_dict"]) == list(plain["state_dict"])
        assert sharded.keys() == plain.keys()
        groups = sharded["optimizer"]["param_groups"], plain["optimizer"]["param_groups"]
        assert groups[0] == groups[1]
        states = sharded["optimizer"]["state"], plain["optimizer"]["state"]
        assert states[0].keys() == states[1].keys()
        for index, state in states[1].items():
            for name, value in state.items():
                found = states[0][index][name]
                assert type(found) is torch.Tensor
                assert found.shape == value.shape
                assert torch.allclose(found, value, rtol=0.1, atol=float(value.abs().max()) * 1e-3)

    def test_resuming_from_it_ends_in_the_same_weights(self, together):
        """And is bit-equal: the shares that are read are those that were saved."""
        straight = load(together.root / "sharded/iter_6.pth")
        resumed = load(together.root / "sharded_resumed/iter_6.pth")
        assert len(record(together.root / "sharded_resumed")["loss"]) == 3
        assert largest_difference(straight["state_dict"], resumed["state_dict"]) == 0

    def test_a_sharded_run_resumes_from_a_plain_checkpoint(self, together, alone):
        plain = load(alone.whole / "iter_6.pth")["state_dict"]
        resumed = load(together.root / "sharded_from_plain/iter_6.pth")["state_dict"]
        assert largest_difference(plain, resumed) < TOLERANCE

    def test_a_plain_run_resumes_from_it(self, together, alone, arguments, commands):
        resume = f"--resume={together.root}/sharded/iter_3.pth"
        options = arguments(
            together.root, "segmentation", "resumed", "model.backbone.frozen_stages=1",
            launcher="none", more=[resume],
        )  # fmt: skip
        commands["train"](options)
        plain = load(alone.frozen / "iter_6.pth")["state_dict"]
        resumed = load(together.root / "resumed/iter_6.pth")["state_dict"]
        assert largest_difference(plain, resumed) < TOLERANCE


class TestEvaluation:
    def test_segmentation_metrics_are_those_of_one_process(self, together, arguments, commands):
        checkpoint = [f"{together.root}/sharded/iter_6.pth"]
        options = arguments(
            together.root, "segmentation", "tested_alone", launcher="none", checkpoint=checkpoint
        )
        commands["test"](options)
        alone = metrics(together.root / "tested_alone")
        assert alone["mIoU"] > 0
        assert metrics(together.root / "tested_segmentation") == alone

    def test_detections_are_those_of_one_process(self, together, arguments, commands):
        root = together.root
        options = arguments(
            root, "detection", "tested_alone_detection", launcher="none",
            checkpoint=[f"{root}/detection/epoch_1.pth"], more=[f"--out={root}/alone.pkl"],
        )  # fmt: skip
        commands["test"](options)
        both = [pickle.loads((root / f"{n}.pkl").read_bytes()) for n in ("together", "alone")]
        assert [len(results) for results in both] == [5, 5]
        for found, expected in zip(*both, strict=True):
            assert found["img_path"] == expected["img_path"]
            assert len(expected["pred_instances"]["scores"]) > 0
            for name in ("scores", "bboxes", "labels"):
                torch.testing.assert_close(
                    found["pred_instances"][name], expected["pred_instances"][name]
                )
        tested, alone = metrics(root / "tested_detection"), metrics(root / "tested_alone_detection")
        assert tested == pytest.approx(alone)


def test_synced_norms_become_norms_of_a_process_and_the_log_says_so(together):
    assert together.output.count("No GPU, and SyncBN needs one: the ") == 2  # training and test
