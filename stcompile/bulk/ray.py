"""The engine of a cluster: Ray Data carries the names of shards to actors, which do the rest.

Ray's order, split and retries do not matter: what is done is what the journal says. Rows never pass through Ray.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from stcompile.bulk.plan import Shard
from stcompile.bulk.report import Progress, Watcher
from stcompile.bulk.worker import Opening, Worker
from stcompile.errors import StcompileError
from stcompile.extras import require
from stcompile.runtime.device import CPU

if TYPE_CHECKING:
    from stcompile.bulk.job import Engine

# A cluster on a loaded machine may not be up in time; then it is at the second or third try.
_TRIES = 3

# An actor that dies so often dies of the work.
_RESTARTS = 5


class ShardActor:
    """One encoder of a Ray actor, and the shards it is given.

    Args:
        opening: of its worker.
    """

    def __init__(self, opening: Opening) -> None:
        self._worker = Worker(opening)

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Does the shards of a batch, of which there is one."""
        columns = (batch[name].tolist() for name in _COLUMNS)
        found = [self._worker.run(Shard(*values)) for values in zip(*columns, strict=True)]
        return {"rows": [rows for rows, _ in found], "tokens": [tokens for _, tokens in found]}


# Of Ray: tasks that it looks after at a time. A block of several shards is one task, which finds those that are done.
_MOST_BLOCKS = 4096

_COLUMNS = ("name", "file", "start", "stop", "offset")


def on_ray(opening: Opening, engine: Engine, todo: Sequence[Shard], progress: Progress, watch: Watcher) -> None:
    """Does shards as a pipeline of Ray Data.

    Args:
        opening: of each actor; on a cluster its addresses are such that all nodes reach.
        engine: its address, actors, and the device and threads of each.
        todo, progress, watch: as of the engine of one machine.

    Raises:
        MissingExtraError: Ray is not installed.
        StcompileError: it cannot be reached, or its actors die. What is done stays done.
    """
    ray = require("ray", "The engine ray")
    data = require("ray.data", "The engine ray")
    began_here = not ray.is_initialized()
    if began_here:
        _connect(ray, engine.address)
    try:
        context = data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        on_gpu = engine.device != CPU
        threads = engine.threads or (None if on_gpu else _threads(ray))
        items = [{name: getattr(shard, name) for name in _COLUMNS} for shard in todo]
        # Of how restarts are capped, for which there is no other way yet.
        warnings.filterwarnings("ignore", message="`ray_remote_args` is deprecated")
        found = data.from_items(items, override_num_blocks=min(len(items), _MOST_BLOCKS)).map_batches(
            ShardActor,
            fn_constructor_args=(replace(opening, threads=threads),),
            batch_size=1,
            compute=data.ActorPoolStrategy(
                min_size=engine.workers or 1, max_size=engine.most_workers or engine.workers
            ),
            num_cpus=0 if on_gpu else threads,
            num_gpus=1 if on_gpu else 0,
            max_restarts=_RESTARTS,
        )
        for row in found.iter_rows():
            progress.done += row["rows"]
            progress.tokens += row["tokens"]
            watch(progress)
            if watch.wants_stop():
                break
    except ray.exceptions.RayError as error:
        raise StcompileError(
            f"Ray ended before the work did ({_first_line(error)}): what is done is kept, the same command goes on"
        ) from error
    finally:
        if began_here:
            ray.shutdown()


def _connect(ray: Any, address: str | None) -> None:
    """Joins a cluster, or starts one of this machine.

    Raises:
        StcompileError: there is none at the address.
    """
    for attempt in range(_TRIES):
        try:
            ray.init(
                address, include_dashboard=None if address else False, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, ray.exceptions.RayError, RuntimeError) as error:
            ray.shutdown()
            if attempt == _TRIES - 1:
                where = f"at {address}" if address else "on this machine"
                raise StcompileError(f"there is no Ray cluster {where} ({_first_line(error)})") from error
        else:
            return


def _threads(ray: Any) -> int:
    """Those of the smallest machine that has any: an engine's threads share its weights, actors do not."""
    found = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    return min((cpus for cpus in found if cpus), default=1)


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:200]
