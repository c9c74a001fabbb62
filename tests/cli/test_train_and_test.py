"""From a config to a trained, resumed, evaluated and drawn model, for both tasks."""

import pickle
import re
import sys
from pathlib import Path

import cv2
import pytest
import torch
from dev.demo_data import Plan, write_ade20k, write_coco
from mmengine.config import Config

from xcit_dense.cli import test as test_command
from xcit_dense.cli import train as train_command
from xcit_dense.cli.main import main
from xcit_dense.errors import UserError
from xcit_dense.mm import config as config_module

CONFIGS = Path(__file__).parents[2] / "configs"
DETECTION = str(CONFIGS / "demo/xcit_maskrcnn_demo.py")
SEGMENTATION = str(CONFIGS / "demo/xcit_upernet_demo.py")
PLAN = Plan(train=6, val=3, size=64)
METRIC = {"type": "CocoMetric", "metric": ["bbox", "segm"]}
TINY = ["model.backbone.arch.embed_dims=16", "model.backbone.arch.depth=4"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    write_coco(root / "coco", PLAN)
    write_ade20k(root / "ade20k", PLAN)
    return root


def detection_options(data):
    return [
        DETECTION, "--data-root", str(data / "coco"), "--cfg-options", *TINY,
        "model.neck.in_channels=[16,16,16,16]",
        "train_cfg.max_epochs=2", "train_cfg.val_interval=1", "default_hooks.checkpoint.interval=1",
        "default_hooks.logger.interval=1", "train_dataloader.batch_size=2",
    ]  # fmt: skip


def segmentation_options(data):
    return [
        SEGMENTATION, "--data-root", str(data / "ade20k"), "--cfg-options", *TINY,
        "model.decode_head.in_channels=[16,16,16,16]", "model.auxiliary_head.in_channels=16",
        "train_cfg.max_iters=4", "train_cfg.val_interval=2", "default_hooks.checkpoint.interval=2",
        "default_hooks.logger.interval=1", "train_dataloader.batch_size=2",
    ]  # fmt: skip


def evaluating(options, checkpoint, tmp_path):
    """The arguments of the test tool that belong to those of the train tool."""
    return [options[0], str(checkpoint), *options[1:], f"--work-dir={tmp_path}/work"]


def pictures(folder):
    return [cv2.imread(str(path)) for path in sorted(Path(folder).iterdir())]


class TestDetection:
    @pytest.fixture(scope="class")
    @classmethod
    def work_dir(cls, data, tmp_path_factory):
        work_dir = tmp_path_factory.mktemp("detection")
        train_command.main([*detection_options(data), "--work-dir", str(work_dir)])
        return work_dir

    def test_training_leaves_checkpoints(self, work_dir):
        checkpoints = {path.name for path in work_dir.glob("*.pth")}
        assert checkpoints == {"epoch_1.pth", "epoch_2.pth"}

    def test_ways_for_images_of_any_size_are_compared(self, work_dir, data, tmp_path, capfd):
        options = evaluating(detection_options(data), work_dir / "epoch_2.pth", tmp_path)
        rows = table_of([*options, "--context", "64", "--tile", "48", "--overlap=8"], capfd)
        assert rows[0] == ["coco/bbox_mAP", "coco/segm_mAP", "s/image", "peak GB"]
        assert len(rows) == 3

    def test_resume_goes_on_where_it_stopped(self, work_dir, data):
        options = [*detection_options(data), "train_cfg.max_epochs=3"]
        train_command.main([*options, "--work-dir", str(work_dir), "--resume"])
        resumed = torch.load(work_dir / "epoch_3.pth", weights_only=False)
        assert resumed["meta"]["epoch"] == 3
        assert resumed["meta"]["iter"] == 9  # 6 images, one of them empty: 3 iterations an epoch

    def test_evaluation_dumps_and_draws(self, work_dir, data, tmp_path, capfd):
        options = detection_options(data)
        metric = Config.fromfile(DETECTION).val_evaluator
        evaluator = {"type": "Evaluator", "metrics": [metric.to_dict()], "_delete_": True}
        config = tmp_path / "config.py"
        config.write_text(f"_base_ = {DETECTION!r}\ntest_evaluator = {evaluator}")
        options[0] = str(config)
        checkpoint = work_dir / "epoch_2.pth"
        outputs = [f"--out={tmp_path}/out.pkl", f"--show-dir={tmp_path}/pictures"]
        test_command.main([*evaluating(options, checkpoint, tmp_path), *outputs])
        printed = capfd.readouterr().out
        assert printed.count("Average Precision") == 2 * 6  # COCO's 12 numbers, boxes and masks
        assert printed.count("Average Recall") == 2 * 6
        with open(tmp_path / "out.pkl", "rb") as file:
            assert len(pickle.load(file)) == PLAN.val
        drawn = pictures(tmp_path / "pictures")
        assert len(drawn) == PLAN.val
        assert all(picture.std() > 0 for picture in drawn)

    def test_evaluation_with_augmentation(self, work_dir, data, tmp_path, capfd):
        options = detection_options(data)
        checkpoint = work_dir / "epoch_2.pth"
        test_command.main([*evaluating(options, checkpoint, tmp_path), "--tta"])
        assert "coco/bbox_mAP" in capfd.readouterr().out


class TestSegmentation:
    @pytest.fixture(scope="class")
    @classmethod
    def work_dir(cls, data, tmp_path_factory):
        work_dir = tmp_path_factory.mktemp("segmentation")
        train_command.main([*segmentation_options(data), "--work-dir", str(work_dir)])
        return work_dir

    def test_training_leaves_checkpoints(self, work_dir):
        assert {path.name for path in work_dir.glob("*.pth")} == {"iter_2.pth", "iter_4.pth"}

    def test_resume_goes_on_where_it_stopped(self, work_dir, data):
        options = [*segmentation_options(data), "train_cfg.max_iters=6"]
        train_command.main([*options, "--work-dir", str(work_dir), "--resume", "auto"])
        resumed = torch.load(work_dir / "iter_6.pth", weights_only=False)
        assert resumed["meta"]["iter"] == 6

    @pytest.mark.parametrize("tta", [[], ["--tta"]], ids=["plain", "tta"])
    def test_evaluation_dumps_and_draws(self, work_dir, data, tmp_path, capfd, tta):
        options = segmentation_options(data)
        outputs = [f"--out={tmp_path}/labels", f"--show-dir={tmp_path}/pictures"]
        checkpoint = work_dir / "iter_4.pth"
        test_command.main([*evaluating(options, checkpoint, tmp_path), *outputs, *tta])
        assert "mIoU" in capfd.readouterr().out
        assert len(list((tmp_path / "labels").glob("*.png"))) == PLAN.val
        drawn = pictures(tmp_path / "pictures")
        originals = pictures(data / "ade20k/images/validation")
        assert [p.shape[1] for p in drawn] == [2 * o.shape[1] for o in originals]
        captions = [p.shape[0] - o.shape[0] for p, o in zip(drawn, originals, strict=True)]
        assert all(0 < height < 40 for height in captions)

    def test_ways_for_images_of_any_size_are_compared(self, work_dir, data, tmp_path, capfd):
        options = evaluating(segmentation_options(data), work_dir / "iter_4.pth", tmp_path)
        ways = ["--context", "whole", "32", "--tile", "48"]
        rows = table_of([*options, *ways], capfd)
        assert rows[0][:3] == ["aAcc", "mIoU", "mAcc"] and len(rows) == 4
        cfg = Config.fromfile(SEGMENTATION)
        cfg.test_dataloader.dataset.pipeline = [
            step for step in cfg.test_pipeline if step.type != "Resize"
        ]
        cfg.dump(tmp_path / "config.py")
        test_command.main([str(tmp_path / "config.py"), *options[1:]])
        measured = re.findall(r"aAcc: (\S+) +mIoU: (\S+) +mAcc: (\S+)", capfd.readouterr().out)
        assert [float(x) for x in rows[1][:3]] == pytest.approx([float(x) for x in measured[-1]])
        with pytest.raises(SystemExit):
            test_command.main([*options, *ways, "--tta"])
        assert "--context and --tile go without --out" in capfd.readouterr().err


def table_of(arguments, capfd):
    """The cells of the table of ways, without the words for them."""
    test_command.main(arguments)
    lines = capfd.readouterr().out.splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("way "))
    return [re.split(r"  +", line)[1:] for line in lines[first:]]


def options(command, *given):
    """What the command's own parser makes of options."""
    positional = ["config.py"] if command is train_command else ["config.py", "checkpoint.pth"]
    return command.make_parser().parse_args([*positional, *given])


def flagship(**changes):
    cfg = Config.fromfile(CONFIGS / "xcit_maskrcnn_coco.py")
    cfg.merge_from_dict(changes)
    return cfg


def test_learning_rate_scaling():
    cfg = flagship()
    train_command.scale_learning_rate(cfg, options(train_command, "--auto-scale-lr"))
    assert cfg.auto_scale_lr == {"enable": True, "base_batch_size": 16}


def test_mixed_precision():
    cfg = flagship()
    train_command.use_amp(cfg, options(train_command, "--amp-dtype", "bf16"))
    assert cfg.optim_wrapper.type == "MixedPrecisionOptimWrapper"
    assert cfg.optim_wrapper.dtype == "bf16"


def test_published_weights():
    cfg = flagship()
    train_command.use_pretrained(cfg, options(train_command, "--pretrained"))
    assert cfg.model.backbone.init_cfg.checkpoint == (
        "https://dl.fbaipublicfiles.com/xcit/xcit_small_12_p16_384_dist.pth"
    )


@pytest.mark.parametrize(
    ("change", "given", "cfg", "named"),
    [
        ("use_amp", ["--amp"], {"optim_wrapper.type": "ApexOptimWrapper"}, "'ApexOptimWrapper'"),
        ("use_pretrained", ["--pretrained"], {"model.backbone.patch_size": 4}, "patch_size=4"),
        ("use_pretrained", ["--pretrained"], {"model.backbone.type": "ResNet"}, "ResNet"),
    ],
)
def test_options_that_the_config_does_not_allow(change, given, cfg, named):
    with pytest.raises(UserError, match=named):
        getattr(train_command, change)(flagship(**cfg), options(train_command, *given))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["train", DETECTION, "--data-root", "/no/where"], "/no/where/annotations.*--data-root"),
        (["train", "no.py"], "no.py does not exist"),
        (["train", "mmdet::retinanet/retinanet_r50_fpn.py"], "similar: mmdet::retinanet/"),
        (["test", DETECTION, "no.pth", "--device", "tpu7"], "tpu7"),
        (["test", SEGMENTATION, "no.pth"], "no.pth: no such checkpoint"),
    ],
)
def test_what_a_user_can_mend_ends_with_one_line(arguments, named, monkeypatch, data):
    if "no.pth" in arguments and "--device" not in arguments:
        arguments = [*arguments, "--data-root", str(data / "ade20k")]
    monkeypatch.setattr(sys, "argv", ["xcit-dense", *arguments])
    with pytest.raises(SystemExit, match=rf"^error: .*{named}.*$"):
        main()


OLD = {"pipeline": ["old"]}


@pytest.mark.parametrize(
    ("dataset", "evaluator"),
    [
        (OLD, METRIC),
        ({"type": "RepeatDataset", "dataset": OLD}, [METRIC, METRIC]),
        ({"type": "ConcatDataset", "datasets": [OLD]}, {"type": "Evaluator", "metrics": METRIC}),
        (
            {"type": "ConcatDataset", "datasets": [OLD, OLD]},
            {"type": "MultiDatasetsEvaluator", "metrics": [METRIC, METRIC], "dataset_prefixes": []},
        ),
    ],
)
def test_augmentation_reaches_every_data_set_and_boxes_only_are_judged(dataset, evaluator):
    """Mmdet's merges no masks."""
    head = {"mask_head": {"type": "FCNMaskHead"}, "mask_roi_extractor": {}}
    cfg = Config(
        {
            "model": {"type": "MaskRCNN", "roi_head": head},
            "test_dataloader": {"dataset": dataset},
            "test_evaluator": evaluator,
            "tta_model": {"type": "DetTTAModel"},
            "tta_pipeline": ["new"],
        }
    )
    test_command.use_tta(cfg, options(test_command, "--tta"))
    assert "old" not in str(cfg.test_dataloader)
    assert str(cfg.test_dataloader).count("new") == str(dataset).count("old")
    metrics = test_command.metrics_of(cfg)
    assert metrics and all(metric.metric == ["bbox"] for metric in metrics)
    assert (cfg.model.type, cfg.model.module.type) == ("DetTTAModel", "MaskRCNN")
    assert cfg.model.module.roi_head.mask_head is None


def test_detections_of_several_data_sets_are_not_kept():
    evaluator = {"type": "MultiDatasetsEvaluator", "metrics": [METRIC], "dataset_prefixes": ["a"]}
    cfg = Config({"model": {"type": "MaskRCNN"}, "test_evaluator": evaluator})
    with pytest.raises(UserError, match="several data sets"):
        test_command.keep_detections(cfg, options(test_command, "--out", "a.pkl"))


@pytest.mark.parametrize(("scope", "package"), [("mmdet", "mmdet"), ("mmseg", "mmsegmentation")])
def test_a_config_of_a_missing_library_says_which(scope, package, tmp_path, monkeypatch):
    monkeypatch.setattr(config_module, "find_spec", lambda name: None)
    config = tmp_path / "config.py"
    config.write_text(f"default_scope = {scope!r}")
    with pytest.raises(config_module.UserError, match=f"{scope}.*pip install {package}$"):
        config_module.read_config(str(config))
    config.write_text("default_scope = None")
    assert config_module.read_config(str(config)).default_scope is None


def test_labels_of_a_test_mean_what_they_meant_in_training(tmp_path):
    path = tmp_path / "checkpoint.pth"
    dataset = {"type": "CocoDataset", "ann_file": "a.json", "metainfo": {"classes": ("a", "b")}}
    for trained, used in [(("b", "a"), ("b", "a")), (("a", "b"), ("a", "b")), (("c",), ("a", "b"))]:
        torch.save({"meta": {"dataset_meta": {"classes": trained}}, "state_dict": {}}, path)
        cfg = Config({"default_scope": "mmdet", "test_dataloader": {"dataset": dict(dataset)}})
        args = test_command.make_parser().parse_args(["config.py", str(path)])
        test_command.use_classes_of_checkpoint(cfg, args)
        assert cfg.test_dataloader.dataset.metainfo.classes == used
