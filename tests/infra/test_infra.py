"""What lies in infra/: parsed, checked against the schemas of what reads it, and against Hone itself."""

from __future__ import annotations

import base64
import json
import re
import runpy
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from dockerfile_parse import DockerfileParser
from prefect_hone.flows.engine.blocks import HoneServers
from prefect_hone.flows.operate.deployments import FLOWS, HEARTBEAT, find_flow
from prefect_hone.flows.operate.stack.folder import StackFolder
from prefect_hone.flows.operate.stack.services import client_environment, mlflow, prefect

ROOT = Path(__file__).parents[2]
INFRA = ROOT / "infra"
KUBERNETES = INFRA / "kubernetes"
BIN = Path(sys.executable).parent
SOURCES = "\n".join(
    path.read_text() for room in ("flows", "tasks", "ray_workers", "recipe", "runtimes")
    for path in (ROOT / room).rglob("*.py")
)  # fmt: skip


def documents(path: Path) -> list[dict[str, Any]]:
    return [d for d in yaml.safe_load_all(path.read_text()) if d is not None]


MANIFESTS = [
    (path.name, document)
    for path in sorted(KUBERNETES.glob("*.yaml"))
    if path.name not in ("kustomization.yaml", "secrets.yaml")
    for document in documents(path)
]
COMPOSE = yaml.safe_load((INFRA / "compose.yaml").read_text())


def pod_specs(value: Any) -> Iterator[dict[str, Any]]:
    """Every pod specification within a document."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for part in value.values():
            yield from pod_specs(part)
    elif isinstance(value, list):
        for part in value:
            yield from pod_specs(part)


def work_pool() -> dict[str, Any]:
    return json.loads((KUBERNETES / "work-pool.json").read_text())


def test_every_yaml_file_parses() -> None:
    found = [*INFRA.rglob("*.yaml")]
    assert len(found) > 10
    for path in found:
        assert documents(path), path


# --- the image


def test_the_dockerfile_has_no_findings() -> None:
    done = subprocess.run(
        [str(BIN / "hadolint"), str(INFRA / "Dockerfile")], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_is_built_in_stages_and_runs_as_nobody_in_particular(tmp_path: Path) -> None:
    parser = DockerfileParser(path=str(tmp_path))
    parser.content = (INFRA / "Dockerfile").read_text()
    steps = [(step["instruction"], step["value"]) for step in parser.structure]
    names = [name for name, _ in steps]
    assert names.count("FROM") == 2
    last = len(names) - names[::-1].index("FROM")
    runs = dict(steps[last:])
    assert runs["USER"] == "1001"
    assert "HEALTHCHECK" in runs
    assert "HONE_TORCH=cpu" in [value for name, value in steps if name == "ARG"]
    (python,) = (v for n, v in steps if n == "ARG" and v.startswith("PYTHON="))
    assert re.fullmatch(r"PYTHON=3\.\d+\.\d+-slim-\w+", python), "an exact version"
    # What pyproject.toml needs to be installed is not ignored.
    ignored = (INFRA / "Dockerfile.dockerignore").read_text().split()
    assert not {"README.md", "LICENSE", "constraints.txt", "recipe", "flows"} & set(ignored)


# --- compose


def test_compose_fits_the_specification() -> None:
    done = subprocess.run(
        [str(BIN / "check-jsonschema"), "--builtin-schema", "vendor.compose-spec",
         str(INFRA / "compose.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_of_compose(name: str) -> None:
    service = COMPOSE["services"][name]
    assert service["user"].split(":")[0] not in ("0", "root")
    assert "latest" not in service["image"]
    assert ":" in service["image"]
    limits = service["deploy"]["resources"]["limits"]
    assert {"cpus", "memory"} <= set(limits)
    assert "healthcheck" in service
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert set(service["networks"]) <= set(COMPOSE["networks"])
    named = [v.partition(":")[0] for v in service.get("volumes", [])]
    for volume in named:
        if volume.startswith("./"):
            assert (INFRA / volume).exists(), volume
        else:
            assert volume in COMPOSE["volumes"], volume
    for other in service.get("depends_on", {}):
        assert other in COMPOSE["services"]
    for port in service.get("ports", []):
        assert port.startswith("127.0.0.1:"), "published on loopback only"
        assert port.rpartition(":")[2] in " ".join(service["command"])
    secretive = re.compile(r"(?i)(password|secret|token|key)$")
    assert not [n for n in service.get("environment", {}) if secretive.search(n)]


def test_compose_has_the_services_of_the_stack(tmp_path: Path) -> None:
    folder = StackFolder(tmp_path / "stack")
    folder.data = tmp_path / "data"
    folder.prepare()
    here = {"prefect": prefect(folder), "mlflow": mlflow(folder)}
    for name, service in here.items():
        there = COMPOSE["services"][name]["environment"]
        secrets = (INFRA / "make_secrets.py").read_text()
        for variable in service.environment:
            if variable in ("PREFECT_HOME", "DO_NOT_TRACK"):
                continue
            assert variable in there or variable in secrets, f"{name}: {variable}"
    worker = COMPOSE["services"]["worker"]["environment"]
    for variable in client_environment(folder):
        inside = variable in worker or variable in (INFRA / "make_secrets.py").read_text()
        assert inside or variable == "HONE_HOME", variable
    folder.delete()


def test_secrets_are_files_that_are_made_once(tmp_path: Path, monkeypatch) -> None:
    made = runpy.run_path(str(INFRA / "make_secrets.py"))
    (tmp_path / "kubernetes").mkdir()
    made["main"]([], tmp_path)
    folder = tmp_path / "secrets"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    wanted = {Path(entry["file"]).name for entry in COMPOSE["secrets"].values()}
    assert {path.name for path in folder.iterdir()} == wanted
    with pytest.raises(SystemExit, match="not overwritten"):
        made["main"]([], tmp_path)
    made["main"](["--kubernetes"], tmp_path)
    place = tmp_path / "kubernetes" / "secrets.yaml"
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    for secret in yaml.safe_load(place.read_text())["items"]:
        kubernetes_validate.validate(secret, "1.37", strict=True)
    ignored = (ROOT / ".gitignore").read_text()
    assert "/infra/secrets/" in ignored
    assert "/infra/kubernetes/secrets.yaml" in ignored


def test_a_container_gets_its_secrets_as_they_are(tmp_path: Path) -> None:
    made = runpy.run_path(str(INFRA / "make_secrets.py"))
    made["main"]([], tmp_path)
    folder, home = tmp_path / "run", tmp_path / "home"
    folder.mkdir()
    home.mkdir()
    for name in ("mlflow_server", "client"):  # as compose mounts them
        (folder / f"{name}_env").write_text((tmp_path / "secrets" / f"{name}.env").read_text())
    shown = subprocess.run(
        ["sh", str(INFRA / "compose" / "entrypoint.sh"), "with-secrets", "env"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(home), "SECRETS": str(folder),
             "PGPASSFILE": str(tmp_path / "secrets" / "pgpass")},
        capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in ("mlflow_server", "client"):
        assert set((folder / f"{name}_env").read_text().split()) <= set(shown)
    key = next(line for line in shown if "ENCRYPTION_KEY" in line).partition("=")[2]
    assert len(base64.urlsafe_b64decode(key)) == 32
    assert f"PGPASSFILE={home}/.pgpass" in shown
    assert stat.S_IMODE((home / ".pgpass").stat().st_mode) == 0o600


def test_databases_are_created_without_a_password_on_a_command_line(tmp_path: Path) -> None:
    script = (INFRA / "compose" / "databases.sh").read_text()
    (init,) = (m["data"]["databases.sh"] for _, m in MANIFESTS
               if m["metadata"].get("name") == "hone-databases-init")  # fmt: skip

    def code(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.lstrip().startswith("#")]

    assert [line.split(" #")[0] for line in code(script)] == [
        line.split(" #")[0] for line in code(init)
    ]
    for name in ("psql", "createdb"):
        tool = tmp_path / name
        tool.write_text('#!/bin/sh\necho "$(basename $0) $*"\n[ -t 0 ] || cat\n')
        tool.chmod(0o755)
    done = subprocess.run(
        ["bash", str(INFRA / "compose" / "databases.sh")], capture_output=True, text=True, check=True,
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert r"\set password `cat /run/secrets/prefect_database`" in lines
    assert "CREATE ROLE mlflow LOGIN PASSWORD :'password';" in lines
    made = [line.rpartition(" ")[2] for line in lines if line.startswith("createdb")]
    assert made == ["prefect", "mlflow", "mlflow_auth"]


# --- Kubernetes


@pytest.mark.parametrize(
    ("file", "manifest"),
    MANIFESTS,
    ids=[f"{f}-{m['kind']}-{i}" for i, (f, m) in enumerate(MANIFESTS)],
)
def test_a_manifest_fits_kubernetes_schema(file: str, manifest: dict[str, Any]) -> None:
    if manifest["apiVersion"].startswith("ray.io/"):
        for spec in pod_specs(manifest):  # the resource itself is KubeRay's; its pods are not
            pod = {"restartPolicy": "Always", **spec}
            kubernetes_validate.validate(
                {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": pod},
                "1.37", strict=True,
            )  # fmt: skip
        return
    kubernetes_validate.validate(manifest, "1.37", strict=True)


def test_the_pods_of_the_work_pool_fit_kubernetes_schema() -> None:
    pool = work_pool()
    properties = pool["variables"]["properties"]
    text = json.dumps(pool["job_configuration"]["job_manifest"])
    for name in set(re.findall(r"\{\{ (\w+) \}\}", text)):
        assert name in properties, name
    values = {"args": ["x"], "env": [{"name": "A", "value": "b"}], "labels": {}}

    def filled(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {k: filled(v, k) for k, v in value.items()}
        if isinstance(value, list):
            return [filled(v) for v in value]
        if isinstance(value, str) and value.startswith("{{") and value.endswith("}}"):
            return values.get(key, properties[value.strip("{ }")].get("default"))
        return value.replace("{{ name }}", "hone") if isinstance(value, str) else value

    kubernetes_validate.validate(
        filled(pool["job_configuration"]["job_manifest"]), "1.37", strict=True
    )
    assert "prefect_hone.flows.operate.ray_job" in properties["command"]["default"]
    assert (ROOT / "flows" / "operate" / "ray_job.py").exists()
    for field, said in properties.items():
        assert said["description"].endswith("."), field


ALL_PODS = [
    (f"{file}-{number}", spec)
    for file, document in [*MANIFESTS, ("work-pool.json", work_pool())]
    for number, spec in enumerate(pod_specs(document))
]


@pytest.mark.parametrize(("name", "spec"), ALL_PODS, ids=[name for name, _ in ALL_PODS])
def test_a_pod_is_not_root_has_limits_and_an_exact_image(name: str, spec: dict[str, Any]) -> None:
    pod = spec["securityContext"]
    assert pod["runAsNonRoot"] is True
    assert pod["runAsUser"] > 0
    assert pod["seccompProfile"] == {"type": "RuntimeDefault"}
    mounted = {volume["name"] for volume in spec.get("volumes", [])}
    for container in spec["containers"]:
        context = container["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        image = container["image"]
        assert image == "{{ image }}" or re.search(r":[\w.\-]*\d[\w.\-]*$", image), image
        claims = {"data"} if name.startswith(("databases", "listener")) else set()
        for mount in container.get("volumeMounts", []):
            assert mount["name"] in mounted | claims, mount


def test_services_and_policies_name_what_is_there() -> None:
    by_kind: dict[str, list[dict[str, Any]]] = {}
    for _, manifest in MANIFESTS:
        by_kind.setdefault(manifest["kind"], []).append(manifest)
    pods = {
        s["metadata"]["labels"]["app.kubernetes.io/name"]: s["spec"]["template"]["spec"]
        for s in by_kind["StatefulSet"]
    }
    for service in by_kind["Service"]:
        pod = pods[service["spec"]["selector"]["app.kubernetes.io/name"]]
        names = {p["name"]: p["containerPort"] for c in pod["containers"] for p in c["ports"]}
        for port in service["spec"]["ports"]:
            assert names[port["targetPort"]] == port["port"]
    policies = {p["metadata"]["name"]: p["spec"] for p in by_kind["NetworkPolicy"]}
    assert policies["deny-all"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = {"postgres", "redis", "hone-listener", "hone-ray", "hone-setup", "hone-flow-run", "prefect-server",
              "prefect-worker", "mlflow", "kuberay-operator"}  # fmt: skip
    text = (KUBERNETES / "network-policies.yaml").read_text()
    named = {
        value.strip()
        for group in re.findall(r"values: \[([^\]]+)\]", text)
        for value in group.split(",")
    } | set(re.findall(r"kubernetes.io/name: ([\w\-]+)", text))
    assert named <= labels, named - labels


def test_references_lead_somewhere(tmp_path: Path) -> None:
    """Every ConfigMap and Secret that a pod or a chart names is made here, or by the README's steps."""
    made = runpy.run_path(str(INFRA / "make_secrets.py"))
    secrets = {
        item["metadata"]["name"]: set(item["stringData"])
        for item in json.loads(made["for_kubernetes"](made["passwords"]()))["items"]
    }
    secrets["hone-object-storage"] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}
    kustomization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    maps = {m["metadata"]["name"] for _, m in MANIFESTS if m["kind"] == "ConfigMap"}
    maps |= {generator["name"] for generator in kustomization["configMapGenerator"]}
    for generator in kustomization["configMapGenerator"]:
        for file in generator["files"]:
            assert (KUBERNETES / file.rpartition("=")[2]).exists(), file
    for path in [*KUBERNETES.glob("*.yaml"), *(KUBERNETES / "values").glob("*.yaml")]:
        text = path.read_text()
        for name in re.findall(r"(?:secretRef: \{name|secretName|existingSecret): ([\w\-]+)", text):
            assert name in secrets, f"{path.name}: {name}"
        for name, key in re.findall(r"secretKeyRef: \{name: ([\w\-]+), key: ([\w\-]+)\}", text):
            assert key in secrets[name], f"{path.name}: {name}.{key}"
        for name in re.findall(
            r"(?:configMapRef|configMap|existingConfigMapName)(?:: \{name)?: ([\w\-]+)", text
        ):
            assert name in maps, f"{path.name}: {name}"
    for resource in kustomization["resources"]:
        assert (KUBERNETES / resource).exists()
    for chart in kustomization["helmCharts"]:
        assert re.fullmatch(r"\d+(\.\d+)+", chart["version"]), chart["name"]
        assert (KUBERNETES / chart["valuesFile"]).exists()


def test_a_rayjob_has_the_pods_of_the_cluster() -> None:
    cluster, job = (
        documents(KUBERNETES / f"{n}.yaml")[0]["spec"] for n in ("raycluster", "rayjob")
    )
    own = job["rayClusterSpec"]
    for spec in (cluster, own):
        assert spec["enableInTreeAutoscaling"] is True
        assert spec["authOptions"] == {"mode": "token", "secretName": "hone-ray"}
        groups = {group["groupName"]: group for group in spec["workerGroupSpecs"]}
        gpu = groups["gpu"]["template"]["spec"]["containers"][0]
        assert gpu["resources"]["limits"]["nvidia.com/gpu"] == "1"
        for group in groups.values():
            assert group["minReplicas"] < group["maxReplicas"]
            worker = group["template"]["spec"]["containers"][0]["resources"]
            assert worker["requests"] == worker["limits"], "a measurement has its cores to itself"
    assert own["headGroupSpec"] == cluster["headGroupSpec"]
    assert own["workerGroupSpecs"] == cluster["workerGroupSpecs"]
    constraints = (ROOT / "constraints.txt").read_text()
    assert f"\nray=={cluster['rayVersion']}\n" in constraints
    assert job["shutdownAfterJobFinishes"] is True
    assert job["entrypoint"] == "prefect flow-run execute"


# --- Prefect, and Hone's own settings


def test_prefect_yaml_is_prefects_and_names_hones_flows() -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    path = INFRA / "prefect.yaml"
    read = PrefectYamlModel.model_validate(yaml.safe_load(path.read_text()))
    assert read.deployments
    pools = set()
    for deployment in read.deployments:
        _, flow, name = (deployment.entrypoint or "").rsplit(".", 2)
        assert flow == name
        assert flow in FLOWS
        known = set(find_flow(flow).parameters.properties)
        assert set(deployment.parameters) <= known
        assert deployment.concurrency_limit is not None
        assert deployment.work_pool is not None
        pools.add(deployment.work_pool.name)
        environment = deployment.work_pool.job_variables["env"]
        assert environment["PREFECT_FLOWS_HEARTBEAT_FREQUENCY"] == str(HEARTBEAT)
        assert "hone" in (deployment.tags or [])
    assert pools == {"hone", "hone-docker", "hone-kubernetes"}
    (step,) = read.pull or []
    assert list(step) == ["prefect.deployments.steps.git_clone"]
    raw = yaml.safe_load(path.read_text())["deployments"]
    planned = [schedule for d in raw for schedule in d.get("schedules", [])]
    assert planned
    assert all(schedule["timezone"] == "Europe/Berlin" for schedule in planned)


def test_example_automations_are_prefects_and_wait_for_hones_events() -> None:
    from prefect.events.schemas.automations import AutomationCore

    files = sorted((INFRA / "automations").glob("*.yaml"))
    found = [entry for path in files for entry in yaml.safe_load(path.read_text())["automations"]]
    assert len(found) >= 3
    for entry in found:
        automation = AutomationCore.model_validate(entry)
        for event in automation.trigger.expect:
            assert f'"{event}"' in SOURCES, f"nothing of Hone sends {event}"


@pytest.mark.parametrize(
    "path", [p for p in sorted(INFRA.rglob("*")) if p.suffix in (".yaml", ".py", ".sh", ".json")
             or p.name == "Dockerfile"], ids=lambda p: p.name,
)  # fmt: skip
def test_variables_of_hone_exist(path: Path) -> None:
    """Each HONE_ variable that is set is one that Hone reads, or that the files themselves use."""
    own = {"HONE_IMAGE", "HONE_TORCH", "HONE_NODE_CPUS", "HONE_NODE_MEMORY", "HONE_USER_PASSWORD"}
    for name in set(re.findall(r"\bHONE_[A-Z_]+\b", path.read_text())) - own:
        assert f'"{name}"' in SOURCES, f"{path.name}: nothing of Hone reads {name}"


def test_the_block_covers_what_a_worker_is_told() -> None:
    names = {"HONE_STORE", "HONE_ALLOWED_PREFIXES", "HONE_ALLOWED_PATHS"}
    block = HoneServers(store="s", allowed_prefixes=["a"], allowed_paths=["/b"])
    assert names <= set(block.variables())


def test_alerts_are_about_metrics_that_exist() -> None:
    from prefect_hone.flows.engine.run_metrics import FAMILIES
    from prefect_hone.flows.operate.listener_metrics import ListenerMetrics

    shown = ListenerMetrics().text().decode()
    known = {f.name + ("_total" if f.kind == "counter" else "") for f in FAMILIES.values()}
    known |= set(re.findall(r"^# HELP (\w+)", shown, re.M))
    (group,) = documents(INFRA / "prometheus" / "alerts.yaml")[0]["groups"]
    named = {name for rule in group["rules"] for name in re.findall(r"hone_\w+", rule["expr"])}
    assert named
    assert named <= known
    for rule in group["rules"]:
        assert set(rule) == {"alert", "expr", "labels", "annotations"}
        labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
        families = [
            f for f in FAMILIES.values() if re.search(rf"{f.name}\b|{f.name}_total", rule["expr"])
        ]
        assert all(labels <= set(family.labels) for family in families)


def test_what_the_listener_has_seen_outlives_its_container() -> None:
    """And the worker has the same home: `reconcile` looks there for what was started already."""
    dockerfile = (INFRA / "Dockerfile").read_text()
    home = re.search(r"HONE_HOME=(\S+)", dockerfile)
    assert home is not None
    for name in ("listener", "worker"):
        mounted = dict(volume.split(":")[:2] for volume in COMPOSE["services"][name]["volumes"])
        assert mounted["home"] == home.group(1)
    owned = re.search(rf"install --directory --owner 1001 .*--mode 700 {home.group(1)}", dockerfile)
    assert owned, "an empty volume takes over its owner"
