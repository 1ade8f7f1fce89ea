"""A runtime's wire format on one side, our model on the other."""
