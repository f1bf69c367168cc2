"""The command line: thin, lazily loaded, one file per command group."""
