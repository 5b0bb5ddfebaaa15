"""Storing documents with BGE-M3's vectors in Milvus, and searching them. Needs the extra `trivec[milvus]`.

Example:
    >>> from trivec import M3Model
    >>> from trivec.milvus import M3Collection
    >>> with M3Collection("notes", M3Model.load("BAAI/bge-m3"), uri="milvus.db") as notes:  # doctest: +SKIP
    ...     notes.add(["Alan Turing was born in Maida Vale, London.", "AI was founded as a discipline in 1956."])
    ...     for hit in notes.search("Where was Turing born?", mode="hybrid", limit=3):
    ...         print(hit.score, hit.text)
"""

from trivec.errors import CollectionMismatchError, MilvusError
from trivec.support.extras import require

# Not `pymilvus` alone: without it, a namespace of that name is still there, for trivec's own import path.
require("pymilvus.exceptions")

from trivec.milvus import forked  # noqa: F401 -- what it sets up is all that is wanted
from trivec.milvus.adding import Added
from trivec.milvus.catalog import CollectionFacts, drop_collection, list_collections
from trivec.milvus.collection import M3Collection
from trivec.milvus.importing import Imported, import_folder
from trivec.milvus.indexing import Indexed, delete_documents, index_documents
from trivec.milvus.model_record import ModelRecord
from trivec.milvus.settings import DISKANN, HNSW, IVF_SQ8
from trivec.search.fusion import RRF, Weighted
from trivec.search.hits import Hit

__all__ = [
    "DISKANN",
    "HNSW",
    "IVF_SQ8",
    "RRF",
    "Added",
    "CollectionFacts",
    "CollectionMismatchError",
    "Hit",
    "Imported",
    "Indexed",
    "M3Collection",
    "MilvusError",
    "ModelRecord",
    "Weighted",
    "delete_documents",
    "drop_collection",
    "import_folder",
    "index_documents",
    "list_collections",
]
