"""The command line: one file a command, each thin (parse, call the library, print)."""
