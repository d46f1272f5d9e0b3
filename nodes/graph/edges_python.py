"""The edges of a python file, read from its text and never by running it.

What is looked for is what the file imports from `streams` (or its alias `patterns`), under whatever name: `Table`,
`Topic`, `Stream`, `State`, `Secret` and `agent`. Names must be literal. What cannot be read is a problem at its place.
"""

from __future__ import annotations

import ast
import functools
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from nodes.graph.problem import Problem
from nodes.graph.python_text import AgentText, Imported, Opened, PythonText
from nodes.graph.scope import Scopes

# Calls that begin a version or move a position: a run that makes one is never cut short.
_WHOLE_RUN_CALLS = frozenset({"rewind", "seek", "reset", "replace", "create_new_version"})
_WRITING_CALLS = frozenset({"append", "upsert", "replace", "write", "reset", "truncate", "create_new_version"})
_READING_AS_STREAM = frozenset({"as_stream", "consume_records", "consume_batches", "consume_with_rollback"})
_DATETIME_FIELDS = frozenset({"year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo", "fold"})
_OPENERS = frozenset({"Table", "Topic", "Stream"})


@functools.lru_cache(maxsize=1024)
def read_python(text: str, file: str) -> PythonText:
    """Read one file's text. A text that does not parse gives a `PythonText` with that one problem. Never raises."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the user's code, which says them itself when it runs
            tree = ast.parse(text)
    except SyntaxError as error:
        message = f"the file does not parse: {error.msg}"
        return PythonText(problems=(Problem(file, message, error.lineno, error.offset),))
    except (ValueError, RecursionError, MemoryError) as error:
        return PythonText(problems=(Problem(file, f"the file does not parse: {error}"),))
    reader = _Reader(file)
    try:
        reader.visit(tree)
    except RecursionError:
        return PythonText(problems=(Problem(file, "the file is nested too deeply to be read"),))
    return reader.result()


@dataclass(slots=True)
class _Variables:
    """Names that only ever hold tables opened for reading, with the writing calls made on them."""

    reading: dict[str, str] = field(default_factory=dict)
    spoiled: set[str] = field(default_factory=set)
    calls: list[tuple[str, str, ast.AST]] = field(default_factory=list)

    def bind(self, name: str, table: str | None) -> None:
        if table is None or self.reading.get(name, table) != table:
            self.spoiled.add(name)
        else:
            self.reading[name] = table

    def faults(self) -> Iterator[tuple[str, str, ast.AST]]:
        for variable, method, node in self.calls:
            if variable in self.reading and variable not in self.spoiled:
                yield self.reading[variable], method, node


class _Reader(ast.NodeVisitor):
    def __init__(self, file: str) -> None:
        self.file = file
        self.scopes = Scopes()
        self.opened: list[Opened] = []
        self.guarded: list[Opened] = []  # below `if __name__ == "__main__"`: no part of an agent
        self.in_guard = False
        self.agents: list[AgentText] = []
        self.imports: list[Imported] = []
        self.secrets: list[str] = []
        self.problems: list[Problem] = []
        self.variables = _Variables()
        self.streamed: ast.AST | None = None
        self.never_cut = False
        self.uses_state = False

    def result(self) -> PythonText:
        for table, method, node in self.variables.faults():
            self._problem(node, f"`{method}` on the table `{table}`, opened for reading: open it as {_open_w(table)}")
        if self.agents:
            self._refuse_mixture()
        return PythonText(
            opened=tuple(self.opened if self.agents else self.opened + self.guarded),
            agents=tuple(self.agents),
            imports=tuple(sorted(set(self.imports))),
            secrets=tuple(dict.fromkeys(self.secrets)),
            never_cut=self.never_cut,
            uses_state=self.uses_state,
            problems=tuple(sorted(self.problems, key=lambda each: (each.line or 0, each.column or 0))),
        )

    def _refuse_mixture(self) -> None:
        """Beside agents a file may look tables up; what writes or consumes is a program, and has a file of its own."""
        advice = "a file holds @agent functions or a program, not both: move one to a file of its own"
        for opened in self.opened:
            if opened.writes:
                message = f"`{opened.name}` is opened for writing beside @agent functions; {advice}"
                self.problems.append(Problem(self.file, message, opened.line, opened.column))
        if self.streamed is not None:
            self._problem(self.streamed, f"a stream is read beside @agent functions; {advice}")

    def _problem(self, node: ast.AST, message: str) -> None:
        self.problems.append(_problem_at(self.file, node, message))

    def visit_Module(self, node: ast.Module) -> None:
        """What the file imports anywhere at its top is known in functions that stand before the import, too."""
        for statement in node.body:
            if isinstance(statement, ast.Import):
                self.scopes.import_modules(statement)
            elif isinstance(statement, ast.ImportFrom):
                self.scopes.import_names(statement)
        self.generic_visit(node)

    # -- names -------------------------------------------------------------------------------------------------------

    def visit_Import(self, node: ast.Import) -> None:
        self.scopes.import_modules(node)
        self.imports += [Imported(alias.name) for alias in node.names]

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self.scopes.import_names(node)
        self.imports += [Imported(node.module or "", node.level, alias.name) for alias in node.names]

    def visit_Assign(self, node: ast.Assign) -> None:
        self.visit(node.value)
        for target in node.targets:
            self._bind(target, node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self.visit(node.annotation)
        if node.value is not None:
            self.visit(node.value)
            self._bind(node.target, node.value)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self._bind(node.target, node.value)

    def _bind(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Tuple | ast.List):
            values = value.elts if isinstance(value, ast.Tuple | ast.List) else []
            if len(values) != len(target.elts):
                self.visit(target)
                return
            for inner, each in zip(target.elts, values, strict=True):
                self._bind(inner, each)
        elif isinstance(target, ast.Name):
            self.scopes.assign(target.id, value)
            self.variables.bind(target.id, self._table_for_reading(value))
        else:
            self.visit(target)

    def _bind_unknown(self, name: str | None) -> None:
        if name is not None:
            self.scopes.assign(name, None)
            self.variables.bind(name, None)

    def visit_Name(self, node: ast.Name) -> None:
        """Whatever binds a name without a value that can be read (`for`, `with`, `+=`, `del`) comes here."""
        if not isinstance(node.ctx, ast.Load):
            self._bind_unknown(node.id)
        elif self.scopes.ours(node) == "State":
            self.uses_state = True

    def visit_withitem(self, node: ast.withitem) -> None:
        self.visit(node.context_expr)
        if node.optional_vars is not None:
            self._bind(node.optional_vars, node.context_expr)

    def visit_ExceptHandler(self, node: ast.ExceptHandler) -> None:
        self._bind_unknown(node.name)
        self.generic_visit(node)

    def visit_MatchAs(self, node: ast.MatchAs) -> None:
        self._bind_unknown(node.name)
        self.generic_visit(node)

    def visit_MatchStar(self, node: ast.MatchStar) -> None:
        self._bind_unknown(node.name)

    def visit_MatchMapping(self, node: ast.MatchMapping) -> None:
        self._bind_unknown(node.rest)
        self.generic_visit(node)

    # -- scopes ------------------------------------------------------------------------------------------------------

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        agent = next((each for each in node.decorator_list if self._is_agent(each)), None)
        for decorator in node.decorator_list:
            if decorator is not agent:
                self.visit(decorator)
        arguments = node.args
        for argument in (
            *arguments.posonlyargs,
            *arguments.args,
            *arguments.kwonlyargs,
            arguments.vararg,
            arguments.kwarg,
        ):
            if argument is not None:
                self.variables.spoiled.add(argument.arg)
        self.visit(arguments)
        if node.returns is not None:
            self.visit(node.returns)
        if agent is not None:
            self._read_agent(agent, node)
        self._bind_unknown(node.name)
        self.scopes.enter(arguments)
        for statement in node.body:
            self.visit(statement)
        self.scopes.leave()

    visit_AsyncFunctionDef = visit_FunctionDef  # noqa: N815 - ast's own naming

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self._bind_unknown(node.name)
        self.scopes.enter(None)
        self.generic_visit(node)
        self.scopes.leave()

    def visit_If(self, node: ast.If) -> None:
        if not _is_main_guard(node.test):
            self.generic_visit(node)
            return
        self.in_guard = True
        for statement in node.body:
            self.visit(statement)
        self.in_guard = False
        for statement in node.orelse:
            self.visit(statement)

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.scopes.enter(node.args)
        self.generic_visit(node)
        self.scopes.leave()

    def _visit_comprehension(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> None:
        self.scopes.enter(None)
        for generator in node.generators:
            self.visit(generator)
        for part in (node.key, node.value) if isinstance(node, ast.DictComp) else (node.elt,):
            self.visit(part)
        self.scopes.leave()

    visit_ListComp = _visit_comprehension  # noqa: N815 - ast's own naming
    visit_SetComp = _visit_comprehension  # noqa: N815
    visit_DictComp = _visit_comprehension  # noqa: N815
    visit_GeneratorExp = _visit_comprehension  # noqa: N815

    def visit_Attribute(self, node: ast.Attribute) -> None:
        if node.attr in _WHOLE_RUN_CALLS:
            self.never_cut = True
        if node.attr in _READING_AS_STREAM and self.streamed is None and not self.in_guard:
            self.streamed = node
        if self.scopes.ours(node) == "State":
            self.uses_state = True
        self.generic_visit(node)

    # -- calls -------------------------------------------------------------------------------------------------------

    def visit_Call(self, node: ast.Call) -> None:
        name = self.scopes.ours(node.func)
        if name in _OPENERS:
            self._open(node, name)
        elif name == "Secret":
            self._secret(node)
        elif name == "agent":
            self._problem(node, "`agent` must stand as a decorator, @agent(…), above its function")
        self._method(node)
        self._opener_passed_on(node)
        if _never_moves_a_table(node):
            assert isinstance(node.func, ast.Attribute)
            self.visit(node.func.value)
        else:
            self.visit(node.func)
        for part in (*node.args, *node.keywords):
            self.visit(part)

    def _open(self, node: ast.Call, opener: str) -> None:
        name = self._literal_name(node, opener)
        mode = self._mode(node, opener) if name is not None else None
        if name is not None and mode is not None:
            opened = self.guarded if self.in_guard else self.opened
            opened.append(Opened(name, opener, mode == "w", node.lineno, node.col_offset + 1))

    def _literal_name(self, node: ast.Call, opener: str) -> str | None:
        given = _argument(node, 0, "name")
        if isinstance(given, ast.Constant) and isinstance(given.value, str) and given.value:
            return given.value
        advice = (
            f'write it as {opener}("name"), or as a port and set its table under `inputs` or `outputs` in graph.yml'
        )
        self._problem(node, f"the name given to `{opener}` is no literal text, so its edge cannot be read: {advice}")
        return None

    def _mode(self, node: ast.Call, opener: str) -> str | None:
        given = _argument(node, 1, "mode")
        if given is None or opener == "Stream":
            return "r"
        if isinstance(given, ast.Constant) and given.value in ("r", "w"):
            return str(given.value)
        self._problem(node, f'the mode given to `{opener}` must be literally "r" or "w"')
        return None

    def _secret(self, node: ast.Call) -> None:
        given = _argument(node, 0, "name")
        if isinstance(given, ast.Constant) and isinstance(given.value, str) and given.value:
            self.secrets.append(given.value)
        else:
            self._problem(node, 'the name given to `Secret` must be literal text, as in Secret("api_key")')

    def _method(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "getattr" and len(node.args) > 1:
            asked = node.args[1]
            self.never_cut |= isinstance(asked, ast.Constant) and asked.value in _WHOLE_RUN_CALLS
        if not isinstance(node.func, ast.Attribute) or node.func.attr not in _WRITING_CALLS:
            return
        table = self._table_for_reading(node.func.value)
        if table is not None:
            message = f"`{node.func.attr}` on the table `{table}`, opened for reading: open it as {_open_w(table)}"
            self._problem(node, message)
        elif isinstance(node.func.value, ast.Name):
            self.variables.calls.append((node.func.value.id, node.func.attr, node))

    def _opener_passed_on(self, node: ast.Call) -> None:
        """`map(Table, names)` opens tables that the text does not name."""
        if isinstance(node.func, ast.Name) and node.func.id in ("isinstance", "issubclass", "cast"):
            return
        for argument in node.args:
            name = self.scopes.ours(argument)
            if name in _OPENERS:
                self._problem(
                    argument, f"`{name}` is passed on, so its edges cannot be read: call it with a literal name"
                )

    def _table_for_reading(self, value: ast.expr) -> str | None:
        """The name of the table that this expression opens without "w", or None."""
        if not isinstance(value, ast.Call) or self.scopes.ours(value.func) != "Table":
            return None
        name, mode = _argument(value, 0, "name"), _argument(value, 1, "mode")
        if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
            return None
        reads = mode is None or (isinstance(mode, ast.Constant) and mode.value == "r")
        return name.value if reads else None

    # -- agents ------------------------------------------------------------------------------------------------------

    def _is_agent(self, decorator: ast.expr) -> bool:
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        return self.scopes.ours(target) == "agent"

    def _read_agent(self, decorator: ast.expr, function: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        problems: list[Problem] = []
        if self.scopes.depth > 0:
            problems.append(
                _problem_at(self.file, function, f"the @agent `{function.name}` must stand at the top of the file")
            )
        call = decorator if isinstance(decorator, ast.Call) else ast.Call(decorator, [], [])
        ast.copy_location(call, decorator)
        inputs = self._agent_names(call, 0, "inputs", problems)
        outputs = self._agent_names(call, 1, "outputs", problems)
        if not inputs and not problems:
            message = f'the @agent `{function.name}` names no input: write @agent("input", "output")'
            problems.append(_problem_at(self.file, decorator, message))
        self.agents.append(
            AgentText(
                function=function.name,
                inputs=inputs,
                outputs=outputs,
                options=self._options(call, problems),
                is_async=isinstance(function, ast.AsyncFunctionDef),
                line=function.lineno,
                column=function.col_offset + 1,
                problems=tuple(problems),
            )
        )

    def _agent_names(self, call: ast.Call, index: int, keyword: str, problems: list[Problem]) -> tuple[Opened, ...]:
        given = _argument(call, index, keyword)
        if given is None or (isinstance(given, ast.Constant) and given.value is None):
            return ()
        listed = given.elts if isinstance(given, ast.List | ast.Tuple) else [given]
        names = []
        for item in listed:
            opener = self.scopes.ours(item.func) if isinstance(item, ast.Call) else None
            named = _argument(item, 0, "name") if isinstance(item, ast.Call) and opener in _OPENERS else item
            if isinstance(named, ast.Constant) and isinstance(named.value, str) and named.value:
                kind = opener if opener in _OPENERS and opener is not None else "name"
                names.append(Opened(named.value, kind, index == 1, item.lineno, item.col_offset + 1))
            else:
                advice = 'write it out, as in @agent("orders", "totals")'
                message = f"the {keyword} of @agent are no literal text, so its edges cannot be read: {advice}"
                problems.append(_problem_at(self.file, item, message))
        return tuple(names)

    def _options(self, call: ast.Call, problems: list[Problem]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        for keyword in call.keywords:
            if keyword.arg in ("inputs", "outputs"):
                continue
            try:
                if keyword.arg is None:
                    raise ValueError  # noqa: TRY301 - `**options` is one more form that no literal has
                options[keyword.arg] = ast.literal_eval(keyword.value)
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
                named = f"the option `{keyword.arg}`" if keyword.arg else "`**`"
                message = f"{named} of @agent must be written as a literal value"
                problems.append(_problem_at(self.file, keyword.value, message))
        return options


def _argument(call: ast.Call, index: int, keyword: str) -> ast.expr | None:
    if any(isinstance(argument, ast.Starred) for argument in call.args[: index + 1]):
        return call.args[0]  # no literal, whatever it holds
    if len(call.args) > index:
        return call.args[index]
    return next((each.value for each in call.keywords if each.arg == keyword), None)


def _never_moves_a_table(call: ast.Call) -> bool:
    """Whether this is the `replace` of a text (two values) or of a time (its fields), which no table's `replace` is."""
    if not isinstance(call.func, ast.Attribute) or call.func.attr != "replace":
        return False
    if any(isinstance(argument, ast.Starred) for argument in call.args):
        return False
    if len(call.args) >= 2:
        return True
    names = [keyword.arg for keyword in call.keywords]
    return not call.args and bool(names) and all(name in _DATETIME_FIELDS for name in names)


def _is_main_guard(test: ast.expr) -> bool:
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    sides = {ast.dump(test.left), ast.dump(test.comparators[0])}
    return sides == {ast.dump(ast.Name("__name__", ast.Load())), ast.dump(ast.Constant("__main__"))}


def _open_w(table: str) -> str:
    return f'Table("{table}", "w")'


def _problem_at(file: str, node: ast.AST, message: str) -> Problem:
    line: int | None = getattr(node, "lineno", None)
    column: int | None = getattr(node, "col_offset", None)
    return Problem(file, message, line, column + 1 if column is not None else None)
