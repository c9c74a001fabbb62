"""Everything that a run of predictions writes, in one folder."""

from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from xcit_dense.predict.categories import Categories
from xcit_dense.predict.drawing import draw_prediction
from xcit_dense.predict.reading.inputs import InputImage
from xcit_dense.predict.results import Detections, Prediction
from xcit_dense.predict.writing.coco_file import CocoFile
from xcit_dense.predict.writing.coco_numbers import CocoNumbers
from xcit_dense.predict.writing.writers import write_label_map, write_picture

PICTURES, LABEL_MAPS, DETECTIONS = "pictures", "labels", "predictions.json"


def folders_of_results(folder: Path) -> tuple[Path, Path]:
    """Where in an output folder there are images that are results."""
    return folder / PICTURES, folder / LABEL_MAPS


class Outputs:
    """Pictures, label maps and the JSON of detections.

    Args:
        folder: where they go.
        categories: names and colours of the labels.
        with_pictures: whether predictions are drawn.
        longest_side: largest height or width of a picture; None keeps the image's.
        numbers: of categories and images in the JSON; None counts them.

    Attributes:
        images: how many images have all their results.
        written: names of what there is in the folder of this run.
    """

    def __init__(
        self,
        folder: Path,
        categories: Categories,
        with_pictures: bool = True,
        longest_side: int | None = None,
        numbers: CocoNumbers | None = None,
    ) -> None:
        self.images = 0
        self.written: set[str] = set()
        self._folder = folder
        self._categories = categories
        self._with_pictures = with_pictures
        self._longest_side = longest_side
        self._numbers = numbers
        self._coco_file: CocoFile | None = None
        self._open_files = ExitStack()

    def __enter__(self) -> "Outputs":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._open_files.close()
        if self._coco_file:
            self.written.add(DETECTIONS)

    def write(self, image: InputImage, prediction: Prediction) -> None:
        """Write the results of an image.

        Raises:
            OSError: a file cannot be written.
        """
        if self._with_pictures:
            self._write_picture(image, prediction)
        if isinstance(prediction, Detections):
            self._detections().add(image.source, image.size, prediction)
        else:
            path = self._folder / LABEL_MAPS / f"{image.name}.png"
            write_label_map(path, prediction, self._categories)
            self.written.add(LABEL_MAPS)
        self.images += 1

    def _write_picture(self, image: InputImage, prediction: Prediction) -> None:
        picture = draw_prediction(
            image.background, prediction, self._categories, self._longest_side
        )
        write_picture(self._folder / PICTURES / f"{image.name}.jpg", picture)
        self.written.add(PICTURES)

    def _detections(self) -> CocoFile:
        if self._coco_file is None:
            file = CocoFile(self._folder / DETECTIONS, self._categories, self._numbers)
            self._coco_file = self._open_files.enter_context(file)
        return self._coco_file
