"""The three vectors: what encoding returns, sparse rows, scores, and files of vectors."""
