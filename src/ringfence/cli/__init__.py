"""Words to calls: one file a command, no logic. Heavy imports happen inside the commands."""

import gc

# Modules are made of objects that live as long as the process: looking through them for garbage
# again and again while they are read is a tenth of the time in which a command starts.
gc.set_threshold(50_000)
