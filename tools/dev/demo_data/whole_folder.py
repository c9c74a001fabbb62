"""Folders that are there as a whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

RECORD_NAME = "generated.json"


def make_whole_folder(
    root: Path | str,
    parameters: dict[str, object],
    fill: Callable[[Path], None],
    overwrite: bool = False,
) -> bool:
    """Fills a folder in a temporary sibling and renames it into place when it is complete.

    The parameters are recorded in the folder's ``generated.json``. A folder that has the same
    record is kept as it is.

    Args:
        root: the folder to make.
        parameters: what the content depends on; must survive JSON.
        fill: writes the content into the empty folder that it is given.
        overwrite: whether to replace a folder that was made with other parameters.

    Returns:
        True if the folder was written, False if the present one was kept.

    Raises:
        FileExistsError: if a non-empty folder is there which has other parameters (and
            ``overwrite`` is false) or which was not made by this function at all.
    """
    root = Path(root).absolute()
    if _is_kept(root, parameters, overwrite):
        return False
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}.partial-", dir=root.parent) as workshop:
        fresh = Path(workshop, "new")
        fresh.mkdir()
        fill(fresh)
        record = json.dumps(parameters, indent=2) + "\n"
        (fresh / RECORD_NAME).write_text(record, encoding="utf-8")
        _put_in_place(fresh, root, aside=Path(workshop, "old"))
    return True


def _is_kept(root: Path, parameters: dict[str, object], overwrite: bool) -> bool:
    """Decides whether a present folder serves; raises if it may not be touched."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return False
    record = _read_record(root)
    if record is None:
        raise FileExistsError(
            f"{root} exists and was not made by this tool (it has no readable {RECORD_NAME}), "
            "so it is never replaced: choose another folder with --out"
        )
    if record == parameters:
        return True
    if not overwrite:
        raise FileExistsError(
            f"{root} holds a data set made with other parameters "
            f"({_differences(record, parameters)}): replace it with --overwrite, "
            "or choose another folder with --out"
        )
    return False


def _read_record(root: Path) -> dict[str, object] | None:
    try:
        record = json.loads((root / RECORD_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _differences(present: dict[str, object], wanted: dict[str, object]) -> str:
    names = [name for name in {**wanted, **present} if present.get(name) != wanted.get(name)]
    return ", ".join(f"{name} {present.get(name)} instead of {wanted.get(name)}" for name in names)


def _put_in_place(fresh: Path, root: Path, aside: Path) -> None:
    """Swaps the fresh folder in; the old one comes back if that fails."""
    if not root.exists():
        os.replace(fresh, root)
        return
    os.replace(root, aside)
    try:
        os.replace(fresh, root)
    except BaseException:
        os.replace(aside, root)
        raise
