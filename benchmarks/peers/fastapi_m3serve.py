"""m3serve over HTTP: a library with batching of its own and no server, so here its README's example is a route.

    MODEL=folder THREADS=2 uvicorn fastapi_m3serve:app --app-dir benchmarks/peers

`use_fp16` does nothing on a CPU. `batch_delay=0` is its README's advice for one caller, the default of 0.005 for many:
DELAY is one of them, and both take part.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import torch
from fastapi import FastAPI
from m3serve import Engine
from pydantic import BaseModel

torch.set_num_threads(int(os.environ["THREADS"]))
engine = Engine(
    model_name=os.environ["MODEL"],
    device="cpu",
    batch_delay=float(os.environ.get("DELAY", "0.005")),
    max_length=int(os.environ["MAX_LENGTH"]),
)


@asynccontextmanager
async def running(_app: FastAPI) -> AsyncIterator[None]:
    await engine.start()
    yield
    await engine.stop()


app = FastAPI(lifespan=running)


class EncodeRequest(BaseModel):
    """A request's body."""

    texts: list[str]


@app.post("/encode")
async def encode(request: EncodeRequest) -> dict[str, list]:
    result = await engine.embed(request.texts, return_sparse=True)
    sparse = [
        {"indices": indices, "values": values}
        for indices, values in zip(result.sparse_indices, result.sparse_weights, strict=True)
    ]
    return {"dense": result.dense, "sparse": sparse}


@app.get("/health")
def health() -> dict[str, str]:
    return {"status": "ok"}
