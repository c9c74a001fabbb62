"""Objects and areas of labels as GeoJSON, in the coordinates of their raster."""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xcit_dense.atomic_files import write_atomically
from xcit_dense.large.label_polygons import label_polygons
from xcit_dense.large.runs import Polygon, outlines
from xcit_dense.large.sources import Georeference
from xcit_dense.predict.results import Categories, Detections

_PIXELS = Georeference("", (1.0, 0.0, 0.0, 0.0, 1.0, 0.0))


def write_objects(
    path: Path, found: Detections, categories: Categories, georeference: Georeference | None
) -> None:
    """Write a feature for each object: its outline, along the edges of its mask's pixels, or box.

    Properties are ``class`` and, where there is one, ``score``. Coordinates are those of the
    raster's coordinate reference system, which is named; without one columns and rows of pixels,
    from the upper left corner.

    Args:
        path: the file to make or replace.
        found: boxes in pixels, masks as runs.
        categories: names of the labels.
        georeference: where the raster lies.

    Raises:
        OSError: it cannot be written.
    """
    _write(path, _objects(found, categories), georeference)


def write_areas(
    path: Path,
    bands: Iterable[np.ndarray],
    categories: Categories,
    georeference: Georeference | None,
) -> None:
    """Write a feature for each area of pixels with one label that touch by their edges.

    The property is ``class``; coordinates are as for :func:`write_objects`. Features are written
    when they are complete, see :func:`xcit_dense.large.label_polygons.label_polygons`.

    Args:
        path: the file to make or replace.
        bands: the labels of the raster, (rows, width), from above.
        categories: names of the labels.
        georeference: where the raster lies.

    Raises:
        OSError: it cannot be written.
    """
    areas = label_polygons(bands)
    features = (({"class": categories.names[label]}, [polygon]) for label, polygon in areas)
    _write(path, features, georeference)


def outline_of(found: Detections, index: int) -> list[Polygon]:
    """The outline of an object: of the parts of its mask, or else its box."""
    if found.masks is not None and len(found.masks[index]):
        return outlines(found.masks[index])
    left, top, right, bottom = found.boxes[index].astype(float)
    return [[np.array([(left, top), (right, top), (right, bottom), (left, bottom)])]]


def _objects(
    found: Detections, categories: Categories
) -> Iterator[tuple[dict[str, Any], list[Polygon]]]:
    for index, label in enumerate(found.labels):
        described: dict[str, Any] = {"class": categories.names[label]}
        if found.scores is not None:
            described["score"] = round(float(found.scores[index]), 5)
        yield described, outline_of(found, index)


def _write(
    path: Path,
    features: Iterable[tuple[dict[str, Any], list[Polygon]]],
    georeference: Georeference | None,
) -> None:
    """Write properties and polygons, one feature a line."""
    place = georeference or _PIXELS
    head = '{"type": "FeatureCollection"'
    if place.crs:
        crs = {"type": "name", "properties": {"name": _name_of(place.crs)}}
        head += f', "crs": {json.dumps(crs)}'
    size = np.abs(np.array(place.transform)[[0, 1, 3, 4]]).max()
    digits = max(0, 3 - int(np.floor(np.log10(size))))  # a thousandth of a pixel

    def write(file) -> None:
        file.write(f'{head}, "features": ['.encode())
        between = b"\n"
        for properties, polygons in features:
            placed = [_placed(polygon, place.transform, digits) for polygon in polygons]
            kind, coordinates = "MultiPolygon", placed
            if len(placed) == 1:
                kind, coordinates = "Polygon", placed[0]
            geometry = {"type": kind, "coordinates": coordinates}
            feature = {"type": "Feature", "properties": properties, "geometry": geometry}
            file.write(between + json.dumps(feature).encode())
            between = b",\n"
        file.write(b"\n]}\n")

    write_atomically(path, write)


def _placed(polygon: Polygon, transform: Sequence[float], digits: int) -> list[list[list[float]]]:
    """Closed rings in coordinates of the raster, the outer one counterclockwise."""
    a, b, c, d, e, f = transform
    rings = []
    for ring in polygon:
        column, row = ring.T.astype(float)
        corners = np.stack([a * column + b * row + c, d * column + e * row + f], axis=1)
        if a * e < b * d:  # upside down, as maps are; else outer rings are counterclockwise already
            corners = corners[::-1]
        rings.append(np.concatenate([corners, corners[:1]]).round(digits).tolist())
    return rings


def _name_of(crs: str) -> str:
    """The name of a coordinate reference system (WKT) in GeoJSON: of the EPSG, or itself."""
    from rasterio.crs import CRS  # by which it was read

    code = CRS.from_wkt(crs).to_epsg()
    return f"urn:ogc:def:crs:EPSG::{code}" if code else crs
