"""The recipes for another resolution: what they change, and that the change reaches the model."""

from pathlib import Path

import pytest
from dev.demo_data import Plan, write_coco
from mmengine.config import Config
from mmengine.runner import Runner

from xcit_dense.mm.data import set_data_root

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = CONFIGS / "resolution"
DETECTION = CONFIGS / "xcit_maskrcnn_coco.py"
SEGMENTATION = CONFIGS / "xcit_upernet_ade20k.py"
DEMO = CONFIGS / "demo/xcit_maskrcnn_demo.py"
PROGRESSIVE = RECIPES / "xcit_small_12_p16_maskrcnn_coco_progressive.py"
LARGE_DETECTION = RECIPES / "xcit_small_12_p16_maskrcnn_coco_1200.py"
LARGE_SEGMENTATION = [
    (RECIPES / f"xcit_small_12_p16_upernet_ade20k_{size}x{size}.py", size) for size in (768, 1024)
]
WIDTH = 16
ARCH = {"embed_dims": WIDTH, "depth": 4, "num_heads": 2, "eta": 1.0}


def transforms(pipeline, kind):
    """The transforms of a kind in a pipeline, nested ones too."""
    found = []
    for transform in pipeline:
        if isinstance(transform, list):
            found += transforms(transform, kind)
        elif transform["type"] == kind:
            found.append(transform)
        else:
            found += transforms(transform.get("transforms", []), kind)
    return found


def short_sides(pipeline):
    choices = transforms(pipeline, "RandomChoiceResize")
    return {min(scale) for choice in choices for scale in choice["scales"]}


def switch_hook(cfg):
    (hook,) = [hook for hook in cfg.custom_hooks if hook.type == "PipelineSwitchHook"]
    return hook


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.py")), ids=lambda path: path.stem)
def test_the_model_is_that_of_the_flagship(path):
    recipe = Config.fromfile(path)
    flagship = Config.fromfile(DETECTION if "maskrcnn" in path.name else SEGMENTATION)
    recipe.model.data_preprocessor.pop("size", None)
    flagship.model.data_preprocessor.pop("size", None)
    assert recipe.model == flagship.model
    kept = [hook for hook in recipe.custom_hooks if hook.type != "PipelineSwitchHook"]
    assert kept == flagship.custom_hooks


def test_progressive_training_sees_small_images_first_and_the_recipe_in_the_last_third():
    cfg, flagship = Config.fromfile(PROGRESSIVE), Config.fromfile(DETECTION)
    hook = switch_hook(cfg)
    assert hook.switch_epoch == cfg.train_cfg.max_epochs * 2 // 3
    assert hook.switch_pipeline == flagship.train_dataloader.dataset.pipeline
    assert max(short_sides(cfg.train_dataloader.dataset.pipeline)) < max(
        short_sides(hook.switch_pipeline)
    )
    assert cfg.val_dataloader == flagship.val_dataloader


def test_detection_on_larger_images_trains_and_evaluates_at_the_same_size():
    cfg = Config.fromfile(LARGE_DETECTION)
    assert max(short_sides(cfg.train_dataloader.dataset.pipeline)) == 1200
    for pipeline in (cfg.test_dataloader.dataset.pipeline, cfg.tta_pipeline):
        assert [resize["scale"] for resize in transforms(pipeline, "Resize")] == [(2000, 1200)]
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_epochs
    assert cfg.load_from.endswith("coco/maskrcnn_xcit_small_12_p16.pth")


@pytest.mark.parametrize(("path", "size"), LARGE_SEGMENTATION)
def test_segmentation_at_another_size_has_that_size_everywhere(path, size):
    cfg = Config.fromfile(path)
    train, test = cfg.train_dataloader.dataset.pipeline, cfg.test_dataloader.dataset.pipeline
    assert cfg.model.data_preprocessor.size == (size, size)
    assert transforms(train, "RandomCrop")[0]["crop_size"] == (size, size)
    assert transforms(train, "RandomResize")[0]["scale"] == (4 * size, size)
    assert transforms(test, "Resize")[0]["scale"] == (4 * size, size)
    augmented = [resize["scale"] for resize in transforms(cfg.tta_pipeline, "Resize")]
    assert (4 * size, size) in augmented and len(augmented) == 6
    assert cfg.val_dataloader == cfg.test_dataloader
    assert cfg.param_scheduler[-1].end == cfg.train_cfg.max_iters


@pytest.mark.parametrize(
    "path", [LARGE_DETECTION, LARGE_SEGMENTATION[0][0]], ids=["detection", "segmentation"]
)
def test_going_on_from_a_trained_model_is_gentler_than_training(path):
    recipe = Config.fromfile(path)
    flagship = Config.fromfile(DETECTION if "maskrcnn" in path.name else SEGMENTATION)
    assert recipe.optim_wrapper.constructor == "LayerDecayOptimWrapperConstructor"
    assert recipe.optim_wrapper.optimizer.lr < flagship.optim_wrapper.optimizer.lr
    paramwise = recipe.optim_wrapper.paramwise_cfg
    assert 0 < paramwise.pop("decay_rate") < 1
    assert paramwise == flagship.optim_wrapper.paramwise_cfg


def test_the_second_step_of_segmentation_begins_where_the_first_ends():
    first, second = (path for path, _ in LARGE_SEGMENTATION)
    last = f"iter_{Config.fromfile(first).train_cfg.max_iters}.pth"
    assert Config.fromfile(second).load_from == f"work_dirs/{first.stem}/{last}"


def fix_size(pipeline, side):
    """Let every choice of a size in a pipeline have one outcome."""
    for choice in transforms(pipeline, "RandomChoiceResize"):
        choice["scales"] = [(side, side)]


def test_the_switch_of_sizes_reaches_the_workers(tmp_path):
    write_coco(tmp_path / "coco", Plan(train=4, val=3, size=64))
    cfg = Config.fromfile(PROGRESSIVE)
    set_data_root(cfg, str(tmp_path / "coco"))
    cfg.work_dir = str(tmp_path)
    cfg.val_dataloader = cfg.val_cfg = cfg.val_evaluator = None
    cfg.model.backbone.update(arch=ARCH, norm_cfg={"type": "BN"})
    cfg.model.neck.in_channels = [WIDTH] * 4
    cfg.model.roi_head.bbox_head.fc_out_channels = WIDTH
    cfg.model.train_cfg.rpn_proposal.max_per_img = 50
    cfg.model.train_cfg.rcnn.sampler.num = 16
    hook = switch_hook(cfg)
    hook.switch_epoch = 1
    fix_size(cfg.train_dataloader.dataset.pipeline, 32)
    fix_size(hook.switch_pipeline, 96)
    cfg.train_cfg.update(max_epochs=2, val_interval=10)
    cfg.train_dataloader.update(batch_size=2, num_workers=1)
    cfg.train_dataloader.dataset.metainfo = Config.fromfile(DEMO).metainfo
    assert cfg.train_dataloader.persistent_workers
    runner = Runner.from_cfg(cfg)
    sides = {}

    def note_size(_, inputs):
        sides.setdefault(runner.epoch, set()).add(max(inputs[0].shape[-2:]))

    runner.model.backbone.register_forward_pre_hook(note_size)
    runner.train()
    assert sides == {0: {32}, 1: {96}}
