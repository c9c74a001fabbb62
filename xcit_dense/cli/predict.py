"""Predicting on a user's own images: the command line of ``tools/predict.py``."""

import errno
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.utils import ProgressBar

from xcit_dense.cli.predict_options import check_options, make_parser
from xcit_dense.cli.stopping import INTERRUPTED, exit_on_sigterm
from xcit_dense.errors import UserError, in_one_line
from xcit_dense.mm.config import read_config
from xcit_dense.predict import Detections, Prediction, Predictor
from xcit_dense.predict.batches import predict_files
from xcit_dense.predict.reading.input_files import Skipped, find_files
from xcit_dense.predict.reading.inputs import InputImage, count_images
from xcit_dense.predict.writing.coco_numbers import AnnotatedNumbers
from xcit_dense.predict.writing.outputs import Outputs, folders_of_results

ALL_PREDICTED, NOTHING_PREDICTED, SOME_SKIPPED = 0, 1, 3

# An image's name has no place where its results should go; others' have.
_ERRORS_OF_A_NAME = {errno.ENAMETOOLONG, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}


def main(argv: list[str] | None = None) -> int:
    """Predict as the arguments say (``sys.argv`` if None).

    Returns:
        The exit code.

    Raises:
        FileNotFoundError: there is no such config, checkpoint or file of annotations.
        UserError: the config is unusable.
        UserError: the checkpoint is unusable or does not fit the config.
        UserError: the annotations are unusable, or results cannot be written.
        SystemExit: the command line is wrong, or the process was told to end.
    """
    parser = make_parser()
    args = parser.parse_args(argv)
    check_options(parser, args)
    cfg = read_config(args.config, args.cfg_options)
    files, skipped = find_files(args.inputs, folders_of_results(args.out))
    _refuse_to_overwrite(parser, files, args.out)
    if not files:
        _summarize(0, skipped)
        return NOTHING_PREDICTED
    try:
        with exit_on_sigterm():
            return _predict(args, cfg, files, skipped)
    except KeyboardInterrupt:
        return INTERRUPTED


def _refuse_to_overwrite(parser: ArgumentParser, files: Sequence[Path], out: Path) -> None:
    folders = [Path(os.path.realpath(folder)) for folder in folders_of_results(out)]
    for file in files:
        if any(folder in Path(os.path.realpath(file)).parents for folder in folders):
            parser.error(f"--out {out}: the input {file} lies where results go and could be lost")


def _predict(args: Namespace, cfg: Config, files: Sequence[Path], skipped: list[Skipped]) -> int:
    predictor = _make_predictor(args, cfg)
    outputs = _make_outputs(args, predictor)
    progress = ProgressBar(count_images(files), file=sys.stderr)
    try:
        with outputs:
            for outcome in predict_files(predictor, files, args.batch_size):
                if not isinstance(outcome, Skipped):
                    outcome = _write(outputs, *outcome, args.score_thr)
                if outcome:
                    skipped.append(outcome)
                progress.update()
    except OSError as error:
        raise UserError(f"--out {args.out}: {error.strerror or error}") from error
    finally:
        print(file=sys.stderr)
        _summarize(outputs.images, skipped)
        if outputs.written:
            print(f"written to {args.out}: {', '.join(sorted(outputs.written))}")
    if not outputs.images:
        return NOTHING_PREDICTED
    return SOME_SKIPPED if skipped else ALL_PREDICTED


def _make_predictor(args: Namespace, cfg: Config) -> Predictor:
    try:
        return Predictor(cfg, args.checkpoint, args.device)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"config {args.config}: {error}") from error


def _make_outputs(args: Namespace, predictor: Predictor) -> Outputs:
    numbers = None
    if args.annotations:
        try:
            numbers = AnnotatedNumbers(args.annotations, predictor.categories.names)
        except UserError as error:
            raise UserError(f"--annotations {error}") from error
    return Outputs(
        args.out,
        predictor.categories,
        with_pictures=not args.no_pictures,
        longest_side=args.max_side or None,
        numbers=numbers,
    )


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
    except OSError as error:
        if error.errno not in _ERRORS_OF_A_NAME:
            raise
        return Skipped(image.source, f"its results cannot be written ({error.strerror})")
    except Exception as error:  # one picture that cannot be drawn does not end the run
        return Skipped(image.source, in_one_line(error))
    return None


def _summarize(images: int, skipped: Sequence[Skipped]) -> None:
    print(f"{images} images predicted, {len(skipped)} inputs skipped")
    for item in skipped:
        print(f"  skipped {item}")
