"""What testing draws and keeps has a name of its own for every image, and predict's colours."""

from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook, LoggerHook
from mmengine.structures import InstanceData, PixelData
from PIL import Image
from torch import nn

from xcit_dense.cli import test as test_command
from xcit_dense.predict.picture_hook import LabelMapHook, PictureHook

SIZE = (80, 120)
METAINFO = {"classes": tuple(f"class {number}" for number in range(90))}
LABELS = torch.zeros(1, *SIZE, dtype=torch.long)
LABELS[..., 60:] = 85


@pytest.fixture
def runner(tmp_path):
    """One that tests images of equal names in two folders."""
    paths = [tmp_path / f"images/{folder}/1.jpg" for folder in ("x", "y")]
    for path in paths:
        path.parent.mkdir(parents=True)
        cv2.imwrite(str(path), np.full((*SIZE, 3), 128, np.uint8))

    class Dataset(list):
        metainfo = METAINFO

        def get_data_info(self, index):
            return {"img_path": str(self[index])}

    return SimpleNamespace(test_dataloader=SimpleNamespace(dataset=Dataset(paths)))


def segmentation_samples(runner, **described):
    from mmseg.structures import SegDataSample

    for path in runner.test_dataloader.dataset:
        sample = SegDataSample(metainfo={"img_path": str(path), "ori_shape": SIZE, **described})
        sample.gt_sem_seg = PixelData(data=LABELS)
        sample.pred_sem_seg = PixelData(data=LABELS.flip(-1))
        yield sample


def detection_samples(runner):
    from mmdet.structures import DetDataSample

    for path in runner.test_dataloader.dataset:
        sample = DetDataSample(metainfo={"img_path": str(path), "ori_shape": SIZE})
        for name, left in [("gt_instances", 10.0), ("pred_instances", 69.0)]:
            boxes, labels = torch.tensor([[left, 30, left + 40, 70]]), torch.tensor([85])
            sample.set_field(InstanceData(bboxes=boxes, labels=labels), name, InstanceData)
        yield sample


def written(hook, runner, samples, folder):
    hook.before_test(runner)
    for index, sample in enumerate(samples):
        hook.after_test_iter(runner, index, None, [sample])
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*.*")}


@pytest.mark.parametrize("samples", [segmentation_samples, detection_samples])
def test_ground_truth_left_and_prediction_right(runner, tmp_path, samples):
    folder = tmp_path / "pictures"
    files = written(PictureHook(str(folder)), runner, samples(runner), folder)
    assert set(files) == {"x/1.jpg", "y/1.jpg"}
    picture = cv2.imread(str(files["y/1.jpg"])).astype(int)
    assert picture.shape[1] == 2 * SIZE[1]
    assert 0 < picture.shape[0] - SIZE[0] < 40  # captions
    truth, prediction = np.split(picture[60:], 2, axis=1)
    assert np.abs(truth - prediction[:, ::-1]).max() < 30  # but for the JPEG
    assert np.abs(truth - prediction).max() > 40


def test_test_data_without_ground_truth(runner, tmp_path):
    samples = list(segmentation_samples(runner))
    for sample in samples:
        del sample.gt_sem_seg
    files = written(PictureHook(str(tmp_path / "p")), runner, samples, tmp_path / "p")
    assert cv2.imread(str(files["x/1.jpg"])).shape[1] == SIZE[1]


@pytest.mark.parametrize("reduced", [False, True])
def test_label_maps_are_those_of_the_data_set(runner, tmp_path, reduced):
    samples = segmentation_samples(runner, reduce_zero_label=reduced)
    folder = tmp_path / "maps"
    files = written(LabelMapHook(str(folder)), runner, samples, folder)
    assert set(files) == {"x/1.png", "y/1.png"}
    kept = np.asarray(Image.open(files["x/1.png"]))
    assert np.array_equal(kept, LABELS.flip(-1)[0].numpy() + reduced)


class HookThatLooks(Hook):
    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None): ...


@pytest.mark.parametrize(
    ("evaluators", "expected"),
    [
        (["CocoPanopticMetric", "CocoMetric"], ["encode_masks"]),
        (["CocoMetric", "DumpDetResults"], []),
        (["LVISMetric"], []),
        (["IoUMetric"], ["keep_classes_only"]),
        (["IoUMetric", "DumpResults"], []),
    ],
)
def test_testing_leaves_out_what_nobody_reads(monkeypatch, evaluators, expected):
    """Our hooks read masks as run lengths; a user's may not."""
    called = []
    for name in ("encode_masks", "keep_classes_only"):
        monkeypatch.setattr(test_command, name, lambda model, name=name: called.append(name))
    cfg = Config({"test_evaluator": [{"type": name} for name in evaluators]})
    hooks = [LoggerHook(), PictureHook("pictures"), LabelMapHook("maps")]
    runner = SimpleNamespace(model=nn.Identity(), hooks=hooks)
    test_command.save_memory(cfg, runner)
    assert called == expected
    runner.hooks = [*hooks, HookThatLooks()]
    test_command.save_memory(cfg, runner)
    assert called == expected
