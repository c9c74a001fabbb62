"""Predictions in two lines equal mm's own, whatever the batch."""

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement, PixelData
from pycocotools import mask as coco_mask

from xcit_dense.errors import UserError
from xcit_dense.predict import Categories, Detections, Predictor, SegmentationMap

CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture(scope="module")
def detect(detector):
    return Predictor(detector.config, detector.checkpoint, "cpu")


@pytest.fixture(scope="module")
def segment(segmentor):
    return Predictor(segmentor.config, segmentor.checkpoint, "cpu")


def test_detections_equal_those_of_mmdet(detector, detect, image_path):
    from mmdet.apis import inference_detector, init_detector

    model = init_detector(detector.config, detector.checkpoint, device="cpu")
    expected = inference_detector(model, str(image_path)).pred_instances
    ours = detect(image_path)
    assert isinstance(ours, Detections)
    assert len(ours) == len(expected) > 0
    np.testing.assert_allclose(ours.boxes, expected.bboxes.numpy(), atol=1e-3)
    np.testing.assert_allclose(ours.scores, expected.scores.numpy(), atol=1e-5)
    assert np.array_equal(ours.labels, expected.labels.numpy())
    decoded = np.array([coco_mask.decode(mask) for mask in ours.masks])
    assert (decoded != expected.masks.numpy()).mean() < 1e-4
    assert 0 < decoded.mean() < 0.95


def test_segmentations_equal_those_of_mmseg(segmentor, segment, image_path):
    from mmseg.apis import inference_model, init_model

    init_default_scope("mmseg")
    model = init_model(Config.fromfile(segmentor.config), segmentor.checkpoint, device="cpu")
    expected = inference_model(model, str(image_path)).pred_sem_seg.data[0].numpy()
    ours = segment(image_path)
    assert isinstance(ours, SegmentationMap)
    assert (ours.labels != expected).mean() < 1e-3
    assert len(np.unique(ours.labels)) > 1


def test_a_batch_of_any_sizes_equals_its_images(detect, pixels):
    images = [pixels, pixels[:, ::-1].copy(), np.rot90(pixels).copy(), pixels[:20, :30]]
    together = detect.predict_batch(images)
    for image, one in zip(images, together, strict=True):
        alone = detect(image)
        # matrix products of other sizes round otherwise
        assert np.allclose(one.boxes, alone.boxes, atol=1e-2)
        assert np.array_equal(one.labels, alone.labels)


def test_images_as_they_are(detector, detect, save_model, pixels, tmp_path):
    """Without the steps that resample, as if these kept the size."""
    image = pixels[:40, :50]
    scale = {"test_dataloader.dataset.pipeline.1.scale": (50, 40)}
    expected = Predictor(save_model(tmp_path, detector.config, scale).config, detector.checkpoint)
    found, wanted = detect.predict_batch([image], resize=False)[0], expected(image)
    assert len(found) == len(wanted) > 0
    assert np.allclose(found.boxes, wanted.boxes)
    assert not np.allclose(detect(image).boxes[:5], wanted.boxes[:5], atol=1)


def test_logits_are_those_of_the_labels(segment, pixels):
    images = [pixels, pixels[:20, :31]]
    for image, logits in zip(images, segment.logits_of(images), strict=True):
        assert logits.shape == (len(segment.categories.names), *image.shape[:2])
        labels = segment.predict_batch([image], resize=False)[0].labels
        assert (logits.argmax(0).numpy() == labels).mean() > 0.999


def test_a_model_without_logits_is_refused(detect, pixels):
    with pytest.raises(UserError, match="MaskRCNN gives no seg_logits"):
        detect.logits_of([pixels])


def test_a_model_of_one_channel_also_gets_frames(
    detector, save_model, image_path, pixels, tmp_path
):
    from mmdet.apis import inference_detector, init_detector

    changes = {
        "model.data_preprocessor": dict(mean=[110], std=[60], bgr_to_rgb=False),
        "model.backbone.in_channels": 1,
        "test_dataloader.dataset.pipeline.0.color_type": "grayscale",
        "test_dataloader.dataset.pipeline.0.to_float32": True,
    }
    grey = save_model(tmp_path / "grey", detector.config, changes)
    model = init_detector(grey.config, grey.checkpoint, device="cpu")
    expected = inference_detector(model, str(image_path)).pred_instances
    ours = Predictor(grey.config, grey.checkpoint, "cpu")
    np.testing.assert_allclose(ours(image_path).boxes, expected.bboxes.numpy(), atol=1e-3)
    assert len(ours(pixels)) > 0
    assert ours.draw(pixels, ours(pixels)).shape == pixels.shape


def test_void_of_a_panoptic_map_is_no_object(detector, pixels):
    detect = Predictor(detector.config, detector.checkpoint, "cpu")
    segments = torch.full((1, *pixels.shape[:2]), 5)  # of 5 classes, from 0
    segments[0, 10:20, 10:30] = 4 + 1000
    sample = BaseDataElement(pred_panoptic_seg=PixelData(sem_seg=segments))
    detect.model.test_step = lambda batch: [sample]
    found = detect(pixels)
    assert found.labels.tolist() == [4]
    assert found.boxes.tolist() == [[10, 10, 30, 20]]


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 3)])
def test_any_size_of_image(detect, segment, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert all(mask["size"] == list(size) for mask in detect(image).masks)
    assert segment(image).labels.shape == size


def test_much_shrinking_is_told(detector, detect):
    side = 4 * max(detector.cfg.test_dataloader.dataset.pipeline[1].scale)
    detect(np.zeros((side, side, 3), np.uint8))
    with pytest.warns(UserWarning, match=r"pipeline\.1\.scale"):
        detect(np.zeros((side + 9, side + 9, 3), np.uint8))


def changed(model, folder, without=None, **tensors):
    """Its checkpoint with other tensors, and without those whose names begin so."""
    loaded = torch.load(model.checkpoint)
    kept = loaded["state_dict"].items()
    state_dict = {n: t for n, t in kept if without is None or not n.startswith(without)}
    torch.save({**loaded, "state_dict": state_dict | tensors}, folder / "c.pth")
    return folder / "c.pth"


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("roi_head.bbox_head.fc_cls.bias", 99, r"fc_cls\.bias"),
        # a ResNet-101's fills a ResNet-50; XCiT sees that by itself
        ("backbone.layer3.22.weight", 1, r"backbone\.layer3\.22"),
        ("rpn_head.more.weight", 1, None),
    ],
)
def test_checkpoints_that_do_not_fit_are_refused(detector, tmp_path, name, shape, message):
    path = changed(detector, tmp_path, **{name: torch.zeros(shape)})
    if message:
        with pytest.raises(UserError, match=f"does not fit the config: .*{message}"):
            Predictor(detector.config, path, "cpu")
    else:
        Predictor(detector.config, path, "cpu")


def test_which_weights_may_be_missing(detector, segmentor, tmp_path):
    path = changed(segmentor, tmp_path, without="auxiliary_head.")
    Predictor(segmentor.config, path, "cpu")
    with pytest.raises(UserError, match=r"does not fit the config: .*lacks \d+ of \d+"):
        Predictor(detector.config, path, "cpu")


def test_labels_without_names_are_an_error(segmentor, image_path):
    segment = Predictor(segmentor.config, segmentor.checkpoint, "cpu")
    segment.categories = Categories(("background",), ((0, 0, 0),))
    with pytest.raises(ValueError, match=r"predicts label \d.* 1 classes"):
        segment(image_path)
