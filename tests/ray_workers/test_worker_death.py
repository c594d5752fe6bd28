"""Why a worker died, from what Ray 2.5x says of it."""

from __future__ import annotations

import pytest
from prefect_hone.ray_workers.worker_death import cause_of_death
from ray.exceptions import OutOfMemoryError, RayActorError, WorkerCrashedError

#: What Ray says of an actor whose process was killed by SIGKILL, or by anything else.
SILENT = (
    """The actor died unexpectedly before finishing this task.
	class_name: _Worker
	pid: 7521
The actor is dead because its worker process has died. Worker exit type: SYSTEM_ERROR Worker exit
detail: Worker unexpectedly exits with a connection error code 2. End of file. Some common causes
include: (1) the process was killed by the OOM killer due to high memory usage, (2) ray stop --force
was called, or (3) the worker crashed unexpectedly due to SIGSEGV or another unexpected error.
""".replace("\ndetail", " detail")
    .replace("causes\n", "causes ")
    .replace("--force\n", "--force ")
)
NODE = (
    "The actor died because its node has died. Node Id: 4f\n\tthe actor's node was terminated: ..."
)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (RayActorError(error_msg=NODE), "its node went away"),
        (RayActorError(error_msg=SILENT), "killed, out of memory, or a crash in native code"),
        (WorkerCrashedError(), "killed, out of memory, or a crash in native code"),
        (RuntimeError("The worker was ended by SIGABRT."), "SIGABRT"),
        (RuntimeError("The actor is temporarily unavailable"), "its process or node went away"),
        (OutOfMemoryError("Task was killed due to the node running low on memory. SIGKILL"),
         "the node ran out of memory"),
    ],
)  # fmt: skip
def test_the_cause_is_what_ray_knows_and_not_what_it_guesses(error: Exception, cause: str) -> None:
    assert cause_of_death(error) == cause
