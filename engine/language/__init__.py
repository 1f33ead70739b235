"""Language: paths, templates, patterns and globs: text -> compiled callables."""
