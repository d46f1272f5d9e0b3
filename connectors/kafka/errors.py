"""What Kafka's client raises, as our own errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka import errors as kafka

from connectors.kafka.settings import KafkaSettings
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
TOO_LARGE = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError)


@contextmanager
def kafka_errors(where: str) -> Iterator[None]:
    """Raise ours from the client's. `where` names the brokers."""
    try:
        yield
    except MillstreamError:
        raise
    except (TimeoutError, kafka.KafkaError, OSError, AssertionError) as error:  # the client asserts its own states
        raise ours(error, where) from error


@contextmanager
def allowed(
    settings: KafkaSettings,
    operation: str,
    topic: str = "",
    *,
    group: str = "",
    transactional_id: str = "",
    transactional_ids: str = "",
) -> Iterator[None]:
    """Raise StoreRefused, with the right that is missing, where Kafka does not allow what is done inside.

    `operation` is what is done with a topic, which the client mostly names; of a group Read is needed, of a
    transactional id Write. `transactional_ids` is how those begin that are made up anew in each process.
    """
    try:
        yield
    except kafka.GroupAuthorizationFailedError as error:
        raise _refused(settings, "Read", "group", group) from error
    except kafka.TransactionalIdAuthorizationFailed as error:
        name, is_prefix = transactional_ids or transactional_id, bool(transactional_ids)
        raise _refused(settings, "Write", "transactional-id", name, is_prefix=is_prefix) from error
    except (kafka.TopicAuthorizationFailedError, kafka.ClusterAuthorizationFailedError) as error:
        raise _refused(settings, operation, "topic", topic or _named_in(error)) from error


def _named_in(error: kafka.KafkaError) -> str:
    """The topic, or topics, that the client's error is about."""
    named = error.args[0] if error.args else ""
    return ", ".join(sorted(named)) if isinstance(named, set | frozenset | list | tuple) else str(named)


def _refused(settings: KafkaSettings, operation: str, kind: str, name: str, *, is_prefix: bool = False) -> StoreRefused:
    user = settings.sasl_username
    grant = f"--allow-principal User:{user or 'NAME'} --operation {operation} --{kind} {name}"
    grant += " --resource-pattern-type prefixed" if is_prefix else ""
    return StoreRefused(
        f"Kafka at {settings.where} refuses {f'user {user!r}' if user else 'this user'}: "
        f"the right {operation} on {kind.replace('-', ' ')} {name!r} is missing",
        hint=f"grant it, as in: kafka-acls.sh --bootstrap-server {settings.bootstrap[0]} --add {grant}",
    )


def ours(error: BaseException, where: str) -> MillstreamError:
    """The error that says the same; one of ours is as it was."""
    if isinstance(error, MillstreamError):
        return error
    text = str(error) or type(error).__name__
    if isinstance(error, LOGIN_ERRORS):
        return StoreRefused(
            f"Kafka at {where} refuses the login: {text}",
            hint="check `sasl_username`, `sasl_password` and `sasl_mechanism` in the log's URL",
        )
    if isinstance(error, TOO_LARGE):
        return RecordRejected(
            f"Kafka refuses records of that size: {text}",
            hint="raise max.message.bytes of the topic, or send fewer at once",
        )
    return StoreUnavailable(f"Kafka at {where} does not answer: {text}", hint=AWAY_HINT)
