"""What all interfaces for models share: the operator's limits, one tool call, and what a model reads.

No argument of a model can reach a limit. Read first: `tool`, then `operator` and `text`.
"""
