"""Feature maps of any height: rows are made when they are read, each once, and soon forgotten."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from weakref import WeakSet

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from xcit_dense import engine
from xcit_dense.engine.weights import Layer, NotAsBuilt, expect, expect_convolution, fold
from xcit_dense.network.calling import DILATION

# Elements of the rows that a map makes at once: 8 MB in float32, with the few that it keeps for
# its readers. A dozen maps of a head are at work at a time.
_ELEMENTS = 2_000_000
_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Sigmoid)


class FeatureMap(ABC):
    """A feature map (1, C, height, width) that is read downwards.

    Whoever reads it has a :class:`Reader` of his own; rows are kept until the last has passed them.

    Args:
        channels: C.
        size: height and width.
        widest: channels that are at hand for each place while rows are made, if more than C.
        multiple: rows that are made at once are a multiple of it.
    """

    def __init__(
        self, channels: int, size: tuple[int, int], widest: int = 0, multiple: int = 1
    ) -> None:
        self.channels, self.size = channels, size
        self.height, self.width = size
        rows = _ELEMENTS // (max(channels, widest) * self.width)
        self._multiple = multiple
        self.rows_at_once = max(1, rows // multiple) * multiple
        self._pieces: list[tuple[int, Tensor]] = []  # of rows, with the first one's number
        self._made = 0
        self._readers: WeakSet[Reader] = WeakSet()

    @abstractmethod
    def make(self, first: int, last: int) -> Tensor:
        """Its rows ``first`` to ``last``, without the last; called downwards, once for each."""

    def _read(self, first: int, last: int) -> Tensor:
        lowest = min(reader.first for reader in self._readers)
        self._made = max(self._made, lowest - lowest % self._multiple)  # nobody reads above it
        while self._made < last:
            stop = min(self._made + self.rows_at_once, self.height)
            self._pieces.append((self._made, self.make(self._made, stop)))
            self._made = stop
        self._pieces = [(top, rows) for top, rows in self._pieces if top + rows.shape[2] > lowest]
        found = [
            rows[:, :, max(first - top, 0) : last - top]
            for top, rows in self._pieces
            if top < last and top + rows.shape[2] > first
        ]
        return found[0] if len(found) == 1 else torch.cat(found, dim=2)


class Reader:
    """Reads a map downwards: no read begins above the one before."""

    def __init__(self, feature_map: FeatureMap) -> None:
        self.map = feature_map
        self.first = 0
        feature_map._readers.add(self)

    def read(self, first: int, last: int) -> Tensor:
        """The rows ``first`` to ``last``, without the last: (1, C, rows, width)."""
        self.first = first
        return self.map._read(first, last)


class OfLevel(FeatureMap):
    """A level of the backbone's pyramid."""

    def __init__(self, level: engine.Level) -> None:
        size = level.height, level.width
        super().__init__(level.channels, size, multiple=level.rows_per_token)
        self._level = level

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        return self._level.read(first, last)


class OfTensor(FeatureMap):
    """A map that is small enough to be there as a whole, (1, C, height, width)."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor.shape[1], tensor.shape[2:])
        self._tensor = tensor

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        return self._tensor[:, :, first:last]


class Convolved(FeatureMap):
    """A convolution, and its norm and activation, over the concatenation of maps of one size.

    Args:
        module: ConvModule of mmcv's or a convolution; the result has the size of what goes in.
        sources: what goes in. Instead of a concatenation the results of all are added up.
        stride: of the convolution, in rows and in columns.

    Raises:
        NotAsBuilt: the module is not what it was built as, or looks at more than a few rows.
    """

    def __init__(self, module: nn.Module, *sources: FeatureMap, stride: int = 1) -> None:
        layer, self._activate = _read_convolution(module, stride)
        convolution = getattr(module, "conv", module)
        self._padding = convolution.padding
        self._dilation = DILATION if convolution.kernel_size == (1, 1) else convolution.dilation
        self._readers_of_parts = [Reader(source) for source in sources]
        weights = layer.weight.split([source.channels for source in sources], dim=1)
        self._layers = [Layer(weights[0], layer.bias), *(Layer(each, None) for each in weights[1:])]
        widest = max(source.channels for source in sources)
        self._stride, self._source_height = stride, sources[0].height
        size = tuple(-(-side // stride) for side in sources[0].size)
        super().__init__(len(layer.weight), size, widest)

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        reach, beside = self._padding
        upper, lower = first * self._stride - reach, (last - 1) * self._stride + reach + 1
        top, bottom = max(upper, 0), min(lower, self._source_height)
        beyond = (0, 0, top - upper, lower - bottom)
        total = None
        for reader, layer in zip(self._readers_of_parts, self._layers, strict=True):
            rows = reader.read(top, bottom)
            if any(beyond):
                rows = F.pad(rows, beyond)
            found = F.conv2d(rows, *layer, self._stride, (0, beside), self._dilation)
            total = found if total is None else total.add_(found)
        return self._activate(total)


def _read_convolution(module: nn.Module, stride: int) -> tuple[Layer, nn.Module]:
    """The convolution with the norm behind it folded in, and the activation."""
    norm = activation = nn.Identity()
    convolution = module
    if isinstance(module, ConvModule):
        expect(module, ConvModule, order=("conv", "norm", "act"), with_explicit_padding=False)
        convolution = module.conv
        norm = module.norm if module.with_norm else norm
        activation = module.activate if module.with_activation else activation
    kernel, dilation = convolution.kernel_size, convolution.dilation
    same = tuple(step * (side - 1) / 2 for step, side in zip(dilation, kernel, strict=True))
    expect_convolution(convolution, dilation=dilation, stride=(stride, stride), padding=same)
    expect(activation, type(activation))
    if not isinstance(activation, (nn.Identity, *_ACTIVATIONS)):
        raise NotAsBuilt(f"{type(activation).__name__} is none of the activations of single places")
    return fold(convolution, norm), activation


class Resized(FeatureMap):
    """What ``F.interpolate`` makes of a whole map, row by row.

    Args:
        source: the map.
        size: height and width of the result.
        mode: ``bilinear`` or ``nearest``.
        align_corners: of ``bilinear``.
    """

    def __init__(
        self, source: FeatureMap, size: Sequence[int], mode: str, align_corners: bool | None
    ) -> None:
        super().__init__(source.channels, tuple(size))
        self._reader = Reader(source)
        self._how = dict(mode=mode, align_corners=align_corners)
        if mode == "nearest":
            self._above = self._below = _nearest(source.height, self.height)
            self._share = torch.zeros(self.height)
        else:
            self._above, self._share = _between(source.height, self.height, align_corners)
            self._below = (self._above + 1).clamp_max(source.height - 1)

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        above, below = self._above[first:last], self._below[first:last]
        top, bottom = int(above[0]), int(below[-1]) + 1
        rows = self._reader.read(top, bottom)
        by_rows = rows[0].permute(1, 2, 0)  # most are in channels-last, and stay so
        device, share = rows.device, self._share[first:last].to(rows.device)
        exact = torch.promote_types(rows.dtype, torch.float32)
        upper, lower = (by_rows[(index - top).to(device)].to(exact) for index in (above, below))
        mixed = torch.lerp(upper, lower, share[:, None, None].to(exact))[None].permute(0, 3, 1, 2)
        return F.interpolate(mixed, (last - first, self.width), **self._how).to(rows.dtype)


def _between(length: int, new_length: int, align_corners: bool) -> tuple[Tensor, Tensor]:
    """For every new place the old one before it, and how far it lies from there to the next.

    In float32 as torch computes it, whose rounding shows in large maps: without aligned corners by
    one multiplication and addition that round once.
    """
    places = torch.arange(new_length, dtype=torch.float32)
    if align_corners:
        places *= (torch.tensor(length - 1.0) / (new_length - 1)) if new_length > 1 else 0
    else:
        scale = (torch.tensor(float(length)) / new_length).double()
        places = ((places.double() + 0.5) * scale - 0.5).float().clamp_min(0)
    before = places.long().clamp_max(length - 1)
    return before, (places - before).clamp(0, 1)


def _nearest(length: int, new_length: int) -> Tensor:
    """For every new place the old one that torch takes."""
    places = torch.arange(new_length, dtype=torch.float32) * (
        torch.tensor(float(length)) / new_length
    )
    return places.long().clamp_max(length - 1)


def resized(
    source: FeatureMap, size: Sequence[int], align_corners: bool | None, mode: str = "bilinear"
) -> FeatureMap:
    """A map in another size, as :class:`Resized`; itself where it has that size."""
    if tuple(size) == tuple(source.size):
        return source
    return Resized(source, size, mode, align_corners)


class Halved(FeatureMap):
    """Every other row and column of a map."""

    def __init__(self, source: FeatureMap) -> None:
        super().__init__(source.channels, tuple(-(-side // 2) for side in source.size))
        self._reader = Reader(source)

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        return self._reader.read(2 * first, 2 * last - 1)[..., ::2, ::2]


class Rectified(FeatureMap):
    """A map with 0 in the place of what is less."""

    def __init__(self, source: FeatureMap) -> None:
        super().__init__(source.channels, source.size)
        self._reader = Reader(source)

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        return F.relu(self._reader.read(first, last))


class Summed(FeatureMap):
    """The sum of maps of one size."""

    def __init__(self, *sources: FeatureMap) -> None:
        super().__init__(sources[0].channels, sources[0].size)
        self._parts = [Reader(source) for source in sources]

    def make(self, first: int, last: int) -> Tensor:
        """See :class:`FeatureMap`."""
        total, *others = (part.read(first, last) for part in self._parts)
        for each in others:
            total = total + each
        return total
