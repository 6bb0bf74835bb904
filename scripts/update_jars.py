"""Update the lock file of the jars after a change of version.

Usage: `python scripts/update_jars.py`.
"""

from __future__ import annotations

import tempfile
from importlib.resources import files
from pathlib import Path

from coinstream.local_broker.jars import LOCK_NAME, sha256_of

KAFKA = "org.apache.kafka:kafka_2.13:4.3.1"
LOGGING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4!"
"""Lets Kafka (slf4j 1.7) log through the log4j that it brings, into files of bounded size.

The `!` matters: without it the versions that log4j manages replace Kafka's own, and an old client comes in.
"""

_HEADER = f"""\
# The class path of the local broker: Maven coordinate and SHA-256 of each jar.
# Resolved from {KAFKA} and {LOGGING.rstrip("!")};
# written by `python scripts/update_jars.py`.
"""


def update_lock(target: Path) -> int:
    """Resolve the class path, fetch it again, and write the lock.

    Returns:
        The number of jars.
    """
    import jgo
    from jgo.maven import MavenContext

    lines = []
    with tempfile.TemporaryDirectory() as folder:
        context = MavenContext(repo_cache=Path(folder), timeout=60)
        for artifact in jgo.resolve(f"{KAFKA}+{LOGGING}"):
            group, name, version = artifact.groupId, artifact.artifactId, artifact.version
            path = context.project(group, name).at_version(version).artifact().resolve()
            lines.append(f"{group}:{name}:{version} {sha256_of(path)}\n")
    target.write_text(_HEADER + "".join(lines), encoding="utf-8")
    return len(lines)


if __name__ == "__main__":
    print(update_lock(Path(str(files("coinstream.local_broker"))) / LOCK_NAME), "jars locked")
