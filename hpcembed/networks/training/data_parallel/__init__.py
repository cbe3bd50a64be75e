"""Training of one network by all ranks, which keep their rows, with torch.distributed over gloo."""
