"""How good vectors are for a task, and how sure that is: similarity of pairs, retrieval, translations, clusters."""
