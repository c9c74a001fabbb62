"""Running a trunk and a pyramid without gradients, from the model's weights, band by band."""

from collections.abc import Callable, Iterator, Sequence
from os import PathLike

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import get_proxy_mode
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

from xcit_dense.engine.block import BlockRunner
from xcit_dense.engine.context import Context, WholeImage, Windows
from xcit_dense.engine.levels import LevelRunner
from xcit_dense.engine.products import rows_per_piece
from xcit_dense.engine.stem import embed
from xcit_dense.engine.stores import FileTokenStore, Source, TensorSource, TokenStore
from xcit_dense.engine.weights import (
    BlockWeights,
    Layer,
    NotAsBuilt,
    expect,
    read_block,
    read_level,
    read_position,
    read_stem,
)
from xcit_dense.network import Pyramid, Trunk
from xcit_dense.network.calling import is_traced, is_transformed

# By tools/compare_attention_forms.py for C = 384, the only width measured: the plain model in the
# direct form is the faster at 1,024 tokens (2.7 C), the engine at 1,600.
_TOKENS_PER_CHANNEL = 3


def levels_by_engine(trunk: Trunk, pyramid: Pyramid, image: Tensor) -> tuple[Tensor, ...] | None:
    """The pyramid of an image (B, in_channels, H, W), where the engine is sure to be right.

    Returns:
        The levels; None where gradients are wanted, where somebody has changed the model or
        watches it, and where the plain model is faster.
    """
    if torch.is_grad_enabled() or type(trunk) is not Trunk or not _is_plain_run(image):
        return None
    if image.ndim != 4 or image.shape[1] != trunk.in_channels or image.device.type != "cpu":
        return None
    num_tokens = image.shape[2] * image.shape[3] // trunk.patch_size**2
    if (trunk.attention == "auto" and not pays(num_tokens, trunk.embed_dims)) or not len(image):
        return None
    try:
        engine = Engine(trunk, pyramid)
        return engine.levels(image) if image.dtype == engine.dtype else None
    except NotAsBuilt:
        return None


def pays(num_tokens: int, embed_dims: int) -> bool:
    """Whether the engine is expected to be faster than the plain model for an image."""
    return num_tokens >= _TOKENS_PER_CHANNEL * embed_dims


def _is_plain_run(image: Tensor) -> bool:
    """Whether nothing records, transforms or replaces the operations on an image."""
    return (
        type(image) in (Tensor, nn.Parameter)
        and not is_traced()
        and not is_transformed()
        and get_proxy_mode() is None
        and forward_ad._current_level < 0
        and all(isinstance(mode, DeviceContext) for mode in _get_current_function_mode_stack())
    )


class Engine:
    """A trunk and a pyramid, read once and ready to be run on images of any size.

    It keeps the tokens of an image in a store and goes through it once a block: a band of rows is
    read, goes through the block while it is in the cache, and is written back, while the moments
    for the next attention are gathered. So images need not fit into the device that computes.

    Args:
        trunk: in eval mode, on the device that computes.
        pyramid: likewise.
        store_device: where the tokens lie; None for the device that computes.
        window: side of what attention sees around each place, in pixels; None for the whole image.
        store_folder: where the tokens lie in files, if they do.

    Attributes:
        tell: is called with numbers of rows of tokens that were done, ``len(blocks) + 1`` times all
            rows in the end.

    Raises:
        NotAsBuilt: somebody has changed the model, or it has norms that look at whole maps.
    """

    def __init__(
        self,
        trunk: Trunk,
        pyramid: Pyramid,
        store_device: torch.device | str | None = None,
        window: int | None = None,
        store_folder: str | PathLike | None = None,
    ) -> None:
        expect(trunk, Trunk)
        expect(trunk.blocks, nn.ModuleList)
        expect(pyramid, Pyramid)
        expect(pyramid.levels, nn.ModuleDict)
        self.patch_size, self.out_indices = trunk.patch_size, trunk.out_indices
        self.window = window
        self.tell: Callable[[int], object] = int
        stem = read_stem(trunk.patch_embedding)
        self.position = read_position(trunk.position_encoding)
        self.blocks: list[BlockWeights] = [read_block(block) for block in trunk.blocks]
        levels = [read_level(level) for level in pyramid.levels.values()]
        first = trunk.position_encoding.projection.weight
        for tensor in (*trunk.parameters(), *pyramid.parameters()):
            if tensor.dtype != first.dtype or tensor.device != first.device:
                raise NotAsBuilt("parameters of several types or devices")
        self.device = first.device
        self.store_device, self.store_folder = store_device or self.device, store_folder
        self.dtype = self.product_dtype = first.dtype
        if torch.is_autocast_enabled(self.device.type):
            self.product_dtype = torch.get_autocast_dtype(self.device.type)
        if torch.float16 in (self.dtype, self.product_dtype):
            raise NotAsBuilt("float16 has no range for layer scales in weights")
        self.stem = [self._cast(layer) for layer in stem]
        self.level_runners = [
            LevelRunner(stride, self.patch_size, layers, self.product_dtype, self.device)
            for stride, layers in zip(pyramid.out_strides, levels, strict=True)
        ]

    @torch.no_grad()
    def levels(self, image: Tensor) -> tuple[Tensor, ...]:
        """The levels of an image (B, in_channels, H, W), as the model gives them."""
        sources = [TensorSource(one) for one in image]
        height, width = image.shape[-2:]
        return tuple(
            [
                level.read_all(stores)[
                    ..., : -(-height // level.stride), : -(-width // level.stride)
                ]
                for level, stores in zip(self.level_runners, self.taps(sources), strict=True)
            ]
        )

    @torch.no_grad()
    def features(self, source: Source) -> "Features":
        """All of an image that its pyramid is made from; (len(levels) * N * C) numbers are kept."""
        kept: list[TokenStore] = []
        for (store,) in self.taps([source]):
            if len(kept) == len(self.level_runners) - 1:
                kept.append(store)
                break
            kept.append(self._new_store(store.height, store.width))
            store.copy_to(kept[-1], rows_per_piece(store.width * store.channels, self.device))
        return Features(self.level_runners, kept, (source.height, source.width), store.seen)

    def taps(self, sources: Sequence[Source]) -> Iterator[list[TokenStore]]:
        """The tokens of every image after each tapped block.

        The stores are the same ones every time: what is to be kept has to be copied.
        """
        with torch.autocast(self.device.type, enabled=False):
            stores = [self._new_store(*self.grid(source)) for source in sources]
            for source, store in zip(sources, stores, strict=True):
                if hasattr(source, "valid"):  # filled by the stem
                    store.seen = torch.ones(store.height, store.width, dtype=torch.bool)
            norms = [block.attention_norm for block in self.blocks]
            contexts = [self._new_context(store) for store in stores]
            for source, store, context in zip(sources, stores, contexts, strict=True):
                how = self.patch_size, self.stem, self.position, norms[0], context, self.tell
                embed(source, store, *how)
        for index, (weights, next_norm) in enumerate(
            zip(self.blocks, [*norms[1:], None], strict=True)
        ):
            with torch.autocast(self.device.type, enabled=False):
                runner = BlockRunner(weights, self.product_dtype)
                next_contexts = [self._new_context(store) for store in stores]
                for store, context, following in zip(stores, contexts, next_contexts, strict=True):
                    runner.run(store, context, next_norm, following, self.tell)
                contexts = next_contexts
                del runner
            if index in self.out_indices:
                yield stores

    def grid(self, source: Source) -> tuple[int, int]:
        """Rows and columns of the tokens of an image."""
        return -(-source.height // self.patch_size), -(-source.width // self.patch_size)

    def size_of_tokens(self, source: Source) -> int:
        """Bytes of the stores that the :meth:`features` of an image need, a store a level."""
        height, width = self.grid(source)
        channels = len(self.position[0].weight)
        return len(self.level_runners) * height * width * channels * self.dtype.itemsize

    def size_of_moments(self, source: Source) -> tuple[int, int]:
        """Cells whose moments are gathered, and the bytes of these."""
        cells = 1 if self.window is None else self._new_windows(*self.grid(source)).num_cells
        channels = len(self.position[0].weight)
        return cells, cells * (channels + 1) * channels * max(4, self.dtype.itemsize)

    def _new_store(self, height: int, width: int) -> TokenStore:
        size = height, width, self.position[0].weight.shape[0], self.dtype
        if self.store_folder is not None:
            return FileTokenStore(self.store_folder, *size)
        return TokenStore(*size, self.store_device)

    def _new_context(self, store: TokenStore) -> Context:
        if self.window is None:
            return WholeImage(store.seen)
        return self._new_windows(store.height, store.width, store.seen)

    def _new_windows(self, height: int, width: int, seen: Tensor | None = None) -> Windows:
        return Windows(height, width, max(1, self.window // self.patch_size), seen)

    def _cast(self, layer: Layer) -> Layer:
        return Layer(*(None if t is None else t.to(self.product_dtype) for t in layer))


class Level:
    """One level of the pyramid of an image of H x W pixels, made from a store of tokens.

    Attributes:
        channels: C.
        height, width: ceil(H / stride) and ceil(W / stride).
        rows_per_token: rows that one row of tokens becomes.
    """

    def __init__(self, runner: LevelRunner, store: TokenStore, image_size: tuple[int, int]) -> None:
        self._runner, self._store = runner, store
        self.stride, self.channels, self.rows_per_token = runner.stride, store.channels, runner.up
        self.height, self.width = (-(-side // runner.stride) for side in image_size)

    @torch.no_grad()
    def read(self, first: int, last: int) -> Tensor:
        """Its rows ``first`` to ``last``, without the last: (1, C, rows, width)."""
        return self._runner.read(self._store, first, last)[..., : self.width]


class Features:
    """What the pyramid of an image of H x W pixels is made from: a store of tokens a level.

    Attributes:
        by_level: each level, of which any rows can be read.
        seen: bool (rows, columns) on the CPU, which tokens have data; None: all.
    """

    def __init__(
        self,
        levels: list[LevelRunner],
        stores: list[TokenStore],
        image_size: tuple[int, int],
        seen: Tensor | None = None,
    ) -> None:
        self.image_size, self.seen = image_size, seen
        self.by_level = [
            Level(runner, store, image_size) for runner, store in zip(levels, stores, strict=True)
        ]

    def levels(self, first_row: int, last_row: int) -> tuple[Tensor, ...]:
        """The part of every level that belongs to the rows ``first_row`` to ``last_row`` of pixels.

        Returns:
            (1, C, rows, ceil(W / stride)) for each level, its rows ``first_row // stride`` to
            ``ceil(last_row / stride)``.
        """
        return tuple(
            level.read(first_row // level.stride, -(-last_row // level.stride))
            for level in self.by_level
        )
