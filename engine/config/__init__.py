"""Config: text -> typed values; raises ConfigError only."""
