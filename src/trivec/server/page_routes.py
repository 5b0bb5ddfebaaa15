"""The search page and what it asks besides searching: why a text matches."""

from __future__ import annotations

from importlib.resources import files

from starlette.requests import Request
from starlette.responses import Response

from trivec.server import arrays, fields
from trivec.server.errors import RequestError
from trivec.server.service import Service

_KINDS = {
    "page.css": "text/css; charset=utf-8",
    "labels.js": "text/javascript; charset=utf-8",
    "picture.js": "text/javascript; charset=utf-8",
    "server.js": "text/javascript; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
}
# Nothing but the page's own files, from this server; texts of documents are never markup.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; "
    "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": _POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


async def page(_service: Service, _request: Request) -> Response:
    """`GET /`: the page, which needs no key; what it asks for does."""
    return _file("index.html", "text/html; charset=utf-8")


async def page_file(_service: Service, request: Request) -> Response:
    """`GET /page/{name}`: a file of the page's."""
    name = request.path_params["id"]
    if name not in _KINDS:
        raise RequestError("NotFound", f"the page has no file {name!r:.80}")
    return _file(name, _KINDS[name])


async def explain(service: Service, request: Request) -> Response:
    """`POST /explain`: `M3Model.explain`, the words of a query and a text and which answer which."""
    body = await service.bodies.read(request)
    query, text = fields.text(body, "query"), fields.text(body, "text")
    model = service.model
    explanation = await service.in_thread(lambda: model.explain(query, text))
    return arrays.as_json(explanation.to_dict())


def _file(name: str, kind: str) -> Response:
    content = files("trivec.page").joinpath(name).read_bytes()
    return Response(content, headers=_HEADERS | {"content-type": kind})
