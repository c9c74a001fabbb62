"""What a model is fed: the batches of a config's loader, as its preprocessor leaves them."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner, set_random_seed
from torch import Tensor

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config import innermost_dataset, model_scope, type_name


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
    """The images of a split as the model gets them, in order; for ever if the sampler has no end.

    For an image that the pipeline cannot prepare there is an error.

    Args:
        cfg: a config of mmdet or mmseg.
        split: ``train``, ``val`` or ``test``.
        seed: of the order and the augmentations.

    Attributes:
        metainfo: of the data set, names of the classes among it.
        annotated_as_read: whether the ground truth is that of the image in its file, because the
            pipeline reads it after it has changed the image, as mm's pipelines for testing do.

    Raises:
        UserError: there is no such loader, or it or the preprocessor cannot be built.
    """

    def __init__(self, cfg: Config, split: str, seed: int) -> None:
        self._is_training = split == "train"
        loader = cfg.get(f"{split}_dataloader")
        if not loader:
            raise UserError(f"config {cfg.filename}: there is no {split}_dataloader")
        init_default_scope(model_scope(cfg) or "mmengine")
        set_random_seed(seed)
        # what torch's loader refuses without worker processes goes with them
        workers = dict(num_workers=0, persistent_workers=False, timeout=0)
        workers |= dict(prefetch_factor=None, multiprocessing_context=None)
        try:
            self._loader = Runner.build_dataloader({**loader, **workers}, seed=seed)
            self._preprocess = MODELS.build(cfg.model.data_preprocessor)
        except Exception as error:  # data sets and transforms may refuse their arguments in any way
            raise UserError(
                f"config {cfg.filename}: {split}_dataloader or model.data_preprocessor cannot be "
                f"built ({in_one_line(error)})"
            ) from error
        # of semi-supervised training it has that of the detector inside
        self._normalizer = getattr(self._preprocess, "data_preprocessor", self._preprocess)
        settings = cfg.model.data_preprocessor
        self._red_first = settings.get("data_preprocessor", settings).get("bgr_to_rgb")
        self.metainfo = self._loader.dataset.metainfo
        steps = map(type_name, innermost_dataset(loader["dataset"]).get("pipeline") or ())
        loading = takewhile(lambda name: name.startswith("Load"), steps)
        self.annotated_as_read = not any("Annotations" in name for name in loading)

    def __iter__(self) -> Iterator[FedImage | UserError]:
        dataset = self._loader.dataset
        for iteration, indices in enumerate(self._loader.batch_sampler):
            items = []
            for index in indices:
                try:
                    items.append(dataset[index])
                except Exception as error:  # a pipeline may fail in any way
                    source = dataset.get_data_info(index).get("img_path", f"item {index}")
                    yield UserError(f"{source}: {in_one_line(error)}")
            if items:
                # preprocessors that draw a size for a batch look this up
                MessageHub.get_current_instance().update_info("iter", iteration)
                yield from self._fed(self._loader.collate_fn(items))

    def _fed(self, batch: Any) -> Iterator[FedImage]:
        fed = self._preprocess(batch, self._is_training)
        inputs, samples = fed["inputs"], fed["data_samples"]
        if not isinstance(inputs, dict):  # else those of semi-supervised training, by branch
            inputs, samples = {"": inputs}, {"": samples}
        for branch in inputs:
            for pixels, sample in zip(inputs[branch], samples[branch], strict=True):
                source = sample.metainfo.get("img_path", "")
                yield FedImage(source, branch, self._undone(pixels), sample)

    def _undone(self, pixels: Tensor) -> np.ndarray:
        """Undo the normalization: (C, H, W) -> uint8 (H, W, 3) in blue, green, red."""
        if getattr(self._normalizer, "_enable_normalize", False):
            pixels = pixels * self._normalizer.std + self._normalizer.mean
        pixels = pixels[:3] if len(pixels) >= 3 else pixels[:1].expand(3, -1, -1)
        pixels = pixels.flip(0) if self._red_first else pixels
        return pixels.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
