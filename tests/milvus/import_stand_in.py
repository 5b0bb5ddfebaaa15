"""In place of a Milvus server, which cannot run here: its import API over HTTP beside gRPC, on one port as there.

gRPC is answered by Milvus Lite's engine. The import API answers as Milvus' documentation shows it (REST v2, "Import"):
`create` gives a jobId, `describe` a state, progress and a detail a file, `list` records; refusals are a code and a
message with HTTP 200. Files are read from the stand-in's own storage, their columns compared with the collection's as
the server's Parquet reader does, and all rows of a job appear when it is completed. What a real server does besides
that is not shown by tests against this.
"""

import json
import re
import socket
import threading
from collections import Counter
from concurrent import futures
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import milvus_pb2_grpc
from test_milvus_connection import start_server

from struct_server import StructServer

PREFIX = "/v2/vectordb/jobs/import/"


class StandIn:
    """A server with a storage.

    Attributes:
        uri: Where it is.
        storage: The folder that relative paths of files lie in; absolute ones are read as they are.
        imported: How often each path was imported.
        requests: Every request's action and body.
        headers: Those of the last request.
        jobs: The jobs by number.
        lose: Actions whose next answers are lost, once for each mention, after the work is done.
        refuse: Actions whose next requests are answered with HTTP 503.
        full: How many more requests to create find too many jobs.
        held: Whether jobs stay at 50 %.
        tokens: The token vectors of each row imported, by id, as they stood in the file; for a server with a version.
        failing: A reason with which the next jobs fail.
    """

    def __init__(self, folder, version=None):
        self.storage = folder / "storage"
        self.storage.mkdir()
        self.imported, self.requests, self.jobs, self.headers = Counter(), [], {}, {}
        self.lose, self.refuse = [], []
        self.full, self.held, self.failing = 0, False, ""
        self.lock = threading.Lock()
        self._database = MilvusLite(str(folder / "server"))
        self.tokens = {}
        if version is None:
            self._grpc, grpc_port = start_server(self._database)
        else:
            self._grpc = grpc.server(futures.ThreadPoolExecutor(4))
            servicer = StructServer(self._database, version)
            milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, self._grpc)
            grpc_port = self._grpc.add_insecure_port("127.0.0.1:0")
            self._grpc.start()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._ports = {True: grpc_port, False: self._http.server_port}
        self.uri = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listening.close()
        self._http.shutdown()
        self._http.server_close()
        self._grpc.stop(grace=0).wait()
        self._database.close()

    def forget(self):
        """Forget all jobs, as a server does some hours after they ended."""
        with self.lock:
            self.jobs.clear()

    def engine(self, collection):
        return self._database.get_collection(collection)

    # One port: a connection that begins as HTTP/2 does is gRPC.

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                threading.Thread(target=self._join, args=(client,), daemon=True).start()

    def _join(self, client):
        with suppress(OSError):
            first = client.recv(3, socket.MSG_PEEK | socket.MSG_WAITALL)
            server = socket.create_connection(("127.0.0.1", self._ports[first == b"PRI"]))
            threading.Thread(target=_pass, args=(server, client), daemon=True).start()
            _pass(client, server)

    def _handler(self):
        stand_in = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                action = self.path.removeprefix(PREFIX)
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with stand_in.lock:
                    stand_in.requests.append((action, body))
                    stand_in.headers = dict(self.headers)
                    if action in stand_in.refuse:
                        stand_in.refuse.remove(action)
                        self.send_error(503)
                        return
                    answer = json.dumps(stand_in.answer(action, body)).encode()
                    if action in stand_in.lose:
                        stand_in.lose.remove(action)
                        self.connection.shutdown(socket.SHUT_RDWR)
                        return
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        return Handler

    # The API.

    def answer(self, action, body):
        if action == "create":
            return self._create(body)
        if action == "describe":
            job = self.jobs.get(body["jobId"])
            if job is None:
                return {
                    "code": 2100,
                    "message": f"import job does not exist, jobID={body['jobId']}: importing data failed",
                }
            self._advance(job)
            return {"code": 0, "data": job}
        if action == "list":
            names = ("jobId", "collectionName", "state", "progress", "reason")
            jobs = [job for job in self.jobs.values() if job["collectionName"] == body["collectionName"]]
            return {"code": 0, "data": {"records": [{k: job[k] for k in names if k in job} for job in jobs]}}
        return {"code": 1100, "message": "no such path"}

    def _create(self, body):
        if self.full:
            self.full -= 1
            return {
                "code": 2100,
                "message": "The number of jobs has reached the limit, please try again later. If your request is set "
                "to only import a single file, please consider importing multiple files in one request.",
            }
        if not self._database.has_collection(body["collectionName"]):
            return {"code": 100, "message": f"can't find collection[collection={body['collectionName']}]"}
        number = str(448_761_313_698_322_011 + len(self.requests))
        self.jobs[number] = {
            "jobId": number,
            "collectionName": body["collectionName"],
            "state": "Pending",
            "progress": 0,
            "importedRows": 0,
            "totalRows": 0,
            "fileSize": 0,
            "details": [
                {
                    "fileName": f'id:{i} paths:"{paths[0]}" ',
                    "fileSize": 0,
                    "state": "Pending",
                    "progress": 0,
                    "importedRows": 0,
                    "totalRows": 0,
                }
                for i, paths in enumerate(body["files"])
            ],
        }
        return {"code": 0, "data": {"jobId": number}}

    def _advance(self, job):
        if job["state"] == "Pending":
            job |= {"state": "Importing", "progress": 50}
        elif job["state"] == "Importing" and not self.held:
            if self.failing:
                job |= {"state": "Failed", "progress": 0, "reason": self.failing}
                return
            try:
                tables = {path: self._table(path, job["collectionName"]) for path in _paths(job)}
            except (OSError, ValueError) as error:
                job |= {"state": "Failed", "progress": 0, "reason": f"{error}: importing data failed"}
                return
            for path, table in tables.items():
                self.engine(job["collectionName"]).insert(list(map(_record, table.to_pylist())))
                self.imported[path] += 1
            rows = sum(table.num_rows for table in tables.values())
            job |= {
                "state": "Completed",
                "progress": 100,
                "completeTime": "2026-04-01T06:17:55Z",
                "importedRows": rows,
                "totalRows": rows,
            }

    def _table(self, path, collection):
        table = pq.read_table(Path(path) if path.startswith("/") else self.storage / path)
        if "token_vectors" in table.schema.names:
            self.tokens |= zip(table.column("id").to_pylist(), table.column("token_vectors"), strict=True)
            table = table.drop_columns(["token_vectors"])
        fields = {field.name: field.dtype.name for field in self.engine(collection).schema.fields} | {"$meta": "JSON"}
        types = {
            "VARCHAR": pa.types.is_string,
            "JSON": pa.types.is_string,
            "INT64": pa.types.is_int64,
            "FLOAT_VECTOR": lambda kind: pa.types.is_list(kind) and pa.types.is_float32(kind.value_type),
            "SPARSE_FLOAT_VECTOR": pa.types.is_string,
        }
        for name in fields.keys() - set(table.schema.names) - {"$meta"}:
            raise ValueError(f"schema not equal, err=field '{name}' not in arrow schema")
        for field in table.schema:
            if field.name not in fields:
                raise ValueError(f"the field: {field.name} is not in schema")
            if not types[fields[field.name]](field.type) or table.column(field.name).null_count:
                raise ValueError(f"field '{field.name}' type mis-match, arrow data type get '{field.type}'")
        return table


def _pass(one, other):
    with suppress(OSError):
        while data := one.recv(65_536):
            other.sendall(data)
    for each in (one, other):
        with suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


def _paths(job):
    return [re.search('paths:"(.*)" ', detail["fileName"])[1] for detail in job["details"]]


def _record(row):
    sparse = {int(index): weight for index, weight in json.loads(row.pop("sparse")).items()}
    if not sparse:
        raise ValueError("empty sparse vector")
    return {**json.loads(row.pop("$meta")), **row, "sparse": sparse}
