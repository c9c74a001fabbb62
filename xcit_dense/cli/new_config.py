"""A config for own data: the command line of ``tools/new_config.py``."""

import json
import shlex
import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path

from xcit_dense.atomic_files import write_atomically
from xcit_dense.data.coco_export import read_export
from xcit_dense.data.detection_config import (
    HEADS_OF_BOXES,
    HEADS_OF_MASKS,
    DetectionConfig,
    detection_config,
)
from xcit_dense.data.segmentation_config import write_segmentation_config
from xcit_dense.doctor import diagnose, report
from xcit_dense.errors import UserError
from xcit_dense.mm.config import read_config
from xcit_dense.network.architectures import ARCHS
from xcit_dense.weights.published_weights import KIND_OF_THE_RELEASE, published_url

HEADS = list(dict.fromkeys(HEADS_OF_MASKS + HEADS_OF_BOXES))


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Write a config that trains on your own data: objects in COCO's format, as "
        "Roboflow, CVAT, Label Studio, labelme and VIA export it, or masks of pixels. What has to "
        "be mended is written beside the config; your files stay as they are."
    )
    annotated = parser.add_mutually_exclusive_group(required=True)
    annotated.add_argument(
        "--coco",
        nargs="+",
        type=Path,
        metavar="JSON",
        help="annotations to train on, and to validate on; a single file is divided by image",
    )
    annotated.add_argument(
        "--masks",
        nargs="+",
        type=Path,
        metavar="DIR",
        help="masks to train on, and to validate on, whose values or colours are classes",
    )
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
        choices=[*HEADS, "upernet", "semfpn"],
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
    parser.add_argument(
        "--drop-empty",
        action="store_true",
        help="with --coco: categories without objects are no classes",
    )
    parser.add_argument(
        "--names",
        type=Path,
        metavar="FILE",
        help="with --masks: a class a line, its name alone or behind its value or colour",
    )
    parser.add_argument(
        "--ignore-label",
        metavar="VALUE",
        help="with --masks: value, or colour R,G,B, that is left out besides 255",
    )
    for option, what in (("--img-suffix", "images"), ("--seg-map-suffix", "masks")):
        parser.add_argument(
            option, metavar="TEXT", help=f"with --masks: how names of {what} end (found by itself)"
        )
    parser.add_argument(
        "--no-pretrained",
        action="store_true",
        help="start from random weights, which needs no network and much longer training",
    )
    parser.add_argument("--force", action="store_true", help="replace what was written before")
    parser.add_argument("--no-check", action="store_true", help="do not try the model")
    return parser


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


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
    given = shlex.join(sys.argv[1:] if argv is None else argv)
    if args.out.suffix != ".py":
        raise UserError(f"{args.out}: OUT must end in .py")
    if args.masks:
        notes = _write_segmentation(args)
    else:
        notes = _write_detection(args, f"by xcit-dense new-config {given}")
    print("\n".join(notes))
    print(f"written: {args.out}")
    is_healthy = True
    if not args.no_check:
        trial = diagnose(read_config(str(args.out)))
        is_healthy = trial.is_healthy
        print(report(trial))
    config = shlex.quote(str(args.out))
    train = f"xcit-dense train {config}"
    if args.gpus > 1:
        train = f"torchrun --nproc-per-node {args.gpus} --no-python {train} --launcher pytorch"
    print(f"next:\n  xcit-dense browse {config} --out fed    # what training will see\n  {train}")
    return 0 if is_healthy else 1


def _write_segmentation(args: Namespace) -> list[str]:
    table, findings = write_segmentation_config(
        images=args.images,
        masks=args.masks,
        out=args.out,
        names=args.names,
        arch=args.arch,
        patch_size=args.patch_size,
        head=args.head,
        scale=args.scale and (max(args.scale), min(args.scale)),
        batch_size=args.batch_size,
        gpus=args.gpus,
        epochs=args.epochs,
        val_fraction=args.val_fraction,
        seed=args.seed,
        pretrained=not args.no_pretrained,
        ignore_label=args.ignore_label,
        img_suffix=args.img_suffix,
        seg_map_suffix=args.seg_map_suffix,
        force=args.force,
    )
    return [table, *map(str, findings)]


def _write_detection(args: Namespace, title: str) -> list[str]:
    made = _detection(args, title)
    if taken := {path.resolve() for path in args.coco} & made.files.keys():
        raise UserError(f"{taken.pop()} is to be read, not replaced: name another by -o")
    for path in (args.out, *made.files):
        if path.exists() and not args.force:
            raise UserError(f"{path} is there already: name another by -o, or --force replaces it")
    for path, content in made.files.items():
        text = json.dumps(content, ensure_ascii=False, allow_nan=False)
        write_atomically(path, lambda file, text=text: file.write(text.encode()))
    write_atomically(args.out, lambda file: file.write(made.text.encode()))
    return made.notes


def _detection(args: Namespace, title: str) -> DetectionConfig:
    for option, given in (("--coco", args.coco), ("--images", args.images)):
        if len(given) > 2:
            raise UserError(
                f"{option} takes one or two, to train and to validate, not {len(given)}"
            )
    if len(args.images) > len(args.coco):
        raise UserError("--images: two folders need two files of --coco; give the one above both")
    with_masks = args.head in (None, *HEADS_OF_MASKS)
    folders = args.images * 2 if len(args.images) < len(args.coco) else args.images
    exports = [
        read_export(path, folder, with_masks)
        for path, folder in zip(args.coco, folders, strict=True)
    ]
    weights = None
    if not args.no_pretrained:
        weights = published_url(KIND_OF_THE_RELEASE, args.arch, args.patch_size)
    return detection_config(
        exports,
        out=args.out,
        title=title,
        head=args.head,
        arch=args.arch,
        patch_size=args.patch_size,
        weights=weights,
        scale=args.scale and (max(args.scale), min(args.scale)),
        batch_size=args.batch_size,
        gpus=args.gpus,
        epochs=args.epochs,
        val_fraction=args.val_fraction,
        seed=args.seed,
        drop_empty=args.drop_empty,
    )
