"""Known vulnerabilities of what is locked: `python scripts/audit.py LOCK… -- OPTIONS_OF_PIP_AUDIT`.

Exits with 0 when everything was looked up and nothing is known against it, 1 when something is, and 3 when
packages could not be looked up: pip-audit alone passes over those, also when it reached no service at all.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

NOT_LOOKED_UP = 3


def main(arguments: list[str]) -> int:
    """Audit the locks; the exit code."""
    locks, _, options = " ".join(arguments).partition("--")
    found = [package for lock in locks.split() for package in audited(lock, options.split())]
    packages = {(package["name"], package.get("version")): package for package in found}.values()
    skipped = [package for package in packages if "skip_reason" in package]
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        for vulnerability in package["vulns"]:
            fixed = ", ".join(vulnerability["fix_versions"]) or "no release yet"
            print(f"{package['name']} {package['version']}: {vulnerability['id']}; fixed in {fixed}")
    print(f"{len(packages)} packages, {len(vulnerable)} vulnerable, {len(skipped)} not looked up")
    if skipped:
        print(f"first of them: {skipped[0]['skip_reason']}")
    return 1 if vulnerable else NOT_LOOKED_UP if skipped else 0


def audited(lock: str, options: list[str]) -> list[dict[str, Any]]:
    """Return pip-audit's result for each package of a lock."""
    program = str(Path(sys.executable).with_name("pip-audit"))
    command = [program, "--disable-pip", "--no-deps", "--format", "json", "--progress-spinner", "off"]
    done = subprocess.run([*command, "-r", lock, *options], capture_output=True, text=True, check=False)
    try:
        packages: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        why = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        return [{"name": lock, "skip_reason": f"pip-audit could not audit {lock}: {why}"}]
    return packages


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
