"""The server behind `embedrt serve`: the HTTP APIs of OpenAI and text-embeddings-inference on the library's engine."""
