"""`thaw repro`: the stages of dvc.yaml, as many at once as the machine has room for; DVC decides what is stale."""
