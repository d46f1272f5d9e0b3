"""Executing a program's file as Python would: fresh, with its siblings, its threads, its exit and its output.

The process stays warm: installed packages are kept between runs, the project's own modules are imported anew.
"""

from __future__ import annotations

import atexit
import functools
import io
import os
import sys
import sysconfig
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

OnLine = Callable[[str, str], None]  # the stream's name and the line's text, without its end

OUR_PACKAGES = frozenset({"streams", "nodes", "connectors", "millstream"})
PROJECT_PACKAGE = "millstream_project"  # what relative imports are relative to
_others: dict[Path, dict[str, types.ModuleType]] = {}  # by project, a thousand modules that are not its own
_SITE_PACKAGES = f"{os.sep}site-packages{os.sep}"
_INSTALLED = tuple({sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")})


class ProgramExit(Exception):
    """The program called `exit(code)` with a code that means failure."""

    def __init__(self, code: object) -> None:
        super().__init__(f"the program ended with exit code {code!r}" if isinstance(code, int) else str(code))
        self.exit_code = code


def execute(file: Path, *, project: Path, on_line: OnLine) -> None:
    """Run a program's file to its normal end: threads joined, atexit run. Raises what it raises, or ProgramExit."""
    with fresh_modules(file, project) as module, captured(on_line), _own_exits(project) as at_exit:
        before = set(threading.enumerate())
        try:
            exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)
        except SystemExit as exit_:
            if exit_.code not in (None, 0):
                raise ProgramExit(exit_.code) from exit_
        _join(before)
        at_exit()


def load(file: Path, *, project: Path, on_line: OnLine) -> types.ModuleType:
    """Import a file of `@agent` functions; its `__main__` part does not run. Raises what it raises, or ProgramExit."""
    with fresh_modules(file, project, name=f"{PROJECT_PACKAGE}.{file.stem}") as module, captured(on_line):
        try:
            exec(compile(file.read_bytes(), str(file), "exec", dont_inherit=True), module.__dict__)
        except SystemExit as exit_:
            raise ProgramExit(exit_.code or 0) from exit_
    return module


@contextmanager
def fresh_modules(file: Path, project: Path, *, name: str = "__main__") -> Iterator[types.ModuleType]:
    """A namespace for the file, which finds its siblings by absolute and by relative imports."""
    forget_project_modules(project)
    package = _package_of(file, project)
    module = types.ModuleType(name)
    module.__file__ = str(file)
    module.__package__ = package
    module.__dict__["__builtins__"] = __builtins__
    before_main, before_path, before_argv = sys.modules.get(name), list(sys.path), list(sys.argv)
    sys.modules[name] = module
    sys.path[:0] = list(dict.fromkeys([str(file.parent), str(project)]))
    sys.argv[:] = [str(file)]
    try:
        yield module
    finally:
        sys.path[:], sys.argv[:] = before_path, before_argv
        if name != "__main__":
            pass  # its functions go on looking themselves up there
        elif before_main is not None:
            sys.modules[name] = before_main
        else:
            del sys.modules[name]


def forget_project_modules(project: Path) -> None:
    """What the project's own files defined; the next import reads them again."""
    others = _others.setdefault(project, {})
    for name, module in list(sys.modules.items()):
        if name == "__main__" or others.get(name) is module:
            continue
        package = name.partition(".")[0]
        if package == PROJECT_PACKAGE or (package not in OUR_PACKAGES and _is_projects(module, project)):
            del sys.modules[name]
        else:
            others[name] = module


def _is_projects(module: types.ModuleType, project: Path) -> bool:
    file = getattr(module, "__file__", None)
    if file:
        return _is_own(file, project)
    return any(_is_own(place, project) for place in getattr(module, "__path__", ()))


@functools.lru_cache(maxsize=8192)
def _is_own(place: str, project: Path) -> bool:
    if place.startswith(_INSTALLED) or _SITE_PACKAGES in place:
        return False
    return Path(place).is_relative_to(project)


def _package_of(file: Path, project: Path) -> str:
    """The name that a relative import in the file starts from; its packages are made as they are needed."""
    name, folder = PROJECT_PACKAGE, project
    parts = file.parent.relative_to(project).parts if file.is_relative_to(project) else ()
    _make_package(name, folder if file.is_relative_to(project) else file.parent)
    for part in parts:
        name, folder = f"{name}.{part}", folder / part
        _make_package(name, folder)
    return name


def _make_package(name: str, folder: Path) -> None:
    package = types.ModuleType(name)
    package.__path__ = [str(folder)]
    sys.modules[name] = package


@contextmanager
def captured(on_line: OnLine) -> Iterator[None]:
    """What is printed inside the block goes to `on_line`, line by line."""
    out, err = _Lines("stdout", on_line), _Lines("stderr", on_line)
    with redirect_stdout(_text(out)), redirect_stderr(_text(err)):
        try:
            yield
        finally:
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            out.end()
            err.end()


class _Lines(io.RawIOBase):
    """A byte stream that hands each whole line on."""

    def __init__(self, name: str, on_line: OnLine) -> None:
        super().__init__()
        self._name = name
        self._on_line = on_line
        self._lock = threading.Lock()
        self._rest = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        given = bytes(data)
        with self._lock:
            *lines, self._rest = (self._rest + given).split(b"\n")
            for line in lines:
                self._on_line(self._name, line.decode(errors="replace").removesuffix("\r"))
        return len(given)

    def end(self) -> None:
        """Hand on a last line that has no end."""
        if self._rest:
            self.write(b"\n")


def _text(lines: _Lines) -> io.TextIOWrapper:
    return io.TextIOWrapper(lines, encoding="utf-8", errors="backslashreplace", write_through=True)  # type: ignore[arg-type]  # a raw stream writes whole


@contextmanager
def _own_exits(project: Path) -> Iterator[Callable[[], None]]:
    """`atexit` functions that the project's own code registers wait for the run's end, not the process's."""
    waiting: list[tuple[Callable[..., object], tuple[Any, ...], dict[str, Any]]] = []
    register, unregister = atexit.register, atexit.unregister

    def registered(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Callable[..., Any]:
        if _is_own(sys._getframe(1).f_code.co_filename, project):
            waiting.append((function, args, kwargs))
            return function
        return register(function, *args, **kwargs)

    def unregistered(function: Callable[..., Any]) -> None:
        waiting[:] = [each for each in waiting if each[0] != function]
        unregister(function)

    def run_all() -> None:
        while waiting:
            function, args, kwargs = waiting.pop()
            try:
                function(*args, **kwargs)
            except SystemExit:
                pass
            except Exception:  # noqa: BLE001 - as Python does at its own end: shown, and the others still run
                traceback.print_exc()

    atexit.register, atexit.unregister = registered, unregistered  # type: ignore[assignment]  # put back below
    try:
        yield run_all
    finally:
        atexit.register, atexit.unregister = register, unregister


def _join(before: set[threading.Thread]) -> None:
    """Wait for the non-daemon threads that the program has started, and those that they start."""
    while True:
        running = [t for t in threading.enumerate() if t not in before and not t.daemon]
        running = [t for t in running if t is not threading.current_thread()]
        if not running:
            return
        running[0].join()
