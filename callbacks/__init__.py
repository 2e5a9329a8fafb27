"""The Lightning callbacks that `configs/callbacks` names."""
