"""Looking at attention: the command line of ``tools/visualize_attention.py``."""

from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, TRANSFORMS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import Tensor

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.look.attention import attention_of_blocks
from xcit_dense.look.attention_pictures import Backdrop, draw_attention
from xcit_dense.look.class_attention import class_attention, has_class_attention
from xcit_dense.look.figures import check_format
from xcit_dense.mm.config import (
    add_config_changes,
    innermost_dataset,
    model_scope,
    read_config,
    type_name,
)
from xcit_dense.mm.loading import load_complete
from xcit_dense.network import Trunk
from xcit_dense.weights import backbone_tensors, convert_state_dict, unwrap_checkpoint

_LARGEST_SIDE = 1000  # of the image in the picture


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw the cross-covariance attention of an XCiT for an image: for each head "
        "the places that drive it more (red) and less (blue) than the average, and its attention "
        "matrix. For classification weights also class attention."
    )
    parser.add_argument("config", help="path of a config with an XCiT backbone")
    parser.add_argument("checkpoint", help="trained model, or published classification weights")
    parser.add_argument("image", help="path of the image")
    parser.add_argument(
        "--out", type=Path, default=Path("attention.png"), help="picture to write (attention.png)"
    )
    parser.add_argument(
        "--blocks",
        type=int,
        nargs="+",
        metavar="N",
        help="blocks to look at, from 0 (those that the pyramid taps)",
    )
    parser.add_argument(
        "--class-attention",
        action="store_true",
        help="only class attention, which classification weights have",
    )
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draw as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UserError: config, checkpoint or image are unusable, or the picture cannot be written.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    check_format(args.out)
    if args.class_attention and args.blocks:
        parser.error("--class-attention draws none of the --blocks: leave one of them out")
    cfg = read_config(args.config, args.cfg_options)
    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location="cpu")
    tensors = backbone_tensors(unwrap_checkpoint(checkpoint))
    of_classification = has_class_attention(tensors)
    if args.class_attention and not of_classification:
        raise UserError(
            f"{args.checkpoint}: --class-attention needs published classification weights, these "
            "have no class attention"
        )
    trunk = load_trunk(cfg, tensors, args.checkpoint)
    image, backdrop = prepare(cfg, args.image, trunk.patch_size)
    wanted = [] if args.class_attention else args.blocks or trunk.out_indices
    blocks = attention_of_blocks(trunk, image, wanted)
    class_maps = class_attention(trunk, image, tensors) if of_classification else []
    draw_attention(backdrop, blocks, class_maps, args.out)
    print(f"written: {args.out}")


def load_trunk(cfg: Config, tensors: Mapping[str, Tensor], source: object) -> Trunk:
    """The trunk of a config's XCiT, in eval mode, with the weights of a backbone.

    Args:
        cfg: a config of mmdet or mmseg.
        tensors: by any of the names that XCiT takes.
        source: where the weights are from, for the messages.

    Raises:
        UserError: the config's backbone is no XCiT, or the weights do not fit it.
    """
    init_default_scope(model_scope(cfg) or "mmengine")
    settings = (cfg.get("model") or {}).get("backbone") or {}
    if type_name(settings) != "XCiT":
        raise UserError(
            f"{cfg.filename}: the backbone is {type_name(settings) or 'missing'}, wanted is XCiT"
        )
    backbone = MODELS.build(settings)
    load_complete(
        backbone, convert_state_dict(tensors), source, lambda name: name.startswith("trunk.")
    )
    return backbone.trunk.eval()


def prepare(cfg: Config, path: str, patch_size: int) -> tuple[Tensor, Backdrop]:
    """Bring an image file to what the backbone gets in testing.

    Returns:
        The model's input (1, C, h, w), and the image below the grid of its patches.

    Raises:
        UserError: the config has no test pipeline, or it fails on the image.
    """
    try:
        pipeline = innermost_dataset(cfg.test_dataloader.dataset).pipeline
        loader, *steps = [step for step in pipeline if "Annotations" not in type_name(step)]
        results = TRANSFORMS.build(loader)({"img_path": path, "img_id": 0, "seg_fields": []})
        image = results["img"]
        sample = Compose(steps)(results)
        preprocess = MODELS.build(cfg.model.data_preprocessor)
        inputs = preprocess(pseudo_collate([sample]), False)["inputs"]
    except Exception as error:  # transforms of any kind may fail in any way
        raise UserError(
            f"the test pipeline of {cfg.filename} cannot prepare {path}: {in_one_line(error)}"
        ) from error
    across, down = sample["data_samples"].metainfo.get("scale_factor", (1.0, 1.0))
    rows, columns = (-(-side // patch_size) * patch_size for side in inputs.shape[-2:])
    step = -(-max(image.shape[:2]) // _LARGEST_SIDE)
    shown = _viewable(image[::step, ::step])
    return inputs, Backdrop(shown, rows / down / step, columns / across / step)


def _viewable(image: np.ndarray) -> np.ndarray:
    """An image as mm reads it, (H, W) or (H, W, C), as (H, W, 3) in red, green, blue, in [0, 1]."""
    pixels = image if image.ndim == 3 else image[..., None]
    pixels = pixels[..., :3][..., ::-1] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, -1)
    return pixels / np.float32(max(255, pixels.max()))
