"""What is done with vectors once they exist: nearest rows, pairs, communities, duplicates. numpy only, in blocks."""
