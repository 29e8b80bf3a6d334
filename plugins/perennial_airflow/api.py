"""What Perennial serves beside Airflow's own pages, under Airflow's login: Data Docs, read from the store."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.core_api.security import resolve_user_from_token
from fastapi import Depends, FastAPI, HTTPException, Path, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from fastapi.security.utils import get_authorization_scheme_param

from perennial.claims import PATH_SEGMENT
from perennial.errors import ObjectMissing
from perennial.pages import index_key, page_key
from perennial_airflow.border import PAGES, store

GONE = "There is no such page: its batch was decided long ago, or has not been documented yet. See the task document."
# Whoever can write to the store could put a script into a page: none may run with a reader's login.
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; sandbox",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
}
Source = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Country = Annotated[str, Path(pattern=f"^{PATH_SEGMENT.pattern}$")]
Seq = Annotated[int, Path(gt=0, lt=2**63)]


class LoginNeeded(Exception):
    """Nobody is logged in: a person is sent to Airflow's login."""


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Airflow's own dependencies look for its auth manager in the application they run in."""
    app.state.auth_manager = get_auth_manager()
    yield


async def may_read(source: Source, request: Request) -> None:
    """Pages are for those who may see the DAG that takes the source in. Raises LoginNeeded, or 403."""
    scheme, bearer = get_authorization_scheme_param(request.headers.get("Authorization"))
    token = bearer if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN)
    try:
        user = await resolve_user_from_token(token)
    except HTTPException as error:
        raise LoginNeeded from error
    if not get_auth_manager().is_authorized_dag(method="GET", details=DagDetails(id=f"ingest_{source}"), user=user):
        raise HTTPException(403, f"You may not see ingest_{source}, nor its Data Docs.")


app = FastAPI(
    title="Perennial", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, dependencies=[Depends(may_read)]
)  # fmt: skip


@app.exception_handler(LoginNeeded)
async def to_login(request: Request, _: Exception) -> RedirectResponse:
    """Log in, then come back."""
    return RedirectResponse(get_auth_manager().get_url_login(next_url=str(request.url)))


@app.get("/{source}/index.html")
def source_index(source: Source) -> HTMLResponse:
    """A source's index."""
    return _page(index_key(source))


@app.get("/{source}/{country}/{seq}.html")
def batch_page(source: Source, country: Country, seq: Seq) -> HTMLResponse:
    """A batch's page."""
    return _page(page_key(source, country, seq))


def _page(key: str) -> HTMLResponse:
    try:
        return HTMLResponse(store().get(key), headers=HEADERS)
    except ObjectMissing as error:
        raise HTTPException(404, GONE) from error


SERVED = {"app": app, "url_prefix": PAGES, "name": "Perennial's Data Docs"}
