"""The application: which route answers, who may ask, and errors as JSON in the form that the path's clients read."""

from __future__ import annotations

import hmac
import re
import traceback
from collections.abc import Awaitable, Callable
from functools import partial
from urllib.parse import unquote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from trivec.server import native_routes, openai_routes, openapi, page_routes, rerank_routes, search_routes, tei_routes
from trivec.server.errors import RequestError, error_response, speaks_openai
from trivec.server.service import Service

Handler = Callable[[Service, Request], Awaitable[Response]]

ROUTES: dict[str, dict[str, Handler]] = {
    "/encode": {"POST": native_routes.encode},
    "/score": {"POST": native_routes.score},
    "/explain": {"POST": page_routes.explain},
    "/token_weights": {"POST": native_routes.token_weights},
    "/search": {"POST": search_routes.search},
    "/documents/{id}": {"GET": search_routes.document},
    "/health": {"GET": native_routes.health},
    "/live": {"GET": native_routes.live},
    "/info": {"GET": native_routes.info},
    "/fingerprint": {"GET": native_routes.fingerprint},
    "/metrics": {"GET": native_routes.metrics},
    "/openapi.json": {"GET": openapi.document},
    "/v1/embeddings": {"POST": openai_routes.embeddings},
    "/embeddings": {"POST": openai_routes.embeddings},
    "/v1/models": {"GET": openai_routes.models},
    "/": {"GET": page_routes.page, "POST": tei_routes.root},
    "/page/{id}": {"GET": page_routes.page_file},
    "/embed": {"POST": tei_routes.embed},
    "/embed_sparse": {"POST": tei_routes.embed_sparse},
    "/embed_all": {"POST": tei_routes.embed_all},
    "/similarity": {"POST": tei_routes.similarity},
    "/tokenize": {"POST": tei_routes.tokenize},
    "/decode": {"POST": tei_routes.decode},
    "/rerank": {"POST": rerank_routes.rerank},
    "/v1/rerank": {"POST": rerank_routes.rerank},
    "/v2/rerank": {"POST": rerank_routes.rerank},
}
# Whoever watches over the process has no key; nor has a browser that opens the page, which asks for it.
_OPEN = ("/health", "/live")
_DOCUMENT, _PAGE = "/documents/", "/page/"


class App:
    """The ASGI application of one service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        key = service.settings.api_key
        self._authorization = None if key is None else f"Bearer {key}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            return
        # Clients that join addresses as text make "//embed" of a base URL that ends in a slash.
        path = re.sub("//+", "/", scope["path"])
        request = Request(scope, receive)
        try:
            response = await self._answer(path, request)
        except ClientDisconnect:
            self._service.metrics.failures.labels("Gone").inc()
            return
        except RequestError as error:
            if path not in _OPEN:  # a probe that is answered with "not yet" is no failure
                self._service.metrics.failures.labels(error.kind).inc()
            response = error_response(error, speaks_openai(path) if error.openai is None else error.openai)
        except Exception:
            traceback.print_exc()  # a mistake of the server's own: told in its log whole, to the client as such
            self._service.metrics.failures.labels("Backend").inc()
            failed = RequestError("Backend", "the server failed on this request", status=500)
            response = error_response(failed, speaks_openai(path))
        await response(scope, receive, send)

    async def _answer(self, path: str, request: Request) -> Response:
        self._authorize(path, request)
        pattern = path
        for prefix in (_DOCUMENT, _PAGE):
            if path.startswith(prefix):
                pattern = prefix + "{id}"
                # As it was sent: an id may hold an encoded slash.
                raw = request.scope.get("raw_path", path.encode()).decode("ascii", "replace")
                request.scope["path_params"] = {"id": unquote(raw.partition(prefix)[2])}
        methods = ROUTES.get(pattern)
        if methods is None:
            raise RequestError("NotFound", f"there is no {path:.200}: see /openapi.json for what there is")
        method = "GET" if request.method == "HEAD" else request.method
        handler = methods.get(method)
        if handler is None:
            refused = RequestError("MethodNotAllowed", f"{path} takes {', '.join(methods)}, not {method}")
            refused.allowed = (*methods, "HEAD") if "GET" in methods else tuple(methods)
            raise refused
        answered: Callable[[], Awaitable[Response]] = partial(handler, self._service, request)
        return await self._service.counted(pattern, answered()) if method == "POST" else await answered()

    def _authorize(self, path: str, request: Request) -> None:
        of_the_page = request.method in ("GET", "HEAD") and (path == "/" or path.startswith(_PAGE))
        if self._authorization is None or path in _OPEN or of_the_page:
            return
        given = request.headers.get("authorization", "").encode("utf-8", "replace")
        if not hmac.compare_digest(given, self._authorization):
            raise RequestError("Unauthorized", "this server wants its API key, as Authorization: Bearer KEY")
