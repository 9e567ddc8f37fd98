"""What is installed: pinned, hashed, and told by the bill of materials."""

import json
import re
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bill() -> dict[str, Any]:
    made = [subprocess.run([sys.executable, ROOT / "bench/sbom.py"], capture_output=True, check=True) for _ in range(2)]
    assert made[0].stdout == made[1].stdout
    return json.loads(made[0].stdout)


def test_the_bill_is_of_the_lock_and_whole(bill: dict[str, Any]) -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    assert re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", bill["serialNumber"])
    pinned = [line.split("==")[0] for line in lock.splitlines() if re.match(r"[A-Za-z0-9].*==", line)]
    assert len(bill["components"]) == len(pinned) + 1, "and torch"
    assert sum(len(one.get("hashes", [])) for one in bill["components"]) == lock.count("--hash=sha256:")
    unhashed = [one["name"] for one in bill["components"] if not one.get("hashes")]
    assert unhashed == ["torch"], "all others are installed by their hash"
    references = {one["bom-ref"] for one in bill["components"]} | {"trainyard"}
    assert len(references) == len(bill["components"]) + 1
    edges = {one["ref"]: one["dependsOn"] for one in bill["dependencies"]}
    assert set(edges) == references and {needed for found in edges.values() for needed in found} == references - {
        "trainyard"
    }


def test_the_bill_tells_of_what_is_installed(bill: dict[str, Any]) -> None:
    """The versions here and what needs what, as the packages themselves say."""
    listed: dict[str, set[str]] = {}
    for one in bill["components"]:
        listed.setdefault(one["name"], set()).add(one["version"])
    installed = [one for one in distributions() if one.name and "_vendor" not in Path(str(one.locate_file(""))).parts]
    normal = {re.sub(r"[-_.]+", "-", one.name).lower(): one for one in installed}
    shared = [name for name in listed if name in normal]
    assert len(shared) > len(listed) / 2
    wrong = [name for name in shared if normal[name].version.partition("+")[0] not in listed[name]]
    assert not wrong
    edges = {one["ref"].partition("@")[0]: one["dependsOn"] for one in bill["dependencies"]}
    for name, needed in (("httpx", "httpcore"), ("pandas", "numpy"), ("jinja2", "markupsafe")):
        assert any(f"pkg:pypi/{needed}@" in one for one in edges[f"pkg:pypi/{name}"])
        assert any(needed in requirement.lower() for requirement in normal[name].requires or [])
