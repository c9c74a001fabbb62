"""The table of architectures, and the checks that a wanted architecture can be built."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

NUM_LEVELS = 4


@dataclass(frozen=True)
class Arch:
    """The size of a trunk.

    Attributes:
        embed_dims: width C of a token.
        depth: number of blocks.
        num_heads: heads of the attention; divides ``embed_dims``.
        eta: initial value of the layer scale.
        out_indices: the blocks, counted from 0, after which the pyramid taps the trunk, one for
            each of its levels, four at most. None: four, spread over the depth as in the published
            models.

    Raises:
        ValueError: the values make no network.
    """

    embed_dims: int
    depth: int
    num_heads: int
    eta: float
    out_indices: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.embed_dims % self.num_heads:
            raise ValueError(
                f"embed_dims={self.embed_dims} is not divisible by num_heads={self.num_heads}: "
                "every head takes an equal share of the channels"
            )
        if self.depth < NUM_LEVELS:
            raise ValueError(f"depth={self.depth}: at least {NUM_LEVELS} blocks, one a level")
        if self.out_indices is None:
            taps = _published_taps(self.depth)
        else:
            taps = tuple(self.out_indices)
            _check_out_indices(taps, self.depth)
        object.__setattr__(self, "out_indices", taps)


def _published_taps(depth: int) -> tuple[int, ...]:
    """After a third, half, two thirds and all of the blocks: 3, 5, 7, 11 of 12 blocks."""
    if depth < NUM_LEVELS + 1:
        return tuple(range(depth))
    return depth // 3 - 1, depth // 2 - 1, 2 * depth // 3 - 1, depth - 1


def _check_out_indices(out_indices: tuple[int, ...], depth: int) -> None:
    given = f"out_indices={out_indices}"
    if not 1 <= len(out_indices) <= NUM_LEVELS:
        raise ValueError(f"{given}: must be 1 to {NUM_LEVELS} blocks, one a level of the pyramid")
    if any(not 0 <= index < depth for index in out_indices):
        raise ValueError(f"{given}: out of range, the {depth} blocks are counted 0 to {depth - 1}")
    if list(out_indices) != sorted(set(out_indices)):
        raise ValueError(f"{given}: must increase from level to level")


# Widths, depths and heads: XCiT paper. Initial layer scale: the code of its release.
ARCHS = {
    "nano_12": Arch(embed_dims=128, depth=12, num_heads=4, eta=1.0),
    "tiny_12": Arch(embed_dims=192, depth=12, num_heads=4, eta=1.0),
    "tiny_24": Arch(embed_dims=192, depth=24, num_heads=4, eta=1e-5),
    "small_12": Arch(embed_dims=384, depth=12, num_heads=8, eta=1.0),
    "small_24": Arch(embed_dims=384, depth=24, num_heads=8, eta=1e-5),
    "medium_24": Arch(embed_dims=512, depth=24, num_heads=8, eta=1e-5),
    "large_24": Arch(embed_dims=768, depth=24, num_heads=16, eta=1e-5),
}
# Of the paper's release, for detectors and UperNet, which has none for large_24; others have 0.
DROP_PATH_RATES = {"small_12": 0.05, "small_24": 0.1, "medium_24": 0.15, "large_24": 0.15}


def resolve_arch(
    arch: str | Mapping, out_indices: Sequence[int] | None = None, num_levels: int = NUM_LEVELS
) -> Arch:
    """Look up a named architecture, or make one from a mapping of :class:`Arch`'s fields.

    Args:
        arch: a name in ``ARCHS``, or a mapping with ``embed_dims, depth, num_heads, eta`` and
            optionally ``out_indices``.
        out_indices: if given, replaces the taps of the architecture.
        num_levels: levels of the pyramid; with fewer than four the first taps of the architecture
            are left out.

    Raises:
        ValueError: an unknown name, missing or unknown keys, or values that make no network.
        TypeError: ``arch`` is neither a name nor a mapping.
    """
    if isinstance(arch, str):
        if arch not in ARCHS:
            raise ValueError(f"arch={arch!r} is unknown; known: {', '.join(ARCHS)}, or a dict")
        resolved = ARCHS[arch]
    elif isinstance(arch, Mapping):
        resolved = _arch_from_mapping(arch)
    else:
        raise TypeError(f"arch must be a name or a dict, got {type(arch).__name__}")
    taps = resolved.out_indices[-num_levels:] if out_indices is None else tuple(out_indices)
    if len(taps) != num_levels:
        raise ValueError(f"out_indices={taps}: the pyramid needs exactly {num_levels}, one a level")
    return replace(resolved, out_indices=taps)


def _arch_from_mapping(arch: Mapping) -> Arch:
    known = [field.name for field in fields(Arch)]
    required = [name for name in known if name != "out_indices"]
    missing = [name for name in required if name not in arch]
    unknown = [name for name in arch if name not in known]
    if missing or unknown:
        raise ValueError(
            f"arch={dict(arch)}: missing keys {missing}, unknown keys {unknown}; "
            f"wanted are {', '.join(required)} and optionally out_indices"
        )
    return Arch(**arch)
