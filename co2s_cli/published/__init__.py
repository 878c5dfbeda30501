"""Published data sets and how the papers train on them: one YAML file a protocol."""
