"""Access files of the tables, with local paths as percent-encoded URIs that are decoded exactly once."""

from __future__ import annotations

from urllib.parse import unquote

from pyiceberg.io.pyarrow import PyArrowFileIO
from pyiceberg.typedef import EMPTY_DICT, Properties


class FileIO(PyArrowFileIO):
    """Read and write files as pyiceberg does, also below folders whose names need quoting in a URI."""

    @staticmethod
    def parse_location(location: str, properties: Properties = EMPTY_DICT) -> tuple[str, str, str]:
        """Return scheme, host and path of an address.

        pyiceberg takes the path of a `file:` URI as it stands, so that a folder `my tables`
        (`my%20tables` in the URI) would be another folder.
        """
        scheme, netloc, path = PyArrowFileIO.parse_location(location, properties)
        return scheme, netloc, unquote(path) if location.startswith("file:") else path
