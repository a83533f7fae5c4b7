"""How fast a model is on this machine, beside what the machine can do at most."""
