"""`@agent`: a function of one record, or of a frame of them, whose loop Millstream owns.

The decorated function stays callable as it is. What was asked for stands beside it, where a host finds it.
"""

from __future__ import annotations

import functools
import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, TypeVar

from streams.agents.async_body import AsyncBody, LoopWatch
from streams.agents.body import Body, FrameBody, RecordBody
from streams.errors import RecordRejected, UsageError
from streams.model.record import Record
from streams.user.current import hand_over
from streams.user.topic import Topic

Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")
AroundCall = Callable[[Callable[[Any], Any], Any], Any]  # makes a call of a function with its one argument

_PLAIN = (dict, Mapping, Record, Any, object, inspect.Parameter.empty, None)


@dataclass(frozen=True, slots=True)
class AgentOptions:
    """What `@agent` was given. `inputs` are names of tables or topics, `output` a table."""

    inputs: tuple[str, ...]
    output: str | None
    frames: bool = False
    concurrency: int = 1
    records_max: int | None = None
    wait_max_s: float | None = None
    unique_on: tuple[str, ...] = ()
    time_index: str | None = None
    lateness_s: float = 0.0
    on_new_version: str = "read"


class AgentFunction(Generic[Arguments, Result]):
    """A function with its registration. Calling it calls the function."""

    def __init__(self, function: Callable[Arguments, Result], options: AgentOptions) -> None:
        self.function = function
        self.options = options
        functools.update_wrapper(self, function)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        return self.function(*args, **kwargs)

    @property
    def name(self) -> str:
        return self.function.__name__

    @property
    def is_async(self) -> bool:
        return inspect.iscoroutinefunction(self.function)

    def run(self) -> None:
        """In a script started by hand: run this file's agents until nothing is left to read. Does not return."""
        hand_over(f"{self.name}.run()")

    def body(
        self, *, around_call: AroundCall | None = None, limit_s: float | None = None, watch: LoopWatch | None = None
    ) -> Body:
        """How the function is applied to a batch. `around_call` makes its calls, but for those that are awaited: these
        may take `limit_s` each, on a loop that `watch` is told of."""
        if self.options.frames:
            return FrameBody(_called(typing.cast(Callable[[Any], Any], self.function), around_call))
        checked = _typed(self.function)
        if self.is_async:
            awaited = typing.cast(Callable[[Record], Awaitable[object]], checked)
            return AsyncBody(awaited, self.options.concurrency, limit_s=limit_s, watch=watch)
        return RecordBody(_called(checked, around_call))


def agent(
    inputs: str | Topic | Sequence[str | Topic],
    output: str | None = None,
    *,
    frames: bool = False,
    concurrency: int = 1,
    records_max: int | None = None,
    wait_max_s: float | None = None,
    unique_on: str | Sequence[str] = (),
    time_index: str | None = None,
    lateness_s: float = 0.0,
    on_new_version: str = "read",
) -> Callable[[Callable[Arguments, Result]], AgentFunction[Arguments, Result]]:
    """Make a function the loop's body: records of `inputs` (tables or topics) in, rows of the table `output` out.

    It is given one record (a dict, or what its parameter's annotation validates) and returns a row, a list of rows or
    None; with `frames` a DataFrame and returns one or None. An `async` function is awaited for up to `concurrency`
    records at a time; rows stay in input order. A checkpoint is taken after `records_max` records or `wait_max_s`.
    With `unique_on` rows are upserted by that key. Raises UsageError for options that do not fit the function.
    """
    options = AgentOptions(
        inputs=tuple(each.called if isinstance(each, Topic) else each for each in _listed(inputs)),
        output=output,
        frames=frames,
        concurrency=concurrency,
        records_max=records_max,
        wait_max_s=wait_max_s,
        unique_on=(unique_on,) if isinstance(unique_on, str) else tuple(unique_on),
        time_index=time_index,
        lateness_s=lateness_s,
        on_new_version=on_new_version,
    )

    def decorate(function: Callable[Arguments, Result]) -> AgentFunction[Arguments, Result]:
        _check(function, options)
        return AgentFunction(function, options)

    return decorate


def _listed(inputs: str | Topic | Sequence[str | Topic]) -> Sequence[str | Topic]:
    return (inputs,) if isinstance(inputs, str | Topic) else inputs


def _check(function: Callable[..., object], options: AgentOptions) -> None:
    name = getattr(function, "__name__", repr(function))
    problem = ""
    if not options.inputs:
        problem = 'names no input: write @agent("input", "output")'
    elif options.frames and inspect.iscoroutinefunction(function):
        problem = "is async and takes frames; make it a plain function"
    elif options.concurrency > 1 and not inspect.iscoroutinefunction(function):
        problem = f"is not async, so concurrency={options.concurrency} has no meaning; write async def, or leave it out"
    elif options.concurrency < 1:
        problem = f"has concurrency={options.concurrency}; give at least 1"
    elif options.records_max is not None and options.records_max < 1:
        problem = f"has records_max={options.records_max}; give at least 1"
    elif options.unique_on and options.output is None:
        problem = "has unique_on and no output table"
    if problem:
        raise UsageError(f"@agent {name} {problem}")


def _typed(function: Callable[..., Any]) -> Callable[[Record], Any]:
    """The function, given what its parameter's annotation validates; plain dicts are not touched."""
    annotation = _annotation(function)
    if annotation in _PLAIN or typing.get_origin(annotation) in (dict, Mapping):
        return function
    from pydantic import TypeAdapter, ValidationError

    validate = TypeAdapter(annotation).validate_python

    def checked(record: Record) -> Any:
        try:
            value = validate(record)
        except ValidationError as refused:
            raise _rejected(refused, annotation) from None
        return function(value)

    if inspect.iscoroutinefunction(function):

        async def checked_async(record: Record) -> Any:
            return await checked(record)

        return checked_async
    return checked


def _called(function: Callable[[Any], Any], around_call: AroundCall | None) -> Callable[[Any], Any]:
    return function if around_call is None else functools.partial(around_call, function)


def _annotation(function: Callable[..., Any]) -> Any:
    parameters = list(inspect.signature(function).parameters)
    if not parameters:
        raise UsageError(f"@agent {function.__name__} takes no parameter; give it one for the record")
    try:
        hints = typing.get_type_hints(function)
    except NameError as exc:
        raise UsageError(
            f"the annotations of @agent {function.__name__} cannot be read: {exc}",
            hint="define the type above the function, at the top of the file",
        ) from exc
    return hints.get(parameters[0], inspect.Parameter.empty)


def _rejected(refused: Any, annotation: Any) -> RecordRejected:
    """The first problem that pydantic found, with the field's name."""
    problems = refused.errors(include_url=False, include_input=False, include_context=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"])
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    where = f"field {field!r}: " if field else ""
    return RecordRejected(
        f"{where}{first['msg']}{more}; it is no {getattr(annotation, '__name__', annotation)}",
        field=field or None,
        hint="mend the record or the annotation, then retry the dead letter",
    )
