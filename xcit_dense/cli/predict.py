"""Predicting on a user's own images: the command line of ``tools/predict.py``."""

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Container, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from mmengine.utils import ProgressBar

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.large.overview import LONGEST_SIDE
from xcit_dense.large.predicting import predict_raster
from xcit_dense.large.ways import MODES, choose_way
from xcit_dense.mm.config import CONFIG_HELP, add_config_changes, read_config
from xcit_dense.predict import Detections, Prediction, Predictor
from xcit_dense.predict.inputs import (
    InputImage,
    find_files,
    is_video,
    output_names,
    read_inputs,
)
from xcit_dense.predict.outputs import Annotations, Outputs, folders_of_results

_OF_WAYS = ("mode", "context", "tile", "overlap")
_OF_RASTERS = ("bands", "stretch", "scale", "level", "mpp", "probabilities", "polygons")
_OF_RASTERS += ("memory", "plan")


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Predict on images with a trained detector or segmentor. Writes pictures and, "
        "for detection, predictions.json in COCO's format, for segmentation, label maps.",
        epilog="Exit code: 0 if all inputs were predicted, 1 if any was not, 2 for a wrong command "
        "line, 3 if blocks were damaged. A run that is stopped leaves what was predicted.",
    )
    parser.add_argument("config", help=CONFIG_HELP)
    parser.add_argument("checkpoint", help="path or URL of the checkpoint")
    parser.add_argument(
        "inputs", nargs="+", metavar="INPUT", help="image, video, folder, or pattern in quotes"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where results go")
    parser.add_argument("--device", help="cpu, cuda, cuda:1 ... (a GPU if there is one)")
    parser.add_argument("--amp", action="store_true", help="predict in mixed precision")
    parser.add_argument(
        "--batch-size", type=int, default=1, help="images at once; of equal size only (1)"
    )
    parser.add_argument(
        "--score-thr", type=float, default=0.3, help="least score of a detection, 0 to 1 (0.3)"
    )
    parser.add_argument(
        "--max-side",
        type=int,
        help="largest side of pictures, 0 for any (1600; of images of any size 4000)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="write the results only")
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="in COCO's format: numbers for the JSON"
    )
    add_config_changes(parser)
    parts = parser.add_argument_group(
        "images of any size",
        "in a memory that does not grow with them, in their own resolution, if any of these is "
        "given; docs/large_images.md",
    )
    parts.add_argument(
        "--mode",
        choices=MODES,
        help="stream where the model can, else tiles (auto), or say which",
    )
    parts.add_argument(
        "--context",
        type=context,
        metavar="PIXELS",
        help="stream: what is seen around each place, or whole (what the model was trained at)",
    )
    parts.add_argument("--tile", type=pixels, metavar="PIXELS", help="tiles of this side")
    parts.add_argument(
        "--overlap", type=int, metavar="PIXELS", help="that neighbours share (a quarter of a tile)"
    )
    parts.add_argument(
        "--memory",
        type=float,
        metavar="GIGABYTES",
        help="a stream's tokens go to a file in --out where they take more (half of what is free)",
    )
    parts.add_argument("--plan", action="store_true", help="print what it will take, and end")
    parts.add_argument("--bands", help="such as 4,3,2 for red, green, blue")
    parts.add_argument(
        "--stretch", help="values that become 0 and 255: none, 0,4095, or percentiles 2%%,98%%"
    )
    parts.add_argument("--scale", type=float, help="resample to this size, by its own (1)")
    parts.add_argument("--level", type=int, help="of a pyramid or overviews (0, the finest)")
    parts.add_argument("--mpp", type=float, help="micrometres a pixel, of slides")
    parts.add_argument(
        "--probabilities", action="store_true", help="write those of all classes (segmentors)"
    )
    parts.add_argument(
        "--polygons", action="store_true", help="write areas as GeoJSON (segmentors)"
    )
    parser.set_defaults(plan=None, probabilities=None, polygons=None)  # not given
    return parser


def main(argv: list[str] | None = None) -> int:
    """Predict as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        OSError: results cannot be written.
        UserError: config, checkpoint or annotations are unusable.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    _check_options(parser, args)
    cfg = read_config(args.config, args.cfg_options)
    files, skipped = find_files(args.inputs, folders_of_results(args.out))
    if not files:
        return _summarize(0, skipped)
    annotations = Annotations(args.annotations, files) if args.annotations else None
    predictor = Predictor(cfg, args.checkpoint, args.device, args.amp)
    outputs = Outputs(
        args.out,
        predictor.categories,
        files,
        annotations,
        with_pictures=not args.no_pictures,
        longest_side=args.max_side,
    )
    if annotations:
        reason = f"not in {args.annotations}, so left out of predictions.json"
        unknown = (file for file in files if file not in annotations.images)
        skipped += [UserError(f"{file}: {reason}") for file in unknown]
    run = _predict_parts if args.mode else _predict
    return run(args, predictor, outputs, skipped)


def pixels(text: str) -> int:
    """A side, of a command line.

    Raises:
        ArgumentTypeError: it is none.
    """
    if not text.isdecimal() or not int(text):
        raise ArgumentTypeError(f"{text}: has to be a number of pixels, such as 512")
    return int(text)


def context(text: str) -> int | str:
    """What a place sees, of a command line."""
    return text if text == "whole" else pixels(text)


def _check_options(parser: ArgumentParser, args: Namespace) -> None:
    if args.batch_size < 1:
        parser.error(f"--batch-size {args.batch_size}: at least 1")
    if args.max_side is not None and args.max_side < 0:
        parser.error(f"--max-side {args.max_side}: at least 0")
    options = _given(args, *_OF_WAYS, *_OF_RASTERS)
    if options:
        args.max_side = min(args.max_side or LONGEST_SIDE, LONGEST_SIDE)
        _check_ways(parser, args, options)
    else:
        args.max_side = 1600 if args.max_side is None else args.max_side or None
    if not 0 <= args.score_thr <= 1:
        parser.error(f"--score-thr {args.score_thr}: scores go from 0 to 1")
    try:
        torch.empty(1, device=args.device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # as torch's backends do
        parser.error(f"--device {args.device}: {str(error).splitlines()[0]}")
    args.out.mkdir(parents=True, exist_ok=True)


def _given(args: Namespace, *names: str) -> dict[str, Any]:
    """The options that were given, of some."""
    values = {name: getattr(args, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _check_ways(parser: ArgumentParser, args: Namespace, options: Container[str]) -> None:
    """See that options of images of any size go together, and find the mode that they mean."""
    of_tiles = [name for name in ("tile", "overlap") if name in options]
    of_stream = [name for name in ("context", "memory") if name in options]
    if args.mode is None and of_tiles and of_stream:
        parser.error(
            f"--{of_tiles[0]} and --{of_stream[0]}: tiles or a stream; with --mode auto it is a "
            "stream where the model can, else tiles"
        )
    if args.mode is None:
        args.mode = "tiles" if of_tiles else "stream" if "context" in options else "auto"
    if args.mode == "stream" and of_tiles:
        parser.error(f"--mode stream --{of_tiles[0]}: goes with tiles; a stream has --context")
    if args.mode == "tiles" and of_stream:
        parser.error(f"--mode tiles --{of_stream[0]}: goes with a stream; tiles have --tile")
    if args.memory is not None and not args.memory >= 0:
        parser.error(f"--memory {args.memory}: gigabytes, at least 0")
    if args.tile and not 0 <= (args.overlap or 0) < args.tile:
        tiles = f"--tile {args.tile} --overlap {args.overlap}"
        parser.error(f"{tiles}: an overlap is 0 to tile - 1")


def _predict(
    args: Namespace, predictor: Predictor, outputs: Outputs, skipped: list[UserError]
) -> int:
    """Predict on all files, and write what was predicted also if that ends before its time."""
    count = 0
    has_videos = any(map(is_video, outputs.files))
    progress = ProgressBar(0 if has_videos else len(outputs.files), file=sys.stderr)
    inputs = read_inputs(outputs.files, predictor.loader)
    try:
        while batch := list(islice(inputs, args.batch_size)):
            images = [item for item in batch if isinstance(item, InputImage)]
            skipped += [item for item in batch if isinstance(item, UserError)]
            for image, prediction in _predictions(predictor, images, skipped):
                if isinstance(prediction, Detections):
                    prediction = prediction.above(args.score_thr)
                try:
                    outputs.write(image, prediction)
                    count += 1
                except OSError:  # other images fail too
                    raise
                except Exception as error:  # such as a picture that is too large for the memory
                    skipped.append(_of_image(image, error))
            progress.update(len(batch))
    except KeyboardInterrupt:
        skipped.append(UserError("all that follows: stopped"))
    finally:
        outputs.finish()
        print(file=sys.stderr)
        exit_code = _summarize(count, skipped)
        if count:
            print(f"written to {args.out}")
    return exit_code


def _predict_parts(
    args: Namespace, predictor: Predictor, outputs: Outputs, skipped: list[UserError]
) -> int:
    """Predict on all files, of any size, one after the other."""
    way = choose_way(predictor, **_given(args, *_OF_WAYS))
    print(way, flush=True)
    options = _given(args, *_OF_RASTERS, "batch_size", "score_thr")
    count, damage = 0, []
    try:
        for file, name in output_names(outputs.files).items():
            try:
                damage += predict_raster(predictor, outputs, file, name, way, **options)
                count += not args.plan
            except OSError:  # of results
                raise
            except Exception as error:  # models and decoders have many ways not to take an image
                told = str(error) if isinstance(error, UserError) else in_one_line(error)
                skipped.append(UserError(told if str(file) in told else f"{file}: {told}"))
    except KeyboardInterrupt:
        skipped.append(UserError("all that follows: stopped"))
    finally:
        outputs.finish()
        exit_code = _summarize(count, skipped)
        for error in damage:
            print(f"  damaged, so nodata: {error}")
        if count:
            print(f"written to {args.out}")
    return exit_code or (3 if damage else 0)


def _predictions(
    predictor: Predictor, images: Sequence[InputImage], skipped: list[UserError]
) -> list[tuple[InputImage, Prediction]]:
    """Images with their predictions, but for those that end with an error, which is skipped."""
    try:
        pixels = [image.pixels for image in images]
        return list(zip(images, predictor.predict_batch(pixels), strict=True))
    except Exception as error:  # models and pipelines have many ways not to take an image
        if len(images) == 1:
            skipped.append(_of_image(images[0], error))
            return []
        # find out whose fault it is
        return [pair for image in images for pair in _predictions(predictor, [image], skipped)]


def _of_image(image: InputImage, error: Exception) -> UserError:
    return UserError(f"{image.source}: {in_one_line(error)}")


def _summarize(images: int, skipped: Sequence[UserError]) -> int:
    print(f"{images} images predicted, {len(skipped)} inputs skipped")
    for error in skipped:
        print(f"  skipped {error}")
    return 1 if skipped else 0
