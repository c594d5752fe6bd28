"""What people do in Prefect's and MLflow's pages, in headless Chromium on real servers.

A schedule fires by itself; a run is started by filling in the form; its promotion is approved in a
form; MLflow shows the versions, their aliases and tags.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (apt install chromium)"),
]


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Any]:
    """A page of a headless browser; its screenshots lie in the test's folder."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        page = browser.new_page(viewport={"width": 1300, "height": 1400})
        page.set_default_timeout(60_000)
        yield page
        browser.close()


class Prefect:
    """A Prefect server as its API tells of it."""

    def __init__(self, root: str) -> None:
        self.root = root

    def __call__(self, path: str, body: Any = None) -> Any:
        content = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"{self.root}/api{path}", content, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            said = answer.read()
        return json.loads(said) if said else None

    def deployment(self, name: str, within: float = 60) -> str:
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            try:
                return str(self(f"/deployments/name/{name}")["id"])
            except urllib.error.HTTPError:
                time.sleep(0.5)
        pytest.fail(f"there is no deployment {name}")

    def why(self, run: dict[str, Any]) -> str:
        """The message of a run's state, and what it logged."""
        chosen = {"logs": {"flow_run_id": {"any_": [run["id"]]}}, "sort": "TIMESTAMP_ASC"}
        logged = [line["message"] for line in self("/logs/filter", chosen)]
        return "\n".join([str(run["state"].get("message")), *logged])

    def ended(self, deployment: str, within: float = 600) -> dict[str, Any]:
        """The first run of a deployment that has ended."""
        deadline = time.monotonic() + within
        runs: list[dict[str, Any]] = []
        while time.monotonic() < deadline:
            chosen = {"deployments": {"id": {"any_": [deployment]}}, "sort": "START_TIME_ASC"}
            runs = self("/flow_runs/filter", chosen)
            for run in runs:
                if run["state_type"] in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
                    return run
            time.sleep(1)
        pytest.fail(f"no run ended: {[(r['name'], r['state_name']) for r in runs]}")


def test_schedule_form_approval_and_the_registrys_page(
    hone, project: Path, prefect_server, mlflow_server, page: Any, tmp_path: Path
) -> None:
    root = prefect_server.url.removesuffix("/api/health")
    tracking = mlflow_server.url.removesuffix("/health")
    prefect = Prefect(root)
    recipe = str(project / "recipe.yaml")
    serving = hone.start(
        "serve", recipe, "--cron", "* * * * *", "--set", "variants=[{name: fp32}]",
        PREFECT_API_URL=f"{root}/api", MLFLOW_TRACKING_URI=tracking,
        HONE_ALLOWED_PATHS=str(project),
    )  # fmt: skip
    hone.wait_for(serving, "See them")

    # Nobody does anything: the schedule fires.
    scheduled = prefect.deployment("accelerate/wine")
    first = prefect.ended(scheduled)
    prefect(f"/deployments/{scheduled}/pause_deployment", {})
    assert (first["state_name"], first["auto_scheduled"]) == ("Completed", True), prefect.why(first)
    client = mlflow.MlflowClient(tracking, registry_uri=tracking)
    assert client.get_model_version_by_alias("wine", "champion").version == "1"

    # A person fills in the form: another recipe, with nothing to compute anew.
    stricter = "gates=[{metric: size.bytes, at_most: 9999}]"
    by_hand = prefect.deployment("accelerate/hone")
    page.goto(f"{root}/v2/deployments/deployment/{by_hand}/run")
    page.get_by_label("recipe").fill(recipe)
    page.get_by_role("button", name="Add item").first.click()
    page.get_by_role("textbox").nth(2).fill(stricter)
    page.get_by_label("promotion").click()
    page.get_by_role("option", name="approve").click()
    page.screenshot(path=tmp_path / "form.png")
    page.get_by_role("button", name="Submit").click()
    second = prefect.ended(by_hand)
    assert second["state_name"] == "AwaitingApproval", prefect.why(second)
    assert second["parameters"]["overrides"] == [stricter]
    assert client.get_model_version_by_alias("wine", "champion").version == "1"
    page.goto(f"{root}/v2/runs/flow-run/{second['id']}?tab=Artifacts")
    page.get_by_text("wine-candidates").first.wait_for()
    page.screenshot(path=tmp_path / "run.png")

    # The person looks at the table, and approves.
    waiting = client.get_model_version("wine", "2")
    assert waiting.tags["hone.approval"] == "requested"
    approving = prefect.deployment("promote/hone")
    page.goto(f"{root}/v2/deployments/deployment/{approving}/run")
    page.get_by_label("model", exact=True).fill("wine")
    page.get_by_label("version", exact=True).fill("2")
    page.get_by_label("reason", exact=True).fill("the same files, a stricter gate")
    page.screenshot(path=tmp_path / "approval.png")
    page.get_by_role("button", name="Submit").click()
    third = prefect.ended(approving)
    assert third["state_type"] == "COMPLETED", third["state"]
    assert "approval by" in third["state"]["message"]
    assert client.get_model_version_by_alias("wine", "champion").version == "2"

    # MLflow's pages tell the same.
    page.goto(f"{tracking}/#/models/wine/versions/2")
    page.get_by_text("hone.candidate").first.wait_for()
    page.get_by_text("champion").first.wait_for()
    page.screenshot(path=tmp_path / "version.png")
    run = waiting.tags["hone.parent_run"]
    experiment = client.get_run(run).info.experiment_id
    page.goto(f"{tracking}/#/experiments/{experiment}/runs/{run}")
    page.get_by_text("fp32@onnxruntime-cpu").first.wait_for()
    page.screenshot(path=tmp_path / "mlflow-run.png")

    changes = hone.json("history", "wine", MLFLOW_TRACKING_URI=tracking)["changes"]
    assert [(c["from"], c["to"], c["action"]) for c in changes] == [
        (None, "1", "promote"),
        ("1", "2", "approval"),
    ]
    assert changes[-1]["why"] == "the same files, a stricter gate"
