"""Looking at attention: the command line of ``tools/visualize_attention.py``."""

from argparse import ArgumentParser

import numpy as np
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.look import picture_path
from xcit_dense.look.attention import attention_of_blocks
from xcit_dense.look.attention_pictures import draw_attention
from xcit_dense.mm.config import (
    CONFIG_HELP,
    add_config_changes,
    innermost_dataset,
    model_scope,
    read_config,
    type_name,
)
from xcit_dense.mm.loading import load_complete
from xcit_dense.network import Trunk
from xcit_dense.weights import convert_state_dict, load_checkpoint, unwrap_checkpoint


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw the cross-covariance attention of an XCiT for an image: for each head "
        "the places that drive it more (red) and less (blue) than the average, and its attention "
        "matrix."
    )
    parser.add_argument("config", help=f"{CONFIG_HELP}; with an XCiT backbone")
    parser.add_argument("checkpoint", help="trained model, or published classification weights")
    parser.add_argument("image", help="path of the image")
    parser.add_argument(
        "--out", type=picture_path, default="attention.png", help="picture (attention.png)"
    )
    parser.add_argument(
        "--blocks", type=int, nargs="+", metavar="N", help="from 0 (those that the pyramid taps)"
    )
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Draw as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UserError: config, checkpoint or image are unusable.
        OSError: the picture cannot be written.
    """
    args = make_parser().parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    trunk = load_trunk(cfg, args.checkpoint)
    inputs, image = prepare_image(cfg, args.image)
    blocks = attention_of_blocks(trunk, inputs, args.blocks or trunk.out_indices)
    draw_attention(image, trunk.patch_size, blocks, args.out)
    print(f"written: {args.out}")


def load_trunk(cfg: Config, checkpoint: str) -> Trunk:
    """The trunk of a config's XCiT, in eval mode, with the weights of a checkpoint.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UserError: the config's backbone is no XCiT, or the weights do not fit it.
    """
    init_default_scope(model_scope(cfg) or "mmengine")
    settings = (cfg.get("model") or {}).get("backbone") or {}
    if (kind := type_name(settings)) != "XCiT":
        raise UserError(f"{cfg.filename}: the backbone is {kind or 'missing'}, wanted is XCiT")
    backbone = MODELS.build(settings)
    tensors = convert_state_dict(unwrap_checkpoint(load_checkpoint(checkpoint)))
    load_complete(backbone, tensors, checkpoint, lambda name: name.startswith("trunk."))
    return backbone.trunk.eval()


def prepare_image(cfg: Config, path: str) -> tuple[Tensor, np.ndarray]:
    """Bring an image file to what the backbone gets in testing.

    Returns:
        The model's input (1, C, h, w), and the same image before normalization and padding to be
        looked at: (H, W, 3) in red, green, blue, in [0, 1].

    Raises:
        UserError: the config has no test pipeline, or it fails on the image.
    """
    try:
        pipeline = innermost_dataset(cfg.test_dataloader.dataset).pipeline
        steps = [step for step in pipeline if "Annotations" not in type_name(step)]
        sample = Compose(steps)({"img_path": path, "img_id": 0, "seg_fields": []})
        preprocess = MODELS.build(cfg.model.data_preprocessor)
        inputs = preprocess(pseudo_collate([sample]), False)["inputs"]
    except Exception as error:  # transforms of any kind may fail in any way
        raise UserError(
            f"the test pipeline of {cfg.filename} cannot prepare {path}: {in_one_line(error)}"
        ) from error
    pixels = sample["inputs"].numpy().transpose(1, 2, 0)
    pixels = pixels[..., 2::-1] if pixels.shape[2] >= 3 else pixels[..., :1].repeat(3, -1)
    return inputs, pixels / np.float32(max(255, pixels.max()))
