"""Predicting on one raster of any size, from its file to its results."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from mmengine.utils import ProgressBar

from xcit_dense.large import label_rasters, overview
from xcit_dense.large.damage import SalvagedPixels
from xcit_dense.large.geojson import write_areas, write_objects
from xcit_dense.large.pixels import Pixels, parse_bands
from xcit_dense.large.planning import expected_time, plan_stream
from xcit_dense.large.runs import in_coco
from xcit_dense.large.scaling import ScaledRaster
from xcit_dense.large.sources import open_raster
from xcit_dense.large.streaming import NormalisedPixels, detect_stream, segment_stream
from xcit_dense.large.tiles import Part, detect_tiles, lay_tiles, segment_tiles
from xcit_dense.large.ways import Way
from xcit_dense.predict.outputs import LABELS, PICTURES, PROBABILITIES, Outputs, write_picture
from xcit_dense.predict.predictor import Predictor
from xcit_dense.predict.results import Categories, Detections


def predict_raster(
    predictor: Predictor,
    outputs: Outputs,
    file: Path,
    name: str,
    way: Way,
    bands: str | None = None,
    stretch: str = "none",
    scale: float = 1.0,
    level: int | None = None,
    mpp: float | None = None,
    probabilities: bool = False,
    polygons: bool = False,
    score_thr: float = 0.0,
    batch_size: int = 1,
    memory: float | None = None,
    plan: bool = False,
) -> list[str]:
    """Predict on a raster and write the results, each under its name when it is whole.

    Args:
        predictor: of a segmentor or a detector.
        outputs: where results go; objects for its JSON wait for its ``finish``.
        file: one of its inputs.
        name: of the results.
        way: how it is predicted on.
        bands: such as ``4,3,2``.
        stretch: see :class:`xcit_dense.large.pixels.Pixels`.
        scale: size at which it is predicted on, by its own; results have it too.
        level, mpp: see :func:`xcit_dense.large.sources.open_raster`.
        probabilities, polygons: of a segmentor, whether these are written too.
        score_thr: of a detector, least score.
        batch_size: tiles at once.
        memory: gigabytes of a stream; half of what is free if not said.
        plan: end with what it will take.

    Returns:
        What is said of damaged places, which became nodata.

    Raises:
        OSError: a result cannot be written.
        UserError: the raster cannot be opened so, or the model does not fit.
    """
    raster = open_raster(file, level, mpp)
    if scale != 1:
        raster = ScaledRaster(raster, scale)
    pixels = SalvagedPixels(raster, bands and parse_bands(bands), stretch)
    print(f"{file}: {pixels.width} x {pixels.height} pixels, {pixels}")
    if raster.warning:
        print(f"  {raster.warning}")
    if way.mode == "stream":
        segment, detect, how = _by_stream(predictor, pixels, way, memory, outputs.folder, plan)
    else:
        segment, detect, how = _by_tiles(pixels, way, batch_size)
    if plan:
        return []
    sides = pixels.height, pixels.width
    if predictor.is_segmentor:
        how |= dict(with_probabilities=probabilities, scratch=outputs.folder)
        parts = segment(predictor, pixels=pixels, **how)
        categories = predictor.categories
        written = _write_labels(parts, categories, pixels, outputs, name, probabilities, polygons)
    else:
        found = detect(predictor, pixels=pixels, score_thr=score_thr, **how)
        outputs.add(file, str(file), sides, in_coco(found, sides))
        written = _write_objects(found, predictor.categories, pixels, outputs, name)
    print("  written:", *(path.relative_to(outputs.folder) for path in written), flush=True)
    return list(pixels.damage.values())


def _by_tiles(pixels: Pixels, way: Way, batch_size: int) -> tuple[Callable, Callable, dict]:
    """What labels, what finds objects, and what both take."""
    sides = pixels.height, pixels.width
    rows, columns = (lay_tiles(side, way.side, way.overlap) for side in sides)
    count = len(rows.starts) * len(columns.starts)
    print(f"  {count} tiles of {columns.length} x {rows.length} pixels", flush=True)
    tiling = dict(tile=way.side, overlap=way.overlap, batch_size=batch_size)
    return segment_tiles, detect_tiles, tiling | dict(tell=_progress(count, "tiles"))


def _by_stream(
    predictor: Predictor,
    pixels: Pixels,
    way: Way,
    memory: float | None,
    folder: Path,
    plan: bool,
) -> tuple[Callable, Callable, dict]:
    """As :func:`_by_tiles`."""
    source = NormalisedPixels(predictor, pixels)
    stream = plan_stream(predictor, source, way.side, memory, folder)
    expected = None if plan else expected_time(predictor, stream, source)
    if expected is not None:
        print(f"  by a first band, it takes about {expected}", flush=True)
    rows = (len(stream.engine.blocks) + 1) * stream.engine.grid(stream.padded(source))[0]
    stream.engine.tell = _progress(rows, "rows of tokens")
    streaming = dict(stream=stream, tell=_progress(pixels.height, "rows of pixels"))
    return segment_stream, detect_stream, streaming


def _write_labels(
    parts: Iterator[Part],
    categories: Categories,
    pixels: Pixels,
    outputs: Outputs,
    name: str,
    probabilities: bool,
    polygons: bool,
) -> list[Path]:
    written = [outputs.folder / LABELS / f"{name}.tif"]
    with ExitStack() as stack:
        write_labels = stack.enter_context(
            label_rasters.label_raster(written[0], pixels, categories)
        )
        if probabilities:
            written.append(outputs.folder / PROBABILITIES / f"{name}.tif")
            raster = label_rasters.probability_raster(written[-1], pixels, categories)
            write_probabilities = stack.enter_context(raster)
        for part in parts:
            write_labels(part.window, part.labels)
            if part.probabilities is not None:
                write_probabilities(part.window, part.probabilities, part.labels)
    if polygons:
        written.append(outputs.folder / "polygons" / f"{name}.geojson")
        write_areas(
            written[-1], label_rasters.read_labels(written[0]), categories, pixels.georeference
        )
    if outputs.with_pictures:
        picture = overview.thinned(pixels, outputs.longest_side)
        labels = label_rasters.read_thinned_labels(written[0], picture.shape[:2])
        written.append(outputs.folder / PICTURES / f"{name}.jpg")
        write_picture(written[-1], overview.draw_labels(picture, labels, categories))
    return written


def _write_objects(
    found: Detections, categories: Categories, pixels: Pixels, outputs: Outputs, name: str
) -> list[Path]:
    """Write objects, masks as runs."""
    written = [outputs.folder / "objects" / f"{name}.geojson"]
    write_objects(written[0], found, categories, pixels.georeference)
    if outputs.with_pictures:
        size = pixels.height, pixels.width
        picture = overview.draw_objects(
            overview.thinned(pixels, outputs.longest_side), found, categories, size
        )
        written.append(outputs.folder / PICTURES / f"{name}.jpg")
        write_picture(written[-1], picture)
        for number, place in enumerate(overview.places_with_most(found, size), start=1):
            written.append(outputs.folder / PICTURES / f"{name}_most_{number}.jpg")
            write_picture(written[-1], overview.draw_place(pixels, found, categories, place))
    return written


def _progress(count: int, what: str) -> Callable[[int], None]:
    """What is told of things that are done: a bar on a terminal, else a line for each tenth."""
    done, bar = 0, None

    def tell(number: int) -> None:
        nonlocal done, bar
        before, done = done, min(done + number, count)  # padding has rows too
        if sys.stderr.isatty():
            bar = bar or ProgressBar(count, file=sys.stderr)  # which begins to count the time
            bar.update(done - before)
            if done == count > before:
                print(file=sys.stderr)
        elif 10 * done // count > 10 * before // count:
            print(f"  {done} of {count} {what}", file=sys.stderr, flush=True)

    return tell
