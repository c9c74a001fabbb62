"""Which kind of file a checkpoint is, and whether its archive is whole."""

import enum
import zipfile
from typing import BinaryIO

from xcit_dense.weights.checkpoint_error import (
    DamagedCheckpointError,
    UnsafeCheckpointError,
)


class FileFormat(enum.Enum):
    """What the first bytes of a file say."""

    ZIP = enum.auto()  # of torch.save since 1.6
    SAFETENSORS = enum.auto()
    OTHER = enum.auto()  # a pickle of older torch, or no checkpoint


def format_of(file: BinaryIO) -> FileFormat:
    """Tell the format from the first bytes; the file is at its beginning before and after.

    Raises:
        DamagedCheckpointError: the file is empty.
    """
    first = file.read(9)
    file.seek(0)
    if not first:
        raise DamagedCheckpointError("damaged, the file is empty")
    if first.startswith(b"PK"):
        return FileFormat.ZIP
    # safetensors: eight bytes with the length of the header, then the header, which is JSON
    if first[8:] == b"{" and int.from_bytes(first[:8], "little") < 2**32:
        return FileFormat.SAFETENSORS
    return FileFormat.OTHER


def check_archive(file: BinaryIO) -> None:
    """See that a zip archive is whole, which torch does not: it loads changed bytes silently.

    The file is at its beginning after it.

    Raises:
        DamagedCheckpointError: the archive is cut short, or a part is not what was written.
        UnsafeCheckpointError: it is a TorchScript program.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            if any(name.endswith("/constants.pkl") for name in archive.namelist()):
                raise UnsafeCheckpointError(
                    "refused, it is a TorchScript program, not weights; loading it would run it"
                )
            changed = archive.testzip()
    except zipfile.BadZipFile as error:
        raise DamagedCheckpointError("damaged, the file is cut short") from error
    if changed is not None:
        raise DamagedCheckpointError(f"damaged, {changed} in it is not what was written")
    file.seek(0)
