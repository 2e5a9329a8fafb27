"""The YAML files of `train.py`."""
