"""The project's files on disk: which belong to it, and their texts. The only module of the graph that reads files."""

from __future__ import annotations

import io
import os
import tokenize
from collections.abc import Iterator
from pathlib import Path

from nodes.errors import GraphUnreadable
from nodes.graph.build import Sources
from nodes.graph.file import GRAPH_FILE
from nodes.graph.problem import Problem

_SKIPPED_DIRECTORIES = frozenset({"__pycache__", "node_modules", "site-packages", "venv"})
SUFFIXES = (".py",)


def project_files(project_dir: Path) -> Iterator[tuple[str, Path]]:
    """graph.yml and the python files, as (relative path with `/`, path), sorted. Hidden directories, environments and
    nested projects' environments are passed over; links to directories are not followed."""
    if (project_dir / GRAPH_FILE).is_file():
        yield GRAPH_FILE, project_dir / GRAPH_FILE
    for directory, names, files in os.walk(project_dir):
        here = Path(directory)
        names[:] = sorted(
            name
            for name in names
            if not name.startswith(".")
            and name not in _SKIPPED_DIRECTORIES
            and not (here / name / "pyvenv.cfg").exists()
        )
        for name in sorted(files):
            if name.endswith(SUFFIXES) and not name.startswith("."):
                yield (here / name).relative_to(project_dir).as_posix(), here / name


def read_graph_text(project_dir: Path, *, required: bool) -> str | None:
    """The text of graph.yml, or None where it may be absent and is. Raises GraphUnreadable."""
    path = project_dir / GRAPH_FILE
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError as error:
        if not required:
            return None
        hint = "Go to a project, name one with --project, or make one with `millstream init`."
        raise GraphUnreadable(f"there is no such file in {project_dir}", file=GRAPH_FILE, hint=hint) from error
    except UnicodeDecodeError as error:
        raise GraphUnreadable(f"byte {error.start} is not UTF-8", file=GRAPH_FILE, hint="Save it as UTF-8.") from error
    except OSError as error:
        raise GraphUnreadable(f"the file cannot be read: {error.strerror}", file=GRAPH_FILE) from error


def read_sources(project_dir: Path) -> Sources:
    """The texts of the project's python files; those that cannot be read come with their problem."""
    texts: dict[str, str] = {}
    faults: dict[str, Problem] = {}
    for name, path in project_files(project_dir):
        if name == GRAPH_FILE:
            continue
        try:
            content = path.read_bytes()
            encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
            texts[name] = content.decode(encoding)
        except (UnicodeDecodeError, SyntaxError) as error:
            faults[name] = Problem(name, f"the file is not UTF-8 text: {error}")
        except FileNotFoundError:
            continue  # deleted since the directory was listed
        except OSError as error:
            faults[name] = Problem(name, f"the file cannot be read: {error.strerror}")
    return Sources(texts, faults)
