"""Cross-encoders under the names that other libraries gave them: `FlagReranker` and `BGERerankFunction`."""
