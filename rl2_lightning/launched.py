"""Processes that another process of the run has started end with it."""

import ctypes
import os
import signal
import sys
from contextlib import suppress

from rl2_lightning.run_folder import rank_of_process

PARENT = "RL2_LIGHTNING_MAIN_PROCESS"
LAUNCHERS = ("TORCHELASTIC_RUN_ID", "SLURM_PROCID")  # variables of torchrun's and SLURM's ranks
PR_SET_PDEATHSIG = 1  # of <linux/prctl.h>


def end_with_parent() -> None:
    """Let a rank above 0 be killed when the process that has started it ends, on Linux.

    A rank that waits for others in native code handles no signal, and waits for half an hour. It
    writes no files that a kill could cut short. Ranks that a launcher such as torchrun has started
    end with the launcher.
    """
    if rank_of_process() == 0:
        os.environ[PARENT] = str(os.getpid())
        return
    with suppress(OSError, AttributeError):  # another system
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if any(name in os.environ for name in LAUNCHERS):
        return  # another process has started this one, and may have the variable from elsewhere
    started_by = os.environ.get(PARENT)
    if started_by is not None and int(started_by) != os.getppid():
        sys.exit(1)  # it ended before this process could ask to be killed
