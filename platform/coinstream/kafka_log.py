"""Where librdkafka's own log lines go: into Python's logging, never straight to stderr."""

from __future__ import annotations

import logging

LIBRDKAFKA_LOG = logging.getLogger("coinstream.librdkafka")
"""Pass as `logger=` to every client of `confluent_kafka`. Silent until the application configures logging."""

# Without a handler Python's last resort prints warnings to stderr.
LIBRDKAFKA_LOG.addHandler(logging.NullHandler())
