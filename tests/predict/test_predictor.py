"""Predictions in two lines equal mm's own, whatever the batch."""

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import BaseDataElement, PixelData
from pycocotools import mask as coco_mask

from xcit_dense.errors import UserError
from xcit_dense.predict import (
    Detections,
    Predictor,
    SegmentationMap,
    class_maps,
    model,
    read_image,
)


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
    assert np.array_equal(ours.boxes, expected.bboxes.numpy())
    assert np.array_equal(ours.scores, expected.scores.numpy())
    assert np.array_equal(ours.labels, expected.labels.numpy())
    decoded = [coco_mask.decode(mask) for mask in ours.masks]
    assert np.array_equal(decoded, expected.masks.numpy())
    assert 0 < np.mean([mask.mean() for mask in decoded]) < 0.95


def test_segmentations_equal_those_of_mmseg(segmentor, segment, image_path):
    from mmseg.apis import inference_model, init_model

    init_default_scope("mmseg")
    model = init_model(Config.fromfile(segmentor.config), segmentor.checkpoint, device="cpu")
    expected = inference_model(model, str(image_path)).pred_sem_seg.data[0].numpy()
    ours = segment(image_path)
    assert isinstance(ours, SegmentationMap)
    assert np.array_equal(ours.labels, expected)
    assert len(np.unique(ours.labels)) > 1


def test_a_batch_of_any_sizes_equals_its_images(detect, pixels):
    images = [pixels, pixels[:, ::-1].copy(), np.rot90(pixels).copy(), pixels[:20, :30]]
    together = detect.predict_batch(images)
    for image, one in zip(images, together, strict=True):
        alone = detect(image)
        # matrix products of other sizes round otherwise
        assert np.allclose(one.boxes, alone.boxes, atol=1e-2)
        assert np.array_equal(one.labels, alone.labels)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (37, 3), (90, 61)])
def test_any_size_of_image(detect, segment, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert all(mask["size"] == list(size) for mask in detect(image).masks)
    assert segment(image).labels.shape == size


def test_images_are_decoded_as_the_pipeline_says(
    detector, save_model, image_path, pixels, tmp_path
):
    """Here for a model of one channel, which gets frames of three too."""
    from mmdet.apis import inference_detector, init_detector

    changes = {
        "model.data_preprocessor": dict(mean=[110], std=[60], bgr_to_rgb=False),
        "model.backbone.in_channels": 1,
        "test_dataloader.dataset.pipeline.0.color_type": "grayscale",
    }
    grey = save_model(tmp_path / "grey", detector.config, changes)
    model = init_detector(grey.config, grey.checkpoint, device="cpu")
    expected = inference_detector(model, str(image_path)).pred_instances
    ours = Predictor(grey.config, grey.checkpoint, "cpu")
    assert np.array_equal(ours(image_path).boxes, expected.bboxes.numpy())
    assert np.array_equal(ours(image_path).scores, expected.scores.numpy())
    assert len(ours(pixels)) > 0
    assert ours.draw(read_image(image_path, ours.decoding), ours(image_path)).shape == pixels.shape


def test_void_of_a_panoptic_map_is_no_object(detector, pixels):
    detect = Predictor(detector.config, detector.checkpoint, "cpu")
    segments = torch.full((1, *pixels.shape[:2]), 5)  # of 5 classes, from 0
    segments[0, 10:20, 10:30] = 4 + 1000
    sample = BaseDataElement(pred_panoptic_seg=PixelData(sem_seg=segments))
    detect.model.test_step = lambda batch: [sample]
    found = detect(pixels)
    assert found.labels.tolist() == [4]
    assert found.boxes.tolist() == [[10, 10, 30, 20]]
    detect.draw(pixels, found)


@pytest.mark.parametrize("images", [["a.jpg"], None, 3])
def test_what_is_neither_a_path_nor_pixels_is_refused(detect, images):
    with pytest.raises(TypeError, match=r"^\w+: an image is its path or an array of its pixels"):
        detect(images)


def test_other_pixels_are_refused(detect):
    with pytest.raises(ValueError, match=r"\(4, 4\) and type float64: expected uint8 \(H, W, 3\)"):
        detect(np.zeros((4, 4)))


def save_changed(checkpoint, path, change):
    loaded = torch.load(checkpoint)
    change(loaded)
    torch.save(loaded, path)
    return path


def test_a_config_serves_more_than_one_predictor(detector, monkeypatch):
    """DETR's heads write tensors into the dict that they are built from."""
    cfg = Config.fromfile(detector.config)
    before = cfg.to_dict()
    build = model.MODELS.build

    def build_and_change(settings):
        built = build(settings)
        if "roi_head" in settings:
            settings.roi_head.clear()
        return built

    monkeypatch.setattr(model.MODELS, "build", build_and_change)
    Predictor(cfg, detector.checkpoint)
    assert cfg.to_dict() == before


def test_pixels_that_the_pipeline_cannot_resize_are_an_error(detect):
    with pytest.raises(ValueError, match=r"the test pipeline cannot transform 5000 x 1 pixels"):
        detect(np.zeros((1, 5000, 3), np.uint8))


def test_labels_without_names_are_an_error(segmentor, image_path, tmp_path):
    def name_too_few(checkpoint):
        checkpoint["meta"] = {"dataset_meta": {"classes": ("background",)}}

    path = save_changed(segmentor.checkpoint, tmp_path / "c.pth", name_too_few)
    with pytest.raises(ValueError, match=r"predicts label \d, but only 1 classes are named"):
        Predictor(segmentor.config, path, "cpu")(image_path)


def test_a_checkpoint_of_another_model_is_refused(detector, segmentor):
    with pytest.raises(UserError, match=r"does not fit the config: .*lacks \d+ of \d+"):
        Predictor(detector.config, segmentor.checkpoint, "cpu")


def test_a_checkpoint_of_another_width_is_refused(detector, tmp_path):
    def widen(checkpoint):
        state_dict = checkpoint["state_dict"]
        name = next(name for name in state_dict if name.endswith("fc_cls.bias"))
        state_dict[name] = torch.zeros(99)

    path = save_changed(detector.checkpoint, tmp_path / "c.pth", widen)
    with pytest.raises(UserError, match=r"does not fit the config: .*fc_cls\.bias"):
        Predictor(detector.config, path, "cpu")


def test_a_checkpoint_of_a_larger_backbone_is_refused(detector, tmp_path):
    """A ResNet-101's fills a ResNet-50; XCiT sees that by itself."""

    def add(checkpoint):
        checkpoint["state_dict"]["backbone.layer3.22.weight"] = torch.zeros(1)

    path = save_changed(detector.checkpoint, tmp_path / "c.pth", add)
    expected = r"config: 1 of its tensors have no place in the backbone, backbone\.layer3\.22"
    with pytest.raises(UserError, match=expected):
        Predictor(detector.config, path, "cpu")


def test_other_weights_without_a_place_are_told(detector, tmp_path):
    def add(checkpoint):
        checkpoint["state_dict"]["rpn_head.more.weight"] = torch.zeros(1)
        checkpoint["state_dict"]["auxiliary_head.weight"] = torch.zeros(1)  # nobody misses it

    path = save_changed(detector.checkpoint, tmp_path / "c.pth", add)
    lines = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "print_log", lambda line, **_: lines.append(line))
        Predictor(detector.config, path, "cpu")
    expected = "1 of its tensors have no place in the model, rpn_head.more.weight among them"
    assert lines == [f"{path}: {expected}"]


def test_weights_for_training_only_may_be_missing(segmentor, tmp_path):
    def slim(checkpoint):
        kept = checkpoint["state_dict"]
        for name in [name for name in kept if name.startswith("auxiliary_head.")]:
            del kept[name]

    Predictor(segmentor.config, save_changed(segmentor.checkpoint, tmp_path / "c.pth", slim), "cpu")


def test_a_score_threshold_keeps_what_belongs_together(detect, pixels):
    detections = detect(pixels)
    threshold = float(np.median(detections.scores))
    kept = detections.above(threshold)
    assert 0 < len(kept) < len(detections)
    assert len(kept.boxes) == len(kept.masks) == len(kept.labels)
    assert kept.scores.min() >= threshold


def test_segmentations_of_large_images_equal_those_of_mmseg(
    segmentor, segment, image_path, monkeypatch
):
    """Their classes are resized one by one."""
    together = segment(image_path).labels
    monkeypatch.setattr(class_maps, "NUMBERS_AT_A_TIME", 1)
    assert np.array_equal(segment(image_path).labels, together)
    assert len(np.unique(together)) > 1
