"""Define the exceptions of coinstream. Messages name what failed, where, and what to do."""

from __future__ import annotations


class CoinstreamError(Exception):
    """Base of all errors that coinstream raises."""


class SettingsError(CoinstreamError):
    """A setting is missing or invalid."""


class BrokerError(CoinstreamError):
    """The broker is unreachable or refused a request."""


class AuthenticationError(BrokerError):
    """The broker refused the credentials, the certificate or the authorization."""


class LocalBrokerError(BrokerError):
    """The local broker could not be started, or exited. The message contains the path of its log."""


class PortTakenError(LocalBrokerError):
    """Another process has a port of the local broker."""


class TopicError(CoinstreamError):
    """A topic does not exist, or its settings cannot be applied."""


class MessageError(CoinstreamError):
    """A message has an unregistered type or an invalid value."""


class UnroutableError(MessageError):
    """The data match no message type, so they have no topic. The message lists their fields."""


class DecodeError(MessageError):
    """A payload is not a valid message."""


class ProduceError(CoinstreamError):
    """A message was not acknowledged. The message contains the topic and the key.

    Attributes:
        topic: topic of the message.
        key: key of the message, if any.
        error_type: value of the metrics label `error_type`, for example `MSG_SIZE_TOO_LARGE`.
    """

    def __init__(
        self, message: str, *, topic: str, key: bytes | None = None, error_type: str = "unknown"
    ) -> None:
        super().__init__(message)
        self.topic = topic
        self.key = key
        self.error_type = error_type


class MessageTooLargeError(ProduceError):
    """A message is larger than the client or the broker accepts."""


class NotAllowedError(ProduceError, AuthenticationError):
    """The authenticated user lacks the right to write to the topic."""


class BufferFullError(ProduceError):
    """The send buffer stayed full for longer than `max_block_ms`."""


class FatalProducerError(ProduceError):
    """The producer failed permanently and must be replaced."""


class TransactionError(CoinstreamError):
    """A transaction was not committed. `read_committed` consumers see none of its messages."""


class FeedError(CoinstreamError):
    """A feed or a recording cannot be read. The message names the feed, and the line of a file."""


class LakeError(CoinstreamError):
    """The lake (catalog, table or object store) cannot be read or written."""


class PluginError(CoinstreamError):
    """A plugin cannot be imported. The message contains its name and the reason."""


class PlatformError(CoinstreamError):
    """A process of `coinstream up` could not be started, or exited. The message names its log."""


class ConsumeError(CoinstreamError):
    """A consumer group cannot continue. The message names the group, and the partition if any."""


class NonRetryableError(CoinstreamError):
    """Raised by a handler to send a message to the dead-letter queue without retries."""


class StopGroupError(CoinstreamError):
    """Raised by a handler to stop its group. Its messages are handled again after a restart."""


class SinkError(CoinstreamError):
    """A sink is unknown, or its target cannot be opened or written."""
