"""Rules: a batch of texts to verdicts. The same functions serve the pipeline, the single steps and Daft."""
