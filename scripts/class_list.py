"""Write the list of classes that the local broker loads, for its class archive.

    COINSTREAM_BROKER_JAVA_OPTIONS=-XX:DumpLoadedClassList=/tmp/loaded.lst coinstream up
    python scripts/class_list.py /tmp/loaded.lst

Stop `up` with Ctrl-C before the second command. Run it after an update of Kafka or of Java.
"""

from __future__ import annotations

import gzip
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from coinstream.local_broker import storage

TARGET: Final = Path(storage.__file__).with_name(storage.CLASS_LIST)
_LAMBDAS: Final = ("@lambda-proxy", "@lambda-form-invoker")


def shortened(dumped: str) -> str:
    """Return the classes and lambdas of a dump, without numbers and resolved constants."""
    lines = [line for line in dumped.splitlines() if line and not line.startswith("#")]
    names = [line.partition(" id:")[0] for line in lines if not line.startswith("@")]
    return "\n".join([*names, *(line for line in lines if line.startswith(_LAMBDAS))]) + "\n"


def main(arguments: Sequence[str]) -> None:
    """Replace the list in the package by that of the dump named on the command line."""
    if len(arguments) != 1:
        sys.exit("usage: python scripts/class_list.py loaded.lst")
    text = shortened(Path(arguments[0]).read_text(encoding="utf-8"))
    TARGET.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


if __name__ == "__main__":
    main(sys.argv[1:])
