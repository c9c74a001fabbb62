"""Renaming the tensors of a checkpoint: the command line of ``tools/convert_checkpoint.py``."""

from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors.torch import save as to_safetensors
from torch import Tensor

from xcit_dense.atomic_files import StoppableFile, write_atomically
from xcit_dense.errors import UserError
from xcit_dense.weights import (
    NAMINGS,
    backbone_prefix,
    convert_state_dict,
    identify,
    load_checkpoint,
    rename_state_dict,
    unwrap_checkpoint,
)


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Give a checkpoint of XCiT, or of a model with one inside, other key names.",
        epilog="Every tensor is kept, also class attention, classifier, neck and heads; the state "
        "of a training run (optimizer, schedules) is not. timm reads DST by checkpoint_path.",
    )
    parser.add_argument("source", metavar="SRC", help="path, URL or timm://NAME, in any naming")
    parser.add_argument("target", metavar="DST", type=Path, help=".pth or .safetensors to write")
    parser.add_argument("--to", choices=NAMINGS, default="xcit_dense", help="naming of DST")
    parser.add_argument("--force", action="store_true", help="replace DST if it is there")
    return parser


def main(argv: list[str] | None = None) -> None:
    """Convert as the arguments say (``sys.argv`` if None).

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UserError: the checkpoint is unusable, or writing would destroy something.
    """
    args = make_parser().parse_args(argv)
    if args.target.resolve() == Path(args.source).resolve():
        raise UserError(f"{args.target}: DST is SRC; the source is never overwritten")
    if args.target.is_dir() or (args.target.exists() and not args.force):
        raise UserError(f"{args.target}: is there already; --force replaces a file")
    checkpoint = load_checkpoint(args.source)
    inside = unwrap_checkpoint(checkpoint)
    tensors = {name: value for name, value in inside.items() if isinstance(value, Tensor)}
    network = identify(convert_state_dict(tensors))
    if network is None:
        raise UserError(
            f"{args.source}: no XCiT in it, under any of the namings {', '.join(NAMINGS)}; its "
            f"keys begin with {sorted(inside)[:3]}"
        )
    renamed = rename_state_dict(tensors, args.to)
    if args.to == "timm" or args.target.suffix == ".safetensors":
        content = renamed
    elif args.to == "official" and not backbone_prefix(renamed).endswith("backbone."):
        content = {"model": renamed}
    else:
        meta = checkpoint.get("meta")
        content = {"state_dict": renamed, "meta": meta if isinstance(meta, dict) else {}}
    write_atomically(args.target, lambda file: _save(content, file, args.target.suffix))
    print(f"{args.source}: {network}, {len(tensors)} tensors")
    print(f"{args.target}: {len(renamed)} tensors, named as by {args.to}")


def _save(content: Mapping[str, Any], file: BinaryIO, suffix: str) -> None:
    if suffix == ".safetensors":  # wants tensors that share no memory and have no gaps
        contiguous = torch.contiguous_format
        apart = {key: value.clone(memory_format=contiguous) for key, value in content.items()}
        file.write(to_safetensors(apart, metadata={"format": "pt"}))
    else:
        torch.save(content, StoppableFile(file))
