"""Every error that coinstream raises. Each message says what failed, where, and what to do."""

from __future__ import annotations


class CoinstreamError(Exception):
    """The root of all errors that coinstream raises on purpose."""


class SettingsError(CoinstreamError):
    """A setting is missing or has a value that cannot be used."""


class BrokerError(CoinstreamError):
    """The broker cannot be reached, or refused what was asked of it."""


class AuthenticationError(BrokerError):
    """The broker refused the credentials, the certificate or the permission."""


class LocalBrokerError(BrokerError):
    """The local broker could not be started, or died. The message holds the path of its log."""


class TopicError(CoinstreamError):
    """A topic does not exist, or cannot be given the settings that are wanted."""


class MessageError(CoinstreamError):
    """A message is not one of the four types, or holds a value that no market can have."""


class UnroutableError(MessageError):
    """No topic is known for the data. The message names the fields that were seen."""


class DecodeError(MessageError):
    """Bytes from the wire are not a message."""


class ProduceError(CoinstreamError):
    """A message was not acknowledged. Names the topic and the key.

    Attributes:
        topic: where the message was to go.
        key: the key it carried, if any.
        error_type: the short name used as `error_type` in metrics, e.g. `MSG_SIZE_TOO_LARGE`.
    """

    def __init__(
        self, message: str, *, topic: str, key: bytes | None = None, error_type: str = "unknown"
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.key = key
        self.error_type = error_type


class MessageTooLargeError(ProduceError):
    """The message is larger than the client or the broker accepts."""


class NotAllowedError(ProduceError, AuthenticationError):
    """The broker knows this user, but does not let it write to the topic."""


class BufferFullError(ProduceError):
    """The send buffer stayed full for longer than the longest allowed block."""


class FatalProducerError(ProduceError):
    """The producer failed in a way that only a new producer can mend."""


class TransactionError(CoinstreamError):
    """A transaction was not committed: nothing of it is visible to readers of committed messages."""


class FeedError(CoinstreamError):
    """A feed or a recording cannot be read. Names the feed, and the line where there is one."""


class LakeError(CoinstreamError):
    """The lake (catalogue, table or object store) cannot be read or written."""


class PluginError(CoinstreamError):
    """A plugin cannot be imported. Names it and says why."""


class PlatformError(CoinstreamError):
    """A process of `coinstream up` could not be started, or ended. Names its log."""


class ConsumeError(CoinstreamError):
    """A consumer group cannot go on. Names the group, and the partition where there is one."""


class NonRetryableError(CoinstreamError):
    """A handler raises this to send a message to the dead letters at once, without retries."""


class StopGroupError(CoinstreamError):
    """A handler raises this to stop its group: what it was given is handled again after a restart."""


class SinkError(CoinstreamError):
    """A sink is not known, or its target cannot be opened."""
