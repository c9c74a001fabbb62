"""A config for own data: the command line of ``tools/new_config.py``."""

import shlex
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import fields
from itertools import chain
from pathlib import Path

from xcit_dense.cli import doctor
from xcit_dense.data.coco_export import read_export
from xcit_dense.data.detection_config import HEADS_OF_BOXES, HEADS_OF_MASKS, detection_config
from xcit_dense.data.mask_classes import read_names
from xcit_dense.data.mask_folder import read_mask_folder
from xcit_dense.data.new_config import NewConfig, Request, write_config
from xcit_dense.data.segmentation_config import HEADS as HEADS_OF_MAPS
from xcit_dense.data.segmentation_config import segmentation_config
from xcit_dense.errors import UserError
from xcit_dense.network.architectures import ARCHS

HEADS = {
    "--coco": list(dict.fromkeys(HEADS_OF_MASKS + HEADS_OF_BOXES)),
    "--masks": list(HEADS_OF_MAPS),
}


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Write a config that trains on your own data: objects in COCO's format, as "
        "Roboflow, CVAT, Label Studio, labelme and VIA export it, or masks of pixels. What has to "
        "be mended is written beside the config; your files stay as they are."
    )
    annotated = parser.add_mutually_exclusive_group(required=True)
    for option, kind, what in (
        ("--coco", "JSON", "annotations of objects"),
        ("--masks", "DIR", "masks whose values or colours are classes"),
    ):
        what = f"{what}, to train and to validate; a single one is divided by image"
        annotated.add_argument(option, nargs="+", type=Path, metavar=kind, help=what)
    parser.add_argument(
        "--images",
        nargs="+",
        type=Path,
        required=True,
        metavar="DIR",
        help="where the images are; two folders, if those of the two files are apart",
    )
    parser.add_argument(
        "-o", "--out", type=Path, default="my_config.py", help="config to write (%(default)s)"
    )
    parser.add_argument(
        "--arch", default="small_12", choices=list(ARCHS), help="of XCiT (small_12)"
    )
    parser.add_argument("--patch-size", type=int, default=16, choices=[8, 16])
    parser.add_argument(
        "--head",
        choices=list(dict.fromkeys(chain(*HEADS.values()))),
        help="(upernet for --masks, maskrcnn where every object has a mask, else fasterrcnn)",
    )
    parser.add_argument(
        "--scale",
        nargs=2,
        type=_positive,
        metavar=("LONG", "SHORT"),
        help="sides that images are made to fit into, in pixels (by the sizes of images, objects)",
    )
    parser.add_argument(
        "--batch-size", type=_positive, default=2, help="images on each GPU (%(default)s)"
    )
    parser.add_argument("--gpus", type=_positive, default=1, help="how many (%(default)s)")
    parser.add_argument("--epochs", type=_positive, help="(by the number of images)")
    parser.add_argument(
        "--val-fraction",
        type=_fraction,
        default=0.2,
        help="share of the images that are kept for validation (%(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the division (%(default)s)")
    empty = "with --coco: categories without objects are no classes"
    parser.add_argument("--drop-empty", action="store_true", help=empty)
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="with --masks: the name of a class a line, in colours as in 'road 128 64 128'",
    )
    parser.add_argument(
        "--ignore-label",
        metavar="VALUE",
        help="with --masks: value, or colour R,G,B, that is left out besides 255",
    )
    for option, what in (("--img-suffix", "images"), ("--seg-map-suffix", "masks")):
        parser.add_argument(option, metavar="TEXT", help=f"with --masks: how names of {what} end")
    parser.add_argument(
        "--no-pretrained",
        dest="pretrained",
        action="store_false",
        help="start from random weights, which needs no network and much longer training",
    )
    parser.add_argument("--force", action="store_true", help="replace what was written before")
    parser.add_argument("--no-check", action="store_true", help="try neither data nor model")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text}: has to be a whole number from 1")
    return int(text)


def _fraction(text: str) -> float:
    value = float(text)
    if not 0 < value < 1:
        raise ValueError
    return value


def main(argv: list[str] | None = None) -> int:
    """Write a config as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code: 0 written and healthy, 1 something is wrong with it.
    """
    args = make_parser().parse_args(argv)
    args.title = f"by xcit-dense new-config {shlex.join(sys.argv[1:] if argv is None else argv)}"
    args.scale = args.scale and (max(args.scale), min(args.scale))
    if args.out.suffix != ".py":
        raise UserError(f"{args.out}: OUT must end in .py")
    option, annotated = ("--masks", args.masks) if args.masks else ("--coco", args.coco)
    if args.head not in (None, *HEADS[option]):
        raise UserError(f"--head {args.head}: of {option} learn {', '.join(HEADS[option])}")
    for name, paths in ((option, annotated), ("--images", args.images)):
        if len(paths) > 2:
            raise UserError(f"{name} takes one or two, to train and to validate, not {len(paths)}")
    if len(args.images) > len(annotated):
        raise UserError(f"--images: two folders need two of {option}; give the one above both")
    folders = args.images * 2 if len(args.images) < len(annotated) else args.images
    pairs = list(zip(annotated, folders, strict=True))
    settings = {each.name: getattr(args, each.name) for each in fields(Request)}
    request = Request(**settings)
    made = (_of_masks if args.masks else _of_objects)(request, pairs, args)
    print("\n".join(made.notes))
    write_config(made, args.out, args.force)
    print(f"written: {args.out}")
    config = shlex.quote(str(args.out))
    if not args.no_check and (code := doctor.main([str(args.out)])):
        return code
    train = f"xcit-dense train {config}"
    if args.gpus > 1:
        train = f"torchrun --nproc-per-node {args.gpus} --no-python {train} --launcher pytorch"
    print(f"next:\n  xcit-dense browse {config} --out fed    # what training will see\n  {train}")
    return 0


def _of_objects(request: Request, pairs: list[tuple[Path, Path]], args: Namespace) -> NewConfig:
    with_masks = args.head in (None, *HEADS_OF_MASKS)
    exports = [read_export(path, folder, with_masks) for path, folder in pairs]
    return detection_config(request, exports, args.drop_empty)


def _of_masks(request: Request, pairs: list[tuple[Path, Path]], args: Namespace) -> NewConfig:
    names = None if args.names is None else read_names(args.names)
    suffixes = (args.img_suffix, args.seg_map_suffix)
    folders = [read_mask_folder(images, masks, *suffixes) for masks, images in pairs]
    return segmentation_config(request, folders, names, args.ignore_label)
