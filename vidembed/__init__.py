"""vidembed: content-aware video embeddings learned from what people watch together."""
