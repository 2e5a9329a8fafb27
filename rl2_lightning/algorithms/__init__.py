"""Learners: one LightningModule a file, on a small shared base."""
