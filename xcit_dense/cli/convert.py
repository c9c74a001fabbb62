"""Renaming the tensors of a checkpoint: the command line of ``tools/convert_checkpoint.py``."""

import os.path as osp
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Mapping
from typing import Any, BinaryIO

import torch
from mmengine.runner import CheckpointLoader
from safetensors.torch import save as to_safetensors
from torch import Tensor

from xcit_dense.atomic_files import write_atomically
from xcit_dense.errors import UserError
from xcit_dense.weights import (
    NAMINGS,
    backbone_prefix,
    convert_state_dict,
    identify,
    rename_state_dict,
    unwrap_checkpoint,
)
from xcit_dense.weights.checkpoint_keys import classification_part, rename_key

SAFETENSORS = ".safetensors"
# entries of a checkpoint that are carried over; the rest is the state of a training run
CARRIED_OVER = ("state_dict", "model", "meta")

NOTES = """what DST holds:
  xcit_dense  {'state_dict': ..., 'meta': ...}
  timm        the tensors themselves, as timm.create_model(..., checkpoint_path=DST) reads them
  official    {'model': ...}; a whole detector or segmentor: {'state_dict': ..., 'meta': ...}
  DST.safetensors holds the tensors themselves, in an order of its own, under any naming.
Every tensor is kept, also class attention, classifier, neck and heads. The state of a training run
(optimizer, schedules) is not."""


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Give a checkpoint of XCiT, or of a model with one inside, other key names.",
        epilog=NOTES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", metavar="SRC", help="path, URL or timm://NAME, in any naming")
    parser.add_argument("target", metavar="DST", help="file to write: .pth or .safetensors")
    parser.add_argument("--to", choices=NAMINGS, default="xcit_dense", help="naming of DST")
    parser.add_argument("--force", action="store_true", help="replace DST if it is there")
    return parser


def check_target(source: str, target: str, force: bool) -> None:
    """See that writing the target destroys nothing.

    Raises:
        UserError: the target is the source, or is there and is not to be replaced.
    """
    if osp.realpath(osp.expanduser(source)) == osp.realpath(osp.expanduser(target)):
        raise UserError(f"{target}: DST is SRC; the source is never overwritten")
    if osp.isdir(osp.expanduser(target)):
        raise UserError(f"{target}: is a folder; DST is the file to write")
    if osp.exists(osp.expanduser(target)) and not force:
        raise UserError(f"{target}: is there already; --force replaces it")


def tensors_in(checkpoint: Mapping[str, Any], name: str) -> dict[str, Tensor]:
    """The tensors of an XCiT, or of a model with one inside.

    Args:
        checkpoint: what was loaded.
        name: what errors call it.

    Raises:
        UserError: there is no XCiT in the checkpoint.
    """
    content = unwrap_checkpoint(checkpoint)
    tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if identify(convert_state_dict(tensors)) is None:
        raise UserError(
            f"{name}: no XCiT in it, under any of the namings {', '.join(NAMINGS)}; its keys begin "
            f"with {sorted(content)[:3]}"
        )
    return tensors


def nested(tensors: dict[str, Tensor], naming: str, meta: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint as those who use the naming expect it; see ``NOTES``."""
    if naming == "timm":
        return tensors
    if naming == "official" and not backbone_prefix(tensors).endswith("backbone."):
        return {"model": tensors}
    return {"state_dict": tensors, "meta": dict(meta)}


def coverage(tensors: Mapping[str, Tensor]) -> Counter[str]:
    """How many tensors a checkpoint has of the backbone and of other parts."""
    prefix = backbone_prefix(tensors)
    parts: Counter[str] = Counter()
    for key in tensors:
        if not key.startswith(prefix):
            parts[key.split(".", 1)[0]] += 1
            continue
        name = rename_key(key.removeprefix(prefix))
        known = name.startswith(("trunk.", "pyramid."))
        parts["backbone" if known else classification_part(name) or f"unknown {key}"] += 1
    return parts


def write_checkpoint(checkpoint: dict[str, Any], path: str) -> None:
    """Write a checkpoint, whole or not at all; a path that ends so gets a safetensors file."""

    def write(file: BinaryIO) -> None:
        if path.endswith(SAFETENSORS):
            # the format wants tensors that share no memory and have no gaps
            apart = {
                name: tensor.clone(memory_format=torch.contiguous_format)
                for name, tensor in unwrap_checkpoint(checkpoint).items()
            }
            file.write(to_safetensors(apart, metadata={"format": "pt"}))
        else:
            torch.save(checkpoint, file)

    write_atomically(osp.expanduser(path), write)


def main(argv: list[str] | None = None) -> None:
    """Convert as the arguments say (``sys.argv`` if None)."""
    args = make_parser().parse_args(argv)
    check_target(args.source, args.target, args.force)
    checkpoint = CheckpointLoader.load_checkpoint(args.source, "cpu", logger=None)
    tensors = tensors_in(checkpoint, args.source)
    network = identify(convert_state_dict(tensors))
    parts = ", ".join(f"{part} {number}" for part, number in coverage(tensors).items())
    print(f"{args.source}: {network}, {len(tensors)} tensors ({parts})")

    try:
        renamed = rename_state_dict(tensors, args.to)
    except ValueError as error:
        raise UserError(f"{args.source}: {error}") from error
    meta = checkpoint.get("meta")
    meta = meta if isinstance(meta, Mapping) else {}
    write_checkpoint(nested(renamed, args.to, meta), args.target)
    same = sum(tensors.get(key) is tensor for key, tensor in renamed.items())
    print(
        f"{args.target}: {len(renamed)} tensors in the naming {args.to}; "
        f"{len(renamed) - same} under a new name, {same} under the same"
    )
    if left_out := [key for key in checkpoint if key not in tensors and key not in CARRIED_OVER]:
        print(f"left out, since they are no weights: {', '.join(left_out)}")
