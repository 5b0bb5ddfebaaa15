"""The server that people write for BGE-M3 today: FlagEmbedding in a FastAPI file, started with uvicorn.

    MODEL=folder THREADS=2 uvicorn fastapi_flagembedding:app --app-dir benchmarks/peers

Written as such files are: a route that is a plain function, so that FastAPI runs up to 40 of them in threads, the model
called from each. `max_length` is the model's own, as everybody's here; FlagEmbedding would read 512 tokens otherwise.
"""

from __future__ import annotations

import os

import torch
from fastapi import FastAPI
from FlagEmbedding import BGEM3FlagModel
from pydantic import BaseModel

torch.set_num_threads(int(os.environ["THREADS"]))
model = BGEM3FlagModel(os.environ["MODEL"], use_fp16=False, devices="cpu")
max_length = min(8192, model.model.model.config.max_position_embeddings - 2)
app = FastAPI()


class EncodeRequest(BaseModel):
    """A request's body."""

    texts: list[str]


@app.post("/encode")
def encode(request: EncodeRequest) -> dict[str, list]:
    output = model.encode(request.texts, max_length=max_length, return_dense=True, return_sparse=True)
    return {
        "dense": output["dense_vecs"].tolist(),
        "sparse": [{token: float(weight) for token, weight in row.items()} for row in output["lexical_weights"]],
    }


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}
