"""The YAML files behind `train.py`."""
