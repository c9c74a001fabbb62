"""Predicting on a user's own images: the command line of ``tools/predict.py``."""

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import torch
from mmengine.utils import ProgressBar

from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config import CONFIG_HELP, add_config_changes, read_config
from xcit_dense.predict import Detections, Prediction, Predictor
from xcit_dense.predict.inputs import InputImage, find_files, is_video, read_inputs
from xcit_dense.predict.outputs import Annotations, Outputs, folders_of_results


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(
        description="Predict on images with a trained detector or segmentor. Writes pictures and, "
        "for detection, predictions.json in COCO's format, for segmentation, label maps.",
        epilog="Exit code: 0 if all inputs were predicted, 1 if any was not, 2 for a wrong command "
        "line. A run that is stopped leaves what was predicted.",
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
        "--max-side", type=int, default=1600, help="largest side of pictures, 0 for any (1600)"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write the results only")
    parser.add_argument(
        "--annotations", type=Path, metavar="FILE", help="in COCO's format: numbers for the JSON"
    )
    add_config_changes(parser)
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
        longest_side=args.max_side or None,
    )
    if annotations:
        reason = f"not in {args.annotations}, so left out of predictions.json"
        unknown = (file for file in files if file not in annotations.images)
        skipped += [UserError(f"{file}: {reason}") for file in unknown]
    return _predict(args, predictor, outputs, skipped)


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
    args.out.mkdir(parents=True, exist_ok=True)


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
