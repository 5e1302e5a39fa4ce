"""`python -m ringfence`: the same as the command `ringfence`."""

from ringfence.cli.main import program

program()
