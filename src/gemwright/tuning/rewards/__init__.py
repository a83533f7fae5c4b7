"""What an answer is worth: by a rule, by running it, by a model."""
