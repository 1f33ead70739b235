"""Cli: arguments -> exit code."""
