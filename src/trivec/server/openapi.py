"""What the server takes and gives, as OpenAPI."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from trivec.server import arrays
from trivec.server.service import Service


async def document(_service: Service, _request: Request) -> Response:
    """`GET /openapi.json`."""
    return arrays.as_json({})
