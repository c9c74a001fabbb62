"""The table of contenders, and how the command line names them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import partial

from dev.benchmark import builders
from dev.benchmark.names import DTYPES, INFERENCE, MODES
from torch import nn

COMPILED = "+compile"


@dataclass(frozen=True)
class Contender:
    """A network to measure.

    Attributes:
        name: its key in the table.
        build: makes it from the name of an XCiT architecture and a patch size; called in the
            contender's own process, so it must be importable there.
        modes: what it can do.
        is_xcit: whether it is this package's XCiT, which ``--compile`` compiles and whose output
            is compared with that of the direct attention.
        dtype: its own dtype; None for that of the run.
        compiled: whether it goes through ``torch.compile``.
    """

    name: str
    build: Callable[[str, int], nn.Module]
    modes: tuple[str, ...] = MODES
    is_xcit: bool = False
    dtype: str | None = None
    compiled: bool = False

    @property
    def label(self) -> str:
        """How the command line and the tables call it: ``NAME[+compile][:DTYPE]``."""
        return (
            self.name
            + (COMPILED if self.compiled else "")
            + (f":{self.dtype}" if self.dtype else "")
        )


def _table(*contenders: Contender) -> dict[str, Contender]:
    return {contender.name: contender for contender in contenders}


CONTENDERS = _table(
    Contender("xcit_auto", partial(builders.xcit, attention="auto"), is_xcit=True),
    Contender("xcit_gram", partial(builders.xcit, attention="gram"), is_xcit=True),
    Contender("xcit_direct", partial(builders.xcit, attention="direct"), is_xcit=True),
    Contender("xcit_optimized", builders.optimized_xcit, modes=(INFERENCE,), is_xcit=True),
    Contender("timm_xcit", builders.timm_xcit),
    Contender("timm_xcit_plain", builders.timm_xcit_plain),
    Contender("resnet50", builders.resnet50),
    Contender("swin_tiny", builders.swin_tiny),
    Contender("convnext_tiny", builders.convnext_tiny),
    Contender("pvtv2_b2", builders.pvtv2_b2),
)


def parse_contender(text: str, known: Mapping[str, Contender] = CONTENDERS) -> Contender:
    """Read ``NAME[+compile][:DTYPE]``.

    Raises:
        ValueError: the name or the dtype is unknown.
    """
    name, _, dtype = text.partition(":")
    compiled = name.endswith(COMPILED)
    name = name.removesuffix(COMPILED)
    if name not in known:
        raise ValueError(
            f"contender {text!r}: {name!r} is unknown; use 'all' or some of {', '.join(known)}, "
            f"each with an optional {COMPILED} and an optional :{'|:'.join(DTYPES)}"
        )
    if ":" in text and dtype not in DTYPES:
        raise ValueError(
            f"contender {text!r}: dtype {dtype!r} is unknown; use one of {', '.join(DTYPES)}"
        )
    return replace(known[name], dtype=dtype or None, compiled=compiled)


def parse_contenders(
    texts: Iterable[str],
    with_compiled: bool = False,
    known: Mapping[str, Contender] = CONTENDERS,
) -> tuple[Contender, ...]:
    """Read the contenders of a run, each once, in the order given.

    Args:
        texts: ``NAME[+compile][:DTYPE]``, or ``all`` for the whole table.
        with_compiled: whether each XCiT is followed by itself through ``torch.compile``.
        known: contenders by name.

    Raises:
        ValueError: a name or a dtype is unknown.
    """
    contenders: dict[str, Contender] = {}
    for text in texts:
        for contender in known.values() if text == "all" else [parse_contender(text, known)]:
            contenders[contender.label] = contender
            if with_compiled and contender.is_xcit:
                compiled = replace(contender, compiled=True)
                contenders[compiled.label] = compiled
    return tuple(contenders.values())
