"""Validate Kubernetes manifests and run jobs against its schemas, and the image's Dockerfile."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

HELM = Path(__file__).parents[2] / "deploy" / "helm"
DOCKERFILE = HELM.parent / "Dockerfile"
VERSIONS = ("1.31", "1.37")
"""The oldest and the newest Kubernetes that is checked."""
VALUES = yaml.safe_load((HELM / "dagster-values.yaml").read_text())
DEPLOYMENT = VALUES["dagster-user-deployments"]["deployments"][0]


def manifests(name: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all((HELM / name).read_text()) if document]


RAY = yaml.safe_load((HELM / "ray-values.yaml").read_text())
SECRETS = {document["metadata"]["name"]: document for document in manifests("secrets.example.yaml")}
CLAIMS = {document["metadata"]["name"] for document in manifests("storage.yaml")}


@pytest.fixture(scope="module")
def run_of_a_feed() -> dict[str, Any]:
    """Return the job that Dagster's own launcher makes of the chart's values, for one run."""
    import kubernetes
    from dagster_k8s import K8sRunLauncher  # noqa: F401 - the launcher that the values name exists
    from dagster_k8s.container_context import K8sContainerContext
    from dagster_k8s.job import DagsterK8sJobConfig, construct_dagster_k8s_job

    launcher = VALUES["runLauncher"]["config"]["k8sRunLauncher"]
    own = launcher["runK8sConfig"]
    context = K8sContainerContext.create_from_config(
        {
            "k8s": {
                "image_pull_policy": launcher["imagePullPolicy"],
                "env_secrets": [secret["name"] for secret in DEPLOYMENT["envSecrets"]],
                "volumes": DEPLOYMENT["volumes"],
                "volume_mounts": DEPLOYMENT["volumeMounts"],
                "run_k8s_config": {
                    "container_config": own["containerConfig"],
                    "pod_spec_config": own["podSpecConfig"],
                    "job_spec_config": own["jobSpecConfig"],
                },
            }
        }
    )
    image = DEPLOYMENT["image"]
    config = DagsterK8sJobConfig(
        job_image=f"{image['repository']}:{image['tag']}", dagster_home="/opt/dagster"
    )
    words = ["dagster", "api", "execute_run"]
    job = construct_dagster_k8s_job(
        config, words, "dagster-run-1", context.run_k8s_config, component="run_worker"
    )
    found: dict[str, Any] = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    return found


def refused(manifest: dict[str, Any], version: str) -> str | None:
    """Return what a Kubernetes of this version would say against a manifest. Unknown fields count."""
    from kubernetes_validate import ValidationError, validate

    try:
        validate(manifest, version, strict=True)
    except ValidationError as error:
        return f"{manifest['kind']} {manifest['metadata']['name']}: {error.message}"
    return None


@pytest.mark.parametrize("version", VERSIONS)
def test_manifests_are_sound(version: str) -> None:
    for name in ("secrets.example.yaml", "storage.yaml", "ray-network-policy.yaml"):
        for manifest in manifests(name):
            assert refused(manifest, version) is None


@pytest.mark.parametrize("version", VERSIONS)
def test_a_run_is_a_sound_job(run_of_a_feed: dict[str, Any], version: str) -> None:
    assert refused(run_of_a_feed, version) is None


def test_the_schemas_find_faults(run_of_a_feed: dict[str, Any]) -> None:
    spec = run_of_a_feed["spec"] | {"ttlSecondsAfterFinish": 3600}
    assert "ttlSecondsAfterFinish" in str(refused(run_of_a_feed | {"spec": spec}, VERSIONS[-1]))
    secret = {**SECRETS["coinstream-lake"], "stringData": {"A": 1}}
    assert "1 is not of type" in str(refused(secret, VERSIONS[-1]))


def test_a_run_is_a_pod_without_rights(run_of_a_feed: dict[str, Any]) -> None:
    pod = run_of_a_feed["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"]["drop"] == ["ALL"]
    assert container["resources"]["limits"]["memory"]


def test_a_run_has_what_it_needs(run_of_a_feed: dict[str, Any]) -> None:
    pod = run_of_a_feed["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert {source["secretRef"]["name"] for source in container["envFrom"]} <= SECRETS.keys()
    places = {mount["mountPath"] for mount in container["volumeMounts"]}
    assert (
        str(Path(SECRETS["coinstream-redpanda"]["stringData"]["REDPANDA_SSL_CA_LOCATION"]).parent) in places
    )
    assert "/var/lib/coinstream" in places, "leases are seen by all pods"
    claims = {
        volume["persistentVolumeClaim"]["claimName"]
        for volume in pod["volumes"]
        if "persistentVolumeClaim" in volume
    }
    assert claims == CLAIMS


def ray_pod(group: str) -> dict[str, Any]:
    """Return the pod that KubeRay's chart makes of the values for a group."""
    values, image = RAY[group], RAY["image"]
    container = {
        "name": f"ray-{group}",
        "image": f"{image['repository']}:{image['tag']}",
        "imagePullPolicy": image["pullPolicy"],
        "resources": values["resources"],
        "securityContext": values["securityContext"],
        "env": RAY["common"]["containerEnv"],
        "envFrom": values.get("envFrom", []),
        "volumeMounts": values.get("volumeMounts", []),
    }
    spec = {
        "containers": [container],
        "volumes": values.get("volumes", []),
        "securityContext": values["podSecurityContext"],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": group}, "spec": spec}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("group", ["head", "worker"])
def test_pods_of_ray_are_sound(group: str, version: str) -> None:
    assert refused(ray_pod(group), version) is None


def test_ray_asks_for_a_token_and_reports_no_usage() -> None:
    env = {variable["name"]: variable for variable in RAY["common"]["containerEnv"]}
    assert env["RAY_AUTH_MODE"]["value"] == "token"
    assert env["RAY_USAGE_STATS_ENABLED"]["value"] == "0"
    token = env["RAY_AUTH_TOKEN"]["valueFrom"]["secretKeyRef"]
    assert token["key"] in SECRETS[token["name"]]["stringData"]


def test_pods_of_ray_have_what_slices_need_and_no_more() -> None:
    worker, head = (ray_pod(group)["spec"] for group in ("worker", "head"))
    assert {source["secretRef"]["name"] for source in worker["containers"][0]["envFrom"]} == {
        "coinstream-redpanda",
        "coinstream-lake",
    }
    authority = SECRETS["coinstream-redpanda"]["stringData"]["REDPANDA_SSL_CA_LOCATION"]
    mounts = {mount["mountPath"] for mount in worker["containers"][0]["volumeMounts"]}
    assert str(Path(authority).parent) in mounts
    assert not head["containers"][0]["envFrom"]
    for pod in (worker, head):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["securityContext"]["capabilities"]["drop"] == ["ALL"]
        assert pod["containers"][0]["resources"]["limits"]["memory"]


def test_ray_runs_the_locked_version() -> None:
    locked = (HELM.parents[1] / "requirements-ray.lock").read_text()
    assert f"ray[default]=={RAY['head']['rayVersion']} " in locked


def test_the_network_policy_guards_the_cluster_of_the_values(run_of_a_feed: dict[str, Any]) -> None:
    (policy,) = manifests("ray-network-policy.yaml")
    guarded = {"ray.io/cluster": RAY["fullnameOverride"]}
    assert policy["spec"]["podSelector"]["matchLabels"] == guarded
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    opened = {
        port["port"]: rule["from"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", [])
    }
    assert opened.keys() == {10001, 8265}
    (drivers,) = opened[10001]
    wanted = drivers["podSelector"]["matchLabels"]
    labels = run_of_a_feed["spec"]["template"]["metadata"]["labels"]
    assert wanted.items() <= labels.items(), "runs of Dagster are the drivers"
    (within,) = (rule["from"] for rule in policy["spec"]["ingress"] if "ports" not in rule)
    assert within == [{"podSelector": {"matchLabels": guarded}}]


def test_no_state_lies_in_a_pod() -> None:
    lake = SECRETS["coinstream-lake"]["stringData"]
    assert {"COINSTREAM_LAKE_CATALOG_URI", "COINSTREAM_LAKE_WAREHOUSE"} <= lake.keys()
    assert "://" in lake["COINSTREAM_LAKE_WAREHOUSE"]


def test_settings_in_secrets_exist() -> None:
    from coinstream.settings import BrokerSettings, LakeSettings

    for settings, secret in ((BrokerSettings, "coinstream-redpanda"), (LakeSettings, "coinstream-lake")):
        prefix = str(settings.model_config["env_prefix"])
        names = {name.removeprefix(prefix).lower() for name in SECRETS[secret]["stringData"]}
        assert names <= settings.model_fields.keys()


def test_dockerfile_satisfies_hadolint() -> None:
    program = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")
    if program is None:
        pytest.skip("no hadolint here: PyPI has it for Linux on x86-64 only")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout
