"""Configs of every kind predict, or end the command with one line."""

import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from xcit_dense.cli.main import run
from xcit_dense.cli.predict import main
from xcit_dense.predict import Predictor
from xcit_dense.predict.scope import scope_of


def run_tool(monkeypatch, out, *arguments):
    monkeypatch.setattr(sys, "argv", ["predict.py", *map(str, arguments), "--out", str(out)])
    run(main)


def test_what_cannot_be_loaded_ends_with_one_line(detector, image_path, tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("model = dict(")
    without = "test_dataloader = None\nmetainfo = dict(classes=())"
    (tmp_path / "bare.py").write_text(f"_base_ = {detector.config!r}\n{without}")
    (tmp_path / "broken.pth").write_bytes(Path(detector.checkpoint).read_bytes()[:5000])

    for config, checkpoint, message in [
        ("none.py", detector.checkpoint, r"^error: config none\.py does not exist$"),
        (tmp_path / "broken.py", detector.checkpoint, r"^error: config .*broken\.py: SyntaxError"),
        (tmp_path / "bare.py", detector.checkpoint, r"bare\.py: there is no test_dataloader"),
        (detector.config, "none.pth", r"^error: none\.pth"),
        (detector.config, tmp_path / "broken.pth", r"^error: .*broken\.pth"),
    ]:
        with pytest.raises(SystemExit, match=message):
            run_tool(monkeypatch, tmp_path / "out", config, checkpoint, image_path)


PIPELINE = "test_dataloader.dataset.pipeline"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("model.typo=1", r"the model cannot be built \(TypeError: .*typo"),
        ("model.type=Nope", r"the model cannot be built \(KeyError: .*Nope"),
        ("model=None", "there is no model"),
        ("model.a.b.c=1", "the model cannot be built"),
        ("model.backbone.0=1", r"cannot be changed by model.backbone.0=1|cannot be built"),
        (f"{PIPELINE}.9.type=Nope", "cannot be changed by"),
        (f"{PIPELINE}.1.type=Nope", r"the test pipeline cannot be built \(KeyError: .*Nope"),
        (f"{PIPELINE}.1.typo=1", r"the test pipeline cannot be built \(TypeError: .*typo"),
        (f"{PIPELINE}.0.type=Resize", "the test pipeline begins with Resize"),
        (f"{PIPELINE}.0.color_type=sepia", "color_type='sepia': allowed are"),
        (f"{PIPELINE}=None", "the data set of test_dataloader has no pipeline"),
        ("default_scope=nowhere", r"cannot be built \(KeyError: "),
    ],
)
def test_unusable_configs_end_with_one_line(
    detector, image_path, tmp_path, monkeypatch, change, message
):
    with pytest.raises(SystemExit, match=rf"^error: config .*config\.py:? .*({message})") as ended:
        run_tool(
            monkeypatch, tmp_path, detector.config, detector.checkpoint, image_path,
            "--cfg-options", change,
        )  # fmt: skip
    assert "\n" not in ended.value.code.strip()


def without_default_scope(config, folder):
    cfg = Config.fromfile(config)
    cfg.default_scope = None
    cfg.dump(folder / "bare.py")
    return folder / "bare.py"


@pytest.mark.parametrize(("kind", "scope"), [("detector", "mmdet"), ("segmentor", "mmseg")])
def test_the_scope_follows_from_the_pipeline(kind, scope, request, image_path, tmp_path):
    model = request.getfixturevalue(kind)
    config = without_default_scope(model.config, tmp_path)
    assert scope_of(Config.fromfile(config)) == scope
    assert main([str(config), model.checkpoint, str(image_path), "--out", str(tmp_path)]) == 0


def test_several_data_sets(detector, image_path):
    cfg = Config.fromfile(detector.config)
    first = cfg.test_dataloader.dataset
    cfg.test_dataloader.dataset = dict(type="ConcatDataset", datasets=[first, dict(type="Nope")])
    Predictor(cfg, detector.checkpoint, "cpu")(image_path)


NEW_STYLE = """
from mmcv.transforms import LoadImageFromFile
from mmdet.datasets import CocoDataset
from mmdet.datasets.transforms import PackDetInputs, Resize
from mmdet.models.detectors import MaskRCNN

default_scope = None
model = dict({model}, type=MaskRCNN)
metas = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
pipeline = [
    dict(type=LoadImageFromFile, color_type="color", imdecode_backend="cv2"),
    dict(type=Resize, scale=(64, 64), keep_ratio=True),
    dict(type=PackDetInputs, meta_keys=metas),
]
test_dataloader = dict(dataset=dict(type=CocoDataset, pipeline=pipeline))
"""


def test_new_configs_whose_types_are_classes(detector, image_path, tmp_path):
    settings = Config.fromfile(detector.config).to_dict()["model"]
    model = ", ".join(f"{key}={value!r}" for key, value in settings.items() if key != "type")
    (tmp_path / "new.py").write_text(NEW_STYLE.format(model=model))
    predict = Predictor(tmp_path / "new.py", detector.checkpoint, "cpu")
    assert len(predict(image_path)) > 0


def test_a_config_that_fails_as_a_program(detector, image_path, tmp_path, monkeypatch):
    (tmp_path / "c.py").write_text("batch = 1 / 0")
    with pytest.raises(SystemExit, match=r"^error: config .*c\.py: ZeroDivisionError: division by"):
        run_tool(monkeypatch, tmp_path, tmp_path / "c.py", detector.checkpoint, image_path)
