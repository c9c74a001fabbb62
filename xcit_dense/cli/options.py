"""The options that training and testing share, as in mm's own tools."""

import os
import os.path as osp
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from mmengine.config import Config

import xcit_dense.mm.mmengine_patches
import xcit_dense.mm.training  # noqa: F401
from xcit_dense.errors import UserError
from xcit_dense.mm.category_order import number_labels_by_name
from xcit_dense.mm.config_files import add_config_changes, read_config
from xcit_dense.mm.config_tree import model_scope
from xcit_dense.mm.data_roots import set_data_root
from xcit_dense.mm.processes import is_first_to_say, part

# what ends a tool with one line
USER_ERRORS = (FileNotFoundError, UserError)


def add_shared_options(parser: ArgumentParser) -> None:
    """Add the options that ``tools/train.py`` and ``tools/test.py`` have in common."""
    parser.add_argument("--work-dir", help="where logs and checkpoints go (work_dirs/CONFIG_NAME)")
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data set is; replaces every data_root"
    )
    add_config_changes(parser)
    parser.add_argument("--launcher", choices=["none", "pytorch", "slurm", "mpi"], default="none")
    # torch.distributed.launch passes it, torchrun does not
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0)


def load_config(args: Namespace) -> Config:
    """Read the config and apply the shared options.

    Raises:
        FileNotFoundError: the config is not there.
        UserError: its content is no config.
    """
    os.environ.setdefault("LOCAL_RANK", str(args.local_rank))
    cfg = read_config(args.config, args.cfg_options)
    if model_scope(cfg) == "mmdet":
        number_labels_by_name()
    cfg.launcher = args.launcher
    if args.data_root is not None:
        set_data_root(cfg, args.data_root)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = osp.join("work_dirs", osp.splitext(osp.basename(args.config))[0])
    return cfg


def run(main: Callable[[list[str] | None], int | None]) -> None:
    """Run a command line; what a user can mend ends it with one line, not a traceback.

    That is: missing or unusable files, data and checkpoints, a loss that is NaN, processes that
    were started wrongly. Every process of the run ends with exit code 1, and one says why.
    """
    try:
        exit_code = main(None)
    except USER_ERRORS as error:
        line = f"error: {error}"
        sys.exit(line if is_first_to_say(line) else 1)
    part()
    if exit_code:
        sys.exit(exit_code)
