"""A stand-in for a Milvus server from 2.6.4 on: Milvus Lite behind TCP, with an array of structs put on top.

It answers what pymilvus sends, in the protocol's own messages: the field in a collection's description, its values in
rows, an index on it, and MaxSim over all rows as the sum that a server gives. What a real server does with the same
requests, it cannot show.
"""

# ruff: noqa: N802

# ruff: noqa: N802

from __future__ import annotations

from collections.abc import Iterator
from concurrent import futures
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
from milvus_lite.adapter.grpc.servicer import MilvusServicer
from milvus_lite.db import MilvusLite
from pymilvus.grpc_gen import common_pb2, milvus_pb2, milvus_pb2_grpc, schema_pb2

_DTYPES = {
    common_pb2.EmbListFloatVector: "f4",
    common_pb2.EmbListFloat16Vector: "f2",
    common_pb2.EmbListInt8Vector: "i1",
}


class StructServer(MilvusServicer):
    """Milvus Lite's answers, and those about the array of structs.

    Attributes:
        version: What it says it is.
        indexes: Metric by path of the vectors within.
        requests: Of each upsert, its bytes.
    """

    def __init__(self, database: MilvusLite, version: str) -> None:
        super().__init__(database)
        self.version = version
        self.structs: list[schema_pb2.StructArrayFieldSchema] = []
        self.rows: dict[str, schema_pb2.VectorField] = {}
        self.indexes: dict[str, str] = {}
        self.requests: list[int] = []

    def GetVersion(self, request, context):
        return milvus_pb2.GetVersionResponse(status=common_pb2.Status(), version=self.version)

    def CreateCollection(self, request, context):
        self.structs = list(schema_pb2.CollectionSchema.FromString(request.schema).struct_array_fields)
        return super().CreateCollection(request, context)

    def DescribeCollection(self, request, context):
        answer = super().DescribeCollection(request, context)
        answer.schema.struct_array_fields.extend(self.structs)
        return answer

    def CreateIndex(self, request, context):
        if "[" not in request.field_name:
            return super().CreateIndex(request, context)
        self.indexes[request.field_name] = next(
            pair.value for pair in request.extra_params if pair.key == "metric_type"
        )
        return common_pb2.Status()

    def DescribeIndex(self, request, context):
        answer = super().DescribeIndex(request, context)
        answer.index_descriptions.extend(
            milvus_pb2.IndexDescription(field_name=path, index_name=path)
            for path in self.indexes
            if request.index_name in ("", path)
        )
        if answer.index_descriptions:
            answer.status.Clear()
        return answer

    def Upsert(self, request, context):
        self.requests.append(request.ByteSize())
        columns = {column.field_name: column for column in request.fields_data}
        if self.structs:
            ids = columns["id"].scalars.string_data.data
            (within,) = columns[self.structs[0].name].struct_arrays.fields
            self.rows.update(zip(ids, within.vectors.vector_array.data, strict=True))
        kept = [column for column in request.fields_data if column.type != schema_pb2.ArrayOfStruct]
        del request.fields_data[:]
        request.fields_data.extend(kept)
        return super().Upsert(request, context)

    def Query(self, request, context):
        asked = [struct for struct in self.structs if struct.name in request.output_fields]
        for struct in asked:
            request.output_fields.remove(struct.name)
        answer = super().Query(request, context)
        for struct in asked:
            ids = next(column for column in answer.fields_data if column.field_name == "id").scalars.string_data.data
            answer.fields_data.append(self._column(struct, ids))
        return answer

    def Search(self, request, context):
        params = {pair.key: pair.value for pair in request.search_params}
        if "[" not in params["anns_field"]:
            return super().Search(request, context)
        (placeholder,) = common_pb2.PlaceholderGroup.FromString(request.placeholder_group).placeholders
        result = schema_pb2.SearchResultData(num_queries=len(placeholder.values), output_fields=request.output_fields)
        for value in placeholder.values:
            asked = np.frombuffer(value, _DTYPES[placeholder.type]).reshape(-1, self._dim).astype(np.float32)
            query = milvus_pb2.QueryRequest(
                collection_name=request.collection_name, expr=request.dsl, output_fields=request.output_fields
            )
            found = super().Query(query, context)
            places = {
                each: place
                for place, each in enumerate(
                    next(column for column in found.fields_data if column.field_name == "id").scalars.string_data.data
                )
            }
            cosine = self.indexes[params["anns_field"]].endswith("COSINE")
            scores = {each: _maxsim(asked, self._vectors(each), cosine) for each in places}
            best = sorted(scores, key=lambda each: -scores[each])[: int(params["topk"])]
            result.topks.append(len(best))
            result.ids.str_id.data.extend(best)
            result.scores.extend(scores[each] for each in best)
            _append(result.fields_data, found.fields_data, [places[each] for each in best])
        result.top_k = max(result.topks, default=0)
        return milvus_pb2.SearchResults(status=common_pb2.Status(), results=result)

    @property
    def _dim(self) -> int:
        return int(next(pair.value for pair in self.structs[0].fields[0].type_params if pair.key == "dim"))

    def _vectors(self, identifier):
        row = self.rows[identifier]
        kind = row.WhichOneof("data")
        flat = row.float_vector.data if kind == "float_vector" else getattr(row, kind)
        dtype = {"float16_vector": "f2", "int8_vector": "i1"}.get(kind)
        numbers = np.array(flat, "f4") if dtype is None else np.frombuffer(flat, dtype).astype("f4")
        return numbers.reshape(-1, self._dim)

    def _column(self, struct, ids):
        column = schema_pb2.FieldData(field_name=struct.name, type=schema_pb2.ArrayOfStruct)
        within = column.struct_arrays.fields.add(field_name=struct.fields[0].name, type=schema_pb2.ArrayOfVector)
        within.vectors.dim = within.vectors.vector_array.dim = self._dim
        within.vectors.vector_array.element_type = struct.fields[0].element_type
        within.vectors.vector_array.data.extend(self.rows[each] for each in ids)
        return column


def _maxsim(query, document, cosine):
    if cosine:
        query = query / np.linalg.norm(query, axis=1, keepdims=True)
        document = document / np.linalg.norm(document, axis=1, keepdims=True)
    return float((query @ document.T).max(axis=1).sum())


def _append(columns, found, places):
    """Add rows of text and metadata to the columns of an answer."""
    for column in found:
        if column.field_name == "id":
            continue
        there = next((each for each in columns if each.field_name == column.field_name), None)
        if there is None:
            there = columns.add(field_name=column.field_name, type=column.type, is_dynamic=column.is_dynamic)
        kind = column.scalars.WhichOneof("data")
        data = getattr(column.scalars, kind).data
        getattr(there.scalars, kind).data.extend(data[place] for place in places)


@contextmanager
def struct_server(folder: Path, version: str) -> Iterator[tuple[StructServer, str]]:
    """Run one over a Milvus Lite file and give it with its URI."""
    database = MilvusLite(str(folder))
    servicer = StructServer(database, version)
    server = grpc.server(futures.ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0)])
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield servicer, f"http://127.0.0.1:{port}"
    finally:
        server.stop(grace=0).wait()
        database.close()
