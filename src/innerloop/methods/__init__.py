"""Methods of few-shot learning: one method, one file."""
