"""What a step costs beside the model: filling rows, reading and writing data, the trainer around it."""
