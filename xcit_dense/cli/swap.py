"""Putting XCiT into a config: the command line of ``tools/swap_backbone.py``."""

import os
import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from mmengine.config import Config

from xcit_dense.atomic_files import write_atomically
from xcit_dense.cli.doctor import add_size_option, examine
from xcit_dense.errors import UserError
from xcit_dense.mm.backbone import XCiT
from xcit_dense.mm.config_files import read_config
from xcit_dense.network import resolve_arch
from xcit_dense.swap import Swap, plan_swap
from xcit_dense.swap.config_source import ConfigSource
from xcit_dense.swap.new_style import inherits_from, is_new_style
from xcit_dense.swap.written_config import config_text
from xcit_dense.weights.published_weights import (
    KIND_OF_THE_RELEASE,
    published_kinds,
    published_url,
)


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Write a config that inherits from an mmdet or mmseg config and has XCiT in "
        "the place of its backbone. Exit code: 0 written and healthy, 1 not."
    )
    parser.add_argument(
        "config", help="a file, or mmdet::retinanet/retinanet_r50_fpn_1x_coco.py (or mmseg::...)"
    )
    parser.add_argument("-o", "--out", type=Path, required=True, help="config to write")
    parser.add_argument("--arch", default="small_12", help="architecture of XCiT (small_12)")
    parser.add_argument("--patch-size", type=int, default=16, choices=[8, 16])
    parser.add_argument(
        "--weights",
        nargs="?",
        const=KIND_OF_THE_RELEASE,
        metavar="KIND_PATH_OR_URL",
        help="weights the backbone starts from: a kind of the release's ImageNet weights "
        f"({', '.join(published_kinds())}), a file or a URL; alone: {KIND_OF_THE_RELEASE}",
    )
    parser.add_argument("--force", action="store_true", help="replace OUT if it is there")
    parser.add_argument(
        "--no-check",
        dest="check",
        action="store_false",
        help="do not build and run the swapped model",
    )
    add_size_option(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Swap as the arguments say (``sys.argv`` if None)."""
    args = make_parser().parse_args(argv)
    source = ConfigSource.find(args.config)
    _check_out(args, source)
    old = read_config(str(source.path))
    _check_can_inherit(source, old, args.out)
    swap, text = _swapped(args, source, old)
    try:
        write_atomically(args.out, lambda file: file.write(text.encode()))
    except OSError as error:
        raise UserError(f"{args.out}: {error.strerror}; nothing is written") from error
    print(f"written: {args.out}", *(f"- {note}" for note in swap.notes), sep="\n")
    if args.check and not examine(Config.fromfile(args.out), args.size):
        sys.exit(1)


def _swapped(args: Namespace, source: ConfigSource, old: Config) -> tuple[Swap, str]:
    """The swap, and the text of its config."""
    title = f"XCiT in {args.config}, by tools/swap_backbone.py {shlex.join(_settings(args))}"
    try:
        resolve_arch(args.arch)
        swap = plan_swap(old, args.arch, args.patch_size, _weights(args))
        return swap, config_text(source, old, swap, args.out, title)
    except UserError:  # say which file it is themselves
        raise
    except ValueError as error:
        raise UserError(f"{args.config}: {error}; nothing is written") from error


def _check_can_inherit(source: ConfigSource, config: Config, out: Path) -> None:
    if out.exists() and _inherits_from(source.path, config, out):
        raise UserError(f"{out}: {source.path} inherits from it, and OUT is to inherit from that")


def _inherits_from(path: Path, config: Config, other: Path) -> bool:
    if is_new_style(path):
        return inherits_from(path, other)
    # mmengine keeps the texts of all files that a config is made of, each under its name
    return any(_is_file(line, other) for line in config.text.splitlines())


def _is_file(line: str, path: Path) -> bool:
    return line.endswith(path.suffix) and os.path.exists(line) and os.path.samefile(line, path)


def _check_out(args: Namespace, source: ConfigSource) -> None:
    try:
        is_folder, is_there = args.out.is_dir(), args.out.exists()
    except OSError as error:  # a name that is too long
        raise UserError(f"{args.out}: {error.strerror}") from error
    if args.out.suffix != ".py":
        raise UserError(f"{args.out}: OUT must end in .py")
    if args.out.resolve() == source.path.resolve():
        raise UserError(f"{args.out}: OUT is CONFIG, from which it is to inherit")
    if is_folder:
        raise UserError(f"{args.out}: OUT is a folder, wanted is a file")
    if is_there and not args.force:
        raise UserError(f"{args.out}: is there already; --force replaces it")


def _weights(args: Namespace) -> str | None:
    """Path or URL of the weights; local ones are seen to be of this backbone."""
    weights = args.weights
    if weights is None or "://" in weights:
        return weights
    if weights in published_kinds():
        try:
            return published_url(weights, args.arch, args.patch_size)
        except ValueError as error:
            raise UserError(f"--weights: {error}; nothing is written") from error
    if not Path(weights).is_file():
        raise UserError(
            f"--weights {weights}: no such file, and no kind of published weights "
            f"({', '.join(published_kinds())}); nothing is written"
        )
    init_cfg = {"type": "Pretrained", "checkpoint": weights}
    XCiT(args.arch, args.patch_size, init_cfg=init_cfg).init_weights()
    return weights


def _settings(args: Namespace) -> list[str]:
    settings = ["--arch", args.arch, "--patch-size", str(args.patch_size)]
    return settings + (["--weights", args.weights] if args.weights else [])
