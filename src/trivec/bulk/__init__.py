"""Rows of a collection as files: what a row may hold, and the layout that a Milvus server imports. No pymilvus."""
