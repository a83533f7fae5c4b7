"""What occurs more than once: whole texts, nearly equal texts, long passages."""
