"""Putting XCiT into a config: the command line of ``tools/swap_backbone.py``."""

import os
import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmengine.config import Config

from xcit_dense.atomic_files import write_atomically
from xcit_dense.doctor import DEFAULT_IMAGE_SIZE, diagnose, report
from xcit_dense.errors import UserError
from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config import CONFIG_HELP, find_config, read_config
from xcit_dense.swap import plan_swap
from xcit_dense.swap.text import config_text
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE, published_url


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Write a config that inherits from an mmdet or mmseg config and has XCiT in "
        "the place of its backbone, if its model is healthy. Exit code: 0 written, 1 not."
    )
    parser.add_argument("config", help=f"{CONFIG_HELP}, as retinanet/retinanet_r50_fpn_1x_coco.py")
    parser.add_argument("-o", "--out", type=Path, required=True, help="config to write")
    parser.add_argument("--arch", default="small_12", help="architecture of XCiT (small_12)")
    parser.add_argument("--patch-size", type=int, default=16, choices=[8, 16])
    parser.add_argument(
        "--weights",
        nargs="?",
        const=KIND_OF_THE_RELEASE,
        metavar="KIND_PATH_OR_URL",
        help="weights the backbone starts from: a kind of the release's ImageNet weights (224, "
        f"224_dist, 384_dist, dino), a file or a URL; alone: {KIND_OF_THE_RELEASE}",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    parser.add_argument(
        "--no-check", action="store_true", help="write it unseen, whether it is healthy or not"
    )
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        default=DEFAULT_IMAGE_SIZE,
        metavar=("HEIGHT", "WIDTH"),
        help="pixels of the images of the check (%(default)s), as tools/doctor.py takes them",
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    """Swap as the arguments say (``sys.argv`` if None)."""
    args = make_parser().parse_args(argv)
    settings = ["--arch", args.arch, "--patch-size", str(args.patch_size)]
    settings += ["--weights", args.weights] if args.weights else []
    title = f"XCiT in {args.config}, by tools/swap_backbone.py {shlex.join(settings)}"
    old = read_config(args.config)
    try:
        _check_out(args, old)
        swap = plan_swap(old, args.arch, args.patch_size, _weights(args))
        text = config_text(args.config, old, swap, args.out, title)
        print("".join(f"- {note}\n" for note in swap.notes), end="")
        if not args.no_check:
            trial = diagnose(swap.config, args.size)
            print(report(trial))
            if not trial.is_healthy:
                raise UserError("the new model is not healthy (--no-check writes it all the same)")
        write_atomically(args.out, lambda file: file.write(text.encode()))
    except (OSError, ValueError) as error:
        raise UserError(f"{args.config}: {error}; nothing is written") from error
    print(f"written: {args.out}")


def _check_out(args: Namespace, old: Config) -> None:
    """See that OUT can be written, and that nothing is lost by that."""
    out = args.out
    if out.suffix != ".py":
        raise UserError(f"{out}: OUT must end in .py")
    if out.exists() and not args.force:
        raise UserError(f"{out} is there already; --force replaces it")
    # the text of a config names each file that it is made of, in a line before that
    files = [os.path.abspath(find_config(args.config)), *old.text.splitlines()]
    if os.path.abspath(out) in files:
        raise UserError(f"{out} is a part of the config, from which OUT is to inherit")


def _weights(args: Namespace) -> str | None:
    """Path or URL of the weights; local ones are seen to be of this backbone."""
    weights = args.weights
    if weights is None or "://" in weights:
        return weights
    if not Path(weights).is_file():
        try:
            return published_url(weights, args.arch, args.patch_size)
        except UserError as error:
            raise UserError(f"--weights {weights}: no such file, and {error}") from error
    init_cfg = {"type": "Pretrained", "checkpoint": weights}
    XCiT(args.arch, args.patch_size, init_cfg=init_cfg).init_weights()
    return weights
