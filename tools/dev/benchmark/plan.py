"""What one run of the benchmark measures, checked before anything starts."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from dev.benchmark.contenders import Contender
from dev.benchmark.names import DTYPES, INFERENCE, MODES

from xcit_dense.network import ARCHS
from xcit_dense.network.stem import PATCH_SIZES


@dataclass(frozen=True)
class Size:
    """Height and width of an image, in pixels."""

    height: int
    width: int

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.height * self.width

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"


def parse_size(text: str) -> Size:
    """Read ``800x1344`` (height, width) or ``512`` (a square).

    Raises:
        ValueError: the text is neither.
    """
    match = re.fullmatch(r"(\d+)(?:x(\d+))?", text.strip().lower())
    size = match and Size(int(match[1]), int(match[2] or match[1]))
    if not size or not size.pixels:
        raise ValueError(
            f"size {text!r}: expected one side in pixels, as 512, or HEIGHTxWIDTH, as 800x1344"
        )
    return size


def parse_sizes(texts: Iterable[str]) -> tuple[Size, ...]:
    """Read sizes, each once, from the smallest to the largest.

    Raises:
        ValueError: one of the texts is no size.
    """
    return tuple(sorted({parse_size(text) for text in texts}, key=lambda size: size.pixels))


@dataclass(frozen=True)
class Plan:
    """Everything that a run is told.

    Attributes:
        contenders: whom to measure.
        reference: label of the contender that the ratios refer to.
        modes: ``inference`` and ``training``, or one of them.
        sizes: for each mode the image sizes, from the smallest to the largest.
        batch_sizes: for each mode the number of images.
        arch: name of the XCiT architecture.
        patch_size: of the XCiT contenders, 8 or 16.
        dtype: ``fp32``, or ``bf16`` or ``fp16`` for autocast; contenders may have their own.
        device: ``cpu`` or ``cuda``.
        threads: of torch on the CPU; None leaves torch's choice.
        tf32: whether fp32 products on CUDA may be rounded to TF32; None leaves torch's choice.
        repeats: timed runs of each contender at each size.
        seconds_per_run: sizes of which one run is predicted to take longer are skipped.
        memory_limit: for one contender, in bytes; None for 85 % of what is available.

    Raises:
        ValueError: a value that cannot be measured; the message says what can.
    """

    contenders: tuple[Contender, ...]
    reference: str
    modes: tuple[str, ...]
    sizes: dict[str, tuple[Size, ...]]
    batch_sizes: dict[str, int]
    arch: str = "small_12"
    patch_size: int = 16
    dtype: str = "fp32"
    device: str = "cpu"
    threads: int | None = None
    tf32: bool | None = None
    repeats: int = 5
    seconds_per_run: float = 120.0
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        _check_choice("arch", self.arch, tuple(ARCHS))
        _check_choice("patch size", self.patch_size, PATCH_SIZES)
        _check_choice("dtype", self.dtype, DTYPES)
        _check_choice("device", self.device, ("cpu", "cuda"))
        for mode in self.modes:
            _check_choice("mode", mode, MODES)
            _check_positive(f"{mode} batch size", self.batch_sizes[mode])
            if not self.sizes[mode]:
                raise ValueError(f"no size to measure for {mode}: give at least one")
        _check_positive("repeats", self.repeats)
        _check_positive("seconds per run", self.seconds_per_run)
        for name in ("threads", "memory_limit"):
            if getattr(self, name) is not None:
                _check_positive(name.replace("_", " "), getattr(self, name))
        labels = [contender.label for contender in self.contenders]
        if self.reference not in labels:
            raise ValueError(
                f"reference {self.reference!r} is not among the contenders {', '.join(labels)}: "
                f"add it to --contenders, or choose one of them with --reference"
            )
        if self.device == "cuda" and not torch.cuda.is_available():
            raise ValueError(
                "device 'cuda': torch sees no CUDA device here; use --device cpu, or check the "
                "driver and that torch is a CUDA build"
            )

    def dtype_of(self, contender: Contender) -> str:
        """The contender's own dtype, or that of the run."""
        return contender.dtype or self.dtype

    def dtypes(self) -> tuple[str, ...]:
        """Every dtype in the run, each once."""
        return tuple(dict.fromkeys(self.dtype_of(contender) for contender in self.contenders))

    def contenders_of(self, mode: str) -> tuple[Contender, ...]:
        """The contenders that can do a mode."""
        return tuple(contender for contender in self.contenders if mode in contender.modes)

    def outputs_fit_the_pipe(self, mode: str, size: Size) -> bool:
        """Whether outputs are compared at this size: larger ones take long to send."""
        return mode == INFERENCE and size.pixels <= 800 * 1344


def _check_choice(what: str, value: object, allowed: tuple) -> None:
    if value not in allowed:
        raise ValueError(f"{what} {value!r} is unknown; use one of {', '.join(map(str, allowed))}")


def _check_positive(what: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{what} {value}: must be more than 0")
