"""What a built data set holds, and whether anything in it should keep one from training on it."""
