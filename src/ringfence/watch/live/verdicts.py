"""In words how a process was placed beside a target, where that is not sure: for `unsure`."""

SEEN = "process: it had ended; under its number one of the target was seen"
BEGUN = "process: it had ended; one of the target began it, or what began it"
UNKNOWN = "process: it had ended; nothing tells whether it was of the target"
ASIDE = "process: it began later than the target, and nothing tells whether it stems from it"
