"""Names in MLflow: tags, prefixes of metrics, files, runs.

The next version of Hone and users' own queries read them: adding a name is free, changing one
breaks somebody.
"""

from __future__ import annotations

from ...runtimes.registered_version import DIGEST_TAG

#: Hone's names of runs, before MLflow has returned an id. Candidates use their own name.
PARENT = "parent"
TRAINING = "train"

# What a run is, and where it comes from.
KIND = "hone.kind"
RECIPE = "hone.recipe"
RECIPE_DIGEST = "hone.recipe_digest"
VERSION = "hone.version"
SOURCE_COMMIT = "hone.source_commit"
FLOW_RUN = "hone.flow_run_id"
PARENT_RUN = "hone.parent_run"

# Of a candidate, its model, and the version that it becomes.
CANDIDATE = "hone.candidate"
VARIANT = "hone.variant"
TARGET = "hone.target"
STATUS = "hone.status"
ERROR = "hone.error"
SHA256 = "hone.sha256"
VERDICT = "hone.verdict"
#: On a candidate whose quality is too good to be believed: why.
SUSPICIOUS = "hone.suspicious"
#: Of all files of a logged model, and of the version that it becomes.
DIGEST = DIGEST_TAG
#: Of an entry of the ledger: its content. Of a version: the intent that it was last moved by.
LEDGER = "hone.ledger"
INTENT = "hone.intent"
#: On a version whose files are not those that were measured: which.
TAMPERED = "hone.tampered"
#: On a version that was copied: from which server and version.
COPIED_FROM = "hone.copied_from"

# Of a version whose alias has not moved: what a promotion would do, or that one is asked for.
DRY_RUN = "hone.dry_run"
APPROVAL = "hone.approval"
APPROVAL_REQUEST = "hone.approval_request"

# Of what came of a run.
WINNER = "hone.winner"
CHAMPION = "hone.champion"
CHAMPION_VERSION = "hone.champion_version"
WHY = "hone.why"
#: Whose gates: recipe, default or none.
GATES = "hone.gates"
#: The version that was the champion when a run compared with it; none: there was none.
COMPARED_WITH = "hone.compared_with"

# Of the process that a run belongs to.
OWNER = "hone.owner"
HEARTBEAT = "hone.heartbeat"
ENDED = "hone.ended"

# MLflow's own.
MLFLOW_PARENT = "mlflow.parentRunId"
MLFLOW_NOTE = "mlflow.note.content"
MLFLOW_SOURCE = "mlflow.source.name"
MLFLOW_CONTEXT = "mlflow.data.context"


def gate_tag(measure: str) -> str:
    """The tag that says whether a candidate passed a gate (`latency.p50_ms (batch 32)`)."""
    return f"hone.gate.{measure}".replace("(", "").replace(")", "")


def computed_in(step: str) -> str:
    """The tag with the run that a cached step was computed in."""
    return f"hone.{step}_computed_in"


def of_champion(metric: str) -> str:
    """A metric of the champion, in the parent run."""
    return f"champion/{metric}"


def of_todays_champion(metric: str) -> str:
    """A metric of the champion before a run, measured in it again, in the parent run."""
    return f"champion_before/{metric}"


def of_baseline(metric: str) -> str:
    """A metric of the baseline, in the parent run."""
    return f"baseline/{metric}"
