"""Looking at attention: the command line of ``tools/visualize_attention.py``."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import Tensor

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.look.attention_of_blocks import attention_of_blocks
from xcit_dense.look.attention_pictures import Backdrop, draw_attention
from xcit_dense.look.class_attention import class_attention, has_class_attention
from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config_files import add_config_changes, read_config
from xcit_dense.mm.config_tree import bare_name
from xcit_dense.mm.loading import load_complete
from xcit_dense.network import Trunk
from xcit_dense.predict import UnreadableImageError, read_image
from xcit_dense.predict.inference_pipeline import InferencePipeline
from xcit_dense.predict.reading.decoding import viewable
from xcit_dense.predict.resized_size import size_before_padding
from xcit_dense.predict.scope import scope_of
from xcit_dense.weights import backbone_tensors, convert_state_dict, identify, unwrap_checkpoint


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw the cross-covariance attention of an XCiT for an image: for each head "
        "the places that drive it (red) and hold it back (blue), and its attention matrix. For "
        "classification weights also class attention."
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
        FileNotFoundError: there is no such config or checkpoint.
        UserError: the config is unusable or has no XCiT.
        UserError: the checkpoint is unusable, or of another backbone.
        UserError: the image cannot be read, or the picture cannot be written.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    _check_target(parser, args.out)
    if args.class_attention and args.blocks:
        parser.error("--class-attention draws none of the --blocks: leave one of them out")
    cfg = read_config(args.config, args.cfg_options)
    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location="cpu")
    state_dict = unwrap_checkpoint(checkpoint)
    of_backbone = backbone_tensors(state_dict)
    with_class_attention = has_class_attention(of_backbone)
    if args.class_attention and not with_class_attention:
        raise UserError(
            f"{args.checkpoint}: --class-attention needs published classification weights, these "
            "have no class attention"
        )
    trunk, tapped = load_trunk(cfg, state_dict, args.checkpoint, whole=with_class_attention)
    prepared, backdrop = prepare(cfg, args.image)
    try:
        blocks = [] if args.class_attention else list(dict.fromkeys(args.blocks or tapped))
        attention = attention_of_blocks(trunk, prepared, blocks)
    except ValueError as error:
        parser.error(f"--blocks: {error}")
    class_maps = []
    if with_class_attention:
        class_maps = class_attention_maps(trunk, prepared, of_backbone)
    covered = _covered(backdrop, prepared, trunk.patch_size)
    try:
        draw_attention(covered, attention, class_maps, args.out)
    except OSError as error:
        raise UserError(f"--out {args.out}: {error.strerror or error}") from error
    except RuntimeError as error:  # a format that needs TeX
        raise UserError(f"--out {args.out}: {error}") from error
    print(f"written: {args.out}")


def _check_target(parser: ArgumentParser, target: Path) -> None:
    formats = sorted(FigureCanvasAgg.get_supported_filetypes())
    if target.suffix[1:].lower() not in formats:
        parser.error(f"--out {target}: the name has to end in one of .{', .'.join(formats)}")
    if target.is_dir():
        parser.error(f"--out {target} is a folder; wanted is a picture's file")


def load_trunk(
    cfg: Config, state_dict: Mapping[str, Tensor], source: object, whole: bool = False
) -> tuple[Trunk, Sequence[int]]:
    """The trunk of a config's XCiT, in eval mode, with the weights of a state dict.

    Args:
        cfg: a config of mmdet or mmseg.
        state_dict: of a whole model or of a backbone, by any of the names that XCiT takes.
        source: where the weights are from, for the messages.
        whole: take all blocks of the state dict, and give the map after the last one only; else
            the trunk ends with the last block that the config's pyramid taps.

    Returns:
        The trunk, and the blocks that the config's pyramid taps.

    Raises:
        UserError: the config's backbone is no XCiT.
        UserError: the weights do not fit it.
    """
    init_default_scope(scope_of(cfg))
    settings = (cfg.get("model") or {}).get("backbone") or {}
    kind = settings.get("type", "missing")
    if bare_name(kind) != "XCiT":
        raise UserError(f"{cfg.filename}: the backbone is {kind}, wanted is XCiT")
    backbone = _build(settings)
    tapped = backbone.trunk.out_indices
    tensors = convert_state_dict(state_dict)
    found = identify(tensors)
    if whole and found and len(backbone.trunk.blocks) < found.depth <= backbone.identity.depth:
        one_level = {"out_indices": (found.depth - 1,), "out_strides": (backbone.strides[-1],)}
        backbone = _build({**settings, **one_level, "frozen_stages": -1})
    load_complete(backbone, tensors, source, _is_of_the_trunk)
    return backbone.trunk.eval(), tapped


def _build(settings: Mapping[str, Any]) -> XCiT:
    return revert_sync_batchnorm(MODELS.build(dict(settings)))


def _is_of_the_trunk(name: str) -> bool:
    return name.startswith("trunk.")


def prepare(cfg: Config, source: str) -> tuple[Tensor, Backdrop]:
    """Bring the image of a file to what the backbone gets in testing.

    Returns:
        The model's input (1, C, h, w), and the image, with the size of what it was resized to in
        the place of the grid's.

    Raises:
        UserError: there is no test pipeline, or it cannot be used.
        UserError: the image cannot be read or prepared.
    """
    try:
        pipeline = InferencePipeline(cfg)
    except ValueError as error:
        raise UserError(f"config {cfg.filename}: {error}") from error
    try:
        image = read_image(source, pipeline.decoding)
        sample = pipeline(image, source)
    except Exception as error:  # any transform may fail in any way
        reason = error if isinstance(error, UnreadableImageError) else in_one_line(error)
        raise UserError(f"{source}: {reason}") from error
    resized = size_before_padding(sample["data_samples"], tuple(sample["inputs"].shape[-2:]))
    batch: dict[str, Any] = {key: [value] for key, value in sample.items()}
    inputs = MODELS.build(cfg.model.data_preprocessor)(batch, False)["inputs"]
    return inputs, Backdrop(viewable(image)[..., ::-1], *map(float, resized))


@torch.no_grad()
def class_attention_maps(
    trunk: Trunk, image: Tensor, state_dict: Mapping[str, Tensor]
) -> Sequence[np.ndarray]:
    """The maps of each class attention block, (heads, rows, columns).

    They follow the last block of the trunk, which has to be tapped.
    """
    last = trunk(image)[-1]
    num_heads = trunk.blocks[0].attention.num_heads
    maps, _ = class_attention(state_dict, last.permute(0, 2, 3, 1).flatten(1, 2), num_heads)
    return [each[0].unflatten(-1, last.shape[-2:]).numpy() for each in maps]


def _covered(backdrop: Backdrop, prepared: Tensor, patch_size: int) -> Backdrop:
    """Say what part of the original image the grid covers."""
    height, width = backdrop.image.shape[:2]
    rows, columns = (-(-side // patch_size) * patch_size for side in prepared.shape[-2:])
    return Backdrop(
        backdrop.image,
        rows * height / backdrop.height_of_grid,
        columns * width / backdrop.width_of_grid,
    )
