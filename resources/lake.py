"""Provide the lake to runs."""

import dagster as dg
from pydantic import Field

from coinstream.lake.store import Lake
from coinstream.settings import HomeSettings, LakeSettings

_DEFAULTS = LakeSettings()


class LakeResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Iceberg tables. Location and credentials are read from the environment (`COINSTREAM_LAKE_*`).

    Only some of the settings are configuration, because Dagster stores and shows the configuration of a run.
    """

    memory_bytes: int = Field(
        default=_DEFAULTS.memory_bytes,
        description="Memory limit of landing in bytes, in addition to the loaded libraries.",
    )
    batch_rows: int = Field(default=_DEFAULTS.batch_rows, description="Maximum rows per commit.")
    keep_snapshots_hours: float = Field(
        default=_DEFAULTS.keep_snapshots_hours,
        description="Age at which compaction expires snapshots, in hours.",
    )
    jump_deviations: float = Field(
        default=_DEFAULTS.jump_deviations,
        description="Price step, in robust standard deviations, above which a jump is reported.",
    )
    engine: str = Field(
        default=_DEFAULTS.engine,
        description="Engine that prepares slices: `embedded`, or `ray` (the extra `coinstream[ray]`).",
    )
    clock_tolerance_ms: int = Field(
        default=_DEFAULTS.clock_tolerance_ms,
        description="Maximum time ahead of an exchange's measured clock skew that is not flagged.",
    )

    def open(self) -> Lake:
        """Return the lake, whose catalog is opened at first use.

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
