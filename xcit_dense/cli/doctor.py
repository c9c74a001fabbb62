"""Examining the model of a config: the command line of ``tools/doctor.py``."""

from argparse import ArgumentParser

from xcit_dense.data.checking import check_data
from xcit_dense.doctor import DEFAULT_IMAGE_SIZE, diagnose, report
from xcit_dense.errors import UserError
from xcit_dense.mm.config import CONFIG_HELP, add_config_changes, read_config
from xcit_dense.mm.data import check_data_exists


def main(argv: list[str] | None = None) -> int:
    """Examine as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code: 0 healthy, 1 something is wrong.
    """
    parser = ArgumentParser(
        description="Build the model of a config, take one training step and predict one image, on "
        "random images and weights; check annotations, if they are there. Exit code: 0 healthy, "
        "1 something is wrong."
    )
    parser.add_argument("config", help=CONFIG_HELP)
    add_config_changes(parser)
    parser.add_argument(
        "--size",
        nargs=2,
        type=int,
        default=DEFAULT_IMAGE_SIZE,
        metavar=("HEIGHT", "WIDTH"),
        help="pixels of the images, rounded up to multiples of 128 (%(default)s); a model that is "
        "made for one size takes that",
    )
    args = parser.parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    trial = diagnose(cfg, args.size)
    try:
        check_data_exists(cfg, ["train", "val"])
    except (OSError, UserError) as error:
        print(f"the files of the data are not looked at: {error}")
    else:
        _, findings = check_data(cfg, ["train", "val"])
        trial.findings += [finding for finding in findings if finding not in trial.findings]
    print(report(trial))
    return 0 if trial.is_healthy else 1
