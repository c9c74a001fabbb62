"""Predicting on many files, of which some may be unusable."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from xcit_dense.errors import in_one_line
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.reading.input_files import Skipped
from xcit_dense.predict.reading.inputs import InputImage, read_inputs
from xcit_dense.predict.results import Prediction

Outcome = tuple[InputImage, Prediction] | Skipped


def predict_files(
    predictor: Predictor, files: Sequence[Path], batch_size: int
) -> Iterator[Outcome]:
    """Predict on images and the frames of videos, in their order.

    Args:
        predictor: the model.
        files: absolute paths.
        batch_size: how many images are predicted together.

    Returns:
        For each image its prediction, or why there is none.
    """
    batch: list[InputImage] = []
    for item in read_inputs(files, predictor.decoding):
        if isinstance(item, Skipped):
            yield item
            continue
        batch.append(item)
        if len(batch) == batch_size:
            yield from _predict(predictor, batch)
            batch = []
    if batch:
        yield from _predict(predictor, batch)


def _predict(predictor: Predictor, batch: Sequence[InputImage]) -> list[Outcome]:
    try:
        predictions = predictor.predict_batch([image.pixels for image in batch])
    except Exception as error:  # models and pipelines have many ways not to take an image
        if len(batch) > 1:  # find out whose fault it is
            return [outcome for image in batch for outcome in _predict(predictor, [image])]
        return [Skipped(batch[0].source, in_one_line(error))]
    return list(zip(batch, predictions, strict=True))
