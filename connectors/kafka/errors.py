"""What Kafka's client raises, as our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as kafka

from streams.errors import MillstreamError, RecordRejected, StoreRefused, StoreUnavailable

AWAY_HINT = "is the broker running, and is `log` its address? It is tried again"
LOGIN_ERRORS = (
    kafka.AuthenticationFailedError,
    kafka.SaslAuthenticationFailed,
    kafka.UnsupportedSaslMechanismError,
    kafka.IllegalSaslStateError,
)
RIGHTS_ERRORS = (
    kafka.TopicAuthorizationFailedError,
    kafka.GroupAuthorizationFailedError,
    kafka.ClusterAuthorizationFailedError,
    kafka.TransactionalIdAuthorizationFailed,
)


@contextmanager
def kafka_errors(where: str) -> Iterator[None]:
    """Raise ours from the client's. `where` names the brokers."""
    try:
        yield
    except MillstreamError:
        raise
    except (TimeoutError, kafka.KafkaError, OSError) as error:
        raise ours(error, where) from error


def ours(error: BaseException, where: str) -> MillstreamError:
    """The error that says the same."""
    text = str(error) or type(error).__name__
    if isinstance(error, LOGIN_ERRORS):
        return StoreRefused(
            f"Kafka at {where} refuses the login: {text}",
            hint="check `sasl_username`, `sasl_password` and `sasl_mechanism` in the log's URL",
        )
    if isinstance(error, RIGHTS_ERRORS):
        return StoreRefused(
            f"Kafka at {where} does not allow it: {text}",
            hint="the user needs Read, Write, Describe and Create on the topics, Read on groups",
        )
    if isinstance(error, kafka.MessageSizeTooLargeError | kafka.RecordListTooLargeError):
        return RecordRejected(
            f"Kafka refuses a record of that size: {text}", hint="raise max.message.bytes of the topic"
        )
    return StoreUnavailable(f"Kafka at {where} does not answer: {text}", hint=AWAY_HINT)
