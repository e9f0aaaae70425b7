"""MLflow, as a mirror of DVC's outputs. The only importer of mlflow."""
