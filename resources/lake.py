"""The lake, as runs are given it."""

import dagster as dg
from pydantic import Field

from coinstream.lake.store import Lake
from coinstream.settings import HomeSettings, LakeSettings

_DEFAULTS = LakeSettings()


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The tables. Where they lie, and credentials, come from the environment only (`COINSTREAM_LAKE_*`)."""

    memory_bytes: int = Field(
        default=_DEFAULTS.memory_bytes,
        description="Memory that landing may take beyond the loaded libraries.",
    )
    batch_rows: int = Field(default=_DEFAULTS.batch_rows, description="Rows of one commit at most.")
    keep_snapshots_hours: float = Field(
        default=_DEFAULTS.keep_snapshots_hours, description="Age from which compaction expires snapshots."
    )
    jump_deviations: float = Field(
        default=_DEFAULTS.jump_deviations,
        description="A price step of more robust deviations than this is reported as a jump.",
    )
    engine: str = Field(
        default=_DEFAULTS.engine,
        description="Where landing prepares slices: `embedded`, or `ray` (the extra `coinstream[ray]`).",
    )
    clock_tolerance_ms: int = Field(
        default=_DEFAULTS.clock_tolerance_ms,
        description="How far a time may lie ahead of an exchange's measured clock skew.",
    )

    def open(self) -> Lake:
        """Return the lake; its catalogue is opened on first use.

        Raises:
            SettingsError: a value is out of its range.
        """
        return Lake(
            LakeSettings(
                memory_bytes=self.memory_bytes,
                batch_rows=self.batch_rows,
                keep_snapshots_hours=self.keep_snapshots_hours,
                jump_deviations=self.jump_deviations,
                clock_tolerance_ms=self.clock_tolerance_ms,
                engine=self.engine,  # type: ignore[arg-type]  # checked by the settings
            ),
            HomeSettings(),
        )
