"""How values of coinstream look in Dagster's tables."""

from collections.abc import Mapping
from typing import Final, get_type_hints

import dagster as dg
import msgspec

from coinstream.messages import MessageType
from coinstream.provisioning import TopicPlan


def columns(kind: MessageType) -> dg.TableSchema:
    """The fields of a message, as they stand on the wire."""
    hints = get_type_hints(kind.cls)
    return dg.TableSchema(
        [
            dg.TableColumn(
                field.encode_name,
                type=str(getattr(hints[field.name], "__name__", hints[field.name])).removesuffix(" | None"),
                constraints=dg.TableColumnConstraints(nullable=not field.required),
            )
            for field in msgspec.structs.fields(kind.cls)
        ]
    )


def settings_table(settings: Mapping[str, str]) -> dg.TableMetadataValue:
    """Settings by name."""
    records = [dg.TableRecord({"setting": name, "value": value}) for name, value in settings.items()]
    return dg.MetadataValue.table(
        records, schema=dg.TableSchema([dg.TableColumn("setting"), dg.TableColumn("value")])
    )


_PLAN_SCHEMA: Final = dg.TableSchema(
    [dg.TableColumn(name) for name in ("setting", "actual", "wanted", "verdict", "reason")]
)


def plan_table(topic: TopicPlan) -> dg.TableMetadataValue:
    """What would be done to a topic, setting by setting."""
    records = [
        dg.TableRecord(
            {
                "setting": item.setting,
                "actual": item.actual or "",
                "wanted": item.wanted or "",
                "verdict": str(item.verdict),
                "reason": item.reason,
            }
        )
        for item in topic.differences
    ]
    return dg.MetadataValue.table(records, schema=_PLAN_SCHEMA)
