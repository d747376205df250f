"""Policies: observations to actions, behind LeRobot's `PreTrainedPolicy`."""
