"""Looking at what a model is fed: the command line of ``tools/browse_dataset.py``."""

import sys
from argparse import ArgumentParser
from itertools import islice
from pathlib import Path

from mmengine.utils import ProgressBar

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.look.fed_images import FedImages
from xcit_dense.mm.annotations import read_annotations_safely
from xcit_dense.mm.config import CONFIG_HELP, add_config_changes, read_config
from xcit_dense.mm.data import check_data_exists, set_data_root
from xcit_dense.predict.drawing import draw_ground_truth
from xcit_dense.predict.outputs import write_picture
from xcit_dense.predict.results import categories_of


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Draw what the model really gets in training: images after all augmentations, "
        "normalization (undone in the pictures) and padding, with their boxes, masks and labels.",
        epilog="Exit code 0: all drawn, 1: something was not, or the config or its data are "
        "unusable, 2: wrong command line.",
    )
    parser.add_argument("config", help=CONFIG_HELP)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where pictures go")
    parser.add_argument("--split", choices=["train", "val", "test"], default="train")
    parser.add_argument("--number", type=int, default=20, help="how many images (20)")
    parser.add_argument("--seed", type=int, default=0, help="of order and augmentations (0)")
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data set is; replaces every data_root"
    )
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Draw as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code.

    Raises:
        FileNotFoundError: the config or its data are missing.
        OSError: a picture cannot be written.
        UserError: the config or its data are unusable.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.number < 1:
        parser.error(f"--number {args.number}: at least 1")
    if args.out.exists() and not args.out.is_dir():
        parser.error(f"--out {args.out} is a file; wanted is a folder")
    cfg = read_config(args.config, args.cfg_options)
    if args.data_root is not None:
        set_data_root(cfg, args.data_root)
    check_data_exists(cfg, [args.split])
    read_annotations_safely(cfg)
    images = FedImages(cfg, args.split, args.seed)
    categories = categories_of(images.metainfo, "the data set")
    drawn, skipped = 0, []
    progress = ProgressBar(args.number, file=sys.stderr)
    for image in islice(images, args.number):
        progress.update()
        if isinstance(image, UserError):
            skipped.append(image)
            continue
        try:
            picture = draw_ground_truth(
                image.pixels, image.sample, categories, images.annotated_as_read
            )
        except Exception as error:  # annotations of any kind may be wrong in any way
            skipped.append(UserError(f"{image.source}: {in_one_line(error)}"))
            continue
        name = "_".join(filter(None, [f"{drawn + 1:04d}", Path(image.source).stem, image.branch]))
        try:
            write_picture(args.out / f"{name}.jpg", picture)
        except OSError:
            print(file=sys.stderr)  # the progress ends
            raise
        drawn += 1
    print(file=sys.stderr)
    print(f"{drawn} pictures written to {args.out}, {len(skipped)} images skipped")
    for error in skipped:
        print(f"  skipped {error}")
    return 1 if skipped or not drawn else 0
