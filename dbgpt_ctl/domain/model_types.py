"""The types of models that DB-GPT uses: the part of a model name after the `@`."""

from __future__ import annotations

MODEL_TYPES = {
    "llm": "language models",
    "text2vec": "embeddings",
    "reranker": "rerankers",
    "service": "DB-GPT's own parts",
}
"""Each type and a short description. A registry accepts other types too."""
