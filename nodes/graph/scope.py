"""Which names of a python text mean something of `streams`, scope by scope, without running it."""

from __future__ import annotations

import ast

# `patterns` is the name under which graphs written for an older product import the same things.
PACKAGES = ("streams", "patterns")
EXPORTS = frozenset({"Table", "Topic", "TableVersion", "Stream", "State", "Parameter", "Secret", "Connection", "agent"})

_MODULE = "module"


class Scopes:
    """A stack of scopes. A name is ours from the import that binds it until something else is bound to it."""

    def __init__(self) -> None:
        self._stack: list[dict[str, str | None]] = [{}]

    @property
    def depth(self) -> int:
        """0 at the top of the file."""
        return len(self._stack) - 1

    def enter(self, arguments: ast.arguments | None) -> None:
        """Enter a function, whose parameters hide names from outside, or a class."""
        if arguments is None:
            self._stack.append({})
            return
        listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
        listed += [each for each in (arguments.vararg, arguments.kwarg) if each is not None]
        self._stack.append({each.arg: None for each in listed})

    def leave(self) -> None:
        self._stack.pop()

    def import_modules(self, node: ast.Import) -> None:
        for alias in node.names:
            package = alias.name.partition(".")[0]
            self._stack[-1][alias.asname or package] = _MODULE if package in PACKAGES else None

    def import_names(self, node: ast.ImportFrom) -> None:
        module = node.module or ""
        ours = node.level == 0 and module.partition(".")[0] in PACKAGES
        for alias in node.names:
            if alias.name == "*":
                if ours:
                    self._stack[-1].update({name: name for name in EXPORTS})
            elif ours and alias.name not in EXPORTS:
                # `from streams import table` brings a module of ours.
                self._stack[-1][alias.asname or alias.name] = _MODULE if alias.name.islower() else None
            else:
                self._stack[-1][alias.asname or alias.name] = alias.name if ours else None

    def assign(self, name: str, value: ast.expr | None) -> None:
        """`T = Table` carries the meaning over; anything else bound to a name of ours ends it.

        But for `Table = None`, which stands where an import may fail.
        """
        if isinstance(value, ast.Constant) and value.value is None:
            return
        meaning = self._meaning(value) if value is not None else None
        if meaning is not None or self._lookup(name) is not None:
            self._stack[-1][name] = meaning

    def ours(self, expression: ast.expr) -> str | None:
        """The exported name that the expression means, such as `Table` for `s.Table` after `import streams as s`."""
        meaning = self._meaning(expression)
        return None if meaning == _MODULE else meaning

    def _meaning(self, expression: ast.expr) -> str | None:
        if isinstance(expression, ast.Name):
            return self._lookup(expression.id)
        if isinstance(expression, ast.Attribute) and self._meaning(expression.value) == _MODULE:
            if expression.attr in EXPORTS:
                return expression.attr
            return _MODULE if expression.attr.islower() else None
        return None

    def _lookup(self, name: str) -> str | None:
        for scope in reversed(self._stack):
            if name in scope:
                return scope[name]
        return None
