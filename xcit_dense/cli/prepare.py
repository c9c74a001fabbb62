"""From a command line to a config that is ready to run: what training and testing share."""

import os
import os.path as osp
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable

from mmengine.config import Config

from xcit_dense.mm.annotations import read_annotations_safely
from xcit_dense.mm.config import add_config_changes, read_config
from xcit_dense.mm.config_values import check_values
from xcit_dense.mm.console import import_openmmlab
from xcit_dense.mm.data import check_data_exists, set_data_root
from xcit_dense.mm.launch import LAUNCHERS, use_launcher
from xcit_dense.mm.resuming import check_checkpoints
from xcit_dense.mm.saving import use_atomic_checkpoints

Change = Callable[[Config, Namespace], None]
"""Changes a config as an option asks; leaves it as it is where the option is not given."""


def add_shared_options(parser: ArgumentParser) -> None:
    """Add the options that ``train`` and ``test`` have in common, with mm's names."""
    parser.add_argument("--work-dir", help="where logs and checkpoints go (work_dirs/CONFIG_NAME)")
    parser.add_argument(
        "--data-root", metavar="DIR", help="where the data set is; replaces every data_root"
    )
    parser.add_argument("--amp", action="store_true", help="automatic mixed precision")
    add_config_changes(parser)
    parser.add_argument("--launcher", choices=["none", *LAUNCHERS], default="none")
    # torch.distributed.launch passes it, torchrun does not
    parser.add_argument("--local-rank", "--local_rank", type=int, default=0)


def prepare(args: Namespace, changes: Iterable[Change], splits: list[str]) -> Config:
    """Read a config, change it as the options ask, and see that a run can start.

    Args:
        args: the command line.
        changes: those of the command's own options, in their order.
        splits: of ``train``, ``val`` and ``test``, whose data must be there.

    Raises:
        UserError: the config, a checkpoint, an option or the way of launching is unusable.
        FileNotFoundError: data or a checkpoint are not there.
    """
    _, local_rank, _ = LAUNCHERS.get(args.launcher, ("", "LOCAL_RANK", ""))
    os.environ.setdefault("LOCAL_RANK", os.environ.get(local_rank, str(args.local_rank)))
    cfg = read_config(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get("work_dir") is None:
        cfg.work_dir = osp.join("work_dirs", osp.splitext(osp.basename(args.config))[0])
    if args.data_root is not None:
        set_data_root(cfg, args.data_root)
    for change in changes:
        change(cfg, args)
    check_values(cfg)
    import_openmmlab(cfg)
    use_launcher(cfg)
    use_atomic_checkpoints(cfg)
    check_checkpoints(cfg)
    check_data_exists(cfg, splits)
    read_annotations_safely(cfg)
    return cfg
