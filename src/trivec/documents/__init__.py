"""Documents, and the files they are read from: folders of text and HTML files, JSON lines, CSV, TSV and Parquet.

Documents are read one at a time, so that a file larger than memory passes through. Nothing here knows about tokens,
vectors or Milvus.
"""

from trivec.documents.bad_records import BadRecord
from trivec.documents.document import Document, DocumentError, MetadataError, as_document, content_id
from trivec.documents.finding import RECORD_SUFFIXES, TEXT_SUFFIXES
from trivec.documents.reading import DocumentFiles, read_documents, read_texts

__all__ = [
    "RECORD_SUFFIXES",
    "TEXT_SUFFIXES",
    "BadRecord",
    "Document",
    "DocumentError",
    "DocumentFiles",
    "MetadataError",
    "as_document",
    "content_id",
    "read_documents",
    "read_texts",
]
