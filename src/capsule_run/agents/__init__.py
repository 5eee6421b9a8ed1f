"""What all interfaces for models share: the operator's limits, the tool arguments, a tool call and its answer as text.

No argument of a model can change a limit. Read first: `tool`, then `operator`, `arguments` and `text`.
"""
