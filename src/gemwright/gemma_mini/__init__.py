"""The whole chain on a small machine: pretraining, SFT, a reward model, RLHF, examination; each must gain."""
