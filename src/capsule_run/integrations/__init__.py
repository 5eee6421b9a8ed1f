"""Doors for agent frameworks, one file for each. Each imports its framework, so nothing else imports these."""
