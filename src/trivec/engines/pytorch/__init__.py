"""The engine on GPUs with torch: packed texts, no padding."""
