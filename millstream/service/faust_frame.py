"""A `faust.App` as the frame of the service: whose app it is, and how the service's tree hangs in it.

faust.App            the user's own, with its agents; else ours, whose Kafka client is off
└── Hosted
    └── Millstream   the tree of service.py; records never pass through Faust
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from mode import Service

from millstream.project import Project
from millstream.service.service import Millstream
from streams.errors import UsageError

if TYPE_CHECKING:
    from faust import App

LOOPBACK = "127.0.0.1"  # Faust's pages know no tokens
INSTALL = "pip install 'millstream[faust]'"


def has_faust() -> bool:
    """Whether it can be imported: it is an extra."""
    try:
        importlib.import_module("faust")
    except ImportError:
        return False
    return True


class Hosted(Service):
    """The service as a part of an app. A failure of it ends the app, and so the worker."""

    root: Millstream | None = None

    async def make_root(self) -> Millstream | None:
        """The tree, not started; None where the service was told to end before it began."""
        raise NotImplementedError

    async def on_start(self) -> None:
        self.root = await self.make_root()
        if self.root is not None:
            self.add_dependency(self.root)
            self.add_future(self._watch(self.root))

    async def _watch(self, root: Millstream) -> None:
        await root.ended.wait()
        if root.failure is not None:
            await self.crash(root.failure)


def make_app(project: Project) -> App:
    """The app that setting `faust_app` names, or one of our own. Raises UsageError."""
    if not has_faust():
        raise UsageError("Faust is not installed", hint=INSTALL)
    if project.settings.faust_app is not None:
        return _app_of_user(project, project.settings.faust_app)
    import faust

    project.settings.state_dir.mkdir(exist_ok=True)
    app = faust.App(
        "millstream",
        datadir=str(project.settings.state_dir / "faust"),
        web_bind=LOOPBACK,
        web_host=LOOPBACK,
    )
    app.boot_strategy.enable_kafka = False
    return app


def frame_of(project: Project, root: Millstream) -> App:
    """An app that hosts this tree, for `millstream up`, which has the signals and the exit code."""
    app = make_app(project)
    port = project.settings.faust_web_port
    app.conf.web_enabled = port is not None
    if port is not None:
        app.conf.web_port, app.conf.web_bind = port, LOOPBACK

    class MillstreamService(Hosted):
        async def make_root(self) -> Millstream:
            return root

    app.service(MillstreamService)
    return app


def _app_of_user(project: Project, name: str) -> App:
    import faust

    module_name, _, attribute = name.partition(":")
    if str(project.directory) not in sys.path:
        sys.path.append(str(project.directory))  # last: a user's file must not hide ours
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"faust_app: {name} can't be loaded: {error}",
            hint="write module:app, with the module's file in the project",
        ) from error
    if not isinstance(found, faust.App):
        raise UsageError(f"faust_app: {name} is no faust.App, but {type(found).__name__}")
    return found
