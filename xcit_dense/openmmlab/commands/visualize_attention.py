"""Looking at attention: the command line of ``tools/visualize_attention.py``."""

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, DictAction
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import CheckpointLoader
from torch import Tensor

from xcit_dense.models import Trunk, convert_state_dict, unwrap_checkpoint
from xcit_dense.models.attention_maps import attention_of_blocks
from xcit_dense.models.class_attention import class_attention, has_class_attention
from xcit_dense.openmmlab.attention_pictures import Backdrop, draw_attention
from xcit_dense.openmmlab.checkpoints import CheckpointError
from xcit_dense.openmmlab.checkpoints.complete_loading import load_complete
from xcit_dense.openmmlab.commands.config_files import ConfigError, read_config
from xcit_dense.openmmlab.commands.data_roots import DataError
from xcit_dense.openmmlab.config_tree import bare_name
from xcit_dense.openmmlab.prediction import UnreadableImageError, read_image
from xcit_dense.openmmlab.prediction.inference_pipeline import InferencePipeline
from xcit_dense.ops import map_to_tokens, pad_to_multiple


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
    parser.add_argument(
        "--cfg-options", nargs="+", action=DictAction, metavar="KEY=VALUE", help="change the config"
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draw as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: there is no such config or checkpoint.
        ConfigError: the config is unusable or has no XCiT.
        CheckpointError: the checkpoint is unusable, or of another backbone.
        DataError: the image cannot be read.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    checkpoint = CheckpointLoader.load_checkpoint(args.checkpoint, map_location="cpu")
    state_dict = unwrap_checkpoint(checkpoint)
    with_class_attention = has_class_attention(state_dict)
    if args.class_attention and not with_class_attention:
        raise CheckpointError(
            f"{args.checkpoint}: --class-attention needs published classification weights, these "
            "have no class attention"
        )
    trunk = load_trunk(cfg, state_dict, args.checkpoint)
    blocks = [] if args.class_attention else (args.blocks or list(trunk.out_indices))
    try:
        image = read_image(args.image)
    except UnreadableImageError as error:
        raise DataError(f"{args.image}: {error}") from error
    prepared, backdrop = prepare(cfg, image)
    try:
        attention = attention_of_blocks(trunk, prepared, blocks)
    except ValueError as error:
        parser.error(f"--blocks: {error}")
    class_maps = []
    if with_class_attention:
        class_maps = class_attention_maps(trunk, prepared, state_dict)
    covered = _covered(backdrop, prepared, trunk.patch_size)
    draw_attention(covered, attention, class_maps, args.out)
    print(f"written: {args.out}")


def load_trunk(cfg: Config, state_dict: Mapping[str, Tensor], source: object) -> Trunk:
    """The trunk of a config's XCiT, in eval mode, with the weights of a state dict.

    Args:
        cfg: a config of mmdet or mmseg.
        state_dict: of a whole model or of a backbone, by any of the names that XCiT takes.
        source: where the weights are from, for the messages.

    Raises:
        ConfigError: the config's backbone is no XCiT.
        CheckpointError: the weights do not fit it.
    """
    init_default_scope(cfg.get("default_scope", "mmdet"))
    kind = cfg.model.get("backbone", {}).get("type", "missing")
    if bare_name(kind) != "XCiT":
        raise ConfigError(f"{cfg.filename}: the backbone is {kind}, wanted is XCiT")
    backbone = revert_sync_batchnorm(MODELS.build(cfg.model.backbone))
    load_complete(backbone, convert_state_dict(state_dict), source, _is_of_the_trunk)
    return backbone.trunk.eval()


def _is_of_the_trunk(name: str) -> bool:
    return name.startswith("trunk.")


def prepare(cfg: Config, image: np.ndarray) -> tuple[Tensor, Backdrop]:
    """Bring an image, uint8 (H, W, 3) in blue, green, red, to what the backbone gets in testing.

    Returns:
        The model's input (1, 3, h, w), and the image, with the size of what it was resized to in
        the place of the grid's.
    """
    sample = InferencePipeline(cfg)(image)
    resized = sample["inputs"].shape[-2:]
    batch: dict[str, Any] = {key: [value] for key, value in sample.items()}
    inputs = MODELS.build(cfg.model.data_preprocessor)(batch, False)["inputs"]
    return inputs, Backdrop(image[..., ::-1], *map(float, resized))


@torch.no_grad()
def class_attention_maps(
    trunk: Trunk, image: Tensor, state_dict: Mapping[str, Tensor]
) -> Sequence[np.ndarray]:
    """The maps of each class attention block, (heads, rows, columns).

    They follow the last block of the trunk, which in the published models is tapped.
    """
    *_, last = trunk.taps(pad_to_multiple(image, trunk.patch_size))
    num_heads = trunk.blocks[0].attention.num_heads
    maps, _ = class_attention(state_dict, map_to_tokens(last), num_heads)
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
