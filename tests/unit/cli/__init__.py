"""The command line: words, formats, exit codes."""
