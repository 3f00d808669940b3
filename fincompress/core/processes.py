"""Training in several processes, each with a GPU or a share of the cores.

`FINCOMPRESS_PROCESSES=2 dvc repro` starts every training stage in two processes; torchrun does the same by hand. Each
takes its share of every batch, so batches stay as large as params.yaml says, and DistributedDataParallel averages the
gradients (Li et al. 2020, arXiv:2006.15704). Otherwise all compute the same, and only the main process writes.
"""

import logging
import os
import signal
import sys
from datetime import timedelta

from fincompress.core.errors import InputError
from fincompress.core.threads import usable_cores

VARIABLE = "FINCOMPRESS_PROCESSES"
_PATIENCE = timedelta(hours=24)  # the others wait while the main process runs a teacher over all texts
_joined = False


def processes() -> int:
    """How many processes train together, including this one; 1 unless it has joined others."""
    return int(os.environ["WORLD_SIZE"]) if _joined else 1


def is_main() -> bool:
    """Whether this process is the one that writes."""
    return not _joined or os.environ["RANK"] == "0"


def is_member() -> bool:
    """Whether this process was started by torchrun."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def wanted() -> int:
    """How many processes the environment asks for.

    Raises:
        InputError: it is not a number of processes, or there are GPUs, but fewer than that.
    """
    value = os.environ.get(VARIABLE, "1")
    if not value.isdecimal() or int(value) < 1:
        raise InputError(f"{VARIABLE}: `{value}` is not a number of processes; unset it, or set it to 1 or more")
    if int(value) > 1:  # asking torch fixes which GPUs a process sees, before `stage` hides all but one
        import torch

        if torch.cuda.is_available() and int(value) > torch.cuda.device_count():
            raise InputError(f"{VARIABLE}: {value} is more than the {torch.cuda.device_count()} GPUs here")
    return int(value)


def launch(count: int, module: str, arguments: list[str]) -> int:
    """Run `python -m module arguments` in `count` processes on this machine; returns the exit code of one that failed.

    They share the cores, unless OMP_NUM_THREADS says how many each has.

    Raises:
        KeyboardInterrupt: Ctrl-C ended them.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import main as torchrun

    logging.disable()  # a failed process has already said what is wrong
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, usable_cores() // count)))
    try:
        torchrun(["--standalone", "--nproc-per-node", str(count), "--module", module, *arguments])
    except ChildFailedError as error:
        return error.get_first_failure()[1].exitcode
    except SignalException as ended:
        if ended.sigval == signal.SIGINT:
            raise KeyboardInterrupt from None
        return 128 + ended.sigval
    return 0


def join() -> None:
    """Join the processes that torchrun started with this one; from here on only the main one prints."""
    global _joined
    import torch
    from accelerate import PartialState

    PartialState(cpu=not torch.cuda.is_available(), timeout=_PATIENCE)
    _joined = True
    if not is_main():
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115


def leave() -> None:
    """Leave the other processes, if there are any."""
    global _joined
    if _joined:
        from torch.distributed import destroy_process_group

        destroy_process_group()
        _joined = False


def wait() -> None:
    """Wait for all processes, so that they see what the main one wrote."""
    if _joined:
        from torch.distributed import barrier

        barrier()


def agreed(value):
    """The main process's value, in every process: sums may differ in the last digit between GPUs."""
    if not _joined:
        return value
    from accelerate.utils import broadcast_object_list

    return broadcast_object_list([value])[0]
