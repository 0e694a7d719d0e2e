"""Networks: plain modules that know nothing of meta-learning."""
