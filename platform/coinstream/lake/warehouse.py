"""List the tables and files in the warehouse, independently of the catalog."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pyarrow.fs as pafs

if TYPE_CHECKING:
    from collections.abc import Mapping

_METADATA: Final = re.compile(r"(\d+)-[0-9a-f-]{36}\.metadata\.json")


@dataclass(frozen=True)
class MetadataFile:
    """One version of a table. After a conflict of writers two versions may have the same number."""

    version: int
    written: float
    address: str


class Warehouse:
    """Folder or bucket of the tables of one namespace.

    Args:
        address: location of the namespace, such as `s3://bucket/lake/market`.
        properties: properties of the catalog, which configure the store.
    """

    def __init__(self, address: str, properties: Mapping[str, str]) -> None:
        from coinstream.lake.file_io import FileIO

        self.address = address.rstrip("/")
        io = FileIO(dict(properties))
        scheme, netloc, self._path = io.parse_location(self.address)
        self._files: pafs.FileSystem = io.fs_by_scheme(scheme, netloc)

    def tables(self) -> list[str]:
        """Return the names of tables with a folder in the warehouse."""
        return sorted(info.base_name for info in self._list("") if info.type is pafs.FileType.Directory)

    def versions(self, table: str) -> list[MetadataFile]:
        """Return the versions of a table from newest to oldest."""
        found = []
        for info in self._list(f"/{table}/metadata"):
            match = _METADATA.fullmatch(info.base_name)
            if match is not None:
                written = info.mtime.timestamp() if info.mtime is not None else 0.0
                address = f"{self.address}/{table}/metadata/{info.base_name}"
                found.append(MetadataFile(int(match[1]), written, address))
        return sorted(found, key=lambda one: (one.version, one.written), reverse=True)

    def missing(self, addresses: list[str]) -> list[str]:
        """Return the files that do not exist."""
        from coinstream.lake.file_io import FileIO

        paths = [FileIO.parse_location(address)[2] for address in addresses]
        infos = self._files.get_file_info(paths)
        return [
            address
            for address, info in zip(addresses, infos, strict=True)
            if info.type is not pafs.FileType.File
        ]

    def _list(self, below: str) -> list[Any]:
        selector = pafs.FileSelector(self._path + below, allow_not_found=True)
        return list(self._files.get_file_info(selector))
