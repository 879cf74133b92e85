"""The systemd unit, Unbound's configuration and the CI script: each as its own program reads it."""

import configparser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
UNIT = ROOT / "deploy/hallmonitor.service"
# The root's keys of 2017 and 2024 (data.iana.org/root-anchors).
ROOT_ANCHORS = """\
. IN DS 20326 8 2 E06D44B80B8F1D39A95C0B0D7C65D08458E880409BBC683457104237C7F8EC8D
. IN DS 38696 8 2 683D2D0ACB8C9B712A1948B27F741219298D0A450D612C483AF444A4C0FB2B16
"""


def program(name: str) -> str:
    """Return where a program is; skips the test where it isn't, but not in CI."""
    found = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if found is None and os.environ.get("CI") == "true":
        pytest.fail(f"CI must have {name}")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture(scope="module")
def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None, delimiters=["="], comment_prefixes=["#"])
    parser.optionxform = str  # type: ignore[assignment,method-assign] # systemd's keys have capitals
    parser.read(UNIT)
    return parser


def test_the_unit_serves_as_its_own_user_and_comes_back_always(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["User"] == "hallmonitor"
    assert service["ExecStart"].endswith("/hallmonitor --config /etc/hallmonitor/hallmonitor.toml serve")
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["Restart"] == "always"
    assert unit["Unit"]["StartLimitIntervalSec"] == "0"
    assert service["KillMode"] == "process"  # workers outlive their supervisor
    assert service["StateDirectory"] == "hallmonitor"
    assert unit["Install"]["WantedBy"] == "multi-user.target"


def test_the_unit_may_bind_port_53_and_little_else(unit: configparser.ConfigParser) -> None:
    service = unit["Service"]
    assert service["AmbientCapabilities"] == service["CapabilityBoundingSet"] == "CAP_NET_BIND_SERVICE"
    for key in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "ProtectKernelModules"):
        assert service[key] == "yes"
    assert service["ProtectSystem"] == "strict"
    assert service["SystemCallFilter"] == "@system-service"


def test_systemd_knows_every_directive_and_rates_the_exposure_low(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed")
    # Its program is not on this machine.
    text = UNIT.read_text().replace("/opt/hallmonitor/bin/hallmonitor --config", "/bin/true --config")
    copy = tmp_path / "hallmonitor.service"
    copy.write_text(text)
    verified = subprocess.run([analyze, "verify", "--man=no", copy], capture_output=True, text=True, check=False)
    assert (verified.returncode, verified.stderr) == (0, "")
    # In tenths; a service without any hardening has 96.
    rating = [analyze, "security", "--offline=true", "--threshold=25", str(copy)]
    assert subprocess.run(rating, capture_output=True, check=False).returncode == 0


def test_unbound_takes_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "root.key").write_text(ROOT_ANCHORS)
    copy = tmp_path / "unbound.conf"
    copy.write_text((ROOT / "deploy/unbound.conf").read_text().replace("/var/lib/unbound", str(tmp_path)))
    checked = subprocess.run([program("unbound-checkconf"), copy], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_the_ci_script_is_a_program_that_bash_can_read() -> None:
    script = ROOT / ".ci/run"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/usr/bin/env bash\n")
    assert "set -euo pipefail" in script.read_text()
    checked = subprocess.run(["bash", "-n", script], capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")
