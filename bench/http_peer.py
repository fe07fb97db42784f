"""The peer of `embedrt serve`: what one writes in an afternoon, FastAPI around sentence-transformers' ONNX backend.

python -m bench.http_peer MODEL_DIRECTORY PORT THREADS

FastAPI runs the endpoint in its thread pool; sentence-transformers batches within a request, nothing across them.
"""

import base64
import sys
from typing import Any


def make_app(model: str, threads: int) -> Any:
    """The application."""
    import onnxruntime
    from fastapi import FastAPI
    from pydantic import BaseModel
    from sentence_transformers import SentenceTransformer

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    encoder = SentenceTransformer(
        model,
        backend="onnx",
        model_kwargs={
            "provider": "CPUExecutionProvider",
            "session_options": options,
            "file_name": "model.onnx",
        },
    )
    app = FastAPI()

    class Request(BaseModel):
        input: list[str]
        encoding_format: str = "float"

    @app.post("/v1/embeddings")
    def embeddings(request: Request) -> dict[str, Any]:
        vectors = encoder.encode(request.input, batch_size=32)
        as_base64 = request.encoding_format == "base64"
        rows = [base64.b64encode(v.tobytes()).decode() if as_base64 else v.tolist() for v in vectors]
        return {"data": [{"index": i, "embedding": row} for i, row in enumerate(rows)]}

    @app.get("/health")
    def health() -> dict[str, str]:
        return {"status": "ready"}

    return app


if __name__ == "__main__":
    import uvicorn

    directory, port, count = sys.argv[1:]
    uvicorn.run(make_app(directory, int(count)), port=int(port), log_level="error")
