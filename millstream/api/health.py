"""GET /healthz, /readyz, /metrics."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from millstream.api.answer import json_response
from millstream.api.context import ApiContext


def routes(context: ApiContext) -> Sequence[BaseRoute]:
    """Asked by whoever keeps the service running, so none needs a token."""

    async def healthz(_request: Request) -> Response:
        return json_response({"status": "ok"})

    async def readyz(_request: Request) -> Response:
        missing = context.missing()
        return json_response({"ready": not missing, "missing": missing}, status=503 if missing else 200)

    def metrics(_request: Request) -> Response:
        from millstream.service.metrics import exposition  # loaded when first asked for: it is not needed to be ready

        text, media_type = exposition(context)
        return Response(text, media_type=media_type)

    return [Route("/healthz", healthz), Route("/readyz", readyz), Route("/metrics", metrics)]
