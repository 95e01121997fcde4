"""Starting alone or as one of several processes, under accelerate launch or torchrun."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from stores.command import say
from stores.errors import OptionError, SpectraBridgeError

if TYPE_CHECKING:
    from accelerate import PartialState

Result = TypeVar("Result")

SIZES = ("WORLD_SIZE", "PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # where accelerate looks
LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")  # accelerate launch and torchrun always set these
PATIENCE = timedelta(days=7)  # one process may have hours more to do than another


def started_alone() -> bool:
    """Whether no launcher says that there are other processes."""
    return all(os.environ.get(name, "1") == "1" for name in SIZES)


def join_processes(*, cpu: bool = False) -> PartialState:
    """This process among those that were launched together; says so where a launch is not what it seems.

    cpu: stay on the CPU even where there is a GPU
    """
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    # PartialState alone would not look at the launcher's variable
    state = PartialState(cpu=cpu or parse_flag_from_env("ACCELERATE_USE_CPU"), timeout=PATIENCE)
    wanted = int(os.environ.get("WORLD_SIZE", "1"))
    if wanted > state.num_processes:
        raise OptionError(
            f"{wanted} processes were started but do not know of each other; on CPU set ACCELERATE_USE_CPU=true "
            "before torchrun."
        )
    cores = os.cpu_count() or 1
    alone = state.num_processes == 1 and state.device.type == "cpu"
    # without a launcher the user has set it, and knows
    launched = any(name in os.environ for name in LAUNCHERS)
    if alone and launched and cores > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        say(
            f"note: running on one of {cores} cores, for the launcher gives OMP_NUM_THREADS=1; set "
            f"OMP_NUM_THREADS={cores} before it to use all."
        )
    return state


def main_first(state: PartialState, action: Callable[[], Result]) -> Result | None:
    """What the main process made while the others waited, None for them; where it fails, it says why and all end."""
    result = None
    status = [int(state.is_main_process)]  # until it is done
    try:
        if state.is_main_process:
            result = action()
            status = [0]
    except SpectraBridgeError as error:
        status = [error.exit_status]
        raise
    finally:
        if state.num_processes > 1:
            from accelerate.utils import broadcast_object_list

            broadcast_object_list(status)
    if status[0]:
        sys.exit(status[0])
    return result


def leave_processes() -> None:
    """End the group of processes, if there is one."""
    import torch.distributed

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
