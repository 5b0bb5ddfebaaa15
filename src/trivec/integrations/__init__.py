"""trivec within frameworks: `trivec.integrations.langchain`, `.llama_index` and `.haystack`.

Each needs its framework, which the user has; no extra of trivec's brings one. What they have in common lies here:
`shared_model` has one model do the work of all the objects that a framework wants, and every text computed once;
`untaken` keeps what was computed and not asked for yet; `ranking` orders documents, and `reranker` makes a pydantic
model of that.
"""
