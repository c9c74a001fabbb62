"""A hook that makes a resumed run end in the weights of a run that was never stopped."""

import logging
from typing import Any

from mmengine.dist import broadcast_object_list, get_rank
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop

from xcit_dense.mm.batch_stream import BatchStream, skip_batches
from xcit_dense.mm.random_streams import Purpose, seed_libraries
from xcit_dense.mm.resumable_sampler import (
    ResumableInfiniteSampler,
    ResumableSampler,
)

PLACE = "epoch_begun"  # in the message hub, and with it in checkpoints


@HOOKS.register_module()
class RepeatableTrainingHook(Hook):
    """Makes an iteration depend on the seed and its number, not on the history of the process.

    Before each iteration the global random generators are seeded from (seed, iteration, rank), so
    that drop path, dropout or sampled proposals come out the same after a resume, and validation
    in between has no say. A resumed run takes over the seed of its checkpoint, and goes on behind
    the last batch used, in the middle of an epoch too, without loading what came before.

    The data do the same with :class:`ResumableSampler` or :class:`ResumableInfiniteSampler`.
    """

    priority = "VERY_HIGH"

    def before_train(self, runner: Any) -> None:
        """Hand the seed of the run to the sampler, and lead a resumed run to its next batch."""
        seeds = [runner.seed]  # processes may have seeds of their own; that of the first counts
        broadcast_object_list(seeds)
        self._seed = seeds[0]
        sampler = getattr(runner.train_dataloader.batch_sampler, "sampler", None)
        if not isinstance(sampler, (ResumableSampler, ResumableInfiniteSampler)):
            print_log(
                f"the data of this run are not repeatable: {type(sampler).__name__} draws them, "
                "and a resumed run sees others. Use ResumableSampler or ResumableInfiniteSampler",
                logger="current",
                level=logging.WARNING,
            )
            return
        reseeded = sampler.seed != self._seed
        sampler.seed = self._seed
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            if reseeded or runner.iter > 0:
                self._continue_iterations(runner)
        else:
            self._continue_epoch(runner)

    def before_train_epoch(self, runner: Any) -> None:
        """Note at which iteration the epoch began."""
        if runner.message_hub.get_info(PLACE, {}).get("epoch") != runner.epoch:
            place = {"epoch": runner.epoch, "iteration": runner.iter}
            runner.message_hub.update_info(PLACE, place)

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Seed all that is random in the iteration."""
        seed_libraries(self._seed, Purpose.ITERATION, runner.iter, get_rank())

    def _continue_iterations(self, runner: Any) -> None:
        loop = runner.train_loop
        loop.dataloader, number = skip_batches(loop.dataloader, used=loop.iter, first_pass=0)
        # upstream's loop skips by calling next, the fork's by skip_iter
        skips_itself = not hasattr(loop.dataloader_iterator, "skip_iter")
        loop.dataloader_iterator = BatchStream(
            loop.dataloader, number, empty_steps=loop.iter if skips_itself else 0
        )

    def _continue_epoch(self, runner: Any) -> None:
        place = runner.message_hub.get_info(PLACE, {})
        used = runner.iter - place.get("iteration", 0)
        if place.get("epoch") == runner.epoch and used > 0:
            loop = runner.train_loop
            loop.dataloader, _ = skip_batches(loop.dataloader, used, first_pass=runner.epoch)
