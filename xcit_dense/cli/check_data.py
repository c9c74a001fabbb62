"""Checking the data of a config before training: the command line of ``tools/check_data.py``."""

from argparse import ArgumentParser
from pathlib import Path

from xcit_dense.data.checking import ALL_SPLITS, check_data
from xcit_dense.data.pixels import check_pixels
from xcit_dense.look import save_figure
from xcit_dense.look.data_picture import draw_data_set
from xcit_dense.mm.annotations import reads_masks
from xcit_dense.mm.config import CONFIG_HELP, add_config_changes, read_config
from xcit_dense.mm.data import check_data_exists, set_data_root


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Check annotations, images and config against each other, and say what each "
        "fault does to training and what to do about it. train does the same, but for pixels.",
        epilog="Exit code 0: sound, 1: something is wrong, 2: wrong command line.",
    )
    parser.add_argument("config", help=CONFIG_HELP)
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data set is; replaces every data_root"
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where a picture of each set goes")
    parser.add_argument(
        "--no-pixels", action="store_true", help="look at annotations only, as train does"
    )
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Check as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code: 0 sound, 1 something is wrong.

    Raises:
        FileNotFoundError: the config or its data are missing.
        UserError: the config is unusable.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    if args.no_pixels and args.out is not None:
        parser.error("--out draws pixels: leave one of the two out")
    cfg = read_config(args.config, args.cfg_options)
    if args.data_root is not None:
        set_data_root(cfg, args.data_root)
    splits = [split for split in ALL_SPLITS if cfg.get(f"{split}_dataloader")]
    check_data_exists(cfg, splits)
    data, findings = check_data(cfg, splits)
    for data_set in data.sets:
        print(data_set.summary)
        if args.no_pixels or not data_set.image_files:
            continue
        of_pixels, amounts = check_pixels(data_set)
        findings += of_pixels
        if args.out is not None and data_set.class_names:
            name = data_set.path.replace("_dataloader.dataset", "")
            figure = draw_data_set(data_set, amounts, reads_masks(cfg))
            save_figure(figure, args.out / f"{name}.png")
    for finding in findings:
        print(finding)
    is_sound = not any(finding.is_wrong for finding in findings)
    print("sound" if is_sound else "not sound")
    return 0 if is_sound else 1
