"""Predicting on a user's own images: the command line of ``tools/predict.py``."""

import signal
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import torch
from mmengine.utils import ProgressBar

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config_files import add_config_changes, read_config
from xcit_dense.predict import Detections, Prediction, Predictor
from xcit_dense.predict.inputs import InputImage, Skipped, find_files, is_video, read_inputs
from xcit_dense.predict.outputs import Annotations, Outputs, folders_of_results

ALL_PREDICTED, SOME_NOT = 0, 1


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Predict on images with a trained detector or segmentor. Writes pictures and, "
        "for detection, predictions.json in COCO's format, for segmentation, label maps.",
        epilog="Exit code: 0 if all inputs were predicted, 1 if any was not, 2 for a wrong command "
        "line. A run that is stopped leaves what was predicted.",
    )
    parser.add_argument("config", help="path of the config")
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
        default=1600,
        metavar="PIXELS",
        help="largest height or width of the pictures, 0 for that of the images (1600)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="write the results only")
    parser.add_argument(
        "--annotations",
        type=Path,
        metavar="FILE",
        help="number categories and images in predictions.json as this file in COCO's format does",
    )
    add_config_changes(parser)
    return parser


def main(argv: list[str] | None = None) -> int:
    """Predict as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        UserError: the config, the checkpoint or the annotations are unusable, or results cannot be
            written.
        SystemExit: the command line is wrong.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    _check_options(parser, args)
    cfg = read_config(args.config, args.cfg_options)
    files, skipped = find_files(args.inputs, folders_of_results(args.out))
    for file in files:
        if any(folder.absolute() in file.parents for folder in folders_of_results(args.out)):
            parser.error(f"--out {args.out}: the input {file} lies where results go")
    if not files:
        _summarize(0, skipped)
        return SOME_NOT
    annotations = Annotations(args.annotations, files) if args.annotations else None
    predictor = Predictor(cfg, args.checkpoint, args.device, args.amp)
    outputs = Outputs(
        args.out,
        predictor.categories,
        files,
        with_pictures=not args.no_pictures,
        longest_side=args.max_side or None,
        annotations=annotations,
    )
    if annotations:
        reason = f"not an image of {args.annotations}: left out of predictions.json"
        unknown = (file for file in files if file not in annotations.images)
        skipped += [Skipped(str(file), reason) for file in unknown]
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    try:
        return _predict(args, predictor, outputs, files, skipped)
    except OSError as error:
        raise UserError(f"--out {args.out}: {error.strerror or error}") from error
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_options(parser: ArgumentParser, args: Namespace) -> None:
    if args.batch_size < 1:
        parser.error(f"--batch-size {args.batch_size}: at least 1")
    if args.max_side < 0:
        parser.error(f"--max-side {args.max_side}: at least 0")
    if not 0 <= args.score_thr <= 1:
        parser.error(f"--score-thr {args.score_thr}: scores go from 0 to 1")
    try:
        torch.empty(1, device=args.device).item()
    except (RuntimeError, AssertionError, ImportError) as error:  # as torch's backends do
        parser.error(f"--device {args.device}: {str(error).splitlines()[0]}")
    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out {args.out}: {error.strerror}")


def _predict(
    args: Namespace,
    predictor: Predictor,
    outputs: Outputs,
    files: Sequence[Path],
    skipped: list[Skipped],
) -> int:
    """Predict on all files, and write what was predicted also if that ends before its time."""
    count = 0
    of_unknown_length = any(map(is_video, files))
    progress = ProgressBar(0 if of_unknown_length else len(files), file=sys.stderr)
    try:
        for outcome in _outcomes(predictor, files, args.batch_size):
            if not isinstance(outcome, Skipped):
                outcome = _write(outputs, *outcome, args.score_thr)
            if outcome:
                skipped.append(outcome)
            count += not outcome
            progress.update()
    except KeyboardInterrupt:
        skipped.append(Skipped("the inputs after these", "stopped"))
    finally:
        outputs.finish()
        print(file=sys.stderr)
        _summarize(count, skipped)
        if outputs.written:
            print(f"written to {args.out}: {', '.join(sorted(outputs.written))}")
    return SOME_NOT if skipped else ALL_PREDICTED


def _outcomes(
    predictor: Predictor, files: Sequence[Path], batch_size: int
) -> Iterator[tuple[InputImage, Prediction] | Skipped]:
    """For each image, or frame of a video, its prediction, or why there is none."""
    inputs = read_inputs(files, predictor.loader)
    while batch := list(islice(inputs, batch_size)):
        yield from (item for item in batch if isinstance(item, Skipped))
        images = [item for item in batch if isinstance(item, InputImage)]
        try:
            predictions = predictor.predict_batch([image.pixels for image in images])
            yield from zip(images, predictions, strict=True)
        except Exception:  # models and pipelines have many ways not to take an image
            yield from (_predict_alone(predictor, image) for image in images)


def _predict_alone(
    predictor: Predictor, image: InputImage
) -> tuple[InputImage, Prediction] | Skipped:
    try:
        return image, predictor.predict_batch([image.pixels])[0]
    except Exception as error:
        return Skipped(image.source, in_one_line(error))


def _write(
    outputs: Outputs, image: InputImage, prediction: Prediction, least_score: float
) -> Skipped | None:
    """Write the results of an image, or say why it is skipped.

    Raises:
        OSError: no results can be written.
    """
    if isinstance(prediction, Detections):
        prediction = prediction.above(least_score)
    try:
        outputs.write(image, prediction)
    except OSError:
        raise
    except Exception as error:  # one picture that cannot be drawn does not end the run
        return Skipped(image.source, in_one_line(error))
    return None


def _summarize(images: int, skipped: Sequence[Skipped]) -> None:
    print(f"{images} images predicted, {len(skipped)} inputs skipped")
    for item in skipped:
        print(f"  skipped {item.source}: {item.reason}")
