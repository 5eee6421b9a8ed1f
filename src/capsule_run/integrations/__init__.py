"""Interfaces for agent frameworks, one file each. Each imports its framework, so nothing else imports these."""
