"""Where the metrics of runs go besides ``metrics.jsonl``: TensorBoard, MLflow, and others' own."""
