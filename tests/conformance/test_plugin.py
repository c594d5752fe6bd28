"""A package of somebody else's goes through the same suites as Hone's own members, and through a run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prefect_hone import Data, HoneError, InputError, load_recipe
from prefect_hone.ray_workers.metrics import metric
from prefect_hone.recipe.factories import Allowed, use_code
from prefect_hone.testing.metrics import MetricCase, MetricTestSuite
from prefect_hone.testing.passes import PassCase, PassTestSuite
from prefect_hone.testing.samples import rows
from prefect_hone.testing.split_formats import SplitFormatCase, SplitFormatTestSuite
from prefect_hone.testing.targets import TargetCase, TargetTestSuite
from prefect_hone.testing.workshop import SAMPLES, Workshop

PLUGIN = Path(__file__).parents[1] / "plugin"
ROUNDED = {"kind": "import", "factory": "honeplug.passes:rounded", "works_on": "graph"}
CLIPPED = {"kind": "import", "factory": "honeplug.passes:clipped", "works_on": "module"}
MLP = {"kind": "import", "factory": "honeplug.targets.numpy_mlp", "takes": "graph"}
ELSEWHERE = {
    "kind": "import", "factory": "honeplug.targets.elsewhere:Elsewhere", "takes": "graph",
}  # fmt: skip


@pytest.fixture(scope="module")
def shared_workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("workshop"), code=PLUGIN)


def write_files(folder: Path, plain: Data) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name in ("train", "test"):
        split = getattr(plain, name)
        table = {"x": [x.tolist() for x, _ in split], "y": [int(y) for _, y in split]}
        pq.write_table(pa.table(table), folder / f"{name}.parquet")


class TestPass(PassTestSuite):
    @pytest.fixture(scope="class")
    def workshop(self, shared_workshop: Workshop) -> Workshop:
        return shared_workshop

    @pytest.fixture(params=["rounded", "clipped"])
    def case(self, request: pytest.FixtureRequest) -> PassCase:
        if request.param == "rounded":
            return PassCase(ROUNDED, 0.01, refused={**ROUNDED, "args": {"digits": 0}})
        return PassCase(CLIPPED, 0.9, refused=CLIPPED, refused_model=f"{SAMPLES}:no_layers")


class TestTarget(TargetTestSuite):
    @pytest.fixture(scope="class")
    def workshop(self, shared_workshop: Workshop) -> Workshop:
        return shared_workshop

    @pytest.fixture(params=["mlp", "elsewhere"])
    def case(self, request: pytest.FixtureRequest) -> TargetCase:
        asked = MLP if request.param == "mlp" else ELSEWHERE
        return TargetCase(
            asked,
            model=f"{SAMPLES}:perceptron",
            refused_model=f"{SAMPLES}:conv_net",
            said="Reshape",
        )


class TestMetric(MetricTestSuite):
    @pytest.fixture(params=["iou", "Iou"])
    def case(self, request: pytest.FixtureRequest) -> MetricCase:
        use_code(PLUGIN)
        found = metric(f"honeplug.metrics:{request.param}", Allowed.from_environment(PLUGIN))
        rng = np.random.default_rng(0)
        labels = rng.integers(0, 4, 100)
        right = np.eye(4, dtype=np.float32)[labels]
        outputs = (right + rng.normal(size=(100, 4))).astype(np.float32)
        share = float((outputs.argmax(1) == labels).mean())
        return MetricCase(found, True, outputs, labels, right, -right, share / (2 - share))


class TestSplitFormat(SplitFormatTestSuite):
    @pytest.fixture
    def case(self, tmp_path: Path) -> SplitFormatCase:
        use_code(PLUGIN)
        from honeplug.data import rows as in_files
        from honeplug.parquet import Parquet

        plain = rows()
        write_files(tmp_path, plain)
        data = in_files(str(tmp_path))
        refused = Data(train=data.train, test=data.test, inputs="z", target="y", format=Parquet())
        return SplitFormatCase(data, plain, refused)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("forgets", "the pass 'forgets' wrote no model.onnx into its output 'graph'"),
        ("breaks", "the pass 'breaks' raised KeyError: 'no such layer'"),
        ("rounde", "'honeplug.passes' has no 'rounde': did you mean 'rounded'?"),
    ],
)
def test_a_pass_that_is_none_is_named(shared_workshop: Workshop, name: str, said: str) -> None:
    asked = {**ROUNDED, "factory": f"honeplug.passes:{name}"}
    recipe = shared_workshop.recipe(variants=[{"name": "v", "passes": [asked]}])
    shared = shared_workshop.lay_out(recipe).candidates[0].shared
    step = next(step for step in shared if step.call.step.name == "compress")
    with pytest.raises(HoneError) as caught:
        step.run()
    assert said in str(caught.value)


def test_a_target_outside_the_allowed_prefixes_is_not_imported(tmp_path: Path) -> None:
    workshop = Workshop(tmp_path)
    recipe = workshop.recipe(targets=[{**MLP, "factory": "not_allowed.target"}])
    with pytest.raises(InputError, match="outside the allowed prefixes"):
        workshop.lay_out(recipe)


def test_a_served_model_of_a_target_of_ones_own_says_what_it_needs(
    shared_workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its package is not allowed, or not installed, or both are there."""
    recipe = shared_workshop.recipe(targets=[{**MLP, "packages": ["honeplug-dist"]}])
    compiled = shared_workshop.lay_out(recipe).candidates[0].compiled
    assert compiled is not None
    code = (
        "import sys, pathlib; sys.path.extend(sys.argv[2:])\n"
        "from prefect_hone.runtimes.opening import open_artifact\n"
        "import numpy as np\n"
        "run = open_artifact(pathlib.Path(sys.argv[1]), {'threads': 1})\n"
        "print(run({'input': np.zeros((3, 16), np.float32)}).shape)\n"
    )

    def served(prefixes: str, *path: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.setenv("HONE_ALLOWED_PREFIXES", prefixes)
        arguments = [str(compiled.folder("model")), *path]
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )

    refused = served("", str(PLUGIN)).stderr
    assert "is opened by 'honeplug.targets.numpy_mlp', code that is not Hone's" in refused
    assert "pip install honeplug-dist, and set HONE_ALLOWED_PREFIXES=honeplug" in refused
    missing = served("honeplug").stderr
    assert "there is no module 'honeplug' here" in missing
    assert "pip install honeplug-dist" in missing
    assert served("honeplug", str(PLUGIN)).stdout == "(3, 4)\n"


@pytest.mark.nightly
def test_a_run_with_a_pass_a_target_a_metric_and_a_format_of_ones_own(
    hone: Any, tmp_path: Path
) -> None:
    project = tmp_path / "mine"
    shutil.copytree(PLUGIN, project, ignore=shutil.ignore_patterns("__pycache__"))
    write_files(tmp_path, rows())
    recipe = project / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("SET", str(tmp_path)))
    assert load_recipe(recipe).targets[1].name == "numpy_mlp"
    plan = hone.json("plan", str(recipe))
    labels = [step["step"] for step in plan["steps"]]
    assert "compress rounded (2: rounded)" in labels, labels
    assert "compile rounded@numpy_mlp" in labels
    done = hone.json("run", str(recipe))
    found = {c["name"]: c for c in done["candidates"]}
    assert found["fp32@Elsewhere"]["status"] == "skipped"
    assert found["fp32@Elsewhere"]["error"] == "there is no such chip"
    for name in ("fp32@onnxruntime-cpu", "fp32@numpy_mlp", "rounded@numpy_mlp"):
        assert found[name]["status"] == "passed", found[name]
        assert 0.1 <= found[name]["metrics"]["quality/Iou"] <= 1
        assert found[name]["metrics"]["parity/max_abs_error"] < (1e-4 if "fp32" in name else 5)
    assert done["champion"]["candidate"] in found
    again = hone.json("plan", str(recipe))
    assert all(step["cached"] for step in again["steps"])
    changed = (project / "honeplug" / "passes.py").read_text()
    (project / "honeplug" / "passes.py").write_text(changed + "\n# changed\n")
    assert not any(
        step["cached"] for step in hone.json("plan", str(recipe))["steps"]
        if step["step"].startswith("compress")
    )  # fmt: skip
    json.dumps(done)
