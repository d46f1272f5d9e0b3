"""YAML with its places: plain values, and for each path of keys the line and column where it stands.

YAML's own errors are put into words that name the line and say what to type.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from nodes.errors import GraphUnreadable

Path = tuple[str | int, ...]

_TEXT_BYTES_MAX = 1 << 20
# Aliases are expanded while places are noted; more places than this is an attack or a mistake, not a project.
_PLACES_MAX = 200_000
_QUOTE_IT = 'Put the value in quotes, as in  cron: "*/5 * * * *"  or  secret: "${{ name }}".'


@dataclass(frozen=True, slots=True)
class Place:
    """Counted from 1."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class YamlText:
    """`value` is what the text says; `duplicates` are the paths of keys that stand twice in one mapping."""

    value: Any
    places: Mapping[Path, Place] = field(repr=False)
    duplicates: tuple[tuple[Path, Place], ...]

    def place(self, path: Path) -> Place:
        """Where the path stands, or the nearest thing around it."""
        for length in range(len(path), 0, -1):
            found = self.places.get(path[:length])
            if found is not None:
                return found
        return Place(1, 1)


def parse_yaml(text: str, *, file: str) -> YamlText:
    """Read one YAML document. Raises GraphUnreadable, with the place, for whatever is not one."""
    if len(text) > _TEXT_BYTES_MAX:
        raise GraphUnreadable(f"the file is larger than {_TEXT_BYTES_MAX} characters", file=file)
    try:
        loader = yaml.SafeLoader(text)
        try:
            root = loader.get_single_node()
            notes = _Notes(file)
            if root is not None:
                notes.walk(root, ())
            value = loader.construct_document(root) if root is not None else None
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        raise _in_words(error, text, file) from error
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"the character U+{error.character:04X} is not allowed in YAML"
        raise GraphUnreadable(problem, file=file, line=line, hint="Delete it.") from error
    except RecursionError as error:
        raise GraphUnreadable("the values are nested too deeply", file=file) from error
    except ValueError as error:
        raise GraphUnreadable(f"a value cannot be read: {error}", file=file, hint="Put dates in quotes.") from error
    return YamlText(value, notes.places, tuple(notes.duplicates))


class _Notes:
    """The places met on one walk over the composed document."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.places: dict[Path, Place] = {}
        self.duplicates: list[tuple[Path, Place]] = []

    def walk(self, node: yaml.Node, path: Path) -> None:
        if len(self.places) > _PLACES_MAX:
            raise GraphUnreadable("the aliases in the file expand to too many values", file=self.file)
        self.places.setdefault(path, _place(node))
        if isinstance(node, yaml.MappingNode):
            self._walk_mapping(node, path)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.walk(item, (*path, index))

    def _walk_mapping(self, node: yaml.MappingNode, path: Path) -> None:
        seen: set[str] = set()
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.tag == "tag:yaml.org,2002:merge":
                continue
            here = (*path, key.value)
            if key.value in seen:
                self.duplicates.append((here, _place(key)))
            seen.add(key.value)
            self.places[here] = _place(key)
            self.walk(item, here)


def _place(node: yaml.Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)


def _in_words(error: yaml.MarkedYAMLError, text: str, file: str) -> GraphUnreadable:
    mark = error.problem_mark or error.context_mark
    assert mark is not None  # every error of the scanner, parser, composer and constructor carries one
    problem = error.problem or "not YAML"
    line = mark.line + 1
    column = mark.column + 1
    lines = text.splitlines()
    content = lines[mark.line] if mark.line < len(lines) else ""
    words, hint = _words(problem, error.context or "", content)
    if "quote is opened" in words and error.context_mark is not None:
        line, column = error.context_mark.line + 1, error.context_mark.column + 1
    return GraphUnreadable(words, file=file, line=line, column=column, hint=hint)


def _words(problem: str, context: str, content: str) -> tuple[str, str]:
    if re.search(r"\$\{\{", content) and "unhashable" not in problem:
        return "`${{ … }}` must stand in quotes here", _QUOTE_IT
    if "scanning an alias" in context or "undefined alias" in problem:
        return "a value that begins with `*` must stand in quotes", _QUOTE_IT
    if "scanning an anchor" in context:
        return "a value that begins with `&` must stand in quotes", _QUOTE_IT
    if "unhashable" in problem:
        return "a mapping or a list stands where a key is expected; `{{ … }}` must stand in quotes", _QUOTE_IT
    if "'\\t'" in problem:
        return "a tab stands where YAML wants spaces", "Indent with spaces."
    if "cannot start any token" in problem:
        return "a value that begins with this character must stand in quotes", _QUOTE_IT
    if "quoted scalar" in context:
        return "a quote is opened here and never closed", "Close it on the same line."
    if "mapping values are not allowed" in problem:
        return (
            "a `:` stands where no key can begin",
            "Check the indentation, or put the value before it in quotes.",
        )
    if "could not find expected ':'" in problem:
        return "a key without `:`", "Write `key: value`, and put a text of several lines in quotes."
    if "expected <block end>" in problem:
        return "this line is not indented like the ones around it", "Keys of one entry begin in the same column."
    if "flow" in context:
        return "a `{` or `[` is opened and its contents cannot be read", "Check that it is closed, and its commas."
    if "could not determine a constructor" in problem:
        return "tags like `!name` are not read", "Remove the tag."
    return (f"{context}: {problem}" if context else problem), "See the line named."
