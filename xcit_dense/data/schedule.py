"""How long and how fast to train, by the recipes of the XCiT paper's release."""

import math
from typing import Any, NamedTuple

from xcit_dense.data.new_config import Request
from xcit_dense.errors import UserError, counted


class Recipe(NamedTuple):
    """A schedule for 16 images a step.

    Attributes:
        rate: the learning rate, of AdamW, for pretrained weights.
        warm_up: steps in which it grows to that.
        epochs: how often every image is seen.
        images: how many are seen at least; small data sets are seen more often.
    """

    rate: float
    warm_up: int
    epochs: int
    images: int = 0


DETECTION = Recipe(rate=1e-4, warm_up=500, epochs=36, images=24_000)
SEGMENTATION = Recipe(rate=6e-5, warm_up=1500, epochs=100)
_BASE_BATCH_SIZE, _STEPS, _LOG_INTERVAL = 16, (27 / 36, 33 / 36), 50
_MOST_EPOCHS, _MOST_EVALUATIONS = 300, 36
_OF_RANDOM_WEIGHTS = 10  # times the rate: they have nothing to lose


def propose_schedule(
    recipe: Recipe, num_images: int, request: Request, notes: list[str]
) -> dict[str, Any]:
    """A schedule for a training of ``num_images``; ``notes`` gets it in words.

    The rate is that of the recipe times the whole batch over the recipe's 16 images, and ten times
    that for a backbone that starts from random weights.

    Returns:
        Values for templates: images of a step (``batch_size``), ``epochs``, steps of an epoch
        (``iterations``), learning ``rate``, steps of the ``warm_up``, epochs after which a detector
        learns at a tenth of the rate (``steps``), epochs between evaluated checkpoints
        (``interval``), steps between lines of the log (``log_interval``).

    Raises:
        UserError: the batch is larger than the data set.
    """
    batch_size = request.batch_size * request.gpus
    if batch_size > num_images:
        raise UserError(
            f"a batch of {counted(batch_size, 'image')} is more than the "
            f"{num_images} that can be trained on: lower --batch-size or --gpus"
        )
    proposed = min(max(recipe.epochs, math.ceil(recipe.images / num_images)), _MOST_EPOCHS)
    epochs = request.epochs or proposed
    iterations = math.ceil(math.ceil(num_images / request.gpus) / request.batch_size)
    rate = recipe.rate * batch_size / _BASE_BATCH_SIZE
    if not request.pretrained:
        rate *= _OF_RANDOM_WEIGHTS
    # the last epoch is evaluated only if the interval divides it
    least = math.ceil(epochs / _MOST_EVALUATIONS)
    schedule = dict(
        batch_size=batch_size,
        epochs=epochs,
        iterations=iterations,
        rate=float(f"{rate:.6g}"),
        # mmengine's warm-up of a single step would never end
        warm_up=max(min(recipe.warm_up, iterations * epochs // 10), 2),
        steps=sorted({round(share * epochs) for share in _STEPS} - {0, epochs}),
        interval=min(range(least, max(least, epochs // 12) + 1), key=lambda i: epochs % i),
        log_interval=min(_LOG_INTERVAL, iterations),
    )
    why = "" if request.pretrained else f", and {_OF_RANDOM_WEIGHTS} times that for random weights"
    notes.append(
        f"schedule: {counted(epochs, 'epoch')} of {counted(iterations, 'step')} with "
        f"{counted(batch_size, 'image')}; learning rate "
        f"{schedule['rate']:g}, the recipe's {recipe.rate:g} for {_BASE_BATCH_SIZE} images{why}; "
        f"warm-up of {schedule['warm_up']} steps; evaluated and saved at every epoch divisible by "
        f"{schedule['interval']}"
    )
    return schedule
