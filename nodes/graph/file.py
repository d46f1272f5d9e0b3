"""graph.yml as values: every entry that can be read, and a problem at its line for every one that cannot.

Parsing is pure: text in, `GraphFile` out. Only a text that is no YAML mapping raises.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from nodes.errors import GraphUnreadable
from nodes.graph import entries
from nodes.graph.entries import DataNodeEntry, Entry, KafkaEntry, NodeFileEntry, StoreEntry, WebhookEntry
from nodes.graph.problem import Problem, did_you_mean, nearest
from nodes.graph.yaml_text import Path, Place, YamlText, parse_yaml
from streams.errors import UsageError
from streams.rows.schema import Schema

GRAPH_FILE = "graph.yml"
NOT_YET = "is not available yet"
KNOWN_FORMS = "`webhook:`, `kafka:` or `node_file:`"

E = TypeVar("E", bound=Entry)


@dataclass(frozen=True, slots=True)
class Declared(Generic[E]):
    """An entry at its place. `entry` is None where it is wrong; then `name` is still what it is called, if it says.

    `name` is a webhook's or a table's name, a topic's on Kafka, a node's file, or a DataNode's
    class. `node_id` is the id that the entry
    gives itself.
    """

    name: str
    node_id: str | None
    title: str | None
    entry: E | None
    place: Place
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class GraphFile:
    """What graph.yml says. `problems` has those of the entries too, in the order of the file."""

    title: str
    slug: str
    webhooks: tuple[Declared[WebhookEntry], ...] = ()
    kafka: tuple[Declared[KafkaEntry], ...] = ()
    node_files: tuple[Declared[NodeFileEntry], ...] = ()
    data_nodes: tuple[Declared[DataNodeEntry], ...] = ()
    stores: tuple[Declared[StoreEntry], ...] = ()
    problems: tuple[Problem, ...] = ()


def parse_graph_file(text: str, *, directory_name: str, file: str = GRAPH_FILE) -> GraphFile:
    """Read the text of graph.yml. Raises GraphUnreadable when it is no YAML, or no mapping at the top."""
    source = parse_yaml(text, file=file)
    content = {} if source.value is None else source.value
    if not isinstance(content, dict):
        hint = "Begin with keys, such as `title:` and `functions:`."
        raise GraphUnreadable("the file must hold keys and their values", file=file, line=1, hint=hint)
    return _Reading(source, file).graph(content, directory_name)


def slug_from(directory_name: str) -> str:
    """The slug of a project that gives none: its directory's name, as far as a schema may be called that."""
    slug = re.sub(r"[^a-z0-9]+", "_", directory_name.lower()).strip("_")[:52].rstrip("_")
    return slug if slug[:1].isalpha() else f"p_{slug}"[:52] if slug else "project"


@dataclass(slots=True)
class _Functions:
    """The entries of `functions`, by what they are."""

    webhooks: list[Declared[WebhookEntry]] = field(default_factory=list)
    kafka: list[Declared[KafkaEntry]] = field(default_factory=list)
    node_files: list[Declared[NodeFileEntry]] = field(default_factory=list)
    data_nodes: list[Declared[DataNodeEntry]] = field(default_factory=list)


class _Reading:
    """One pass over one file, collecting problems."""

    def __init__(self, source: YamlText, file: str) -> None:
        self.source = source
        self.file = file

    def problem(self, path: Path, message: str) -> Problem:
        place = self.source.place(path)
        return Problem(self.file, message, place.line, place.column)

    def graph(self, content: Mapping[Any, Any], directory_name: str) -> GraphFile:
        problems = self._unknown_keys(
            content, (), known=entries.GRAPH_KEYS, later=entries.GRAPH_LATER, where="graph.yml"
        )
        problems += self._duplicates((), children=False)
        title, title_problems = self._value(content, "title", str, directory_name)
        slug, slug_problems = self._value(content, "slug", entries.Slug, slug_from(directory_name))
        problems += [*title_problems, *slug_problems]
        functions = _Functions()
        for path, item in self._items(content, "functions", problems):
            self._function(path, item, functions, problems)
        stores = [self._store(path, item, problems) for path, item in self._items(content, "stores", problems)]
        named_stores = [store for store in stores if store is not None]
        for declared in (
            functions.webhooks,
            functions.kafka,
            functions.node_files,
            functions.data_nodes,
            named_stores,
        ):
            problems += [problem for each in declared for problem in each.problems]
        problems.sort(key=lambda problem: (problem.line or 0, problem.column or 0))
        return GraphFile(
            title=title,
            slug=slug,
            webhooks=tuple(functions.webhooks),
            kafka=tuple(functions.kafka),
            node_files=tuple(functions.node_files),
            data_nodes=tuple(functions.data_nodes),
            stores=tuple(named_stores),
            problems=tuple(problems),
        )

    def _value(self, content: Mapping[Any, Any], key: str, type_: Any, default: str) -> tuple[str, list[Problem]]:
        if content.get(key) is None:
            return default, []
        try:
            return TypeAdapter[str](type_).validate_python(content[key], strict=True), []
        except ValidationError as error:
            return default, self._invalid(error, (key,))

    def _items(
        self, content: Mapping[Any, Any], key: str, problems: list[Problem]
    ) -> Iterable[tuple[Path, Mapping[Any, Any]]]:
        listed = content.get(key)
        if listed is None:
            return
        if not isinstance(listed, list):
            problems.append(self.problem((key,), f"`{key}` must be a list: begin each entry with `- `"))
            return
        for index, item in enumerate(listed):
            if isinstance(item, dict):
                yield (key, index), item
            else:
                problems.append(self.problem((key, index), f"an entry of `{key}` must be keys and values"))

    def _function(self, path: Path, item: Mapping[Any, Any], functions: _Functions, problems: list[Problem]) -> None:
        forms = [form for form in entries.FUNCTION_FORMS if form in item]
        later = [form for form in entries.FUNCTION_FORMS_LATER if form in item]
        if len(forms) > 1:
            found = " and ".join(f"`{form}`" for form in forms)
            problems.append(self.problem(path, f"an entry is one thing, not {found} at once"))
        elif "webhook" in forms:
            functions.webhooks.append(self._webhook(path, item))
        elif "kafka" in forms:
            functions.kafka.append(self._kafka(path, item))
        elif "node_file" in forms:
            functions.node_files.append(self._node_file(path, item))
        elif "data_node" in forms:
            functions.data_nodes.append(self._data_node(path, item))
        elif later:
            problems.append(self.problem((*path, later[0]), f"`{later[0]}` {NOT_YET}"))
        else:
            known = (*entries.FUNCTION_FORMS, *entries.FUNCTION_FORMS_LATER)
            guess = next(
                (f"; `{key}` is not one, did you mean `{near}`?" for key in item if (near := nearest(str(key), known))),
                "",
            )
            problems.append(self.problem(path, f"an entry of `functions` needs {KNOWN_FORMS}{guess}"))

    def _webhook(self, path: Path, item: Mapping[Any, Any]) -> Declared[WebhookEntry]:
        problems = self._unknown_keys(
            item, path, known=_keys(WebhookEntry), later=entries.WEBHOOK_LATER, where="a webhook"
        )
        content = self._known(item, _keys(WebhookEntry))
        for key, model in (
            ("auth", entries.AuthEntry),
            ("dedup", entries.DedupEntry),
            ("limits", entries.WebhookLimitsEntry),
        ):
            later = entries.WEBHOOK_LIMITS_LATER if key == "limits" else ()
            problems += self._part(content, path, key, model, later=later)
        if content.get("shape") == "envelope":
            problems.append(self.problem((*path, "shape"), f"`shape: envelope` {NOT_YET}"))
            del content["shape"]
        problems += self._auth(content, path)
        return self._declared(WebhookEntry, path, content, "webhook", problems)

    def _kafka(self, path: Path, item: Mapping[Any, Any]) -> Declared[KafkaEntry]:
        known = _keys(KafkaEntry)
        problems = self._unknown_keys(item, path, known=known, later=entries.KAFKA_LATER, where="a Kafka topic")
        return self._declared(KafkaEntry, path, self._known(item, known), "kafka", problems)

    def _auth(self, content: dict[str, Any], path: Path) -> list[Problem]:
        """The scheme is looked at by name, since an unknown one must not be passed over."""
        auth = content.get("auth")
        if auth is None or auth == "none":
            return []
        here = (*path, "auth")
        scheme = auth.get("scheme") if isinstance(auth, dict) else auth
        if scheme in entries.AUTH_SCHEMES:
            if isinstance(auth, dict):
                return []
            content.pop("auth")
            return [self.problem(here, f"`auth` needs `scheme: {scheme}` and `secret:` below it")]
        content.pop("auth")
        if scheme in entries.AUTH_SCHEMES_LATER:
            return [self.problem(here, f"the scheme `{scheme}` {NOT_YET}")]
        known = (*entries.AUTH_SCHEMES, "none")
        if scheme is None:
            return [self.problem(here, f"`auth` needs `scheme:`, one of {', '.join(known)}")]
        guess = did_you_mean(str(scheme), (*known, *entries.AUTH_SCHEMES_LATER))
        return [self.problem(here, f"`{scheme}` is no scheme of `auth`: {', '.join(known)}{guess}")]

    def _node_file(self, path: Path, item: Mapping[Any, Any]) -> Declared[NodeFileEntry]:
        known = (*_keys(NodeFileEntry), "parameters")
        problems = self._unknown_keys(item, path, known=known, later=entries.NODE_FILE_LATER, where="a node")
        content = self._known(item, known)
        if "parameters" in content:
            values = content.pop("parameters")
            if "parameter_values" in content:
                problems.append(
                    self.problem((*path, "parameters"), "give `parameter_values` or `parameters`, not both")
                )
            else:
                content["parameter_values"] = values
        problems += self._part(content, path, "limits", entries.NodeLimitsEntry)
        problems += self._inputs(content, path)
        problems += self._part(content, path, "trigger", entries.TriggerEntry)
        problems += self._file_form(content.get("node_file"), path)
        return self._declared(NodeFileEntry, path, content, "node_file", problems)

    def _data_node(self, path: Path, item: Mapping[Any, Any]) -> Declared[DataNodeEntry]:
        known = _keys(DataNodeEntry)
        problems = self._unknown_keys(item, path, known=known, later=entries.DATA_NODE_LATER, where="a DataNode")
        content = self._known(item, known)
        problems += self._part(content, path, "limits", entries.NodeLimitsEntry)
        problems += self._part(content, path, "trigger", entries.TriggerEntry)
        return self._declared(DataNodeEntry, path, content, "data_node", problems)

    def _inputs(self, content: dict[str, Any], path: Path) -> list[Problem]:
        inputs = content.get("inputs")
        if not isinstance(inputs, dict):
            return []
        problems: list[Problem] = []
        known = _keys(entries.InputEntry)
        for port, value in inputs.items():
            if isinstance(value, dict):
                here = (*path, "inputs", str(port))
                problems += self._unknown_keys(value, here, known=known, later=(), where="an input")
        content["inputs"] = {
            port: self._known(value, known) if isinstance(value, dict) else value for port, value in inputs.items()
        }
        return problems

    def _file_form(self, name: object, path: Path) -> list[Problem]:
        if not isinstance(name, str):
            return []
        here = (*path, "node_file")
        file = PurePosixPath(name)
        if file.suffix in (".sql", ".json", ".yml", ".yaml"):
            return [self.problem(here, f"a node in a `{file.suffix}` file {NOT_YET}")]
        if file.suffix != ".py":
            return [self.problem(here, f"`{name}` is no node: its name must end in .py")]
        if file.is_absolute() or ".." in file.parts or "\\" in name:
            return [self.problem(here, f"`{name}` must be a path inside the project, such as nodes/score.py")]
        return []

    def _store(self, path: Path, item: Mapping[Any, Any], problems: list[Problem]) -> Declared[StoreEntry] | None:
        if not isinstance(item.get("table"), str):
            problems.append(self.problem(path, "an entry of `stores` needs `table:` and a name"))
            return None
        own = self._unknown_keys(item, path, known=_keys(StoreEntry), later=entries.STORE_LATER, where="a store")
        content = self._known(item, _keys(StoreEntry))
        if isinstance(content.get("schema"), str):
            own.append(self.problem((*path, "schema"), f"the name of a schema {NOT_YET}: write {{field: type}}"))
            content.pop("schema")
        own += self._types(content.get("schema"), path)
        return self._declared(StoreEntry, path, content, "table", own)

    def _types(self, schema: object, path: Path) -> list[Problem]:
        """Each type alone, so that the problem stands at its field."""
        problems: list[Problem] = []
        for name, text in schema.items() if isinstance(schema, dict) else ():
            if isinstance(name, str) and isinstance(text, str):
                try:
                    Schema.declared({name: text})
                except UsageError as error:
                    problems.append(self.problem((*path, "schema", name), f"{error.message}; {error.hint}"))
        return problems

    def _part(
        self, content: dict[str, Any], path: Path, key: str, model: type[Entry], *, later: Sequence[str] = ()
    ) -> list[Problem]:
        part = content.get(key)
        if not isinstance(part, dict):
            return []
        problems = self._unknown_keys(part, (*path, key), known=_keys(model), later=later, where=f"`{key}`")
        content[key] = self._known(part, _keys(model))
        return problems

    def _declared(
        self, model: type[E], path: Path, content: dict[str, Any], name_key: str, problems: list[Problem]
    ) -> Declared[E]:
        problems = [*problems, *self._duplicates(path, children=True)]
        entry: E | None = None
        try:
            entry = model.model_validate(content)
        except ValidationError as error:
            problems += self._invalid(error, path)
        return Declared(
            name=str(content.get(name_key, "")),
            node_id=content["id"] if isinstance(content.get("id"), str) and content["id"] else None,
            title=content["title"] if isinstance(content.get("title"), str) else None,
            entry=None if problems else entry,
            place=self.source.place((*path, name_key)),
            problems=tuple(problems),
        )

    def _known(self, item: Mapping[Any, Any], known: Iterable[str]) -> dict[str, Any]:
        """What can be validated; a key with nothing behind it counts as absent."""
        keys = set(known)
        return {key: value for key, value in item.items() if key in keys and value is not None}

    def _unknown_keys(
        self, item: Mapping[Any, Any], path: Path, *, known: Sequence[str], later: Sequence[str], where: str
    ) -> list[Problem]:
        problems = []
        for key in item:
            if key in known:
                continue
            if key in later:
                problems.append(self.problem((*path, str(key)), f"`{key}` {NOT_YET}"))
            else:
                guess = did_you_mean(str(key), (*known, *later)) or f"; known keys: {', '.join(known)}"
                problems.append(self.problem((*path, str(key)), f"`{key}` is no key of {where}{guess}"))
        return problems

    def _duplicates(self, path: Path, *, children: bool) -> list[Problem]:
        return [
            Problem(self.file, f"`{key[-1]}` stands twice in one entry; remove one", place.line, place.column)
            for key, place in self.source.duplicates
            if key[: len(path)] == path and (children or len(key) == len(path) + 1)
        ]

    def _invalid(self, error: ValidationError, path: Path) -> list[Problem]:
        problems: dict[Path, Problem] = {}
        for detail in error.errors(include_url=False):
            if detail["type"] != "extra_forbidden":  # said already, with the nearest key
                inner: Path = tuple(part for part in detail["loc"] if not _is_branch_name(part))
                problems.setdefault(inner, self.problem((*path, *inner), _in_words(detail, (*path, *inner))))
        # A union reports each of its branches: the one that got furthest is the one that was meant.
        return [
            problem
            for inner, problem in problems.items()
            if not any(other != inner and other[: len(inner)] == inner for other in problems)
        ]


def _keys(model: type[Entry]) -> tuple[str, ...]:
    return tuple(info.alias or name for name, info in model.model_fields.items())


def _is_branch_name(part: str | int) -> bool:
    """pydantic puts the name of a union's branch into the location of its errors."""
    return isinstance(part, str) and (
        part in ("str", "AuthEntry", "InputEntry", "TriggerEntry", "[key]")
        or part.startswith(("constrained-", "list[", "literal[", "function-"))
    )


def _in_words(detail: Any, path: Path) -> str:
    key = path[-1] if isinstance(path[-1], str) else None
    value = detail["input"]
    shown = repr(value) if isinstance(value, str | int | float | bool) else f"a {type(value).__name__}"
    match detail["type"]:
        case "missing":
            return f"`{key}` is missing"
        case "string_type":
            advice = "" if isinstance(value, dict | list) else ": put it in quotes"
            message = f"must be text, not {shown}{advice}"
        case "list_type":
            message = f"must be a list, not {shown}: put it in brackets"
        case "dict_type" | "model_type":
            message = f"must be keys and values, not {shown}"
        case "value_error":
            message = str(detail["ctx"]["error"])
        case _:
            message = f"{detail['msg'].replace('Input should be', 'must be')}, not {shown}"
    return f"`{key}`: {message}" if key is not None else message
