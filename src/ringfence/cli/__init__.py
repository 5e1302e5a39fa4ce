"""Words to calls: one file a command, no logic. Heavy imports happen inside the commands."""
