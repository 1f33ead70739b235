"""Shared: named before the fork, opened after it, touched by several processes."""
