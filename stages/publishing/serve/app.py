"""The web application: pages, the endpoint, the arena, annotation and experiments behind one guard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request as HttpRequest
from starlette.responses import FileResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route

from stages.base.errors import ResourceError
from stages.publishing.serve.annotation import Annotation
from stages.publishing.serve.arena import Arena
from stages.publishing.serve.endpoint import Endpoint
from stages.publishing.serve.experiments import Experiments
from stages.publishing.serve.guard import Guard
from stages.publishing.serve.models import Shelf
from stages.publishing.serve.protocol import ApiError

PAGES = Path(__file__).with_name("pages")
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}


def create_app(
    shelf: Shelf, arena: Arena, annotation: Annotation, experiments: Experiments, token: str | None = None
) -> Guard:
    """token: see `guard.Guard`."""

    async def home(http: HttpRequest) -> Response:
        labels = annotation.pairs is not None or annotation.answers is not None
        return RedirectResponse("/chat" if shelf.folders else "/annotate" if labels else "/compare")

    async def health(http: HttpRequest) -> Response:
        load = {name: {"answering": live, "waiting": waiting} for name, (live, waiting) in shelf.load.items()}
        return JSONResponse({"status": "ok", "loaded": load})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        shelf.start()
        yield
        shelf.close()

    routes: list[BaseRoute] = [
        Route("/", home, methods=["GET"]),
        Route("/health", health, methods=["GET"]),
        *Endpoint(shelf).routes,
        *arena.routes,
        *annotation.routes,
        *experiments.routes,
        *(_page(path) for path in sorted(PAGES.iterdir()) if path.suffix in TYPES),
    ]
    handlers = {ApiError: _refuse, HTTPException: _refuse, ResourceError: _refuse, Exception: _refuse}
    return Guard(Starlette(routes=routes, lifespan=lifespan, exception_handlers=handlers), token)  # type: ignore[arg-type]


def _page(path: Path) -> Route:
    """/chat is pages/chat.html; scripts and styles stand under their own names."""

    async def page(http: HttpRequest) -> Response:
        return FileResponse(path, media_type=TYPES[path.suffix])

    return Route(f"/{path.stem if path.suffix == '.html' else path.name}", page, methods=["GET"])


async def _refuse(http: HttpRequest, error: Exception) -> Response:
    if isinstance(error, HTTPException):  # no such page, or another method
        error = ApiError(f"{http.method} {http.url.path[:200]}: {error.detail}", status=error.status_code)
    elif isinstance(error, ResourceError):
        error = ApiError(str(error), status=507)
    elif not isinstance(error, ApiError):
        error = ApiError(f"a fault of the server ({type(error).__name__}); see what it printed", status=500)
    headers = {"retry-after": "1"} if error.status == 429 else None
    return JSONResponse(error.body, error.status, headers=headers)
