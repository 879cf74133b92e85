"""The containers, read rather than run: what they start, publish, keep, and refuse to start without."""

import os
import re
import shutil
import subprocess
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
import yaml

import settings

ROOT = Path(__file__).parents[3]
PASSWORD = "0123456789abcdef"


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    return document


@pytest.fixture(scope="module")
def dockerfile() -> str:
    return (ROOT / "Dockerfile").read_text()


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """Return a Dockerfile's instructions, continued lines joined."""
    lines = re.sub(r"\\\n", " ", re.sub(r"(?m)^#.*\n", "", dockerfile)).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line.strip())]


def interpolated(text: str, environ: dict[str, str]) -> str:
    """Do what Compose does with ``${NAME:-default}`` and ``${NAME:?message}``."""

    def value(found: re.Match[str]) -> str:
        name, sign, rest = found.groups()
        if environ.get(name):
            return environ[name]
        if sign == ":?":
            raise LookupError(f"{name}: {rest}")
        return str(rest)

    return re.sub(r"\$\{(\w+)(:[-?])([^}]*)\}", value, text)


def test_three_services_that_come_back_by_themselves(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"hallmonitor", "postgres", "unbound"}
    for service in compose["services"].values():
        assert service["restart"] == "unless-stopped"
        assert "no-new-privileges:true" in service["security_opt"]
        assert not service.get("privileged")
    depends = compose["services"]["hallmonitor"]["depends_on"]
    assert {name: how["condition"] for name, how in depends.items()} == {
        "postgres": "service_healthy",
        "unbound": "service_healthy",
    }
    assert "healthcheck" in compose["services"]["postgres"]
    assert "healthcheck" in compose["services"]["unbound"]


def test_dns_is_published_and_the_api_on_loopback_alone(compose: dict[str, Any]) -> None:
    published = {
        name: [interpolated(port, {}) for port in service.get("ports", [])]
        for name, service in compose["services"].items()
    }
    assert published == {
        "hallmonitor": ["0.0.0.0:53:53/udp", "0.0.0.0:53:53/tcp", "127.0.0.1:8053:8053/tcp"],
        "postgres": [],
        "unbound": [],
    }


def test_no_start_without_a_password(compose: dict[str, Any]) -> None:
    places = [
        compose["services"]["hallmonitor"]["environment"]["HALLMONITOR_DATABASE__URL"],
        compose["services"]["postgres"]["environment"]["POSTGRES_PASSWORD"],
    ]
    for text in places:
        with pytest.raises(LookupError, match=r"POSTGRES_PASSWORD: set it in \.env"):
            interpolated(text, {})
    assert [interpolated(text, {"POSTGRES_PASSWORD": PASSWORD}) for text in places] == [
        f"postgresql://hallmonitor:{PASSWORD}@postgres/hallmonitor",
        PASSWORD,
    ]
    assert ".env" in (ROOT / ".dockerignore").read_text().splitlines()


def test_the_mounted_configuration_is_valid_and_agrees_with_compose(compose: dict[str, Any]) -> None:
    service = compose["services"]["hallmonitor"]
    environ = {
        name: interpolated(value, {"POSTGRES_PASSWORD": PASSWORD}) for name, value in service["environment"].items()
    }
    source, target, mode = service["volumes"][0].split(":")
    assert (target, mode) == ("/etc/hallmonitor/hallmonitor.toml", "ro")
    loaded = settings.load(ROOT / source, environ)
    assert [str(endpoint) for endpoint in loaded.server.listen] == ["0.0.0.0:53"]
    assert str(loaded.admin.listen) == "0.0.0.0:8053"
    assert f"state:{loaded.state.directory}" in service["volumes"]
    database = compose["services"]["postgres"]["environment"]
    assert loaded.database.url == (
        f"postgresql://{database['POSTGRES_USER']}:{PASSWORD}@postgres/{database['POSTGRES_DB']}"
    )
    assert "state" in compose["volumes"]


def test_unbound_is_asked_where_it_listens(compose: dict[str, Any]) -> None:
    address = IPv4Address(compose["services"]["unbound"]["networks"]["default"]["ipv4_address"])
    network = compose["networks"]["default"]["ipam"]["config"][0]
    subnet, others = IPv4Network(network["subnet"]), IPv4Network(network["ip_range"])
    assert others.subnet_of(subnet)
    assert address in subnet
    assert address not in others
    configuration = (ROOT / "deploy/unbound.conf").read_text()
    port = re.findall(r"(?m)^    port: (\d+)", configuration)[0]
    asked = compose["services"]["hallmonitor"]["environment"]["HALLMONITOR_UPSTREAM__SERVERS"]
    assert asked == f"udp://{address}:{port}"
    assert f"access-control: {subnet} allow" in configuration


def test_every_file_that_compose_names_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service["volumes"]:
            source = volume.split(":")[0]
            assert (ROOT / source).is_file() if source.startswith("./") else source in compose["volumes"]
    build = compose["services"]["unbound"]["build"]
    assert (ROOT / build["context"] / build["dockerfile"]).is_file()
    assert compose["services"]["hallmonitor"]["build"] == "."


def test_hall_monitor_needs_neither_root_nor_a_capability_for_port_53(compose: dict[str, Any], dockerfile: str) -> None:
    service = compose["services"]["hallmonitor"]
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert service["sysctls"] == {"net.ipv4.ip_unprivileged_port_start": 0}
    assert service["read_only"] is True
    found = instructions(dockerfile)
    assert [rest for word, rest in found if word == "USER"] == ["hallmonitor"]
    assert "--uid 10053" in dockerfile


def test_the_image_installs_by_hash_and_serves(dockerfile: str) -> None:
    found = instructions(dockerfile)
    by_word = dict(found)
    installs = [rest for word, rest in found if word == "RUN" and "pip install" in rest]
    assert "--require-hashes --requirement /tmp/requirements.lock" in installs[0]
    assert "--no-deps" in installs[1]
    assert by_word["EXPOSE"].split() == ["53/udp", "53/tcp", "8053/tcp"]
    assert by_word["VOLUME"] == "/var/lib/hallmonitor"
    assert by_word["ENTRYPOINT"] == '["hallmonitor"]'
    assert by_word["CMD"] == '["serve"]'
    images = {rest.split()[0] for word, rest in found if word == "FROM"}
    assert images == {"python:3.11-slim-bookworm"}


def test_the_health_check_asks_the_api_where_it_listens(dockerfile: str) -> None:
    check = dict(instructions(dockerfile))["HEALTHCHECK"]
    admin = settings.load(ROOT / "deploy/hallmonitor.toml", {}).admin.listen
    assert f"http://127.0.0.1:{admin.port}/api/v1/health" in check
    program = check.partition("CMD ")[2]
    python, flag, code = yaml.safe_load(program)
    assert (python, flag) == ("python", "-c")
    compile(code, "HEALTHCHECK", "exec")


def test_what_the_image_is_built_of_is_not_ignored(dockerfile: str) -> None:
    ignored = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")}
    assert ignored.isdisjoint(
        {"pyproject.toml", "README.md", "LICENSE", "requirements.lock", "deploy", "blocklists", "cli.py", "settings.py"}
    )
    for word, rest in instructions(dockerfile):
        if word == "COPY" and not rest.startswith(("--from", ".")):
            assert (ROOT / rest.split()[0]).is_file()


def test_compose_itself_reads_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], capture_output=True, check=False).returncode:
        pytest.skip("docker compose is not installed")
    command = [docker, "compose", "--file", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    bare = {name: value for name, value in os.environ.items() if name != "POSTGRES_PASSWORD"}
    without = subprocess.run(command, capture_output=True, text=True, check=False, env=bare)
    assert without.returncode != 0
    assert "POSTGRES_PASSWORD" in without.stderr
    given = subprocess.run(
        command, capture_output=True, text=True, check=False, env=bare | {"POSTGRES_PASSWORD": PASSWORD}
    )
    assert (given.returncode, given.stderr) == (0, "")
