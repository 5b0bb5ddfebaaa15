"""A Milvus server's import API over HTTP: jobs that read Parquet files from the server's own storage.

    POST /v2/vectordb/jobs/import/create      {"collectionName", "dbName", "files": [[path], ...]} -> {"jobId"}
    POST /v2/vectordb/jobs/import/describe    {"jobId", "dbName"} -> state, progress, rows, reason, a detail per file
    POST /v2/vectordb/jobs/import/list        {"collectionName", "dbName"} -> {"records": [{"jobId", "state", ...}]}

Answers are {"code": 0, "data": ...}, or another code with a message. A job's files become rows all at once, or, if it
fails, not at all. A server forgets jobs some hours after they ended. Knows nothing of what the files hold.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from trivec.errors import MilvusError
from trivec.milvus.connection import credentials, without_credentials

# Seconds between two attempts of a request that was lost, and between two looks at jobs; they double up to the last.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0
# Servers before 2.4.1 said 200 where others say 0.
_DONE = (0, 200)
# HTTP's ways to say that it may go better later.
_LATER = (429, 502, 503, 504)
_FULL = "number of jobs has reached the limit"
_NO_JOB = "does not exist"


class LostJobError(MilvusError):
    """The server knows no job of this number, any more; or it is not known whether a job was made."""


class FullError(MilvusError):
    """The server takes no further job until others have ended."""


@dataclass(frozen=True)
class Job:
    """What a server says of a job.

    Attributes:
        id: Its number.
        state: "Pending", "Importing", "Completed", "Failed", or what other versions say in between.
        progress: 0 to 100.
        reason: Why it failed; empty where it did not.
        rows: Rows imported so far.
        files: What it says of each file's name, in which its path occurs.
    """

    id: str
    state: str
    progress: int = 0
    reason: str = ""
    rows: int = 0
    files: tuple[str, ...] = ()

    @property
    def completed(self) -> bool:
        """Whether its rows are in the collection."""
        return self.state == "Completed"

    @property
    def failed(self) -> bool:
        """Whether it ended without."""
        return self.state == "Failed"


class ImportApi:
    """The import API of a server.

    Args:
        uri: "http(s)://host:port", as for gRPC, which a server answers on the same port.
        token: An API key or "user:password".
        db_name: The database; empty means the default one.
        timeout: Seconds that the server is given to answer, attempts after a loss included; None: for ever.

    Raises:
        MilvusError: The URI is of another kind.
    """

    def __init__(self, uri: str, token: str, db_name: str, timeout: float | None) -> None:
        parts = urlsplit(without_credentials(uri))
        if parts.scheme not in ("http", "https") or not parts.netloc:
            raise MilvusError(f"{without_credentials(uri)!r} has no import API: give http://host:19530")
        self.place = f"{parts.scheme}://{parts.netloc}"
        self._token = token or credentials(uri)
        self._db_name = db_name
        self._timeout = timeout

    def create(self, collection: str, paths: Sequence[str]) -> str:
        """Make a job that imports files, and return its number.

        Args:
            collection: The collection's name.
            paths: The files, as the server's storage knows them.

        Raises:
            FullError: The server has as many jobs as it takes.
            LostJobError: The connection was lost, so that there may be such a job or not.
            MilvusError: The server refused.
        """
        data = self._ask("create", {"collectionName": collection, "files": [[path] for path in paths]}, once=True)
        return str(data["jobId"])

    def describe(self, job: str) -> Job:
        """Return what the server says of a job.

        Raises:
            LostJobError: It knows none of this number.
            MilvusError: It does not answer, or refuses.
        """
        return _job(job, self._ask("describe", {"jobId": job}))

    def jobs(self, collection: str) -> list[Job]:
        """Return the jobs of a collection that the server still knows, without their files.

        Raises:
            MilvusError: It does not answer, or refuses.
        """
        records = self._ask("list", {"collectionName": collection}).get("records") or []
        return [_job(str(record["jobId"]), record) for record in records]

    def _ask(self, action: str, body: dict[str, Any], *, once: bool = False) -> Any:
        doing = f"{self.place}: cannot {action} import jobs" if action == "list" else f"{self.place}: import, {action}"
        began, pause = time.monotonic(), _FIRST_PAUSE
        while True:
            try:
                return self._answer(action, body, doing)
            except _LostError as lost:
                if once and not lost.unsent:
                    raise LostJobError(f"{doing}: {lost}") from lost
                spent = time.monotonic() - began
                if self._timeout is not None and spent + pause >= self._timeout:
                    raise MilvusError(
                        f"{doing}: the Milvus server has not answered for {spent:.0f} s ({lost}): check that it runs "
                        "and can be reached, or give it longer (timeout)"
                    ) from lost
            time.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE)

    def _answer(self, action: str, body: dict[str, Any], doing: str) -> Any:
        if self._db_name:
            body = {**body, "dbName": self._db_name}
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        request = urllib.request.Request(  # noqa: S310 -- http and https only, see the constructor
            f"{self.place}/v2/vectordb/jobs/import/{action}", json.dumps(body).encode(), headers, method="POST"
        )
        try:
            with urllib.request.urlopen(request, timeout=self._timeout) as response:  # noqa: S310
                answer = json.load(response)
        except urllib.error.HTTPError as error:
            if error.code in _LATER:
                raise _LostError(f"HTTP {error.code}", unsent=error.code in (429, 503)) from error
            if error.code in (401, 403):
                raise MilvusError(
                    f"{doing}: the token was rejected: check token (an API key or user:password)"
                ) from error
            remedy = ": is this a Milvus server of 2.4 or later?" if error.code == 404 else ""
            raise MilvusError(f"{doing}: HTTP {error.code} {error.reason}{remedy}") from error
        except (OSError, http.client.HTTPException) as error:
            reason = error.reason if isinstance(error, urllib.error.URLError) else error
            raise _LostError(str(reason), unsent=isinstance(reason, ConnectionRefusedError)) from error
        except ValueError as error:
            raise MilvusError(f"{doing}: the answer is no JSON: is this a Milvus server?") from error
        return _data(answer, doing)


class _LostError(Exception):
    """A request was not answered; `unsent` where the server has certainly not begun with it."""

    def __init__(self, reason: str, *, unsent: bool) -> None:
        super().__init__(reason)
        self.unsent = unsent


def _data(answer: Any, doing: str) -> Any:
    if not isinstance(answer, dict) or "code" not in answer:
        raise MilvusError(f"{doing}: the answer is {answer!r:.60}: is this a Milvus server?")
    if answer["code"] in _DONE:
        return answer.get("data") or {}
    message = " ".join(str(answer.get("message", "")).split())
    if _FULL in message:
        raise FullError(f"{doing}: {message}")
    if "job" in message and _NO_JOB in message:
        raise LostJobError(f"{doing}: {message}")
    raise MilvusError(f"{doing}: {message or answer['code']}")


def _job(identifier: str, said: dict[str, Any]) -> Job:
    return Job(
        identifier,
        str(said.get("state", "")),
        int(said.get("progress") or 0),
        str(said.get("reason") or ""),
        int(said.get("importedRows") or 0),
        tuple(str(detail.get("fileName", "")) for detail in said.get("details") or ()),
    )
