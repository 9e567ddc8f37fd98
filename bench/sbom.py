"""The software bill of materials, as CycloneDX 1.6 in JSON: `python bench/sbom.py > sbom.json`.

It is made of the locks alone, so that it says the same on every machine: each package with its version, the sha256 of
every file that may be installed for it, and what it is needed by. torch comes from requirements-torch.txt, where it is
pinned and not hashed (docs/reliability.md says how to hash it too).
"""

import json
import re
import sys
import uuid
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PINNED = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==(?P<version>[^\s;\\]+)(?:\s*;\s*(?P<marker>[^\\]*\S))?"
)
HASHED = re.compile(r"--hash=sha256:([0-9a-f]{64})")
NEEDED_BY = re.compile(r"#\s+(?:via\s+)?(?P<name>[A-Za-z0-9][\w.-]*)\s*$")
OWN = "trainyard"


def normal(name: str) -> str:
    """PEP 503's spelling."""
    return re.sub(r"[-_.]+", "-", name).lower()


def read_lock(text: str) -> list[dict[str, Any]]:
    """Packages of a lock that uv or pip-compile wrote: name, version, marker, hashes, needed_by (sorted names)."""
    found: list[dict[str, Any]] = []
    for line in text.splitlines():
        if match := PINNED.match(line):
            one = {"name": normal(match["name"]), "version": match["version"], "marker": match["marker"] or ""}
            found.append(one | {"hashes": [], "needed_by": set()})
        elif found and (digest := HASHED.search(line)):
            found[-1]["hashes"].append(digest[1])
        elif found and (user := NEEDED_BY.search(line)) and user["name"] != "via":
            found[-1]["needed_by"].add(normal(user["name"]))
    return [one | {"hashes": sorted(one["hashes"]), "needed_by": sorted(one["needed_by"])} for one in found]


def bill(packages: list[dict[str, Any]], version: str) -> dict[str, Any]:
    """The document; its serial number is a function of what it holds."""

    def reference(one: dict[str, Any]) -> str:
        return f"pkg:pypi/{one['name']}@{one['version']}"

    components = []
    for one in sorted(packages, key=reference):
        component: dict[str, Any] = {
            "type": "library",
            "bom-ref": reference(one),
            "name": one["name"],
            "version": one["version"],
            "purl": reference(one),
        }
        if one["hashes"]:
            component["hashes"] = [{"alg": "SHA-256", "content": digest} for digest in one["hashes"]]
        if one["marker"]:
            component["properties"] = [{"name": "python:marker", "value": one["marker"]}]
        components.append(component)
    needs: dict[str, list[str]] = {OWN: []} | {reference(one): [] for one in packages}
    by_name: dict[str, list[str]] = {}
    for one in packages:
        by_name.setdefault(one["name"], []).append(reference(one))
    for one in packages:
        users = [place for name in one["needed_by"] for place in by_name.get(name, [])]
        for place in users or [OWN]:
            needs[place].append(reference(one))
    content = json.dumps([components, needs], sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"component": {"type": "application", "bom-ref": OWN, "name": OWN, "version": version}},
        "components": components,
        "dependencies": [{"ref": place, "dependsOn": sorted(set(found))} for place, found in sorted(needs.items())],
    }


def main() -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in ("requirements.lock", "requirements-torch.txt")]
    version = re.search(r'^version = "([^"]+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    packages = [one for text in texts for one in read_lock(text)]
    json.dump(bill(packages, version[1] if version else "0"), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
