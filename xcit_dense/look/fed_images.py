"""What a model is fed: the batches of a config's loader, as its preprocessor leaves them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor
from torch.utils.data import DataLoader

from xcit_dense.errors import in_one_line
from xcit_dense.mm.config_tree import dicts_in, type_name
from xcit_dense.predict import UnreadableImageError, read_image
from xcit_dense.predict.categories import Categories, categories_of
from xcit_dense.predict.reading.input_files import Skipped
from xcit_dense.predict.scope import scope_of

# what torch's loader refuses without worker processes
_OF_WORKERS = ("multiprocessing_context", "prefetch_factor", "timeout")


@dataclass(frozen=True)
class FedImage:
    """One image of a batch.

    Attributes:
        source: path of its file.
        branch: which of the batches of semi-supervised training it is in; empty elsewhere.
        pixels: uint8 (H, W, 3) in blue, green, red: the model's input, padding included, with the
            normalization undone.
        sample: its data sample, of mmdet or mmseg, with the ground truth.
    """

    source: str
    branch: str
    pixels: np.ndarray
    sample: Any


class FedImages:
    """The images of a split as the model gets them, in order; an image that fails is named.

    Args:
        cfg: a config of mmdet or mmseg.
        split: ``train``, ``val`` or ``test``.
        seed: of the order and the augmentations.

    Attributes:
        categories: names and colours of the labels.
        annotated_as_read: whether the ground truth is that of the image in its file, because the
            pipeline reads it after it has changed the image, as mm's pipelines for testing do.

    Raises:
        ValueError: there is no such loader, or it or the preprocessor cannot be built.
        UserError: the data set names no classes.
    """

    def __init__(self, cfg: Config, split: str, seed: int) -> None:
        self._split = split
        loader = cfg.get(f"{split}_dataloader")
        if not loader:
            raise ValueError(f"there is no {split}_dataloader")
        init_default_scope(scope_of(cfg))
        set_random_seed(seed)
        try:
            self._loader = _build_loader(loader, seed)
            self._preprocessor = _Preprocessor((cfg.get("model") or {}).get("data_preprocessor"))
        except Exception as error:  # data sets and transforms may refuse their arguments in any way
            raise ValueError(
                f"{split}_dataloader or model.data_preprocessor cannot be built "
                f"({in_one_line(error)})"
            ) from error
        self.categories: Categories = categories_of(self._loader.dataset.metainfo, cfg.filename)
        self.annotated_as_read = _reads_annotations_late(loader)

    def __iter__(self) -> Iterator[FedImage | Skipped]:
        """One epoch; for ever where the sampler has no end.

        Raises:
            ValueError: the preprocessor cannot take a batch.
        """
        for iteration, indices in enumerate(self._loader.batch_sampler):
            outcomes = [self._prepare(index) for index in indices]
            yield from (outcome for outcome in outcomes if isinstance(outcome, Skipped))
            prepared = [outcome for outcome in outcomes if not isinstance(outcome, Skipped)]
            if prepared:
                # preprocessors that draw a size for a batch look this up
                MessageHub.get_current_instance().update_info("iter", iteration)
                yield from self._feed(prepared)

    def _prepare(self, index: int) -> Any:
        """An item of the data set, after its pipeline."""
        dataset = self._loader.dataset
        try:
            return dataset[index]
        except Exception as error:  # a pipeline may fail in any way
            return _explained(dataset, index, error)

    def _feed(self, prepared: list[Any]) -> Iterator[FedImage]:
        try:
            fed = self._preprocessor(self._loader.collate_fn(prepared), self._split == "train")
        except Exception as error:  # as above
            raise ValueError(
                f"model.data_preprocessor cannot take a batch of {self._split} data "
                f"({in_one_line(error)})"
            ) from error
        for branch, inputs, samples in _branches(fed):
            for pixels, sample in zip(inputs, samples, strict=True):
                source = sample.metainfo.get("img_path", "")
                yield FedImage(source, branch, self._preprocessor.undo(pixels), sample)


class _Preprocessor:
    """A model's preprocessor, and its way back to pixels."""

    def __init__(self, settings: dict | None) -> None:
        settings = settings or {"type": "BaseDataPreprocessor"}
        self._preprocess = MODELS.build(settings)
        # of each branch of semi-supervised training
        self._normalizer = getattr(self._preprocess, "data_preprocessor", self._preprocess)
        self._red_first = bool(settings.get("data_preprocessor", settings).get("bgr_to_rgb"))

    def __call__(self, batch: Any, training: bool) -> dict[str, Any]:
        return self._preprocess(batch, training)

    def undo(self, pixels: Tensor) -> np.ndarray:
        """Undo the normalization: (C, H, W) -> uint8 (H, W, 3) in blue, green, red."""
        if getattr(self._normalizer, "_enable_normalize", False):
            pixels = pixels * self._normalizer.std + self._normalizer.mean
        pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
        image = pixels.float().round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        return np.ascontiguousarray(image[..., ::-1] if self._red_first else image)


def _build_loader(settings: dict, seed: int) -> DataLoader:
    """The loader of a config, in this process: seeds hold, and nothing has to be started."""
    settings = {name: value for name, value in settings.items() if name not in _OF_WORKERS}
    return Runner.build_dataloader(
        {**settings, "num_workers": 0, "persistent_workers": False}, seed=seed
    )


def _branches(fed: dict[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """The batches in what a preprocessor gives: several in semi-supervised training."""
    inputs, samples = fed["inputs"], fed["data_samples"]
    if isinstance(inputs, dict):
        yield from ((branch, inputs[branch], samples[branch]) for branch in inputs)
    else:
        yield "", inputs, samples


def _reads_annotations_late(loader: dict) -> bool:
    """Whether there are steps that change the image before the one that reads annotations."""
    for _, node in dicts_in(loader):
        names = [type_name(step) for step in node.get("pipeline") or ()]
        for position, name in enumerate(names):
            if "Annotations" in name:
                return not all(earlier.startswith("Load") for earlier in names[:position])
    return False


def _explained(dataset: Any, index: int, error: Exception) -> Skipped:
    """Which image failed, and why: because of its file, or in the pipeline."""
    try:
        source = dataset.get_data_info(index)["img_path"]
    except Exception:  # the data set is of a kind that has no such thing, or this is what failed
        return Skipped(f"item {index}", in_one_line(error))
    try:
        read_image(source)
    except UnreadableImageError as unreadable:
        return Skipped(source, str(unreadable))
    return Skipped(source, in_one_line(error))
